import { SottoError } from '../../../errors/index.ts';
import type { Block, RingKernels } from '../../../kernels/index.ts';
import { type Corrections, decodeCorrections, encodeCorrections, type Layout, layoutOf, type PointShape } from './dpf-format.ts';

export { correctionBytes, type PointShape } from './dpf-format.ts';

/**
 * Distributed point functions for lookups, many at once.
 *
 * Source: Boyle, Gilboa, Ishai, "Function secret sharing: improvements and extensions" (CCS 2016), figure 1, with early termination
 * (section 3.2.1). A key pair for α in [0, 2^k) lets two parties expand vectors v₀, v₁ of 2^k words with v₀ + v₁ = e_α modulo
 * 2^wordBits (signs folded in). A narrower ring Z_2^L reduces the words.
 *
 * With ν = min(k, log₂ of the words in a 128-bit block) and n = k − ν levels:
 *   1. Party b starts from its seed s_b (its lowest bit cleared) and control bit t_b = b.
 *   2. G(s) = (H₀(s), H₁(s)), H_i(s) = AES_{K_i}(s) ⊕ s (Matyas, Meyer, Oseas) with two public keys; the lowest bit of each child is
 *      its control bit and is cleared from the seed.
 *   3. Level i, a = bit of α (highest first), keep = a, lose = 1 − a:
 *      sCW = s₀^lose ⊕ s₁^lose,  tCW^L = t₀^L ⊕ t₁^L ⊕ a ⊕ 1,  tCW^R = t₀^R ⊕ t₁^R ⊕ a;
 *      both parties add (XOR) t_b · (sCW, tCW) to their children, so that off the path of α their states are equal.
 *   4. Leaf: C(s) = H₀(s) as 2^ν words; CW = (−1)^{t₁} · (e_{α mod 2^ν} − C(s₀) + C(s₁)); party b's words are (−1)^b · (C(s) + t · CW).
 *
 * Adversary: the maker of the keys is honest (the dealer, who knows α anyway); each of the other two is semi-honest and sees its own
 * seed and the corrections, and learns nothing of α from them. Leaks: the number of keys, k and wordBits. Security: H is modelled with
 * an ideal cipher under fixed keys; seeds have 127 bits and share the two keys, so N seeds (all keys, all nodes) leave about
 * 127 − log₂ N bits. Seeds must be fresh, uniform and independent for each key, and the two parties' must not be known to each other.
 * Corrections per key, the same bytes for both parties: 128 n bits (tCW^L in the free lowest bit), n bits for tCW^R in whole bytes,
 * and 2^ν words. Hops: none. Error: none. Key generation and expansion take no branch and no address from α, seeds or control bits.
 *
 * Bytes are read as little-endian words in place, as every platform that runs this has them.
 */

/** AES-128 under public key 0 or 1 on many 16-byte blocks at once; the answer has as many bytes and belongs to the caller. */
export interface EncryptBlocks {
  (keyIndex: 0 | 1, blocks: Uint8Array<ArrayBuffer>): Uint8Array;
  /** The same, written to `out`, where a platform can do that without garbage. */
  into?(keyIndex: 0 | 1, blocks: Uint8Array<ArrayBuffer>, out: Uint8Array<ArrayBuffer>): void;
}

/** K₀ and K₁: the first 256 fractional bits of π, in hexadecimal. */
export const fixedKeysHex = ['243f6a8885a308d313198a2e03707344', 'a4093822299f31d0082efa98ec4e6c89'] as const;

export const seedBytes = 16;

/** Seeds of 16 bytes per key, their lowest bit cleared, as four words each. */
function startingSeeds(seeds: Uint8Array, firstKey: number, count: number): Int32Array<ArrayBuffer> {
  const bytes = seeds.slice(firstKey * seedBytes, (firstKey + count) * seedBytes);
  const words = new Int32Array(bytes.buffer);
  for (let at = 0; at < words.length; at += 4) words[at]! &= ~1;
  return words;
}

/** H_i of every block: AES(s) ⊕ s, as words. */
function hashBlocks(encryptBlocks: EncryptBlocks, keyIndex: 0 | 1, seeds: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const encrypted = encryptBlocks(keyIndex, new Uint8Array(seeds.buffer, seeds.byteOffset, seeds.byteLength));
  if (encrypted.length !== seeds.byteLength) {
    throw new SottoError('usage', 'the cipher answered with another number of blocks', {
      remedy: 'encrypt each block by itself, without padding',
    });
  }
  // In place, unless the cipher's buffer is not aligned to words.
  const aligned = encrypted.byteOffset % 4 === 0 ? encrypted : Uint8Array.from(encrypted);
  const out = new Int32Array(aligned.buffer as ArrayBuffer, aligned.byteOffset, seeds.length);
  for (let at = 0; at < out.length; at++) out[at]! ^= seeds[at]!;
  return out;
}

export interface GenerateOptions extends PointShape {
  /** The points, one per key. */
  readonly alpha: ArrayLike<number>;
  /** 16 bytes per key for each party: uniform, independent, used for nothing else. */
  readonly seeds0: Uint8Array;
  readonly seeds1: Uint8Array;
  readonly encryptBlocks: EncryptBlocks;
}

/** The corrections of all keys, `correctionBytes(k, wordBits)` each, for both parties. */
export function generateKeys(options: GenerateOptions): Uint8Array<ArrayBuffer> {
  const { alpha, k, encryptBlocks } = options;
  const layout = layoutOf(options);
  const count = alpha.length;
  checkSeeds(options.seeds0, count);
  checkSeeds(options.seeds1, count);
  for (let key = 0; key < count; key++) {
    const point = alpha[key]!;
    if (!Number.isInteger(point) || point < 0 || point >= 2 ** k) {
      throw new SottoError('usage', `point ${key} is not in [0, 2^${k})`, { remedy: 'reduce it first' });
    }
  }
  const corrections: Corrections = {
    seed: Array.from({ length: layout.levels }, () => new Int32Array(4 * count)),
    left: Array.from({ length: layout.levels }, () => new Int32Array(count)),
    right: Array.from({ length: layout.levels }, () => new Int32Array(count)),
    leaf: new Int32Array(4 * count),
  };
  // Both parties' states on the path of α, party 0's keys first: one cipher call serves both.
  const states = new Int32Array(8 * count);
  states.set(startingSeeds(options.seeds0, 0, count));
  states.set(startingSeeds(options.seeds1, 0, count), 4 * count);
  const controls = new Int32Array(2 * count).fill(1, count);
  for (let level = 0; level < layout.levels; level++) correctLevel(options, corrections, states, controls, level);
  const converted = hashBlocks(encryptBlocks, 0, states);
  const correctLeaf = options.wordBits === 64 ? correctLeaf64 : correctLeaf32;
  for (let key = 0; key < count; key++) {
    correctLeaf(corrections.leaf, converted, 4 * key, 4 * (count + key), alpha[key]! % layout.leafWords, controls[count + key]!);
  }
  return encodeCorrections(corrections, layout, count);
}

/** Step 3 for every key: derives the correction of one level and moves both states to the child that keeps α. */
function correctLevel(
  options: GenerateOptions,
  corrections: Corrections,
  states: Int32Array<ArrayBuffer>,
  controls: Int32Array,
  level: number,
): void {
  const { alpha, k, encryptBlocks } = options;
  const count = alpha.length;
  const left = hashBlocks(encryptBlocks, 0, states);
  const right = hashBlocks(encryptBlocks, 1, states);
  const seed = corrections.seed[level]!;
  for (let key = 0; key < count; key++) {
    const a = (alpha[key]! >>> (k - 1 - level)) & 1;
    const keepRight = -a;
    const p = 4 * key;
    const q = 4 * (count + key);
    const tLeft = (left[p]! ^ left[q]! ^ a ^ 1) & 1;
    const tRight = (right[p]! ^ right[q]! ^ a) & 1;
    corrections.left[level]![key] = tLeft;
    corrections.right[level]![key] = tRight;
    const tKeep = tLeft ^ (keepRight & (tLeft ^ tRight));
    const mask0 = -controls[key]!;
    const mask1 = -controls[count + key]!;
    // The kept child's control bit, before its seed loses that bit.
    const keep0 = left[p]! ^ (keepRight & (left[p]! ^ right[p]!));
    const keep1 = left[q]! ^ (keepRight & (left[q]! ^ right[q]!));
    controls[key] = (keep0 ^ (mask0 & tKeep)) & 1;
    controls[count + key] = (keep1 ^ (mask1 & tKeep)) & 1;
    for (let word = 0; word < 4; word++) {
      const l0 = left[p + word]!;
      const r0 = right[p + word]!;
      const l1 = left[q + word]!;
      const r1 = right[q + word]!;
      const clear = word === 0 ? ~1 : ~0;
      const lose = (r0 ^ r1 ^ (keepRight & (r0 ^ r1 ^ l0 ^ l1))) & clear;
      seed[p + word] = lose;
      states[p + word] = ((l0 ^ (keepRight & (l0 ^ r0))) & clear) ^ (mask0 & lose);
      states[q + word] = ((l1 ^ (keepRight & (l1 ^ r1))) & clear) ^ (mask1 & lose);
    }
  }
}

/** Step 4 in words of 32 bits: leaf[p + j] = (−1)^t · ([j = place] − c[p + j] + c[q + j]); p and q index the two parties' blocks. */
function correctLeaf32(leaf: Int32Array, c: Int32Array, p: number, q: number, place: number, t: number): void {
  for (let j = 0; j < 4; j++) {
    const value = (isZero(j ^ place) - c[p + j]! + c[q + j]!) | 0;
    leaf[p + j] = ((value ^ -t) + t) | 0;
  }
}

function correctLeaf64(leaf: Int32Array, c: Int32Array, p: number, q: number, place: number, t: number): void {
  for (let j = 0; j < 2; j++) {
    const low0 = c[p + 2 * j]!;
    const low1 = c[q + 2 * j]!;
    const difference = (low1 - low0) | 0;
    const borrow = ((~low1 & low0) | (~(low1 ^ low0) & difference)) >>> 31;
    const one = isZero(j ^ place);
    const low = (difference + one) | 0;
    const carry = one & isZero(low);
    const high = (c[q + 2 * j + 1]! - c[p + 2 * j + 1]! - borrow + carry) | 0;
    const negated = ((low ^ -t) + t) | 0;
    leaf[p + 2 * j] = negated;
    leaf[p + 2 * j + 1] = ((high ^ -t) + (t & isZero(negated))) | 0;
  }
}

/** 1 for zero, 0 otherwise, without a branch. */
function isZero(value: number): number {
  return (~(value | -value) >>> 31) & 1;
}

export interface ExpandOptions extends PointShape {
  readonly party: 0 | 1;
  /** This party's seeds, 16 bytes per key; as many keys as there are seeds. */
  readonly seeds: Uint8Array;
  readonly corrections: Uint8Array;
  readonly encryptBlocks: EncryptBlocks;
  /** Keys expanded at once; by default as many as fill 512 KiB. Memory is about four times their vectors. */
  readonly chunk?: number;
}

/**
 * Expands keys, a chunk at a time: `take(firstKey, count, vectors)` gets count × 2^k words, key after key, little endian. The vectors
 * belong to the caller. Throws a `material` error where seeds and corrections do not have the sizes of the same number of keys.
 */
export function expandInChunks(
  options: ExpandOptions,
  take: (firstKey: number, count: number, vectors: Uint8Array<ArrayBuffer>) => void,
): void {
  const { k, wordBits } = options;
  const layout = layoutOf(options);
  const count = checkKeys(options, layout);
  const chunk = Math.max(1, Math.floor(options.chunk ?? 2 ** 19 / (2 ** k * (wordBits / 8))));
  for (let firstKey = 0; firstKey < count; firstKey += chunk) {
    const size = Math.min(chunk, count - firstKey);
    take(firstKey, size, expandChunk(options, layout, firstKey, size));
  }
}

/**
 * All keys' vectors into a block of count × 2^k words: in WebAssembly where the kernels have walks and a leaf fills its block, otherwise
 * by the slow twin below.
 */
export function expandInto(kernels: RingKernels, out: Block, options: ExpandOptions): void {
  const layout = layoutOf(options);
  if (kernels.trees === undefined || layout.leafBytes !== 16 || kernels.wordBits !== options.wordBits) {
    kernels.bytes(out).set(expand(options));
    return;
  }
  checkKeys(options, layout);
  kernels.trees.expandPoints(out, {
    party: options.party,
    seeds: options.seeds,
    corrections: options.corrections,
    keyBytes: layout.bytes,
    levels: layout.levels,
    bitsAt: 16 * layout.levels,
    leafAt: 16 * layout.levels + layout.bitBytes,
    encrypt: options.encryptBlocks,
  });
}

/** All keys' vectors in one piece: count × 2^k words, little endian. */
export function expand(options: ExpandOptions): Uint8Array<ArrayBuffer> {
  const vectorBytes = 2 ** options.k * (options.wordBits / 8);
  const out = new Uint8Array((options.seeds.length / seedBytes) * vectorBytes);
  expandInChunks(options, (firstKey, _count, vectors) => out.set(vectors, firstKey * vectorBytes));
  return out;
}

function expandChunk(options: ExpandOptions, layout: Layout, firstKey: number, count: number): Uint8Array<ArrayBuffer> {
  const { encryptBlocks, party } = options;
  const corrections = decodeCorrections(options.corrections, layout, firstKey, count);
  let states = startingSeeds(options.seeds, firstKey, count);
  let controls: Int32Array = new Int32Array(count).fill(party);
  for (let level = 0; level < layout.levels; level++) {
    const left = hashBlocks(encryptBlocks, 0, states);
    const right = hashBlocks(encryptBlocks, 1, states);
    [states, controls] = expandLevel(left, right, controls, corrections, level, count);
  }
  // A buffer of its own, aligned for every kind of word.
  const words = hashBlocks(encryptBlocks, 0, states).slice();
  if (options.wordBits === 64) finishLeaves64(words, controls, corrections.leaf, party, count);
  else finishLeaves32(words, controls, corrections.leaf, party, count);
  const bytes = new Uint8Array(words.buffer);
  return layout.leafBytes === 16 ? bytes : firstBytesOfBlocks(bytes, layout.leafBytes);
}

/** Step 3 on 2^level nodes of every key: corrects the children and puts them side by side. */
function expandLevel(
  left: Int32Array,
  right: Int32Array,
  controls: Int32Array,
  corrections: Corrections,
  level: number,
  count: number,
): [Int32Array<ArrayBuffer>, Int32Array] {
  const nodes = 2 ** level;
  const states = new Int32Array(2 * left.length);
  const next = new Int32Array(2 * controls.length);
  const seed = corrections.seed[level]!;
  for (let key = 0, node = 0; key < count; key++) {
    const cw0 = seed[4 * key]!;
    const cw1 = seed[4 * key + 1]!;
    const cw2 = seed[4 * key + 2]!;
    const cw3 = seed[4 * key + 3]!;
    // The control bit's correction rides in the seed correction's free lowest bit.
    const cwLeft = cw0 | corrections.left[level]![key]!;
    const cwRight = cw0 | corrections.right[level]![key]!;
    for (let end = node + nodes; node < end; node++) {
      const mask = -controls[node]!;
      const from = 4 * node;
      const to = 8 * node;
      const l = left[from]! ^ (mask & cwLeft);
      const r = right[from]! ^ (mask & cwRight);
      next[2 * node] = l & 1;
      next[2 * node + 1] = r & 1;
      states[to] = l & ~1;
      states[to + 1] = left[from + 1]! ^ (mask & cw1);
      states[to + 2] = left[from + 2]! ^ (mask & cw2);
      states[to + 3] = left[from + 3]! ^ (mask & cw3);
      states[to + 4] = r & ~1;
      states[to + 5] = right[from + 1]! ^ (mask & cw1);
      states[to + 6] = right[from + 2]! ^ (mask & cw2);
      states[to + 7] = right[from + 3]! ^ (mask & cw3);
    }
  }
  return [states, next];
}

/** Step 4 in place: words = (−1)^party · (words + t · CW). */
function finishLeaves32(words: Int32Array, controls: Int32Array, leaf: Int32Array, party: number, count: number): void {
  const blocks = controls.length / count;
  for (let key = 0, block = 0; key < count; key++) {
    for (let end = block + blocks; block < end; block++) {
      const mask = -controls[block]!;
      for (let j = 0; j < 4; j++) {
        const value = (words[4 * block + j]! + (mask & leaf[4 * key + j]!)) | 0;
        words[4 * block + j] = (value ^ -party) + party;
      }
    }
  }
}

function finishLeaves64(words: Int32Array, controls: Int32Array, leaf: Int32Array, party: number, count: number): void {
  const blocks = controls.length / count;
  for (let key = 0, block = 0; key < count; key++) {
    for (let end = block + blocks; block < end; block++) {
      const mask = -controls[block]!;
      for (let j = 0; j < 4; j += 2) {
        const a = words[4 * block + j]!;
        const b = mask & leaf[4 * key + j]!;
        const low = (a + b) | 0;
        const carry = ((a & b) | ((a | b) & ~low)) >>> 31;
        const high = (words[4 * block + j + 1]! + (mask & leaf[4 * key + j + 1]!) + carry) | 0;
        const signed = ((low ^ -party) + party) | 0;
        words[4 * block + j] = signed;
        words[4 * block + j + 1] = (high ^ -party) + (party & isZero(signed));
      }
    }
  }
}

/** For k = 1 in words of 32 bits, where a leaf block holds more words than the vector. */
function firstBytesOfBlocks(blocks: Uint8Array, kept: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array((blocks.length / 16) * kept);
  for (let from = 0, to = 0; from < blocks.length; from += 16, to += kept) out.set(blocks.subarray(from, from + kept), to);
  return out;
}

/** How many keys there are. */
function checkKeys({ seeds, corrections }: ExpandOptions, layout: Layout): number {
  const count = seeds.length / seedBytes;
  if (Number.isInteger(count) && corrections.length === count * layout.bytes) return count;
  throw new SottoError('material', `${seeds.length} bytes of seeds do not go with ${corrections.length} bytes of corrections`, {
    remedy: 'make new correlations: these are damaged or of another program',
  });
}

function checkSeeds(seeds: Uint8Array, count: number): void {
  if (seeds.length !== count * seedBytes) {
    throw new SottoError('usage', `${count} keys need ${count * seedBytes} bytes of seeds, not ${seeds.length}`, {
      remedy: 'draw 16 bytes per key and party',
    });
  }
}
