import { SottoError } from '../../../errors/index.ts';

/** The byte format of the corrections of distributed comparison functions (dcf.ts has the protocol). */
export interface ComparisonShape {
  /** Points lie in [0, 2^k), k in 1 … 62. */
  readonly k: number;
  readonly wordBits: 32 | 64;
  /** Words that a comparison gives, 0 … 2: 0 where nothing is compared. */
  readonly valueWords: number;
  /** Words that the point itself carries, 0 … 3: 0 where no window is expanded. */
  readonly leafWords: number;
}

export interface ComparisonLayout {
  /** A level's 16-byte seed correction (both control bits in its lowest two bits) and its value correction. */
  readonly levelBytes: number;
  readonly valueBytes: number;
  readonly leafBytes: number;
  readonly bytes: number;
}

/** Throws a `usage` error where there are no comparison functions of this shape. */
export function comparisonLayout({ k, wordBits, valueWords, leafWords }: ComparisonShape): ComparisonLayout {
  const whole = (value: number, low: number, high: number): boolean => Number.isInteger(value) && value >= low && value <= high;
  if (!whole(k, 1, 62) || !whole(valueWords, 0, 2) || !whole(leafWords, 0, 3) || (wordBits !== 32 && wordBits !== 64)) {
    throw new SottoError(
      'usage',
      `no comparisons on 2^${k} points with ${valueWords} and ${leafWords} words of ${wordBits} bits`,
      {
        remedy: 'use k in 1 … 62, at most 2 words for a comparison and 3 for a point, of 32 or 64 bits',
      },
    );
  }
  const word = wordBits / 8;
  const levelBytes = 16 + valueWords * word;
  const valueBytes = valueWords * word;
  const leafBytes = leafWords * word;
  return { levelBytes, valueBytes, leafBytes, bytes: k * levelBytes + valueBytes + leafBytes };
}

/** Bytes of corrections for one key. A party's key is these and its own seed of 16 bytes. */
export const comparisonBytes = (shape: ComparisonShape): number => comparisonLayout(shape).bytes;

/** out[at, at + 1] += (−1)^negative · (low, high): one 64-bit sum, or two of 32 bits, without a branch on the words. */
export function addPair(out: Int32Array, at: number, low: number, high: number, negative: number, wide: number): void {
  const x = low ^ -negative;
  const y = high ^ -negative;
  const a = out[at]!;
  const sum = (a + x) | 0;
  const total = (sum + negative) | 0;
  const carry = ((a & x) | ((a | x) & ~sum) | (sum & ~total)) >>> 31;
  out[at] = total;
  out[at + 1] = (out[at + 1]! + y + (wide & carry) + (~wide & negative)) | 0;
}
