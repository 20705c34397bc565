import { SottoError } from '../errors/index.ts';

/** How large a tokenizer becomes, and what it spells in bytes. */
export interface TokenizerOptions {
  /** Ids in all: special tokens, 256 bytes, merged pieces and characters. */
  readonly vocabularySize: number;
  /** Special tokens, which take the first ids: unknown, begin and end of text. */
  readonly special?: readonly [unknown: string, begin: string, end: string];
  /** Share of the text's characters that get tokens of their own; the rest is spelt in bytes. */
  readonly characterCoverage?: number;
}

/** Two files of a checkpoint folder, as JSON values. */
export interface TrainedTokenizer {
  readonly 'tokenizer.json': Record<string, unknown>;
  readonly 'tokenizer_config.json': Record<string, unknown>;
}

const space = '▁';
/** Words are cut at this many characters while counting, so that text without spaces stays affordable. */
const wordLimit = 64;
const byteToken = (byte: number) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

/**
 * Trains a byte-pair encoding in the layout of Llama's tokenizers: a space is ▁ and starts a piece, characters without a token are
 * spelt in bytes, so every text has an encoding. The result depends on the texts and options alone. Decoding an encoded text
 * returns it, save that ▁ (U+2581) itself comes back as a space, and that the names of special tokens are read as those tokens.
 *
 * @example
 * ```js
 * import { loadTokenizer, memoryFiles } from 'sotto/models';
 * import { trainBytePairTokenizer } from 'sotto/train';
 *
 * const trained = trainBytePairTokenizer(['a fox saw a ball', 'a ball saw a fox'], { vocabularySize: 280 });
 * const files = Object.entries(trained).map(([name, json]) => [name, JSON.stringify(json)]);
 * const tokenizer = await loadTokenizer(memoryFiles(Object.fromEntries(files)));
 * console.log(tokenizer.decode(tokenizer.encode('a fox'))); // a fox
 * ```
 */
export function trainBytePairTokenizer(texts: Iterable<string>, options: TokenizerOptions): TrainedTokenizer {
  const special = options.special ?? ['<unk>', '<s>', '</s>'];
  const fixed = [...special, ...Array.from({ length: 256 }, (_, byte) => byteToken(byte))];
  const room = options.vocabularySize - fixed.length;
  if (!Number.isInteger(room) || room < 1 || options.vocabularySize > 2 ** 20) {
    throw new SottoError('usage', `a vocabulary of ${options.vocabularySize} tokens cannot be trained`, {
      place: { field: 'vocabularySize' },
      remedy: `take a whole number from ${fixed.length + 1} to ${2 ** 20}`,
    });
  }
  if (new Set(fixed).size !== fixed.length || special.some((token) => token === '')) {
    throw new SottoError('usage', 'the special tokens are empty, repeated, or named like a byte', {
      place: { field: 'special' },
      remedy: 'take three different names',
    });
  }
  const words = countWords(texts);
  const characters = chooseCharacters(words, room, options.characterCoverage ?? 0.9995);
  const { pieces, merges } = mergePairs(words, characters, room - characters.length, new Set(fixed));
  return describe([...fixed, ...pieces, ...characters], merges, special);
}

/** Words with their counts: ▁ starts a word, and a line break stands alone, so no piece crosses either. */
function countWords(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) {
    if (text === '') continue;
    for (const [word] of (space + text.replaceAll(' ', space)).matchAll(/▁?[^▁\n]+|▁|\n/g)) {
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  return counts;
}

/** The commonest characters, in the order of their frequency; control characters are left to the bytes. */
function chooseCharacters(words: ReadonlyMap<string, number>, room: number, coverage: number): string[] {
  const counts = new Map<string, number>([[space, 1]]);
  let total = 0;
  for (const [word, count] of words) {
    for (const character of word) {
      if (character < ' ' || character === '\x7f' || /\p{Surrogate}/u.test(character)) continue;
      counts.set(character, (counts.get(character) ?? 0) + count);
      total += count;
    }
  }
  const sorted = [...counts].sort(([a, countA], [b, countB]) => countB - countA || a.codePointAt(0)! - b.codePointAt(0)!);
  const chosen: string[] = [];
  let covered = 0;
  for (const [character, count] of sorted) {
    if (chosen.length >= room || (covered >= coverage * total && chosen.length > 0)) break;
    chosen.push(character);
    covered += count;
  }
  if (!chosen.includes(space)) chosen[chosen.length - 1] = space;
  return chosen;
}

interface Corpus {
  /** Token numbers of every distinct word, and how often the word occurs. */
  readonly words: number[][];
  readonly counts: number[];
  /** How often a pair occurs, and the words it was ever seen in; a pair is left · 2^20 + right. */
  readonly pairCounts: Map<number, number>;
  readonly pairWords: Map<number, Set<number>>;
}

const pairBase = 2 ** 20;

function mergePairs(
  counted: ReadonlyMap<string, number>,
  characters: readonly string[],
  wanted: number,
  reserved: ReadonlySet<string>,
): { pieces: string[]; merges: [string, string][] } {
  const names = [...characters];
  const numbers = new Map(names.map((name, number) => [name, number]));
  const corpus = splitWords(counted, numbers);
  const queue = new PairQueue();
  for (const [pair, count] of corpus.pairCounts) queue.push(count, pair);
  const pieces: string[] = [];
  const merges: [string, string][] = [];
  while (pieces.length < wanted) {
    const best = queue.pop(corpus.pairCounts);
    // A pair seen once only repeats one text: it is not worth an id.
    if (best === null || best.count < 2) break;
    const left = names[Math.floor(best.pair / pairBase)]!;
    const right = names[best.pair % pairBase]!;
    const name = left + right;
    if (reserved.has(name)) {
      corpus.pairCounts.delete(best.pair);
      continue;
    }
    let number = numbers.get(name);
    if (number === undefined) {
      number = names.push(name) - 1;
      numbers.set(name, number);
      pieces.push(name);
    }
    merges.push([left, right]);
    for (const [pair, count] of applyMerge(corpus, best.pair, number)) queue.push(count, pair);
  }
  return { pieces, merges };
}

function splitWords(counted: ReadonlyMap<string, number>, numbers: ReadonlyMap<string, number>): Corpus {
  const corpus: Corpus = { words: [], counts: [], pairCounts: new Map(), pairWords: new Map() };
  const add = (word: number[], count: number) => {
    if (word.length < 2) return;
    const index = corpus.words.push(word) - 1;
    corpus.counts.push(count);
    for (let i = 0; i + 1 < word.length; i++) changePair(corpus, word[i]! * pairBase + word[i + 1]!, count, index);
  };
  for (const [text, count] of counted) {
    let word: number[] = [];
    for (const character of text) {
      const number = numbers.get(character);
      if (number !== undefined) word.push(number);
      if (number === undefined || word.length >= wordLimit) {
        add(word, count);
        word = [];
      }
    }
    add(word, count);
  }
  return corpus;
}

function changePair(corpus: Corpus, pair: number, change: number, word: number): void {
  corpus.pairCounts.set(pair, (corpus.pairCounts.get(pair) ?? 0) + change);
  if (change < 0) return;
  const words = corpus.pairWords.get(pair);
  if (words) words.add(word);
  else corpus.pairWords.set(pair, new Set([word]));
}

/** Joins a pair wherever it stands, and returns the pairs whose counts rose, with their new counts. */
function applyMerge(corpus: Corpus, pair: number, merged: number): Map<number, number> {
  const left = Math.floor(pair / pairBase);
  const right = pair % pairBase;
  const risen = new Map<number, number>();
  for (const index of corpus.pairWords.get(pair) ?? []) {
    const word = corpus.words[index]!;
    const count = corpus.counts[index]!;
    const joined: number[] = [];
    for (let i = 0; i < word.length; i++) {
      if (word[i] === left && word[i + 1] === right) {
        joined.push(merged);
        i++;
      } else joined.push(word[i]!);
    }
    if (joined.length === word.length) continue;
    for (let i = 0; i + 1 < word.length; i++) changePair(corpus, word[i]! * pairBase + word[i + 1]!, -count, index);
    for (let i = 0; i + 1 < joined.length; i++) {
      const next = joined[i]! * pairBase + joined[i + 1]!;
      changePair(corpus, next, count, index);
      if (joined[i] === merged || joined[i + 1] === merged) risen.set(next, 0);
    }
    corpus.words[index] = joined;
  }
  corpus.pairCounts.delete(pair);
  corpus.pairWords.delete(pair);
  for (const next of risen.keys()) risen.set(next, corpus.pairCounts.get(next) ?? 0);
  return risen;
}

/** A heap of pairs, commonest first, equal ones by their numbers. Counts that fell since are corrected when they surface. */
class PairQueue {
  private readonly counts: number[] = [];
  private readonly pairs: number[] = [];

  push(count: number, pair: number): void {
    let index = this.counts.length;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.before(count, pair, parent)) break;
      this.counts[index] = this.counts[parent]!;
      this.pairs[index] = this.pairs[parent]!;
      index = parent;
    }
    this.counts[index] = count;
    this.pairs[index] = pair;
  }

  /** The pair with the highest count that still holds. */
  pop(current: ReadonlyMap<number, number>): { pair: number; count: number } | null {
    while (this.counts.length > 0) {
      const count = this.counts[0]!;
      const pair = this.pairs[0]!;
      this.removeFirst();
      const now = current.get(pair) ?? 0;
      if (now === count && now > 0) return { pair, count };
      if (now > 0 && now < count) this.push(now, pair);
    }
    return null;
  }

  private before(count: number, pair: number, index: number): boolean {
    return count > this.counts[index]! || (count === this.counts[index]! && pair < this.pairs[index]!);
  }

  private removeFirst(): void {
    const count = this.counts.pop()!;
    const pair = this.pairs.pop()!;
    const length = this.counts.length;
    if (length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= length) break;
      if (child + 1 < length && this.before(this.counts[child + 1]!, this.pairs[child + 1]!, child)) child++;
      if (this.before(count, pair, child)) break;
      this.counts[index] = this.counts[child]!;
      this.pairs[index] = this.pairs[child]!;
      index = child;
    }
    this.counts[index] = count;
    this.pairs[index] = pair;
  }
}

function describe(
  tokens: readonly string[],
  merges: [string, string][],
  special: readonly [string, string, string],
): TrainedTokenizer {
  const [unknown, begin, end] = special;
  const added = special.map((content, id) => {
    const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return { id, content, ...plain, special: true };
  });
  const beginToken = (type_id: number) => ({ SpecialToken: { id: begin, type_id } });
  const sequence = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
  const definition = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: space },
        { type: 'Replace', pattern: { String: ' ' }, content: space },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [beginToken(0), sequence('A', 0)],
      pair: [beginToken(0), sequence('A', 0), beginToken(1), sequence('B', 1)],
      special_tokens: { [begin]: { id: begin, ids: [1], tokens: [begin] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: space }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
  const config = {
    tokenizer_class: 'LlamaTokenizer',
    bos_token: begin,
    eos_token: end,
    unk_token: unknown,
    add_bos_token: true,
    add_eos_token: false,
    clean_up_tokenization_spaces: false,
    legacy: true,
  };
  return { 'tokenizer.json': definition, 'tokenizer_config.json': config };
}
