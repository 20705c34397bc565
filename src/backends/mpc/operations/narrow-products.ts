import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { correctionsOf, type RingNodeOf } from '../../ring/index.ts';
import { type Held, type Machine, type NumberedNode, receive, Scratch, send } from '../protocol.ts';
import { byServer, oneOf, severalByClient } from '../random.ts';
import type { Client, Dealer, SecureRow, Server } from './row.ts';

/**
 * Elementwise products of values in smaller rings Z_2^m (narrow.ts), in the whole ring: variants A and B of the design.
 *
 * |x| < 2^{m−2}. 1. The server sends e = x_s + 2^{m−2} − b mod 2^m, which both then know. 2. α = x_c + b mod 2^m is known to
 * the dealer; M is its top bit and κ the carry of the sum. X = x + 2^{m−2} lies in [0, 2^{m−1}), so its two addends e and α wrap exactly
 * when at least one has its top bit: X = e + α − 2^m (m_e ∨ M). 3. With Ê = e − 2^m m_e − 2^{m−2} and μ = 1 − m_e:
 * x = Ê + A, A = α − 2^m μ M, α = (x_c mod 2^m) + b − 2^m κ. 4. A product is Ê_x Ê_y + Ê_x A_y + Ê_y A_x + A_x A_y, and
 * A_x A_y = α_x α_y − 2^{m_x} μ_x M_x α_y − 2^{m_y} μ_y M_y α_x + 2^{m_x + m_y} μ_x μ_y M_x M_y; the last is zero where m_x + m_y ≥ L.
 * A full-width operand (m = L) has e = x_s − b, α = x_c + b and no wrap.
 *
 * Correlations: shares of κ and M modulo 2^{L−m}, of α_x α_y modulo 2^L, of M α modulo 2^{L−m}, of M_x M_y modulo 2^{L−m_x−m_y}.
 * Adversary: as in party.ts. The client sees e, masked by b; the server sees nothing.
 * Hops: one for an opening.
 */
const opening = {
  /** b, which `unmask` draws again as the server's addend of α. */
  mask: byServer(0),
};
const own = {
  /** The client's shares of a node's several correlations, from this stream on. */
  fields: severalByClient(0),
};

/** Ê from e: e's top bit counts negatively, and the offset is taken off. In place; a full-width e stays as it is. */
export function centred({ kernels, ring }: Machine, e: Block, modulus: number): void {
  if (modulus === ring.bits) return;
  kernels.shiftRightSigned(e, e, 0, modulus);
  kernels.addScalar(e, e, -(1n << BigInt(modulus - 2)));
}

export const openNarrow: SecureRow<'openNarrow'> = {
  pads: opening,
  *client(party, node) {
    const message = yield* receive();
    const e = party.kernels.allocate(size(node.shape));
    party.kernels.unpack(e, message, node.parameters.modulus);
    centred(party, e, node.parameters.modulus);
    return { block: e };
  },
  *server(party, node, x) {
    const { kernels, ring, correlations } = party;
    const { modulus } = node.parameters;
    const e = correlations.pads.bits(node.index, opening.mask, size(node.shape), modulus);
    kernels.subtract(e, x!.block!, e);
    if (modulus < ring.bits) kernels.addScalar(e, e, 1n << BigInt(modulus - 2));
    yield* send(kernels.pack(e, modulus));
    centred(party, e, modulus);
    return { block: e };
  },
  /** b. */
  dealer: ({ serverPads }, { index, shape, parameters }) => ({
    block: serverPads.bits(index, opening.mask, size(shape), parameters.modulus),
  }),
};

/** Both sides know Ê; before a run nobody does. */
export const openedSign: SecureRow<'openedSign'> = {
  client: (party, node, e) => signOf(party, node.parameters.modulus, e!.block!),
  server: (party, node, e) => signOf(party, node.parameters.modulus, e!.block!),
};

function signOf({ kernels, ring }: Machine, modulus: number, e: Block): Held {
  const out = kernels.allocate(e.length);
  if (modulus === ring.bits) kernels.fill(out, 0n);
  else {
    kernels.addScalar(out, e, 1n << BigInt(modulus - 2));
    kernels.shiftRight(out, out, ring.bits - 1, ring.bits);
    kernels.negate(out, out);
    kernels.addScalar(out, out, 1n);
  }
  return { block: out };
}

/** A side's shares of a node's correlations. */
const clientShares = ({ correlations, program }: Client, node: NumberedNode): Block[] =>
  correctionsOf(node, program).map((width, at) =>
    correlations.pads.bits(node.index, oneOf(own.fields, at), size(node.shape), width),
  );
const serverShares = ({ correlations, program }: Server, node: NumberedNode): Block[] =>
  correlations.fields(node.index, size(node.shape), correctionsOf(node, program));

/** The node whose pad masks an opening: what was exchanged has it from the server's half. */
function maskOf({ program }: Machine, opening: number): number {
  const { operation, inputs } = program.nodes[opening]!;
  return operation === 'exchanged' ? inputs[0]! : opening;
}

/** A's share: own addend of α, less its share of the carry and of the wrap. */
function unmasked({ kernels }: Machine, addend: Block, sign: Held, modulus: number, shares: Block[]): Held {
  const scratch = new Scratch(kernels);
  const [carry, top] = shares.map((block) => scratch.own(block)) as [Block, Block];
  kernels.multiplyAdd(carry, top, sign.block!);
  kernels.shiftLeft(carry, carry, modulus);
  kernels.subtract(addend, addend, carry);
  return scratch.end(addend);
}

export const unmask: SecureRow<'unmask'> = {
  pads: own,
  client(party, node, x, _, sign) {
    const { modulus } = node.parameters;
    const addend = party.kernels.allocate(size(node.shape));
    party.kernels.mask(addend, x!.block!, modulus);
    return modulus === party.ring.bits ? { block: addend } : unmasked(party, addend, sign!, modulus, clientShares(party, node));
  },
  server(party, node, _, __, sign) {
    const { modulus } = node.parameters;
    const addend = party.correlations.pads.bits(maskOf(party, node.inputs[1]!), opening.mask, size(node.shape), modulus);
    return modulus === party.ring.bits ? { block: addend } : unmasked(party, addend, sign!, modulus, serverShares(party, node));
  },
  /** The carry κ and the top bit M of α, which stands for the node. */
  dealer(dealer, node, x, b) {
    const { kernels, ring } = dealer;
    const { modulus } = node.parameters;
    const alpha = kernels.allocate(size(node.shape));
    kernels.mask(alpha, x!.block!, modulus);
    kernels.add(alpha, alpha, b!.block!);
    if (modulus === ring.bits) return { block: alpha };
    const scratch = new Scratch(kernels);
    const carry = scratch.new(alpha.length);
    // x_c mod 2^m + b < 2^(m + 1) ≤ 2^L: the bit above m is the carry.
    kernels.shiftRight(carry, alpha, modulus, ring.bits);
    kernels.mask(alpha, alpha, modulus);
    emit(dealer, node, scratch, [carry, topBit(dealer, scratch, alpha, modulus)]);
    return { block: alpha };
  },
};

/** The client holds Ê, so it is the one who adds it. */
export const widen: SecureRow<'widen'> = {
  client({ kernels }, _, e, rest) {
    const sum = kernels.allocate(rest!.block!.length);
    kernels.add(sum, e!.block!, rest!.block!);
    return { block: sum };
  },
  server: (_, __, ___, rest) => rest!,
};

/** sum −= 2^m · μ · q, for one correlation of a top bit. */
function takeWrapped({ kernels }: Machine, scratch: Scratch, sum: Block, m: number, mu: Block, q: Block): void {
  scratch.own(q);
  kernels.multiply(q, q, mu);
  kernels.shiftLeft(q, q, m);
  kernels.subtract(sum, sum, q);
}

/** sum += 2^m · μ · q, for the correlation of two top bits. */
function addWrapped(machine: Machine, scratch: Scratch, sum: Block, m: number, mu: Block, q: Block): void {
  machine.kernels.negate(q, q);
  takeWrapped(machine, scratch, sum, m, mu, q);
}

export const narrowSquare: SecureRow<'narrowSquare'> = {
  pads: own,
  client: (party, node, ...held) => squared(party, node, held, clientShares(party, node), true),
  server: (party, node, ...held) => squared(party, node, held, serverShares(party, node), false),
  dealer(dealer, node, _, alpha) {
    const scratch = new Scratch(dealer.kernels);
    const a = alpha!.block!;
    const top = topBit(dealer, scratch, a, node.parameters.modulus);
    // M² = M.
    return emit(dealer, node, scratch, [times(dealer, scratch, a, a), times(dealer, scratch, top, a), top]);
  },
};

function squared(
  machine: Machine,
  { parameters }: RingNodeOf<'narrowSquare'>,
  [e, rest, sign]: readonly Held[],
  shares: Block[],
  addsOpening: boolean,
): Held {
  const { kernels } = machine;
  const scratch = new Scratch(kernels);
  const [alpha2, wrapped, both] = shares as [Block, Block, Block?];
  takeWrapped(machine, scratch, alpha2, parameters.modulus + 1, sign!.block!, wrapped);
  // μ² = μ.
  if (both !== undefined) addWrapped(machine, scratch, alpha2, 2 * parameters.modulus, sign!.block!, both);
  const factor = scratch.new(alpha2.length);
  kernels.add(factor, rest!.block!, rest!.block!);
  if (addsOpening) kernels.add(factor, factor, e!.block!);
  kernels.multiplyAdd(alpha2, e!.block!, factor);
  return scratch.end(alpha2);
}

export const narrowProduct: SecureRow<'narrowProduct'> = {
  pads: own,
  client: (party, node, ...held) => multiplied(party, node, held, clientShares(party, node), true),
  server: (party, node, ...held) => multiplied(party, node, held, serverShares(party, node), false),
  dealer(dealer, node, _, alphaX, __, ___, alphaY) {
    const scratch = new Scratch(dealer.kernels);
    const [x, y] = [alphaX!.block!, alphaY!.block!];
    const wrapped = [
      [x, y],
      [y, x],
    ] as const;
    const [mx, my] = node.parameters.moduli;
    const values = node.parameters.moduli.flatMap((modulus, side) => {
      const [mine, other] = wrapped[side]!;
      if (modulus === dealer.ring.bits) return [];
      return [times(dealer, scratch, topBit(dealer, scratch, mine, modulus), other)];
    });
    if (mx + my < dealer.ring.bits)
      values.push(times(dealer, scratch, topBit(dealer, scratch, x, mx), topBit(dealer, scratch, y, my)));
    return emit(dealer, node, scratch, [times(dealer, scratch, x, y), ...values]);
  },
};

function multiplied(
  machine: Machine,
  { parameters }: RingNodeOf<'narrowProduct'>,
  [ex, restX, signX, ey, restY, signY]: readonly Held[],
  shares: Block[],
  addsOpening: boolean,
): Held {
  const { kernels, ring } = machine;
  const scratch = new Scratch(kernels);
  const [product, ...wrapped] = shares as [Block, ...Block[]];
  const [mx, my] = parameters.moduli;
  const signs = [signX!.block!, signY!.block!] as const;
  parameters.moduli.forEach((m, side) => {
    if (m < ring.bits) takeWrapped(machine, scratch, product, m, signs[side]!, wrapped.shift()!);
  });
  const both = wrapped.shift();
  if (both !== undefined) {
    const sign = times(machine, scratch, ...signs);
    addWrapped(machine, scratch, product, mx + my, sign, both);
  }
  const factor = scratch.new(product.length);
  if (addsOpening) kernels.add(factor, restY!.block!, ey!.block!);
  else kernels.copy(factor, restY!.block!);
  kernels.multiplyAdd(product, ex!.block!, factor);
  kernels.multiplyAdd(product, ey!.block!, restX!.block!);
  return scratch.end(product);
}

/** The dealer's part: every f_i less the client's pad of it, in its own width. Ends the scratch. */
function emit(
  { kernels, clientPads, program, outbox }: Dealer,
  node: NumberedNode,
  scratch: Scratch,
  values: readonly Block[],
): undefined {
  const parts = correctionsOf(node, program).map((width, at) => {
    const value = values[at]!;
    const pad = scratch.own(clientPads.bits(node.index, oneOf(own.fields, at), value.length, width));
    kernels.subtract(pad, value, pad);
    return kernels.pack(pad, width);
  });
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  outbox.toServer = bytes;
  scratch.freeAll();
  return undefined;
}

function topBit({ kernels }: Machine, scratch: Scratch, alpha: Block, modulus: number): Block {
  const top = scratch.new(alpha.length);
  kernels.shiftRight(top, alpha, modulus - 1, modulus);
  return top;
}

function times({ kernels }: Machine, scratch: Scratch, a: Block, b: Block): Block {
  const out = scratch.new(a.length);
  kernels.multiply(out, a, b);
  return out;
}
