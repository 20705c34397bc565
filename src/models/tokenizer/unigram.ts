import { byteToken } from './byte-pairs.ts';
import type { Fields } from './fields.ts';
import { type Model, unknownCharacter } from './model.ts';

/** What an unknown character costs beside the rarest token. */
const unknownPenalty = 10;

/** Tokens by their UTF-16 units: children in open addressing, keyed by node and unit. */
class Trie {
  readonly #mask: number;
  readonly #parents: Int32Array;
  readonly #units: Uint16Array;
  readonly #children: Int32Array;
  /** Id of the token that ends at a node, or −1. */
  readonly ids: Int32Array;

  constructor(tokens: readonly string[]) {
    let nodes = 1;
    for (const token of tokens) nodes += token.length;
    let size = 16;
    while (size < 2 * nodes) size *= 2;
    this.#mask = size - 1;
    this.#parents = new Int32Array(size).fill(-1);
    this.#units = new Uint16Array(size);
    this.#children = new Int32Array(size);
    this.ids = new Int32Array(nodes).fill(-1);
    let count = 1;
    for (const [id, token] of tokens.entries()) {
      if (token === '') continue;
      let node = 0;
      for (let at = 0; at < token.length; at++) {
        const unit = token.charCodeAt(at);
        const slot = this.#slot(node, unit);
        if (this.#parents[slot] === -1) {
          this.#parents[slot] = node;
          this.#units[slot] = unit;
          this.#children[slot] = count++;
        }
        node = this.#children[slot]!;
      }
      this.ids[node] = id;
    }
  }

  #slot(node: number, unit: number): number {
    let hash = Math.imul(node, 0x9e3779b1) ^ Math.imul(unit, 0x85ebca6b);
    hash ^= hash >>> 15;
    let slot = hash & this.#mask;
    while (this.#parents[slot] !== -1 && (this.#parents[slot] !== node || this.#units[slot] !== unit))
      slot = (slot + 1) & this.#mask;
    return slot;
  }

  /** The node behind a unit, or −1. */
  child(node: number, unit: number): number {
    const slot = this.#slot(node, unit);
    return this.#parents[slot] === -1 ? -1 : this.#children[slot]!;
  }
}

/** Unigram: the cut of a word whose tokens' scores have the greatest sum; of equal ones the first that was found. */
export function readUnigram(fields: Fields): Model {
  const pieces = fields.raw('vocab') as [string, number][];
  const tokens = pieces.map(([token]) => token);
  const scores = Float64Array.from(pieces, ([, score]) => score);
  const vocabulary = new Map(tokens.map((token, id) => [token, id]));
  const unknown = (fields.raw('unk_id') ?? null) === null ? -1 : fields.whole('unk_id', pieces.length - 1);
  const fallsBack = fields.flag('byte_fallback', false);
  const trie = new Trie(tokens);
  let least = Number.POSITIVE_INFINITY;
  for (const score of scores) least = Math.min(least, score);
  const unknownScore = least - unknownPenalty;

  const idsOf = (text: string): number[] => {
    const id = vocabulary.get(text);
    if (id !== undefined) return [id];
    if (fallsBack) {
      const bytes = Array.from(new TextEncoder().encode(text), (byte) => vocabulary.get(byteToken(byte)) ?? -1);
      if (!bytes.includes(-1)) return bytes;
    }
    if (unknown < 0) throw unknownCharacter(fields, text);
    return [unknown];
  };
  return {
    vocabulary,
    encode: (word, work) => {
      const { length } = word;
      const best = new Float64Array(length + 1);
      const starts = new Int32Array(length + 1).fill(-1);
      const ids = new Int32Array(length + 1);
      const offer = (start: number, end: number, id: number, score: number) => {
        if (starts[end]! >= 0 && !(score > best[end]!)) return;
        best[end] = score;
        starts[end] = start;
        ids[end] = id;
      };
      for (let start = 0; start < length; ) {
        const next = start + (word.codePointAt(start)! > 0xffff ? 2 : 1);
        const soFar = best[start]!;
        let single = false;
        let at = start;
        for (let node = 0; at < length; ) {
          node = trie.child(node, word.charCodeAt(at++));
          if (node < 0) break;
          const id = trie.ids[node]!;
          if (id < 0) continue;
          offer(start, at, id, scores[id]! + soFar);
          single ||= at === next;
        }
        work.spend(at - start);
        if (!single) {
          if (unknown < 0) throw unknownCharacter(fields, word.slice(start, next));
          offer(start, next, unknown, unknownScore + soFar);
        }
        start = next;
      }
      const cuts: [number, number][] = [];
      for (let end = length, fused = false; end > 0; ) {
        const start = starts[end]!;
        const isUnknown = ids[end] === unknown;
        // Unknown characters side by side are one token.
        if (isUnknown && fused) cuts.at(-1)![0] = start;
        else cuts.push([start, end]);
        fused = isUnknown;
        end = start;
      }
      return cuts.reverse().flatMap(([start, end]) => idsOf(word.slice(start, end)));
    },
  };
}
