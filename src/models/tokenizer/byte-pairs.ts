import type { Fields } from './fields.ts';
import { type Model, readVocabulary, unknownCharacter } from './model.ts';
import type { Work } from './work.ts';

/** Symbols above which the best pair is kept in a heap instead of being searched for. */
const searchLimit = 40;
const none = 0x7fffffff;

/** Pairs of ids → rank and merged id, in open addressing: a Map would box each of the millions of lookups. */
class Merges {
  readonly #mask: number;
  readonly #table: Int32Array;

  constructor(count: number) {
    let size = 16;
    while (size < 2 * count) size *= 2;
    this.#mask = size - 1;
    this.#table = new Int32Array(4 * size).fill(-1);
  }

  #slot(left: number, right: number): number {
    const table = this.#table;
    let slot = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & this.#mask;
    while (table[4 * slot] !== -1 && (table[4 * slot] !== left || table[4 * slot + 1] !== right)) slot = (slot + 1) & this.#mask;
    return 4 * slot;
  }

  set(left: number, right: number, rank: number, merged: number): void {
    const slot = this.#slot(left, right);
    this.#table[slot] = left;
    this.#table[slot + 1] = right;
    this.#table[slot + 2] = rank;
    this.#table[slot + 3] = merged;
  }

  rank(left: number, right: number): number {
    const slot = this.#slot(left, right);
    return this.#table[slot] === -1 ? none : this.#table[slot + 2]!;
  }

  merged(left: number, right: number): number {
    return this.#table[this.#slot(left, right) + 3]!;
  }
}

/** Byte-pair encoding: characters, of which the adjacent pair of the lowest rank is merged as long as there is one. */
export function readBytePairs(fields: Fields): Model {
  const vocabulary = readVocabulary(fields);
  const prefix = fields.optionalString('continuing_subword_prefix') ?? '';
  const suffix = fields.optionalString('end_of_word_suffix') ?? '';
  const unknown = fields.optionalString('unk_token');
  const option = (field: string) => (fields.raw(field) === null ? false : fields.flag(field, false));
  const fuses = option('fuse_unk');
  const fallsBack = option('byte_fallback');
  const ignoresMerges = option('ignore_merges');
  const dropout = fields.raw('dropout') ?? null;
  if (dropout !== null && dropout !== 0) throw fields.fail('dropout', 'the ids of a text would be drawn by chance');
  const merges = readMerges(fields, vocabulary, prefix);
  const byteIds = Int32Array.from({ length: 256 }, (_, byte) => vocabulary.get(byteToken(byte)) ?? -1);

  const bytesKnown = (symbol: string, symbols: number[]): boolean => {
    const ids = Array.from(new TextEncoder().encode(symbol), (byte) => byteIds[byte]!);
    if (ids.includes(-1)) return false;
    symbols.push(...ids);
    return true;
  };
  const symbolsOf = (word: string): number[] => {
    const symbols: number[] = [];
    let pending = -1;
    for (let at = 0; at < word.length; ) {
      const next = at + (word.codePointAt(at)! > 0xffff ? 2 : 1);
      let symbol = word.slice(at, next);
      if (at > 0 && prefix !== '') symbol = prefix + symbol;
      if (next === word.length && suffix !== '') symbol += suffix;
      at = next;
      const id = vocabulary.get(symbol);
      if (id !== undefined) {
        if (pending >= 0) symbols.push(pending);
        pending = -1;
        symbols.push(id);
        continue;
      }
      if (fallsBack && bytesKnown(symbol, symbols)) continue;
      // Without a token for what is unknown the reference library leaves the character out.
      if (unknown === undefined) continue;
      const unknownId = vocabulary.get(unknown);
      if (unknownId === undefined) throw unknownCharacter(fields, symbol);
      if (pending >= 0 && !fuses) symbols.push(pending);
      if (pending < 0 || !fuses) pending = unknownId;
    }
    if (pending >= 0) symbols.push(pending);
    return symbols;
  };
  return {
    vocabulary,
    encode: (word, work) => {
      if (ignoresMerges) {
        const whole = vocabulary.get(word);
        if (whole !== undefined) return [whole];
      }
      const symbols = symbolsOf(word);
      work.spend(symbols.length);
      return symbols.length > searchLimit ? mergedByHeap(symbols, merges, work) : mergedBySearch(symbols, merges);
    },
    words: wordsAtSpaces(fields, vocabulary, ignoresMerges || prefix !== '' || suffix !== ''),
  };
}

export const byteToken = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

/** The merges as pairs; early files write a pair as one text with a space. */
function pairsOf(fields: Fields): string[][] {
  const pairs: string[][] = [];
  for (const merge of fields.list('merges')) {
    if (typeof merge === 'string') {
      if (merge.startsWith('#version')) continue;
      pairs.push(merge.split(' '));
    } else pairs.push(merge as string[]);
    if (pairs.at(-1)!.length !== 2) throw fields.fail('merges', 'the field is not a list of pairs');
  }
  return pairs;
}

function readMerges(fields: Fields, vocabulary: ReadonlyMap<string, number>, prefix: string): Merges {
  const pairs = pairsOf(fields);
  const merges = new Merges(pairs.length);
  for (const [rank, [left, right]] of pairs.entries()) {
    const first = vocabulary.get(left!);
    const second = vocabulary.get(right!);
    const merged = vocabulary.get(left! + right!.slice(prefix.length));
    if (first === undefined || second === undefined || merged === undefined)
      throw fields.fail('merges', `merge ${rank} is of tokens that the vocabulary does not have`);
    merges.set(first, second, rank, merged);
  }
  return merges;
}

function mergedBySearch(symbols: number[], merges: Merges): number[] {
  const ranks: number[] = [];
  for (let at = 0; at + 1 < symbols.length; at++) ranks.push(merges.rank(symbols[at]!, symbols[at + 1]!));
  for (;;) {
    let best = none;
    let at = -1;
    for (let index = 0; index < ranks.length; index++) {
      if (ranks[index]! < best) {
        best = ranks[index]!;
        at = index;
      }
    }
    if (at < 0) return symbols;
    symbols[at] = merges.merged(symbols[at]!, symbols[at + 1]!);
    symbols.splice(at + 1, 1);
    ranks.splice(at, 1);
    if (at > 0) ranks[at - 1] = merges.rank(symbols[at - 1]!, symbols[at]!);
    if (at < ranks.length) ranks[at] = merges.rank(symbols[at]!, symbols[at + 1]!);
  }
}

/** The same by a heap of pairs, ordered by rank and then by place; an entry whose pair has changed meanwhile is passed over. */
function mergedByHeap(symbols: number[], merges: Merges, work: Work): number[] {
  const count = symbols.length;
  const next = Int32Array.from({ length: count }, (_, index) => (index + 1 < count ? index + 1 : -1));
  const previous = Int32Array.from({ length: count }, (_, index) => index - 1);
  const rightOf = new Int32Array(count);
  const heap = new Heap();
  const rankAt = new Int32Array(count).fill(none);
  const consider = (at: number) => {
    const right = next[at]!;
    const rank = right < 0 ? none : merges.rank(symbols[at]!, symbols[right]!);
    rankAt[at] = rank;
    if (rank !== none) heap.push(rank, at);
  };
  for (let at = 0; at < count; at++) consider(at);
  for (;;) {
    const at = heap.pop();
    if (at < 0) break;
    work.spend(8);
    const rank = heap.rank;
    if (rankAt[at] !== rank) continue;
    const right = next[at]!;
    symbols[at] = merges.merged(symbols[at]!, symbols[right]!);
    rankAt[right] = none;
    rightOf[right] = 1;
    next[at] = next[right]!;
    if (next[at]! >= 0) previous[next[at]!] = at;
    consider(at);
    if (previous[at]! >= 0) consider(previous[at]!);
  }
  const out: number[] = [];
  for (let at = 0; at < count; at++) if (rightOf[at] === 0) out.push(symbols[at]!);
  return out;
}

/** A binary heap of (rank, place), the lowest first, as one number each: a place is below 2^26. */
class Heap {
  readonly #keys: number[] = [];
  /** The rank of what was popped last. */
  rank = 0;

  push(rank: number, at: number): void {
    const keys = this.#keys;
    const key = rank * 2 ** 26 + at;
    let index = keys.push(key) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[index] = keys[parent]!;
      index = parent;
    }
    keys[index] = key;
  }

  /** The place of the lowest, or −1. */
  pop(): number {
    const keys = this.#keys;
    if (keys.length === 0) return -1;
    const top = keys[0]!;
    const last = keys.pop()!;
    const { length } = keys;
    let index = 0;
    while (length > 0) {
      let child = 2 * index + 1;
      if (child >= length) break;
      if (child + 1 < length && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= last) break;
      keys[index] = keys[child]!;
      index = child;
    }
    if (length > 0) keys[index] = last;
    this.rank = Math.floor(top / 2 ** 26);
    return top % 2 ** 26;
  }
}

/**
 * Where no token goes on past the ▁ that begins a word, words are encoded one by one with the same result as the whole text, and most
 * are found in the cache.
 */
function wordsAtSpaces(
  fields: Fields,
  vocabulary: ReadonlyMap<string, number>,
  special: boolean,
): ((text: string) => string[]) | undefined {
  if (special || !vocabulary.has('▁')) return undefined;
  if (pairsOf(fields).some((pair) => /[^▁]▁/.test(pair.join('')))) return undefined;
  return (text) => text.split(/(?<=[^▁])(?=▁)/);
}
