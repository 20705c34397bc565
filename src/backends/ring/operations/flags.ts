import { type Block, fresh, type RingKernels } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import type { RingRow } from './row.ts';

/** Sums of a wire's elements under public coefficients 0 and ±1: `repeats` of every `group` elements, at most 16, each with its own. */
export interface Projection {
  readonly group: number;
  readonly repeats: number;
  /** Which signs: no two projections of a program have the same. */
  readonly seed: number;
}

/** Zero as often as not: two sums that differ in one element differ by all of it, which nothing modulo 2^L hides. */
const coefficients = [0, 1, 0, -1] as const;

/** 32 bits from a seed and a place (the finaliser of MurmurHash3): signs are public, and only have to be independent of the values. */
function mixed(seed: number, at: number): number {
  let h = Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(at + 1, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** A group's signs, (k, repeats). Every group has the same: what a sum misses of one it misses of another, each at its own chance. */
function signsOf(kernels: RingKernels, k: number, { repeats, seed }: Projection): Block {
  const signs = new Float64Array(k * repeats);
  for (let i = 0; i < k; i++) {
    const bits = mixed(seed, i);
    for (let j = 0; j < repeats; j++) signs[i * repeats + j] = coefficients[(bits >>> (2 * j)) & 3]!;
  }
  return fresh(kernels, signs.length, (matrix) => kernels.encode(matrix, signs, 0, kernels.wordBits));
}

/** (…) → (groups, repeats), the last group of what is left. Acts on a share, a mask or a value alike. */
export function projected(kernels: RingKernels, x: Block, projection: Projection): Block {
  const { group, repeats } = projection;
  const wordBytes = kernels.wordBits / 8;
  const part = (block: Block, from: number, length: number): Block => ({ offset: block.offset + from * wordBytes, length });
  return fresh(kernels, Math.ceil(x.length / group) * repeats, (out) => {
    const whole = Math.floor(x.length / group);
    const sums = (from: number, m: number, k: number): void => {
      if (m === 0 || k === 0) return;
      const signs = signsOf(kernels, k, projection);
      const at = (from / group) * repeats;
      kernels.matmul(part(out, at, m * repeats), part(x, from, m * k), signs, { batch: 1, m, k, n: repeats });
      kernels.free(signs);
    };
    sums(0, whole, group);
    sums(whole * group, 1, x.length - whole * group);
  });
}

/** Public sums of a wire, modulo 2^L: what is out of range by far is so in half of them. They may wrap, and mean nothing else. */
export const project: RingRow<'project', Projection> = {
  meaning: ({ kernels }, { parameters }, x) => ({ block: projected(kernels, x!.block, parameters), most: 0 }),
};

/** To the client, one bit: the lowest of a value that is zero or one. */
export const flag: RingRow<'flag', { readonly name: string }> = {
  reveals: true,
  messages: ({ shape }) => ({ serverToClient: [{ count: size(shape), width: 1 }] }),
  meaning: ({ kernels, output }, { shape, parameters }, x) => {
    output(parameters.name, { shape, values: kernels.decode(x!.block, 0, kernels.wordBits) });
    return x!;
  },
};
