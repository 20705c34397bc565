import { SottoError } from '../../errors/index.ts';
import { pseudorandom } from '../../math/index.ts';
import { permuted } from './permutation.ts';

/** One part of a mixture: items 0 … count − 1, drawn `weight` times out of the sum of all weights. */
export interface MixturePart {
  readonly name: string;
  readonly count: number;
  /** A positive whole number: 50, 30 and 20 for percentages. */
  readonly weight: number;
}

/** What a run stores to go on where it stopped, whatever it was in the middle of: a small JSON object. */
export interface MixtureState {
  readonly position: number;
  readonly seed: number;
  readonly parts: readonly MixturePart[];
}

/** One draw of a mixture. */
export interface Draw {
  /** Which part, and its item. */
  readonly part: number;
  readonly index: number;
  /** How often the part was drawn through before. */
  readonly epoch: number;
}

/** An endless sequence of draws from several parts in fixed proportions, repeatable from its seed. */
export interface Mixture {
  /** Draws in one block; after every block the proportions are exact, within one they are off by less than one block. */
  readonly blockLength: number;
  /** The draw at a position: depends on the parts, the seed and the position alone. */
  at(position: number): Draw;
  /** The draw after the last one; moves `state`. */
  next(): Draw;
  readonly state: MixtureState;
}

/**
 * Items of several parts in exact proportions. Each block of Σ weights / gcd draws holds every part its share of times, in an order
 * shuffled by the seed; each part goes through all its items in a new order an epoch. A state of other parts or seed is refused.
 */
export function mixture(parts: readonly MixturePart[], seed: number, resume?: MixtureState): Mixture {
  checkParts(parts);
  const common = parts.reduce((divisor, part) => greatestCommonDivisor(divisor, part.weight), 0);
  const shares = parts.map((part) => part.weight / common);
  const blockLength = shares.reduce((sum, share) => sum + share, 0);
  const template = shares.flatMap((share, part) => new Array<number>(share).fill(part));
  let position = resume === undefined ? 0 : checkState(resume, parts, seed);
  let [heldBlock, order, before] = [-1, template, template];

  const at = (where: number): Draw => {
    const block = Math.floor(where / blockLength);
    if (block !== heldBlock) {
      heldBlock = block;
      order = pseudorandom(seed, 0x6d6978, block).shuffle([...template]);
      const drawn = shares.map(() => 0);
      before = order.map((part) => drawn[part]!++);
    }
    const within = where % blockLength;
    const part = order[within]!;
    const { count } = parts[part]!;
    const drawn = block * shares[part]! + before[within]!;
    const epoch = Math.floor(drawn / count);
    return { part, epoch, index: permuted(drawn % count, count, seed, part, epoch) };
  };
  return {
    blockLength,
    at,
    next: () => at(position++),
    get state() {
      return { position, seed, parts: parts.map(({ name, count, weight }) => ({ name, count, weight })) };
    },
  };
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));

function checkParts(parts: readonly MixturePart[]): void {
  const refuse = (field: string, reason: string): never => {
    throw new SottoError('usage', reason, { place: { field }, remedy: 'correct the mixture' });
  };
  if (parts.length === 0) refuse('mixture', 'the mixture has no parts');
  for (const { name, count, weight } of parts) {
    if (!Number.isInteger(weight) || weight < 1 || weight > 1e6)
      refuse(name, `the weight ${weight} is not a whole number from 1 to 10^6`);
    if (!Number.isSafeInteger(count) || count < 1 || count > 2 ** 31) refuse(name, `${count} items to draw from`);
  }
}

function checkState(state: MixtureState, parts: readonly MixturePart[], seed: number): number {
  const same =
    state.seed === seed &&
    state.parts.length === parts.length &&
    state.parts.every(({ name, count, weight }, at) => {
      const part = parts[at]!;
      return name === part.name && count === part.count && weight === part.weight;
    });
  if (same && Number.isSafeInteger(state.position) && state.position >= 0) return state.position;
  throw new SottoError('input', 'the stored position belongs to another mixture', {
    place: { field: 'mixture' },
    remedy: 'resume with the same data, weights and seed, or begin again',
  });
}
