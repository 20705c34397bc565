import { SottoError } from '../../../errors/index.ts';
import type { ComparisonLayout, ComparisonShape } from './dcf-format.ts';
import type { EncryptBlocks } from './dpf.ts';

/** What generation and evaluation of comparison functions share (dcf.ts has the protocol): hashing, bits, checks. */

/** Seeds with their lowest two bits cleared, four words each. */
export function startingSeeds(seeds: Uint8Array, firstKey: number, count: number): Int32Array<ArrayBuffer> {
  const words = new Int32Array(seeds.slice(firstKey * 16, (firstKey + count) * 16).buffer);
  for (let at = 0; at < words.length; at += 4) words[at]! &= ~3;
  return words;
}

/** H(s ⊕ tweak) for every state and `tweaks` from `first` on: block (state, tweak) at 4 · (state · tweaks + tweak − first). */
export function hashes(encryptBlocks: EncryptBlocks, states: Int32Array, first: number, tweaks: number): Int32Array<ArrayBuffer> {
  const input = new Int32Array(states.length * tweaks);
  for (let from = 0, to = 0; from < states.length; from += 4) {
    const s0 = states[from]!;
    const s1 = states[from + 1]!;
    const s2 = states[from + 2]!;
    const s3 = states[from + 3]!;
    for (let tweak = first; tweak < first + tweaks; tweak++) {
      input[to] = s0 ^ tweak;
      input[to + 1] = s1;
      input[to + 2] = s2;
      input[to + 3] = s3;
      to += 4;
    }
  }
  return hashInPlace(encryptBlocks, input);
}

export function hashInPlace(encryptBlocks: EncryptBlocks, input: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const encrypted = encryptBlocks(0, new Uint8Array(input.buffer));
  if (encrypted.length !== input.byteLength) {
    throw new SottoError('usage', 'the cipher answered with another number of blocks', {
      remedy: 'encrypt each block by itself, without padding',
    });
  }
  const aligned = encrypted.byteOffset % 4 === 0 ? encrypted : Uint8Array.from(encrypted);
  const words = new Int32Array(aligned.buffer as ArrayBuffer, aligned.byteOffset, input.length);
  for (let at = 0; at < input.length; at++) input[at]! ^= words[at]!;
  return input;
}

/** Bit `place` of the number in a run of words: little endian, `stride` words of 32 bits each. */
export const bitAt = (words: Int32Array, at: number, stride: number, place: number): number =>
  (words[at * stride + (place >>> 5)]! >>> (place & 31)) & 1;

export const strideOf = (wordBits: 32 | 64): number => wordBits / 32;

/** Words of β or γ a key, padded to pairs of 32 bits. */
export const pairsOf = (words: number, wordBits: 32 | 64): number => Math.ceil((words * wordBits) / 64);

export interface EvaluationOptions extends ComparisonShape {
  readonly party: 0 | 1;
  readonly seeds: Uint8Array;
  readonly corrections: Uint8Array;
  readonly encryptBlocks: EncryptBlocks;
}

export function checkKeys({ seeds, corrections }: EvaluationOptions, layout: ComparisonLayout): number {
  const count = seeds.length / 16;
  if (!Number.isInteger(count) || corrections.length !== count * layout.bytes)
    throw new SottoError('material', `${seeds.length} bytes of seeds do not go with ${corrections.length} bytes of corrections`, {
      remedy: 'make new correlations: these are damaged or of another program',
    });
  return count;
}

/** The corrections of keys first … first + count − 1 as words: corrections[key · keyWords + …]. */
export function correctionWords(corrections: Uint8Array, layout: ComparisonLayout, first: number, count: number): Int32Array {
  return new Int32Array(corrections.slice(first * layout.bytes, (first + count) * layout.bytes).buffer);
}
