import { SottoError } from '../../../errors/index.ts';

/** The byte format of the corrections of distributed point functions (dpf.ts has the protocol). */
export interface PointShape {
  /** Points lie in [0, 2^k), k in 1 … 16. */
  readonly k: number;
  readonly wordBits: 32 | 64;
}

export interface Layout {
  /** n: levels of the tree above the leaf blocks. */
  readonly levels: number;
  /** 2^ν: words of a leaf block that count. */
  readonly leafWords: number;
  readonly leafBytes: number;
  readonly bitBytes: number;
  readonly bytes: number;
}

/** Throws a `usage` error where there are no point functions of this shape. */
export function layoutOf({ k, wordBits }: PointShape): Layout {
  if (!Number.isInteger(k) || k < 1 || k > 16 || (wordBits !== 32 && wordBits !== 64)) {
    throw new SottoError('usage', `no point functions on 2^${k} points of ${wordBits} bits`, {
      remedy: 'use k in 1 … 16 and words of 32 or 64 bits',
    });
  }
  const nu = Math.min(k, wordBits === 64 ? 1 : 2);
  const levels = k - nu;
  const leafBytes = 2 ** nu * (wordBits / 8);
  const bitBytes = Math.ceil(levels / 8);
  return { levels, leafWords: 2 ** nu, leafBytes, bitBytes, bytes: 16 * levels + bitBytes + leafBytes };
}

/** Bytes of corrections for one key. A party's key is these and its own seed of 16 bytes. */
export function correctionBytes(k: number, wordBits: 32 | 64): number {
  return layoutOf({ k, wordBits }).bytes;
}

/** The correction words of a chunk of keys: one number per key, level by level, ready for the inner loops. */
export interface Corrections {
  /** [level][4·key + word], control bits cleared. */
  readonly seed: Int32Array[];
  readonly left: Int32Array[];
  readonly right: Int32Array[];
  /** 4 · key + word; unused words are zero. */
  readonly leaf: Int32Array;
}

/** Key after key: seed corrections (tCW^L in the lowest bit), the tCW^R bits, the leaf words. */
export function encodeCorrections(corrections: Corrections, layout: Layout, count: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(count * layout.bytes);
  const view = new DataView(out.buffer);
  for (let key = 0; key < count; key++) {
    const start = key * layout.bytes;
    const bits = start + 16 * layout.levels;
    for (let level = 0; level < layout.levels; level++) {
      const at = start + 16 * level;
      for (let word = 0; word < 4; word++) view.setInt32(at + 4 * word, corrections.seed[level]![4 * key + word]!, true);
      out[at]! |= corrections.left[level]![key]!;
      out[bits + (level >> 3)]! |= corrections.right[level]![key]! << (level & 7);
    }
    for (let word = 0; 4 * word < layout.leafBytes; word++) {
      view.setInt32(bits + layout.bitBytes + 4 * word, corrections.leaf[4 * key + word]!, true);
    }
  }
  return out;
}

/** The converse for keys firstKey … firstKey + count − 1; `bytes` has the right length already. */
export function decodeCorrections(bytes: Uint8Array, layout: Layout, firstKey: number, count: number): Corrections {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const perLevel = (words: number) => Array.from({ length: layout.levels }, () => new Int32Array(words * count));
  const corrections: Corrections = { seed: perLevel(4), left: perLevel(1), right: perLevel(1), leaf: new Int32Array(4 * count) };
  for (let key = 0; key < count; key++) {
    const start = (firstKey + key) * layout.bytes;
    const bits = start + 16 * layout.levels;
    for (let level = 0; level < layout.levels; level++) {
      const at = start + 16 * level;
      for (let word = 0; word < 4; word++) corrections.seed[level]![4 * key + word] = view.getInt32(at + 4 * word, true);
      corrections.seed[level]![4 * key]! &= ~1;
      corrections.left[level]![key] = bytes[at]! & 1;
      corrections.right[level]![key] = (bytes[bits + (level >> 3)]! >>> (level & 7)) & 1;
    }
    for (let word = 0; 4 * word < layout.leafBytes; word++) {
      corrections.leaf[4 * key + word] = view.getInt32(bits + layout.bitBytes + 4 * word, true);
    }
  }
  return corrections;
}
