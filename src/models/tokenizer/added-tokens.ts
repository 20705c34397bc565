import { type Fields, refused } from './fields.ts';
import type { Normalizer } from './normalizers.ts';
import { table } from './unicode.ts';
import { Work } from './work.ts';

/** A token beside the model's vocabulary, found in the text before anything is cut. */
interface AddedToken {
  readonly content: string;
  readonly singleWord: boolean;
  readonly left: boolean;
  readonly right: boolean;
}

interface Node {
  readonly children: Map<number, Node>;
  id: number;
}

/** Finds the leftmost token and, of those that begin there, the longest. */
class Finder {
  readonly #root: Node = { children: new Map(), id: -1 };
  readonly #tokens: ReadonlyMap<number, AddedToken>;

  constructor(tokens: ReadonlyMap<number, AddedToken>) {
    this.#tokens = tokens;
  }

  /** False where another token has the same text. */
  add(text: string, id: number): boolean {
    let node = this.#root;
    for (let at = 0; at < text.length; at++) {
      const unit = text.charCodeAt(at);
      let child = node.children.get(unit);
      if (child === undefined) {
        child = { children: new Map(), id: -1 };
        node.children.set(unit, child);
      }
      node = child;
    }
    if (node.id >= 0 || text === '') return false;
    node.id = id;
    return true;
  }

  get empty(): boolean {
    return this.#root.children.size === 0;
  }

  /** Calls `take` for every part of a text in order: a token's id with its place, or −1 for what stands between. */
  parts(text: string, work: Work, take: (id: number, start: number, end: number) => void): void {
    const spaces = table('whitespace');
    let from = 0;
    for (let at = 0; at < text.length; ) {
      let node = this.#root.children.get(text.charCodeAt(at));
      if (node === undefined) {
        at++;
        continue;
      }
      let id = node.id;
      let stop = at + 1;
      let next = at + 1;
      while (node !== undefined && next < text.length) {
        node = node.children.get(text.charCodeAt(next++));
        if (node !== undefined && node.id >= 0) {
          id = node.id;
          stop = next;
        }
      }
      work.spend(2 * (next - at));
      if (id < 0) {
        at++;
        continue;
      }
      let start = at;
      at = stop;
      const token = this.#tokens.get(id)!;
      if (token.singleWord && !standsAlone(text, start, stop)) continue;
      if (token.left) {
        while (start > 0 && spaces.has(text.charCodeAt(start - 1))) start--;
        work.spend(at - start);
        start = Math.max(start, from);
      }
      if (token.right) while (stop < text.length && spaces.has(text.charCodeAt(stop))) stop++;
      work.spend(stop - at);
      if (from < start) take(-1, from, start);
      // A token that lies within the white space that the one before has taken vanishes.
      if (start < stop) take(id, start, stop);
      else if (start > stop)
        throw refused(
          'tokenizer.json',
          'added_tokens',
          `the white space around ${JSON.stringify(token.content)} is taken already`,
        );
      from = stop;
    }
    if (from < text.length) take(-1, from, text.length);
  }
}

function standsAlone(text: string, start: number, end: number): boolean {
  const words = table('regexWord');
  const before = start > 1 && (text.charCodeAt(start - 1) & 0xfc00) === 0xdc00 ? start - 2 : start - 1;
  return !(start > 0 && words.has(text.codePointAt(before)!)) && !(end < text.length && words.has(text.codePointAt(end)!));
}

/** The added tokens of tokenizer.json. Their ids are those that the reference library gives: of the model where it has the token. */
export class AddedTokens {
  readonly ids = new Map<string, number>();
  /** id → the token's text as decoders see it. */
  readonly texts = new Map<number, string>();
  readonly special = new Set<string>();
  /** Those that are looked for before normalisation, and after. */
  readonly before: Finder;
  readonly after: Finder;

  constructor(fields: readonly Fields[], vocabulary: ReadonlyMap<string, number>, normalizer: Normalizer | undefined) {
    const tokens = new Map<number, AddedToken>();
    const normalised = new Set<number>();
    let next = vocabulary.size;
    for (const entry of fields) {
      const content = entry.string('content');
      const id = this.ids.get(content) ?? vocabulary.get(content) ?? next++;
      this.ids.set(content, id);
      tokens.set(id, {
        content,
        singleWord: entry.flag('single_word', false),
        left: entry.flag('lstrip', false),
        right: entry.flag('rstrip', false),
      });
      if (entry.flag('special', false)) this.special.add(content);
      normalised.delete(id);
      if (entry.flag('normalized', true)) normalised.add(id);
    }
    this.before = new Finder(tokens);
    this.after = new Finder(tokens);
    for (const [id, { content }] of tokens) {
      const isNormalised = normalised.has(id);
      const work = new Work(content.length);
      const text = isNormalised && normalizer !== undefined ? normalizer({ text: content, front: -1 }, work).text : content;
      this.texts.set(id, text);
      if (!(isNormalised ? this.after : this.before).add(text, id))
        throw fields[0]!.fail('content', 'two added tokens are found by the same text, or one by none');
    }
  }
}
