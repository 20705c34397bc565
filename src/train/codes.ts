import { nf4Levels, nf4Sizes } from '../program/index.ts';

export interface Nf4 {
  /** Two a byte, the first in the high half. */
  readonly codes: Uint8Array;
  /** The largest magnitude of each block. */
  readonly scales: Float32Array;
}

/** A value belongs to a level above the middle between two, in float32; a value in the middle to the lower one. */
const middles = Float32Array.from({ length: 15 }, (_, i) => (nf4Levels[i]! + nf4Levels[i + 1]!) / 2);

function code(x: number): number {
  let level = 0;
  for (let half = 8; half > 0; half >>= 1) if (x > middles[level + half - 1]!) level += half;
  return level;
}

/** The nearest codes of values over their block's largest magnitude, in float32 as published; a block of zeros, or of less than float32 inverts, is zeros. */
export function packNf4(values: ArrayLike<number>, block: number): Nf4 {
  const { bytes, blocks } = nf4Sizes(values.length, block);
  const codes = new Uint8Array(bytes);
  const scales = new Float32Array(blocks);
  for (let at = 0; at < blocks; at++) {
    const [start, end] = [at * block, Math.min((at + 1) * block, values.length)];
    let largest = 0;
    for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
    scales[at] = largest;
    const inverse = largest < 2 ** -126 ? 0 : Math.fround(1 / Math.fround(largest));
    for (let i = start; i < end; i++) codes[i >> 1]! |= code(Math.fround(values[i]! * inverse)) << (i % 2 === 0 ? 4 : 0);
  }
  if (values.length % 2 === 1) codes[bytes - 1]! |= zeroCode;
  return { codes, scales };
}
const zeroCode = nf4Levels.indexOf(0);

/** The values that codes stand for. */
export function unpackNf4({ codes, scales }: Nf4, length: number, block: number): Float32Array {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const byte = codes[i >> 1]!;
    values[i] = nf4Levels[i % 2 === 0 ? byte >> 4 : byte & 15]! * scales[Math.floor(i / block)]!;
  }
  return values;
}

/** Scales share a scale of their own in blocks of so many. */
export const scaleBlock = 256;

/**
 * The 256 values of an 8-bit code (Dettmers, arXiv 1511.04561; bitsandbytes' dynamic map): of both signs, for the i-th of seven powers
 * of ten, 2^i steps; zero; and one.
 */
export const scaleLevels: Float64Array = Float64Array.from(
  [
    0,
    1,
    ...Array.from({ length: 7 }, (_, i) =>
      Array.from({ length: 2 ** i }, (_, step) => 10 ** (i - 6) * (0.1 + (0.9 * (step + 0.5)) / 2 ** i)).flatMap((x) => [x, -x]),
    ).flat(),
  ].sort((x, y) => x - y),
);

/** Scales by 8-bit codes: `offset` plus the code's value times the scale of its block. */
export interface PackedScales {
  readonly codes: Uint8Array;
  readonly scales: Float32Array;
  readonly offset: number;
}

/** The nearest codes of the scales' distances from their mean, over the largest of each block of 256. */
export function packScales(values: Float32Array): PackedScales {
  const offset = Math.fround(values.reduce((sum, value) => sum + value, 0) / values.length);
  const scales = new Float32Array(Math.ceil(values.length / scaleBlock));
  const codes = new Uint8Array(values.length);
  for (let at = 0; at < scales.length; at++) {
    const [start, end] = [at * scaleBlock, Math.min((at + 1) * scaleBlock, values.length)];
    for (let i = start; i < end; i++) scales[at] = Math.max(scales[at]!, Math.abs(values[i]! - offset));
    for (let i = start; i < end; i++) codes[i] = nearest(scales[at] === 0 ? 0 : (values[i]! - offset) / scales[at]!);
  }
  return { codes, scales, offset };
}

function nearest(x: number): number {
  let [low, high] = [0, scaleLevels.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (scaleLevels[middle]! <= x) low = middle;
    else high = middle;
  }
  return x - scaleLevels[low]! <= scaleLevels[high]! - x ? low : high;
}

export const unpackScales = ({ codes, scales, offset }: PackedScales): Float32Array =>
  Float32Array.from(codes, (code, i) => scaleLevels[code]! * scales[Math.floor(i / scaleBlock)]! + offset);
