import { SottoError } from '../../../errors/index.ts';
import type { Block, RingKernels } from '../../../kernels/index.ts';
import { addPair, type ComparisonLayout, type ComparisonShape, comparisonLayout } from './dcf-format.ts';
import {
  bitAt,
  checkKeys,
  correctionWords,
  type EvaluationOptions,
  hashes,
  hashInPlace,
  pairsOf,
  startingSeeds,
  strideOf,
} from './dcf-tree.ts';
import type { EncryptBlocks } from './dpf.ts';

export { type ComparisonShape, comparisonBytes } from './dcf-format.ts';

/**
 * Distributed comparison functions, many at once, with the point function of the same α on the same tree.
 *
 * Sources: Boyle, Chandran, Gilboa, Gupta, Ishai, Kumar, Rathee, "Function secret sharing for mixed-mode and fixed-point secure
 * computation" (EUROCRYPT 2021), figure 1, for x ↦ β · [x < α]; Boyle, Gilboa, Ishai (CCS 2016), figure 1, for x ↦ γ · [x = α].
 * A key pair for α in [0, 2^k) lets two parties compute additive shares modulo 2^wordBits of β · [x < α] at any public points x
 * (`evaluateComparisons`), and of γ · [x = α] for all x of a public window (`expandWindows`). β has up to two words, γ up to three.
 *
 * 1. Party b starts from its seed (its lowest two bits cleared) and control bit t_b = b; v_α = 0.
 * 2. H(s ⊕ i), i = 0 … 3, with H(s) = AES_{K₀}(s) ⊕ s: left seed, right seed (control bits in their lowest bits), left and right value.
 * 3. Level i, a = bit of α (highest first), keep = a, lose = 1 − a:
 *      sCW = s₀^lose ⊕ s₁^lose,  tCW^L = t₀^L ⊕ t₁^L ⊕ a ⊕ 1,  tCW^R = t₀^R ⊕ t₁^R ⊕ a,
 *      vCW = (−1)^{t₁} (v₁^lose − v₀^lose − v_α + a β),  v_α ← v_α − v₁^keep + v₀^keep + (−1)^{t₁} vCW;
 *    both parties add t_b · (sCW, tCW) to their children.
 * 4. Leaf, with C_j(s) = H(s ⊕ 1), and H(s ⊕ 2), H(s ⊕ 3) for γ: (−1)^{t₁} (C(s₁) − C(s₀) − v_α) and (−1)^{t₁} (γ − C'(s₀) + C'(s₁)).
 * 5. Evaluation at x: the sum over the levels of (−1)^b (v^{x_i} + t · vCW), and of the leaf's; for γ, (−1)^b (C' + t · CW) at the leaf.
 *
 * Adversary: the maker of the keys is honest (the dealer, who knows α anyway); each of the others is semi-honest, sees its own seed and
 * the corrections, and learns nothing of α, β or γ. Leaks: the number of keys and their shape. Security: as dpf.ts, with seeds of 126
 * bits under one key. Corrections per key, the same bytes for both parties: k · (128 + |β|) + |β| + |γ| bits. Hops: none. Error: none.
 * Key generation takes no branch and no address from α, β, γ, seeds or control bits; evaluation branches on public points only.
 *
 * Bytes are read as little-endian words in place, as every platform that runs this has them.
 */

export interface ComparisonKeys extends ComparisonShape {
  /** The points as little-endian words of wordBits; only their low k bits count. */
  readonly alpha: Uint8Array;
  /** valueWords words a key: the words of one key side by side. */
  readonly beta: Uint8Array;
  /** leafWords words a key. */
  readonly gamma: Uint8Array;
  /** 16 bytes per key for each party: uniform, independent, used for nothing else. */
  readonly seeds0: Uint8Array;
  readonly seeds1: Uint8Array;
  readonly encryptBlocks: EncryptBlocks;
}

/** Keys made at once: what they are made from stays in the cache. */
const keysAtOnce = 2048;

/** The corrections of all keys, `comparisonBytes` each, for both parties. */
export function generateComparisonKeys(options: ComparisonKeys): Uint8Array<ArrayBuffer> {
  const layout = comparisonLayout(options);
  const word = options.wordBits / 8;
  const count = options.alpha.length / word;
  const fitting =
    options.beta.length === count * layout.valueBytes &&
    options.gamma.length === count * layout.leafBytes &&
    options.seeds0.length === count * 16 &&
    options.seeds1.length === count * 16;
  if (!Number.isInteger(count) || !fitting)
    throw new SottoError('usage', `points, values and seeds are not those of ${count} keys`, {
      remedy: 'give one point, its words and 16 bytes a seed for every key',
    });
  const out = new Uint8Array(count * layout.bytes);
  for (let first = 0; first < count; first += keysAtOnce) {
    generateChunk(options, layout, first, Math.min(keysAtOnce, count - first), out);
  }
  return out;
}

/** `perKey` words of every key as pairs of 32 bits, zeros where a pair is half used. */
function pairs(bytes: Uint8Array, perKey: number, wordBits: 32 | 64, first: number, count: number): Int32Array {
  const from = perKey * strideOf(wordBits);
  const to = 2 * pairsOf(perKey, wordBits);
  const start = first * from * 4;
  const words = new Int32Array(bytes.slice(start, start + count * from * 4).buffer);
  if (from === to) return words;
  const out = new Int32Array(count * to);
  for (let key = 0; key < count; key++) for (let i = 0; i < from; i++) out[key * to + i] = words[key * from + i]!;
  return out;
}

/** The state of generation after some levels, of both parties' keys: party 1's lie behind party 0's. */
interface Chunk {
  readonly options: ComparisonKeys;
  readonly layout: ComparisonLayout;
  readonly first: number;
  readonly count: number;
  readonly view: DataView;
  readonly states: Int32Array;
  readonly controls: Int32Array;
  /** v_α, `width` 32-bit words a key. */
  readonly path: Int32Array;
  readonly width: number;
  readonly stride: number;
  /** All ones where words have 64 bits. */
  readonly wide: number;
  /** A pair of 32-bit words that is put together. */
  readonly correction: Int32Array;
}

function generateChunk(options: ComparisonKeys, layout: ComparisonLayout, first: number, count: number, out: Uint8Array): void {
  const { k, wordBits, valueWords, leafWords } = options;
  const word = wordBits / 8;
  const alpha = new Int32Array(options.alpha.slice(first * word, (first + count) * word).buffer);
  const width = 2 * pairsOf(valueWords, wordBits);
  const beta = pairs(options.beta, valueWords, wordBits, first, count);
  const states = new Int32Array(8 * count);
  states.set(startingSeeds(options.seeds0, first, count));
  states.set(startingSeeds(options.seeds1, first, count), 4 * count);
  const chunk: Chunk = {
    options,
    layout,
    first,
    count,
    view: new DataView(out.buffer, out.byteOffset + first * layout.bytes, count * layout.bytes),
    states,
    controls: new Int32Array(2 * count).fill(1, count),
    path: new Int32Array(width * count),
    width,
    stride: strideOf(wordBits),
    wide: wordBits === 64 ? -1 : 0,
    correction: new Int32Array(4),
  };
  for (let level = 0; level < k; level++) generateLevel(chunk, level, alpha, beta);
  if (valueWords > 0) correctValues(chunk);
  if (leafWords > 0) correctLeaves(chunk);
}

/** One level of all trees: its corrections are written, and both parties' states go down the path of α. */
function generateLevel(chunk: Chunk, level: number, alpha: Int32Array, beta: Int32Array): void {
  const { options, layout, count, view, states, controls, path, width, stride, wide, correction } = chunk;
  const { k, valueWords, encryptBlocks } = options;
  const tweaks = valueWords > 0 ? 4 : 2;
  const h = hashes(encryptBlocks, states, 0, tweaks);
  for (let key = 0; key < count; key++) {
    const a = bitAt(alpha, key, stride, k - 1 - level);
    const right = -a;
    const p = 4 * tweaks * key;
    const q = 4 * tweaks * (count + key);
    const t0 = controls[key]!;
    const t1 = controls[count + key]!;
    const tLeft = (h[p]! ^ h[q]! ^ a ^ 1) & 1;
    const tRight = (h[p + 4]! ^ h[q + 4]! ^ a) & 1;
    const tKeep = tLeft ^ (right & (tLeft ^ tRight));
    const at = key * layout.bytes + level * layout.levelBytes;
    for (let i = 0; i < 4; i++) {
      const clear = i === 0 ? ~3 : ~0;
      const l0 = h[p + i]!;
      const r0 = h[p + 4 + i]!;
      const l1 = h[q + i]!;
      const r1 = h[q + 4 + i]!;
      const lose = (r0 ^ r1 ^ (right & (r0 ^ r1 ^ l0 ^ l1))) & clear;
      view.setInt32(at + 4 * i, i === 0 ? lose | tLeft | (tRight << 1) : lose, true);
      states[4 * key + i] = ((l0 ^ (right & (l0 ^ r0))) & clear) ^ (-t0 & lose);
      states[4 * (count + key) + i] = ((l1 ^ (right & (l1 ^ r1))) & clear) ^ (-t1 & lose);
    }
    controls[key] = ((h[p]! ^ (right & (h[p]! ^ h[p + 4]!))) & 1) ^ (t0 & tKeep);
    controls[count + key] = ((h[q]! ^ (right & (h[q]! ^ h[q + 4]!))) & 1) ^ (t1 & tKeep);
    for (let i = 0; i < width; i += 2) {
      const own = key * width + i;
      // x = v₁^lose − v₀^lose − v_α + a β; vCW = (−1)^{t₁} x; then v_α ← v_α − v₁^keep + v₀^keep + x.
      correction[0] = chosen(h, q + 8 + i, ~right);
      correction[1] = chosen(h, q + 9 + i, ~right);
      addPair(correction, 0, chosen(h, p + 8 + i, ~right), chosen(h, p + 9 + i, ~right), 1, wide);
      addPair(correction, 0, path[own]!, path[own + 1]!, 1, wide);
      addPair(correction, 0, right & beta[own]!, right & beta[own + 1]!, 0, wide);
      addPair(path, own, chosen(h, q + 8 + i, right), chosen(h, q + 9 + i, right), 1, wide);
      addPair(path, own, chosen(h, p + 8 + i, right), chosen(h, p + 9 + i, right), 0, wide);
      addPair(path, own, correction[0]!, correction[1]!, 0, wide);
      writePair(view, at + 16, i, valueWords * stride, correction, t1, wide);
    }
  }
}

/** What makes the values of both parties at α sum to 0. */
function correctValues({ options, layout, count, view, states, controls, path, width, stride, wide, correction }: Chunk): void {
  const h = hashes(options.encryptBlocks, states, 1, 1);
  const after = options.k * layout.levelBytes;
  for (let key = 0; key < count; key++) {
    for (let i = 0; i < width; i += 2) {
      const own = key * width + i;
      correction[0] = h[4 * (count + key) + i]!;
      correction[1] = h[4 * (count + key) + i + 1]!;
      addPair(correction, 0, h[4 * key + i]!, h[4 * key + i + 1]!, 1, wide);
      addPair(correction, 0, path[own]!, path[own + 1]!, 1, wide);
      const words = options.valueWords * stride;
      writePair(view, key * layout.bytes + after, i, words, correction, controls[count + key]!, wide);
    }
  }
}

/** What makes the leaves at α sum to γ. */
function correctLeaves({ options, layout, first, count, view, states, controls, stride, wide, correction }: Chunk): void {
  const { leafWords, wordBits } = options;
  const gamma = pairs(options.gamma, leafWords, wordBits, first, count);
  const h = hashes(options.encryptBlocks, states, 2, 2);
  const after = options.k * layout.levelBytes + layout.valueBytes;
  const width = 2 * pairsOf(leafWords, wordBits);
  for (let key = 0; key < count; key++) {
    for (let i = 0; i < width; i += 2) {
      correction[0] = gamma[key * width + i]!;
      correction[1] = gamma[key * width + i + 1]!;
      addPair(correction, 0, h[8 * key + i]!, h[8 * key + i + 1]!, 1, wide);
      addPair(correction, 0, h[8 * (count + key) + i]!, h[8 * (count + key) + i + 1]!, 0, wide);
      writePair(view, key * layout.bytes + after, i, leafWords * stride, correction, controls[count + key]!, wide);
    }
  }
}

/** The left value's word at `left`, or the right value's where `side` is all ones. */
const chosen = (h: Int32Array, left: number, side: number): number => h[left]! ^ (side & (h[left]! ^ h[left + 4]!));

/** (−1)^negative · pair as words i and i + 1 of `words`; a half used pair writes one. */
function writePair(view: DataView, at: number, i: number, words: number, pair: Int32Array, negative: number, wide: number): void {
  negated[0] = 0;
  negated[1] = 0;
  addPair(negated, 0, pair[0]!, pair[1]!, negative, wide);
  view.setInt32(at + 4 * i, negated[0]!, true);
  if (i + 1 < words) view.setInt32(at + 4 * i + 4, negated[1]!, true);
}
const negated = new Int32Array(2);

/** Points computed at once, all keys of a chunk together. */
const statesAtOnce = 4096;

/**
 * `evaluateComparisons` on blocks: in WebAssembly where the kernels have walks, otherwise by the slow twin below. `points` has
 * pointsPerKey words a key, `out` pointsPerKey · valueWords.
 */
export function compareInto(
  kernels: RingKernels,
  out: Block,
  options: EvaluationOptions & { readonly points: Block; readonly pointsPerKey: number },
): void {
  const layout = comparisonLayout(options);
  if (kernels.trees === undefined || options.valueWords === 0 || kernels.wordBits !== options.wordBits) {
    kernels.bytes(out).set(evaluateComparisons({ ...options, points: kernels.bytes(options.points).slice() }));
    return;
  }
  checkKeys(options, layout);
  const { encryptBlocks: encrypt, ...walk } = options;
  kernels.trees.compare(out, { ...walk, encrypt, keyBytes: layout.bytes, levelBytes: layout.levelBytes });
}

/**
 * This party's shares of β · [x < α] at `pointsPerKey` public points of every key, x as little-endian words of wordBits, key after
 * key: pointsPerKey · valueWords words a key. Throws a `material` error where seeds and corrections do not fit together.
 */
export function evaluateComparisons(
  options: EvaluationOptions & { readonly points: Uint8Array; readonly pointsPerKey: number },
): Uint8Array<ArrayBuffer> {
  const layout = comparisonLayout(options);
  const count = checkKeys(options, layout);
  const word = options.wordBits / 8;
  const { pointsPerKey, points } = options;
  if (points.length !== count * pointsPerKey * word)
    throw new SottoError('usage', `${points.length} bytes of points for ${count} keys`, { remedy: 'give every key its points' });
  const out = new Uint8Array(count * pointsPerKey * layout.valueBytes);
  const atOnce = Math.max(1, Math.floor(statesAtOnce / Math.max(1, pointsPerKey)));
  for (let first = 0; first < count; first += atOnce) {
    const some = Math.min(atOnce, count - first);
    const bytes = evaluateChunk(options, layout, first, some);
    out.set(bytes, first * pointsPerKey * layout.valueBytes);
  }
  return out;
}

function evaluateChunk(
  options: EvaluationOptions & { readonly points: Uint8Array; readonly pointsPerKey: number },
  layout: ComparisonLayout,
  first: number,
  keys: number,
): Uint8Array {
  const { k, wordBits, valueWords, pointsPerKey, party, encryptBlocks } = options;
  const [stride, wide, word] = [strideOf(wordBits), wordBits === 64 ? -1 : 0, wordBits / 8];
  const start = first * pointsPerKey * word;
  const count = keys * pointsPerKey;
  const points = new Int32Array(options.points.slice(start, start + count * word).buffer);
  const cw = correctionWords(options.corrections, layout, first, keys);
  const keyWords = layout.bytes / 4;
  const levelWords = layout.levelBytes / 4;
  const roots = startingSeeds(options.seeds, first, keys);
  const states = new Int32Array(4 * count);
  for (let at = 0; at < count; at++)
    for (let i = 0; i < 4; i++) states[4 * at + i] = roots[4 * Math.floor(at / pointsPerKey) + i]!;
  const controls = new Int32Array(count).fill(party);
  const width = 2 * pairsOf(valueWords, wordBits);
  const limbs = valueWords * stride;
  const sums = new Int32Array(width * count);
  const input = new Int32Array(8 * count);
  const add = (at: number, h: Int32Array, from: number, c: number, mask: number): void => {
    for (let i = 0; i < width; i += 2) {
      addPair(sums, at * width + i, h[from + i]!, h[from + i + 1]!, party, wide);
      addPair(sums, at * width + i, mask & cw[c + i]!, i + 1 < limbs ? mask & cw[c + i + 1]! : 0, party, wide);
    }
  };
  for (let level = 0; level < k; level++) {
    // Only the child towards the point and its value: H(s ⊕ x_i) and H(s ⊕ (2 + x_i)).
    for (let at = 0; at < count; at++) {
      const x = bitAt(points, at, stride, k - 1 - level);
      for (let i = 0; i < 4; i++) input[8 * at + i] = input[8 * at + 4 + i] = states[4 * at + i]!;
      input[8 * at]! ^= x;
      input[8 * at + 4]! ^= 2 | x;
    }
    const h = hashInPlace(encryptBlocks, input);
    for (let at = 0, key = 0; key < keys; key++) {
      const c = key * keyWords + level * levelWords;
      const [c0, c1, c2, c3] = [cw[c]!, cw[c + 1]!, cw[c + 2]!, cw[c + 3]!];
      for (let end = at + pointsPerKey; at < end; at++) {
        const x = bitAt(points, at, stride, k - 1 - level);
        const t = controls[at]!;
        const mask = -t;
        add(at, h, 8 * at + 4, c + 4, mask);
        const s0 = h[8 * at]!;
        states[4 * at] = (s0 ^ (mask & c0)) & ~3;
        states[4 * at + 1] = h[8 * at + 1]! ^ (mask & c1);
        states[4 * at + 2] = h[8 * at + 2]! ^ (mask & c2);
        states[4 * at + 3] = h[8 * at + 3]! ^ (mask & c3);
        controls[at] = (s0 & 1) ^ (t & (c0 >>> x) & 1);
      }
    }
  }
  const h = hashes(encryptBlocks, states, 1, 1);
  for (let at = 0; at < count; at++)
    add(at, h, 4 * at, Math.floor(at / pointsPerKey) * keyWords + k * levelWords, -controls[at]!);
  return wordsOf(sums, width, limbs, count);
}

/** The first `limbs` of every `width` words, as bytes. */
function wordsOf(values: Int32Array<ArrayBuffer>, width: number, limbs: number, count: number): Uint8Array {
  if (width === limbs) return new Uint8Array(values.buffer);
  const out = new Int32Array(limbs * count);
  for (let at = 0; at < count; at++) for (let i = 0; i < limbs; i++) out[at * limbs + i] = values[at * width + i]!;
  return new Uint8Array(out.buffer);
}
