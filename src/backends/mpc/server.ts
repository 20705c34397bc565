import type { Block } from '../../kernels/index.ts';
import { size } from '../../program/index.ts';
import { packedBytes } from '../ring/index.ts';
import { type PointFunctionCipher, purpose, type ServerCorrelations } from './correlations/contract.ts';
import { local } from './local.ts';
import { Lookups } from './lookup.ts';
import { serverNarrow } from './narrow.ts';
import { serverPiecewise } from './piecewise.ts';
import { type Held, type Machine, nothing, type Protocol, receive, Scratch, type Step, send } from './protocol.ts';

/**
 * The server's side of the online protocol. Letters as in client.ts. Adversary: semi-honest client or dealer, one of them. The client
 * sees x_s − b, m_s ⊕ b, i_s − σ with pads it does not know, and its outputs.
 */
export interface ServerOptions extends Machine {
  readonly correlations: ServerCorrelations;
  readonly cipher: PointFunctionCipher;
  /** Lookups that are expanded ahead; made here where absent. */
  readonly lookups?: Lookups;
  /** The server's plaintext of a `serverInput` node that `load` has made ready: its caller frees it. */
  readonly weight: (node: number) => Block;
}

export function serverProtocol(options: ServerOptions): Protocol {
  const { kernels, ring, correlations, program } = options;
  const { pads } = correlations;
  const lookups = options.lookups ?? new Lookups({ ...options, party: 1 });
  const L = ring.bits;
  /** A share that arrives as x − r, or moves from the client as x_c − y_c: added to what the server has. */
  function* takeOver(count: number, own: Block | undefined, width = L): Step {
    const message = yield* receive();
    const block = kernels.allocate(count);
    kernels.unpack(block, message, width);
    if (own !== undefined) kernels.add(block, block, own);
    return { block };
  }
  return {
    ...local(options, true),
    clientInput: (node) => takeOver(size(node.shape), undefined, node.parameters.modulus),
    serverInput: (node) => ({ block: options.weight(node.index) }),
    /** z_s = x_s W + c_s. */
    linear(node, x, w) {
      const result = correlations.linear(node.index, size(node.shape), node.parameters.modulus ?? L);
      kernels.matmul(result, x!.block!, w!.block!, { batch: 1, ...node.parameters }, true);
      return { block: result };
    },
    diagonal(node, x, w) {
      const result = correlations.linear(node.index, size(node.shape), L);
      kernels.multiplyAdd(result, x!.block!, w!.block!);
      return { block: result };
    },
    /** Send e = x_s − b. */
    *open(node, x): Step {
      const b = pads.words(node.index, purpose.mask, size(node.shape));
      kernels.subtract(b, x!.block!, b);
      const message = kernels.pack(b, L);
      kernels.free(b);
      yield* send(message);
      return nothing;
    },
    /** z_s = x_s² + q_s. */
    square(node, x) {
      const result = correlations.product(node.index, size(node.shape));
      kernels.multiplyAdd(result, x!.block!, x!.block!);
      return { block: result };
    },
    product(node, x, y) {
      const result = correlations.product(node.index, size(node.shape));
      kernels.multiplyAdd(result, x!.block!, y!.block!);
      return { block: result };
    },
    matrixProduct(node, x, y) {
      const result = correlations.product(node.index, size(node.shape));
      kernels.matmul(result, x!.block!, y!.block!, node.parameters, true);
      return { block: result };
    },
    ...serverNarrow(options),
    truncate: (node, x) =>
      program.nodes[node.inputs[0]!]!.state === 'pinned'
        ? truncatePinned(options, node, x!)
        : truncateFloating(options, node, x!),
    pin: (node, x) => takeOver(size(node.shape), x!.block, node.parameters.width),
    /** 1. Send δ = i_s − σ. 2. Inner products of v_s with the tables rotated by δ. */
    *lookup(node, i): Step {
      const { indexBits, tables } = node.parameters;
      const delta = pads.words(node.index, purpose.mask, size(node.shape) / tables.length);
      kernels.subtract(delta, i!.block!, delta);
      kernels.mask(delta, delta, indexBits);
      yield* send(kernels.pack(delta, indexBits));
      return lookups.shares(node, delta);
    },
    piecewise: (node, x) => serverPiecewise(options, node, x!),
    /** Send x_s. */
    *reveal(_, x): Step {
      yield* send(kernels.pack(x!.block!, L));
      return nothing;
    },
  };
}

type TruncateNode = Parameters<Protocol['truncate']>[0];

/** x_s + 2^{L−2} + 2^f − 1, so that the value lies in [0, 2^{L−1}) and its floor is the truncation. */
function lifted({ kernels, ring }: ServerOptions, scratch: Scratch, x: Held, f: number): Block {
  const xs = scratch.new(x.block!.length);
  kernels.addScalar(xs, x.block!, (1n << BigInt(ring.bits - 2)) + (1n << BigInt(f)) - 1n);
  return xs;
}

/** (x_s ≫ f) − w 2^{L−f} − (2^{L−2} ≫ f), into w's block. */
function shifted({ kernels, ring }: ServerOptions, scratch: Scratch, xs: Block, w: Block, f: number): Block {
  const L = ring.bits;
  kernels.shiftLeft(w, w, L - f);
  const y = scratch.new(xs.length);
  kernels.shiftRight(y, xs, f, L);
  kernels.subtract(y, y, w);
  kernels.addScalar(y, y, -((1n << BigInt(L - 2)) >> BigInt(f)));
  return y;
}

/**
 * Pinned x. 1. Send e = m_s ⊕ b. 2. p_s = (1 − 2e) q_s. 3. w_s = m_s − p_s. 4. Receive w_c − r.
 * 5. y_s = (x_s ≫ f) − (w_s + w_c − r) 2^{L−f}.
 */
function* truncatePinned(options: ServerOptions, node: TruncateNode, x: Held): Step {
  const { kernels, ring, correlations } = options;
  const [L, f, count] = [ring.bits, node.parameters.bits, size(node.shape)];
  const scratch = new Scratch(kernels);
  const xs = lifted(options, scratch, x, f);
  const [m, e, p] = [scratch.new(count), scratch.new(count), scratch.new(count)];
  kernels.shiftRight(m, xs, L - 1, L);
  kernels.xor(e, m, scratch.own(correlations.pads.bits(node.index, purpose.mask, count, 1)));
  yield* send(kernels.pack(e, 1));
  const q = scratch.own(correlations.bit(node.index, count, f));
  kernels.negate(p, q);
  kernels.select(p, e, p, q);
  kernels.subtract(m, m, p);
  const fix = scratch.new(count);
  kernels.unpack(fix, yield* receive(), f);
  kernels.add(m, m, fix);
  return scratch.end(shifted(options, scratch, xs, m, f));
}

/**
 * Floating x. 1. Send e = m_s ⊕ b. 2. Receive d and t. 3. p_s = (1 − 2e)(d b + (1 − 2d) q_s). 4. w_s = m_s − p_s.
 * 5. y_s = (x_s ≫ f) − w_s 2^{L−f} + t.
 */
function* truncateFloating(options: ServerOptions, node: TruncateNode, x: Held): Step {
  const { kernels, ring, correlations } = options;
  const [L, f, count] = [ring.bits, node.parameters.bits, size(node.shape)];
  const scratch = new Scratch(kernels);
  const xs = lifted(options, scratch, x, f);
  const [m, e, d, p, t] = [0, 1, 2, 3, 4].map(() => scratch.new(count)) as [Block, Block, Block, Block, Block];
  kernels.shiftRight(m, xs, L - 1, L);
  const b = scratch.own(correlations.pads.bits(node.index, purpose.mask, count, 1));
  kernels.xor(e, m, b);
  yield* send(kernels.pack(e, 1));
  const q = scratch.own(correlations.bit(node.index, count, f));
  const message = yield* receive();
  const bits = packedBytes(count, 1);
  kernels.unpack(d, message.subarray(0, bits), 1);
  kernels.unpack(t, message.subarray(bits), L);
  kernels.negate(p, q);
  kernels.select(p, d, p, q);
  kernels.multiplyAdd(p, d, b);
  kernels.negate(q, p);
  kernels.select(p, e, q, p);
  kernels.subtract(m, m, p);
  const y = shifted(options, scratch, xs, m, f);
  kernels.add(y, y, t);
  return scratch.end(y);
}
