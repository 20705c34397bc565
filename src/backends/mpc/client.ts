import type { Block } from '../../kernels/index.ts';
import { size, type Tensor } from '../../program/index.ts';
import { packedBytes } from '../ring/index.ts';
import { type ClientCorrelations, type PointFunctionCipher, purpose } from './correlations/contract.ts';
import { encodeClientInput } from './encode.ts';
import { local } from './local.ts';
import { Lookups } from './lookup.ts';
import { clientNarrow } from './narrow.ts';
import { clientPiecewise } from './piecewise.ts';
import { type Held, type Machine, nothing, type Protocol, receive, Scratch, type Step, send } from './protocol.ts';

/**
 * The client's side of the online protocol.
 *
 * Source: docs/protocols/online.md. Letters: x = x_c + x_s mod 2^L; m top bits; e openings; b, a, r, k, q pads; f bits dropped.
 * Adversary: semi-honest server or dealer, one of them. The server sees x − r, the masked bits below and nothing else.
 * No product with a weight is computed here: the client's work does not grow with the model's weights.
 */
export interface ClientOptions extends Machine {
  readonly correlations: ClientCorrelations;
  readonly cipher: PointFunctionCipher;
  /** Lookups that are expanded ahead; made here where absent. */
  readonly lookups?: Lookups;
  /** An input that `load` has made ready. */
  readonly input: (name: string) => Tensor;
  readonly output: (name: string, value: Tensor) => void;
}

export function clientProtocol(options: ClientOptions): Protocol {
  const { kernels, ring, correlations, program } = options;
  const { pads } = correlations;
  const lookups = options.lookups ?? new Lookups({ ...options, party: 0 });
  const L = ring.bits;
  return {
    ...local(options, false),
    /** 1. x_c ← r. 2. Send x − r. */
    *clientInput(node): Step {
      const r = pads.words(node.index, purpose.share, size(node.shape));
      const x = encodeClientInput(kernels, ring, node, options.input(node.parameters.name));
      kernels.subtract(x, x, r);
      const message = kernels.pack(x, node.parameters.modulus ?? L);
      kernels.free(x);
      yield* send(message);
      return { block: r };
    },
    serverInput: () => nothing,
    /** z_c ← the pad its share is pinned to; the product was made offline. */
    linear: (node) => ({ block: pads.words(node.index, purpose.share, size(node.shape)) }),
    diagonal: (node) => ({ block: pads.words(node.index, purpose.share, size(node.shape)) }),
    /** e ← x_s − b, from the server. */
    *open(node): Step {
      const e = yield* receive();
      const block = kernels.allocate(size(node.shape));
      kernels.unpack(block, e, L);
      return { block };
    },
    /** z_c = x_c (x_c + 2e) + q_c. */
    square(node, x, e) {
      const scratch = new Scratch(kernels);
      const sum = scratch.new(x!.block!.length);
      const result = pads.words(node.index, purpose.share, size(node.shape));
      kernels.add(sum, e!.block!, e!.block!);
      kernels.add(sum, sum, x!.block!);
      kernels.multiplyAdd(result, x!.block!, sum);
      return scratch.end(result);
    },
    /** z_c = x_c (e_y + y_c) + e_x y_c + q_c. */
    product(node, x, y, ex, ey) {
      const scratch = new Scratch(kernels);
      const sum = scratch.new(y!.block!.length);
      const result = pads.words(node.index, purpose.share, size(node.shape));
      kernels.add(sum, ey!.block!, y!.block!);
      kernels.multiplyAdd(result, x!.block!, sum);
      kernels.multiplyAdd(result, ex!.block!, y!.block!);
      return scratch.end(result);
    },
    matrixProduct(node, x, y, ex, ey) {
      const scratch = new Scratch(kernels);
      const sum = scratch.new(y!.block!.length);
      const result = pads.words(node.index, purpose.share, size(node.shape));
      kernels.add(sum, ey!.block!, y!.block!);
      kernels.matmul(result, x!.block!, sum, node.parameters, true);
      kernels.matmul(result, ex!.block!, y!.block!, node.parameters, true);
      return scratch.end(result);
    },
    ...clientNarrow(options),
    truncate: (node, x) =>
      program.nodes[node.inputs[0]!]!.state === 'pinned'
        ? truncatePinned(options, node, x!)
        : truncateFloating(options, node, x!),
    /** 1. y_c ← pad. 2. Send x_c − y_c. */
    *pin(node, x): Step {
      const y = pads.words(node.index, purpose.share, size(node.shape));
      const scratch = new Scratch(kernels);
      const difference = scratch.new(y.length);
      kernels.subtract(difference, x!.block!, y);
      yield* send(kernels.pack(difference, node.parameters.width ?? L));
      return scratch.end(y);
    },
    /** 1. δ = i_s − σ, from the server. 2. Inner products of v_c with the tables rotated by δ. */
    *lookup(node): Step {
      const rows = size(node.shape) / node.parameters.tables.length;
      const message = yield* receive();
      const delta = kernels.allocate(rows);
      kernels.unpack(delta, message, node.parameters.indexBits);
      return lookups.shares(node, delta);
    },
    piecewise: (node) => clientPiecewise(options, node),
    /** x = x_c + x_s, with x_s from the server. */
    *reveal(node, x): Step {
      const message = yield* receive();
      const value = kernels.allocate(size(node.shape));
      kernels.unpack(value, message, L);
      kernels.add(value, value, x!.block!);
      const { name, fraction } = node.parameters;
      options.output(name, { shape: node.shape, values: kernels.decode(value, fraction, L) });
      return { block: value };
    },
  };
}

type TruncateNode = Parameters<Protocol['truncate']>[0];

/**
 * Pinned x. 1. Receive e = m_s ⊕ b. 2. p_c = e ? m_c − q_c : q_c. 3. w_c = m_c − p_c. 4. Send w_c − r mod 2^f.
 * 5. y_c = (x_c ≫ f) − r 2^{L−f}.
 */
function* truncatePinned({ kernels, ring, correlations }: ClientOptions, node: TruncateNode, x: Held): Step {
  const [L, f, count] = [ring.bits, node.parameters.bits, size(node.shape)];
  const message = yield* receive();
  const scratch = new Scratch(kernels);
  const [e, m, p] = [scratch.new(count), scratch.new(count), scratch.new(count)];
  kernels.unpack(e, message, 1);
  kernels.shiftRight(m, x.block!, L - 1, L);
  const q = scratch.own(correlations.pads.words(node.index, purpose.wrap, count));
  kernels.subtract(p, m, q);
  kernels.select(p, e, p, q);
  const r = scratch.own(correlations.pads.bits(node.index, purpose.low, count, f));
  kernels.subtract(m, m, p);
  kernels.subtract(m, m, r);
  yield* send(kernels.pack(m, f));
  const y = scratch.new(count);
  kernels.shiftRight(y, x.block!, f, L);
  kernels.shiftLeft(r, r, L - f);
  kernels.subtract(y, y, r);
  return scratch.end(y);
}

/**
 * Floating x. 1. Receive e = m_s ⊕ b. 2. d = m_c ⊕ a. 3. p_c = e m_c + (1 − 2d)(1 − 2e) q_c. 4. w_c = m_c − p_c.
 * 5. y_c ← pad. 6. Send d and (x_c ≫ f) − w_c 2^{L−f} − y_c.
 */
function* truncateFloating({ kernels, ring, correlations }: ClientOptions, node: TruncateNode, x: Held): Step {
  const [L, f, count] = [ring.bits, node.parameters.bits, size(node.shape)];
  const message = yield* receive();
  const scratch = new Scratch(kernels);
  const [e, m, d, p, sign] = [0, 1, 2, 3, 4].map(() => scratch.new(count)) as [Block, Block, Block, Block, Block];
  kernels.unpack(e, message, 1);
  kernels.shiftRight(m, x.block!, L - 1, L);
  const a = scratch.own(correlations.pads.bits(node.index, purpose.top, count, 1));
  kernels.xor(d, m, a);
  const q = scratch.own(correlations.pads.words(node.index, purpose.wrap, count));
  // (1 − 2d)(1 − 2e) = 1 − 2 (d ⊕ e)
  kernels.xor(sign, d, e);
  kernels.negate(p, q);
  kernels.select(p, sign, p, q);
  kernels.multiplyAdd(p, e, m);
  kernels.subtract(m, m, p);
  kernels.shiftLeft(m, m, L - f);
  const rest = scratch.new(count);
  kernels.shiftRight(rest, x.block!, f, L);
  kernels.subtract(rest, rest, m);
  const y = correlations.pads.words(node.index, purpose.pinned, count);
  kernels.subtract(rest, rest, y);
  const [bits, words] = [kernels.pack(d, 1), kernels.pack(rest, L)];
  const answer = new Uint8Array(packedBytes(count, 1) + packedBytes(count, L));
  answer.set(bits);
  answer.set(words, bits.length);
  yield* send(answer);
  return scratch.end(y);
}
