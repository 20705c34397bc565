import { SottoError } from '../../../errors/index.ts';
import type { Block, RingKernels } from '../../../kernels/index.ts';
import { type ComparisonLayout, comparisonLayout } from './dcf-format.ts';
import {
  bitAt,
  checkKeys,
  correctionWords,
  type EvaluationOptions,
  hashes,
  hashInPlace,
  startingSeeds,
  strideOf,
} from './dcf-tree.ts';

/** The point function of a comparison key on windows of points around a public place (dcf.ts has the protocol, steps 4 and 5). */
export interface WindowOptions extends EvaluationOptions {
  /** Windows have 2^windowBits points aligned to their size; every key gets two neighbouring ones (cyclically). */
  readonly windowBits: number;
  /** The first window of every key: the high k − windowBits bits of its points, as words of wordBits. */
  readonly windows: Uint8Array;
  /** Keys expanded at once. */
  readonly chunk?: number;
}

/**
 * This party's shares of γ · [x = α] on two neighbouring windows of every key. `take(firstKey, count, vectors)` gets one vector for
 * every word of γ: count × 2 · 2^windowBits words, key after key; the vectors belong to the caller until it returns.
 */
export function expandWindows(
  options: WindowOptions,
  take: (firstKey: number, count: number, vectors: readonly Uint8Array<ArrayBuffer>[]) => void,
): void {
  const layout = comparisonLayout(options);
  const count = checkKeys(options, layout);
  const { windowBits, k, wordBits } = options;
  if (!Number.isInteger(windowBits) || windowBits < 0 || windowBits >= k || options.windows.length !== count * (wordBits / 8))
    throw new SottoError('usage', `no windows of 2^${windowBits} points for ${count} keys of 2^${k}`, {
      remedy: 'choose windows smaller than half of the points, one a key',
    });
  const chunk = options.chunk ?? Math.max(1, Math.floor(2 ** 14 / 2 ** windowBits));
  for (let first = 0; first < count; first += chunk) {
    const some = Math.min(chunk, count - first);
    take(first, some, expandChunk(options, layout, first, some));
  }
}

/**
 * `expandWindows` on blocks, one for every word of γ: in WebAssembly where the kernels have walks, otherwise by the slow twin. `windows`
 * has one word a key, every block of `outs` 2 · 2^windowBits.
 */
export function windowsInto(
  kernels: RingKernels,
  outs: readonly Block[],
  options: Omit<WindowOptions, 'windows' | 'chunk'> & { readonly windows: Block },
): void {
  const { trees, wordBits } = kernels;
  if (trees === undefined || wordBits !== options.wordBits) {
    const words = 2 ** (options.windowBits + 1);
    expandWindows({ ...options, windows: kernels.bytes(options.windows).slice() }, (first, count, vectors) => {
      vectors.forEach((bytes, q) => {
        kernels.bytes({ offset: outs[q]!.offset + (first * words * wordBits) / 8, length: count * words }).set(bytes);
      });
    });
    return;
  }
  const layout = comparisonLayout(options);
  checkKeys(options, layout);
  const { encryptBlocks: encrypt, ...walk } = options;
  const leafAt = options.k * layout.levelBytes + layout.valueBytes;
  trees.expandWindows(outs, { ...walk, encrypt, keyBytes: layout.bytes, levelBytes: layout.levelBytes, leafAt });
}

/** The first point of each key's two windows: window and window + 1, shifted to full points. */
function windowPoints(options: WindowOptions, first: number, keys: number): Int32Array {
  const { wordBits } = options;
  const stride = strideOf(wordBits);
  const word = wordBits / 8;
  const from = new Int32Array(options.windows.slice(first * word, (first + keys) * word).buffer);
  const out = new Int32Array(4 * keys);
  for (let key = 0; key < keys; key++) {
    const low = from[key * stride]!;
    const high = stride === 2 ? from[key * stride + 1]! : 0;
    const next = (low + 1) | 0;
    out[4 * key] = low;
    out[4 * key + 1] = high;
    out[4 * key + 2] = next;
    out[4 * key + 3] = next === 0 ? high + 1 : high;
  }
  return out;
}

function expandChunk(options: WindowOptions, layout: ComparisonLayout, first: number, keys: number): Uint8Array<ArrayBuffer>[] {
  const { k, wordBits, windowBits, party, encryptBlocks } = options;
  const cw = correctionWords(options.corrections, layout, first, keys);
  const keyWords = layout.bytes / 4;
  const levelWords = layout.levelBytes / 4;
  const windows = windowPoints(options, first, keys);
  const roots = startingSeeds(options.seeds, first, keys);
  let states: Int32Array<ArrayBuffer> = new Int32Array(8 * keys);
  for (let at = 0; at < 2 * keys; at++) for (let i = 0; i < 4; i++) states[4 * at + i] = roots[4 * (at >> 1) + i]!;
  let controls: Int32Array = new Int32Array(2 * keys).fill(party);
  const high = k - windowBits;
  for (let level = 0; level < high; level++) {
    const input = states.slice();
    for (let at = 0; at < 2 * keys; at++) input[4 * at]! ^= bitAt(windows, at, 2, high - 1 - level);
    const h = hashInPlace(encryptBlocks, input);
    for (let at = 0; at < 2 * keys; at++) {
      const c = (at >> 1) * keyWords + level * levelWords;
      const x = bitAt(windows, at, 2, high - 1 - level);
      const t = controls[at]!;
      const s0 = h[4 * at]!;
      states[4 * at] = (s0 ^ (-t & cw[c]!)) & ~3;
      for (let i = 1; i < 4; i++) states[4 * at + i] = h[4 * at + i]! ^ (-t & cw[c + i]!);
      controls[at] = (s0 & 1) ^ (t & (cw[c]! >>> x) & 1);
    }
  }
  for (let level = high; level < k; level++) {
    const nodes = 2 ** (level - high + 1);
    const h = hashes(encryptBlocks, states, 0, 2);
    const next = new Int32Array(2 * controls.length);
    for (let key = 0, at = 0; key < keys; key++) {
      const c = key * keyWords + level * levelWords;
      const c0 = cw[c]!;
      const c1 = cw[c + 1]!;
      const c2 = cw[c + 2]!;
      const c3 = cw[c + 3]!;
      const right = c0 >>> 1;
      for (let end = at + nodes; at < end; at++) {
        const t = controls[at]!;
        const mask = -t;
        const to = 8 * at;
        const l = h[to]!;
        const r = h[to + 4]!;
        next[2 * at] = (l & 1) ^ (t & c0 & 1);
        next[2 * at + 1] = (r & 1) ^ (t & right & 1);
        h[to] = (l ^ (mask & c0)) & ~3;
        h[to + 1]! ^= mask & c1;
        h[to + 2]! ^= mask & c2;
        h[to + 3]! ^= mask & c3;
        h[to + 4] = (r ^ (mask & c0)) & ~3;
        h[to + 5]! ^= mask & c1;
        h[to + 6]! ^= mask & c2;
        h[to + 7]! ^= mask & c3;
      }
    }
    states = h;
    controls = next;
  }
  const offset = k * levelWords + layout.valueBytes / 4;
  return leafVectors(options, states, controls, { cw, keyWords, offset, keys, wordBits });
}

function leafVectors(
  { party, leafWords, encryptBlocks }: WindowOptions,
  states: Int32Array,
  controls: Int32Array,
  { cw, keyWords, offset, keys, wordBits }: { cw: Int32Array; keyWords: number; offset: number; keys: number; wordBits: 32 | 64 },
): Uint8Array<ArrayBuffer>[] {
  const stride = strideOf(wordBits);
  const blocks = leafWords * stride > 4 ? 2 : 1;
  const h = hashes(encryptBlocks, states, 2, blocks);
  const points = controls.length / keys;
  const vectors = Array.from({ length: leafWords }, () => new Int32Array(controls.length * stride));
  const finish = stride === 2 ? finish64 : finish32;
  vectors.forEach((vector, word) => {
    for (let key = 0; key < keys; key++) {
      const c = key * keyWords + offset + word * stride;
      finish(vector, h, controls, key * points, points, 4 * blocks, word * stride, cw[c]!, stride === 2 ? cw[c + 1]! : 0, party);
    }
  });
  return vectors.map((vector) => new Uint8Array(vector.buffer));
}

/** vector = (−1)^party (h + t · correction) at one key's points, for one word of γ. */
function finish64(
  vector: Int32Array,
  h: Int32Array,
  controls: Int32Array,
  first: number,
  points: number,
  step: number,
  word: number,
  correctionLow: number,
  correctionHigh: number,
  party: number,
): void {
  for (let at = first, from = step * first + word, to = 2 * first; at < first + points; at++, from += step, to += 2) {
    const mask = -controls[at]!;
    const a = h[from]!;
    const b = mask & correctionLow;
    const low = (a + b) | 0;
    const carry = ((a & b) | ((a | b) & ~low)) >>> 31;
    const high = (h[from + 1]! + (mask & correctionHigh) + carry) | 0;
    const signed = ((low ^ -party) + party) | 0;
    vector[to] = signed;
    // The negative of a low word of zeros carries into the high one.
    vector[to + 1] = (high ^ -party) + (party & ~((signed | -signed) >>> 31));
  }
}

function finish32(
  vector: Int32Array,
  h: Int32Array,
  controls: Int32Array,
  first: number,
  points: number,
  step: number,
  word: number,
  correction: number,
  _high: number,
  party: number,
): void {
  for (let at = first, from = step * first + word; at < first + points; at++, from += step) {
    const value = (h[from]! + (-controls[at]! & correction)) | 0;
    vector[at] = (value ^ -party) + party;
  }
}
