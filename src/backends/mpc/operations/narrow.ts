import type { Block, RingKernels } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { inputModulus, modulusOf, ofPinned, type RingNodeOf } from '../../ring/index.ts';
import { type Held, type Machine, type Numbered, receive, Scratch, type Step, send } from '../protocol.ts';
import { byClient } from '../random.ts';
import type { Client, SecureRow } from './row.ts';

/**
 * Values in the smaller ring Z_2^m, m = M − f, of values modulo 2^M. (x_c ≫ f) + ((x_s + 2^f − 1) ≫ f) is a sharing of ⌊(x + 2^f − 1 − ρ) / 2^f⌋ modulo 2^m,
 * ρ = x_c mod 2^f: nothing is sent for a pinned x; for a floating one the client sends (x_c ≫ f) − y_c, m bits.
 *
 * Adversary: as in party.ts. The server sees (x_c ≫ f) − y_c, masked by y_c. Hops: one for a floating value. Error: that of truncation.
 */
type Node = Numbered<RingNodeOf<'narrow'>>;
const own = {
  /** y_c of a floating value. */
  share: byClient(0),
};

export const narrow: SecureRow<'narrow'> = {
  pads: own,
  client: (party, node, x) =>
    ofPinned(node, party.program) ? { block: shifted(party, node, x!) } : clientFloating(party, node, x!),
  server({ kernels, program }, node, x) {
    const f = node.parameters.bits;
    const y = kernels.allocate(size(node.shape));
    kernels.addScalar(y, x!.block!, (1n << BigInt(f)) - 1n);
    kernels.shiftRight(y, y, f, inputModulus(node, program));
    return ofPinned(node, program) ? { block: y } : takeOn(kernels, y, modulusOf(node, program));
  },
  share: (before, node, x) => ({
    block: ofPinned(node, before.program)
      ? shifted(before, node, x!)
      : before.pads.words(node.index, own.share, size(node.shape)),
  }),
};

/** x_c ≫ f. */
function shifted({ kernels, program }: Machine, node: Node, x: Held): Block {
  const y = kernels.allocate(size(node.shape));
  kernels.shiftRight(y, x.block!, node.parameters.bits, inputModulus(node, program));
  return y;
}

/** 1. y_c ← pad. 2. Send (x_c ≫ f) − y_c mod 2^m. */
function* clientFloating({ kernels, program, correlations }: Client, node: Node, x: Held): Step {
  const y = correlations.pads.words(node.index, own.share, size(node.shape));
  const scratch = new Scratch(kernels);
  const message = scratch.new(y.length);
  kernels.shiftRight(message, x.block!, node.parameters.bits, inputModulus(node, program));
  kernels.subtract(message, message, y);
  yield* send(kernels.pack(message, modulusOf(node, program)));
  return scratch.end(y);
}

/** Adds what the client sends to y. */
function* takeOn(kernels: RingKernels, y: Block, width: number): Step {
  const message = yield* receive();
  const scratch = new Scratch(kernels);
  const t = scratch.new(y.length);
  kernels.unpack(t, message, width);
  kernels.add(y, y, t);
  return scratch.end(y);
}
