import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { ofPinned, packedBytes, type RingNodeOf } from '../../ring/index.ts';
import { type Held, type Numbered, receive, Scratch, type Step, send } from '../protocol.ts';
import { byClient, byServer } from '../random.ts';
import { type Client, correct, type SecureRow, type Server } from './row.ts';

const own = {
  /** q_c of the wrap bit. */
  wrap: byClient(0),
  /** Of a pinned value: r, the low bits that the result is pinned to. */
  low: byClient(1),
  /** Of a floating one: a, which masks the client's top bit. */
  top: byClient(1),
  /** Of a floating one: the share that the result is pinned to. */
  pinned: byClient(2),
  /** b, which masks the server's top bit. */
  mask: byServer(0),
};
type Node = Numbered<RingNodeOf<'truncate'>>;

export const truncate: SecureRow<'truncate'> = {
  pads: own,
  client: (party, node, x) => (ofPinned(node, party.program) ? clientPinned(party, node, x!) : clientFloating(party, node, x!)),
  server: (party, node, x) => (ofPinned(node, party.program) ? serverPinned(party, node, x!) : serverFloating(party, node, x!)),
  share({ kernels, ring, program, pads }, node, x) {
    const [f, count] = [node.parameters.bits, size(node.shape)];
    if (!ofPinned(node, program)) return { block: pads.words(node.index, own.pinned, count) };
    const scratch = new Scratch(kernels);
    const r = scratch.own(pads.bits(node.index, own.low, count, f));
    const y = scratch.new(count);
    kernels.shiftLeft(r, r, ring.bits - f);
    kernels.shiftRight(y, x!.block!, f, ring.bits);
    kernels.subtract(y, y, r);
    return scratch.end(y);
  },
  /** Pinned: q_s = m_c b − q_c; floating: q_s = a b − q_c; modulo 2^f. */
  dealer(dealer, node, x) {
    const { kernels, ring, program, clientPads, serverPads } = dealer;
    return correct(dealer, node, own.wrap, node.parameters.bits, (out, scratch) => {
      const count = size(node.shape);
      const b = scratch.own(serverPads.bits(node.index, own.mask, count, 1));
      if (ofPinned(node, program)) {
        const m = scratch.new(count);
        kernels.shiftRight(m, x!.block!, ring.bits - 1, ring.bits);
        kernels.multiplyAdd(out, m, b);
      } else kernels.multiplyAdd(out, scratch.own(clientPads.bits(node.index, own.top, count, 1)), b);
    });
  },
};

/**
 * Pinned x. 1. Receive e = m_s ⊕ b. 2. p_c = e ? m_c − q_c : q_c. 3. w_c = m_c − p_c. 4. Send w_c − r mod 2^f.
 * 5. y_c = (x_c ≫ f) − r 2^{L−f}.
 */
function* clientPinned({ kernels, ring, correlations }: Client, node: Node, x: Held): Step {
  const [L, f, count] = [ring.bits, node.parameters.bits, size(node.shape)];
  const message = yield* receive();
  const scratch = new Scratch(kernels);
  const [e, m, p] = [scratch.new(count), scratch.new(count), scratch.new(count)];
  kernels.unpack(e, message, 1);
  kernels.shiftRight(m, x.block!, L - 1, L);
  const q = scratch.own(correlations.pads.words(node.index, own.wrap, count));
  kernels.subtract(p, m, q);
  kernels.select(p, e, p, q);
  const r = scratch.own(correlations.pads.bits(node.index, own.low, count, f));
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
function* clientFloating({ kernels, ring, correlations }: Client, node: Node, x: Held): Step {
  const [L, f, count] = [ring.bits, node.parameters.bits, size(node.shape)];
  const message = yield* receive();
  const scratch = new Scratch(kernels);
  const [e, m, d, p, sign] = [0, 1, 2, 3, 4].map(() => scratch.new(count)) as [Block, Block, Block, Block, Block];
  kernels.unpack(e, message, 1);
  kernels.shiftRight(m, x.block!, L - 1, L);
  const a = scratch.own(correlations.pads.bits(node.index, own.top, count, 1));
  kernels.xor(d, m, a);
  const q = scratch.own(correlations.pads.words(node.index, own.wrap, count));
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
  const y = correlations.pads.words(node.index, own.pinned, count);
  kernels.subtract(rest, rest, y);
  const [bits, words] = [kernels.pack(d, 1), kernels.pack(rest, L)];
  const answer = new Uint8Array(packedBytes(count, 1) + packedBytes(count, L));
  answer.set(bits);
  answer.set(words, bits.length);
  yield* send(answer);
  return scratch.end(y);
}

/** x_s + 2^{L−2} + 2^f − 1, so that the value lies in [0, 2^{L−1}) and its floor is the truncation. */
function lifted({ kernels, ring }: Server, scratch: Scratch, x: Held, f: number): Block {
  const xs = scratch.new(x.block!.length);
  kernels.addScalar(xs, x.block!, (1n << BigInt(ring.bits - 2)) + (1n << BigInt(f)) - 1n);
  return xs;
}

/** (x_s ≫ f) − w 2^{L−f} − (2^{L−2} ≫ f), into w's block. */
function shifted({ kernels, ring }: Server, scratch: Scratch, xs: Block, w: Block, f: number): Block {
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
function* serverPinned(options: Server, node: Node, x: Held): Step {
  const { kernels, ring, correlations } = options;
  const [L, f, count] = [ring.bits, node.parameters.bits, size(node.shape)];
  const scratch = new Scratch(kernels);
  const xs = lifted(options, scratch, x, f);
  const [m, e, p] = [scratch.new(count), scratch.new(count), scratch.new(count)];
  kernels.shiftRight(m, xs, L - 1, L);
  kernels.xor(e, m, scratch.own(correlations.pads.bits(node.index, own.mask, count, 1)));
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
function* serverFloating(options: Server, node: Node, x: Held): Step {
  const { kernels, ring, correlations } = options;
  const [L, f, count] = [ring.bits, node.parameters.bits, size(node.shape)];
  const scratch = new Scratch(kernels);
  const xs = lifted(options, scratch, x, f);
  const [m, e, d, p, t] = [0, 1, 2, 3, 4].map(() => scratch.new(count)) as [Block, Block, Block, Block, Block];
  kernels.shiftRight(m, xs, L - 1, L);
  const b = scratch.own(correlations.pads.bits(node.index, own.mask, count, 1));
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
