import type { Block } from '../../kernels/index.ts';
import { size } from '../../program/index.ts';
import { correctionsOf } from '../ring/index.ts';
import { type ClientCorrelations, purpose, type ServerCorrelations } from './correlations/contract.ts';
import { type Held, type Machine, type NumberedNode, type Protocol, receive, Scratch, type Step, send } from './protocol.ts';

/**
 * Values in the smaller ring Z_2^m, m = L − f, and their elementwise products in the whole ring: variants A and B of the design.
 *
 * Narrowing. (x_c ≫ f) + ((x_s + 2^f − 1) ≫ f) is a sharing of ⌊(x + 2^f − 1 − ρ) / 2^f⌋ modulo 2^m, ρ = x_c mod 2^f: nothing is
 * sent for a pinned x; for a floating one the client sends (x_c ≫ f) − y_c, m bits.
 *
 * Products. |x| < 2^{m−2}. 1. The server sends e = x_s + 2^{m−2} − b mod 2^m, which both then know. 2. α = x_c + b mod 2^m is known to
 * the dealer; M is its top bit and κ the carry of the sum. X = x + 2^{m−2} lies in [0, 2^{m−1}), so its two addends e and α wrap exactly
 * when at least one has its top bit: X = e + α − 2^m (m_e ∨ M). 3. With Ê = e − 2^m m_e − 2^{m−2} and μ = 1 − m_e:
 * x = Ê + A, A = α − 2^m μ M, α = (x_c mod 2^m) + b − 2^m κ. 4. A product is Ê_x Ê_y + Ê_x A_y + Ê_y A_x + A_x A_y, and
 * A_x A_y = α_x α_y − 2^{m_x} μ_x M_x α_y − 2^{m_y} μ_y M_y α_x, because m_x + m_y ≥ L.
 * A full-width operand (m = L) has e = x_s − b, α = x_c + b and no wrap.
 *
 * Correlations: shares of κ and M modulo 2^{L−m}, of α_x α_y modulo 2^L, of M α modulo 2^{L−m}.
 * Adversary: as in client.ts. The client sees e, masked by b; the server sees (x_c ≫ f) − y_c, masked by y_c.
 * Hops: one for an opening, one for narrowing a floating value. Error: that of truncation.
 */

type NarrowOperation = 'narrow' | 'openNarrow' | 'openedSign' | 'unmask' | 'widen' | 'narrowSquare' | 'narrowProduct';
type Narrow = Pick<Protocol, NarrowOperation>;

/** Ê from e: e's top bit counts negatively, and the offset is taken off. In place; a full-width e stays as it is. */
function centred({ kernels, ring }: Machine, e: Block, modulus: number): void {
  if (modulus === ring.bits) return;
  kernels.shiftRightSigned(e, e, 0, modulus);
  kernels.addScalar(e, e, -(1n << BigInt(modulus - 2)));
}

/** What both sides compute alike: the sign of an opening, and the products from their shares of the correlations. */
function common(
  machine: Machine,
  carriesPublic: boolean,
  shares: (node: NumberedNode, length: number) => Block[],
): Omit<Narrow, 'narrow' | 'openNarrow' | 'unmask'> {
  const { kernels, ring } = machine;
  const L = ring.bits;
  /** sum −= 2^m · μ · q, for one correlation of a top bit. */
  const takeWrapped = (scratch: Scratch, sum: Block, m: number, mu: Block, q: Block): void => {
    scratch.own(q);
    kernels.multiply(q, q, mu);
    kernels.shiftLeft(q, q, m);
    kernels.subtract(sum, sum, q);
  };
  return {
    openedSign(node, e) {
      const out = kernels.allocate(e!.block!.length);
      if (node.parameters.modulus === L) kernels.fill(out, 0n);
      else {
        kernels.addScalar(out, e!.block!, 1n << BigInt(node.parameters.modulus - 2));
        kernels.shiftRight(out, out, L - 1, L);
        kernels.negate(out, out);
        kernels.addScalar(out, out, 1n);
      }
      return { block: out };
    },
    widen(_, e, rest) {
      if (!carriesPublic) return rest!;
      const sum = kernels.allocate(rest!.block!.length);
      kernels.add(sum, e!.block!, rest!.block!);
      return { block: sum };
    },
    narrowSquare(node, e, rest, sign) {
      const scratch = new Scratch(kernels);
      const [alpha2, wrapped] = shares(node, size(node.shape)) as [Block, Block];
      takeWrapped(scratch, alpha2, node.parameters.modulus + 1, sign!.block!, wrapped);
      const factor = scratch.new(alpha2.length);
      kernels.add(factor, rest!.block!, rest!.block!);
      if (carriesPublic) kernels.add(factor, factor, e!.block!);
      kernels.multiplyAdd(alpha2, e!.block!, factor);
      return scratch.end(alpha2);
    },
    narrowProduct(node, ex, restX, signX, ey, restY, signY) {
      const scratch = new Scratch(kernels);
      const [product, ...wrapped] = shares(node, size(node.shape)) as [Block, ...Block[]];
      const signs = [signX!.block!, signY!.block!];
      node.parameters.moduli.forEach((m, side) => {
        if (m < L) takeWrapped(scratch, product, m, signs[side]!, wrapped.shift()!);
      });
      const factor = scratch.new(product.length);
      if (carriesPublic) kernels.add(factor, restY!.block!, ey!.block!);
      else kernels.copy(factor, restY!.block!);
      kernels.multiplyAdd(product, ex!.block!, factor);
      kernels.multiplyAdd(product, ey!.block!, restX!.block!);
      return scratch.end(product);
    },
  };
}

/** A's share: own addend of α, less its share of the carry and of the wrap. */
function unmasked(machine: Machine, own: Block, sign: Held, modulus: number, correlations: Block[]): Held {
  const { kernels, ring } = machine;
  if (modulus === ring.bits) return { block: own };
  const scratch = new Scratch(kernels);
  const [carry, top] = correlations.map((block) => scratch.own(block)) as [Block, Block];
  kernels.multiplyAdd(carry, top, sign.block!);
  kernels.shiftLeft(carry, carry, modulus);
  kernels.subtract(own, own, carry);
  return scratch.end(own);
}

export function clientNarrow(machine: Machine & { correlations: ClientCorrelations }): Narrow {
  const { kernels, ring, program } = machine;
  const { pads } = machine.correlations;
  const shares = (node: NumberedNode, length: number): Block[] =>
    correctionsOf(node, program).map((width, field) => pads.bits(node.index, purpose.fields + field, length, width));
  return {
    ...common(machine, true, shares),
    narrow(node, x) {
      if (program.nodes[node.inputs[0]!]!.state !== 'pinned') return narrowFloating(node, x!);
      const y = kernels.allocate(x!.block!.length);
      kernels.shiftRight(y, x!.block!, node.parameters.bits, ring.bits);
      return { block: y };
    },
    *openNarrow(node): Step {
      const message = yield* receive();
      const e = kernels.allocate(size(node.shape));
      kernels.unpack(e, message, node.parameters.modulus);
      centred(machine, e, node.parameters.modulus);
      return { block: e };
    },
    unmask(node, x, _, sign) {
      const { modulus } = node.parameters;
      const own = kernels.allocate(size(node.shape));
      kernels.mask(own, x!.block!, modulus);
      return unmasked(machine, own, sign!, modulus, modulus === ring.bits ? [] : shares(node, own.length));
    },
  };

  /** 1. y_c ← pad. 2. Send (x_c ≫ f) − y_c mod 2^m. */
  function* narrowFloating(node: Parameters<Protocol['narrow']>[0], x: Held): Step {
    const f = node.parameters.bits;
    const y = pads.words(node.index, purpose.share, size(node.shape));
    const scratch = new Scratch(kernels);
    const message = scratch.new(y.length);
    kernels.shiftRight(message, x.block!, f, ring.bits);
    kernels.subtract(message, message, y);
    yield* send(kernels.pack(message, ring.bits - f));
    return scratch.end(y);
  }
}

export function serverNarrow(machine: Machine & { correlations: ServerCorrelations }): Narrow {
  const { kernels, ring, program, correlations } = machine;
  const { pads } = correlations;
  const shares = (node: NumberedNode, length: number): Block[] =>
    correlations.fields(node.index, length, correctionsOf(node, program));
  return {
    ...common(machine, false, shares),
    narrow(node, x) {
      const f = node.parameters.bits;
      const y = kernels.allocate(x!.block!.length);
      kernels.addScalar(y, x!.block!, (1n << BigInt(f)) - 1n);
      kernels.shiftRight(y, y, f, ring.bits);
      if (program.nodes[node.inputs[0]!]!.state === 'pinned') return { block: y };
      return added(y, ring.bits - f);
    },
    *openNarrow(node, x): Step {
      const { modulus } = node.parameters;
      const e = pads.bits(node.index, purpose.mask, size(node.shape), modulus);
      kernels.subtract(e, x!.block!, e);
      if (modulus < ring.bits) kernels.addScalar(e, e, 1n << BigInt(modulus - 2));
      yield* send(kernels.pack(e, modulus));
      centred(machine, e, modulus);
      return { block: e };
    },
    unmask(node, _, __, sign) {
      const { modulus } = node.parameters;
      const own = pads.bits(node.inputs[1]!, purpose.mask, size(node.shape), modulus);
      return unmasked(machine, own, sign!, modulus, modulus === ring.bits ? [] : shares(node, own.length));
    },
  };

  function* added(y: Block, width: number): Step {
    const message = yield* receive();
    const scratch = new Scratch(kernels);
    const t = scratch.new(y.length);
    kernels.unpack(t, message, width);
    kernels.add(y, y, t);
    return scratch.end(y);
  }
}
