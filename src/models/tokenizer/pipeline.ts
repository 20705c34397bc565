import { AddedTokens } from './added-tokens.ts';
import { readBytePairs } from './byte-pairs.ts';
import { type Decoder, isByteToken, readDecoder } from './decoders.ts';
import { Fields, refused } from './fields.ts';
import type { Model } from './model.ts';
import { type Normalised, type Normalizer, readNormalizer } from './normalizers.ts';
import { type Encoding, type PostProcessor, readPostProcessor } from './post-processors.ts';
import { type Parts, type PreTokenizer, readPreTokenizer } from './pre-tokenizers.ts';
import { readUnigram } from './unigram.ts';
import { readWordLevel, readWordPiece } from './words.ts';
import { Work } from './work.ts';

/** Words whose ids are kept: at most so many, each of at most so many units. */
const cacheLimit = 20_000;
const cachedLengthLimit = 64;
/** Components of each part, nested ones included. */
const componentLimit = 200;
/** Characters that a list of ids may decode to. */
const decodedLimit = 2 ** 24;

/**
 * A tokenizer by its definition, tokenizer.json, whose structure and ids have been checked. Each component does what the reference
 * library's does; what it does not know it refuses by name. The sections `truncation` and `padding` are passed over, as the published
 * pipelines pass them over that encode a text for a model.
 */
export class Pipeline {
  readonly #normalizer: Normalizer | undefined;
  readonly #preTokenizer: PreTokenizer | undefined;
  readonly #model: Model;
  readonly #postProcessor: PostProcessor | undefined;
  readonly #decoder: Decoder | undefined;
  readonly #added: AddedTokens;
  readonly #tokens: string[] = [];
  readonly #cache = new Map<string, readonly number[]>();
  readonly #fallsBackToBytes: boolean;
  readonly vocabularySize: number;

  constructor(definition: Readonly<Record<string, unknown>>, file: string) {
    const part = <T>(name: string, read: (fields: Fields) => T): T | undefined => {
      const value = definition[name] ?? null;
      if (value === null) return undefined;
      const components = JSON.stringify(value).split('"type":').length - 1;
      if (components > componentLimit) throw refused(file, name, `there are more than ${componentLimit} components`);
      return read(new Fields(value, file, name));
    };
    this.#normalizer = part('normalizer', (fields) => readNormalizer(fields));
    this.#preTokenizer = part('pre_tokenizer', (fields) => readPreTokenizer(fields));
    this.#postProcessor = part('post_processor', (fields) => readPostProcessor(fields));
    this.#decoder = part('decoder', (fields) => readDecoder(fields));
    this.#fallsBackToBytes = JSON.stringify(definition.decoder ?? null).includes('"ByteFallback"');
    this.#model = readModel(new Fields(definition.model, file, 'model'));
    const added = definition.added_tokens;
    if (!Array.isArray(added)) throw refused(file, 'added_tokens', 'the field is not a list');
    const entries = added.map((entry, index) => new Fields(entry, file, `added_tokens[${index}]`));
    this.#added = new AddedTokens(entries, this.#model.vocabulary, this.#normalizer);
    for (const [token, id] of this.#model.vocabulary) this.#tokens[id] = token;
    for (const [id, text] of this.#added.texts) this.#tokens[id] = text;
    this.vocabularySize = this.#tokens.length;
  }

  tokenToId(token: string): number | undefined {
    return this.#added.ids.get(token) ?? this.#model.vocabulary.get(token);
  }

  idToToken(id: number): string | undefined {
    return this.#tokens[id];
  }

  encode(first: string, second: string | undefined, addSpecial: boolean): Encoding {
    const parts: Encoding[] = [this.#sequence(first, 0)];
    if (second !== undefined) parts.push(this.#sequence(second, 1));
    const processed = this.#postProcessor?.(parts, addSpecial) ?? parts;
    return { ids: processed.flatMap(({ ids }) => ids), types: processed.flatMap(({ types }) => types) };
  }

  /** Whether an id is one of a run of bytes, of which the next may make another text; ids that decode to nothing end no run. */
  staysOpen(id: number, open: boolean): boolean {
    const token = this.#tokens[id];
    if (token === undefined || this.#added.special.has(token)) return open;
    return this.#fallsBackToBytes && isByteToken(token);
  }

  decode(ids: readonly number[]): string {
    const tokens: string[] = [];
    let length = 0;
    for (const id of ids) {
      const token = this.#tokens[id];
      if (token === undefined || this.#added.special.has(token)) continue;
      tokens.push(token);
      length += token.length + 1;
      if (length > decodedLimit)
        throw refused('tokenizer.json', 'model.vocab', `the ids decode to more than ${decodedLimit} characters`);
    }
    if (this.#decoder === undefined) return tokens.join(' ');
    return this.#decoder(tokens, new Work(length)).join('');
  }

  #sequence(text: string, type: number): Encoding {
    const work = new Work(text.length);
    const ids: number[] = [];
    this.#added.before.parts(text, work, (id, start, end) => {
      if (id >= 0) ids.push(id);
      else {
        const front = start > 0 ? -1 : text.codePointAt(0)! > 0xffff ? 2 : 1;
        this.#normalised({ text: text.slice(start, end), front }, ids, work);
      }
    });
    return { ids, types: ids.map(() => type) };
  }

  #normalised(input: Normalised, ids: number[], work: Work): void {
    const { text, front } = this.#normalizer?.(input, work) ?? input;
    work.grown(text.length);
    this.#added.after.parts(text, work, (id, start, end) => {
      if (id >= 0) ids.push(id);
      else
        this.#words({ texts: [text.slice(start, end)], fronts: start < front ? [Math.min(end, front) - start] : [] }, ids, work);
    });
  }

  #words(whole: Parts, ids: number[], work: Work): void {
    const { texts } = this.#preTokenizer?.(whole, work) ?? whole;
    for (const text of texts) {
      work.grown(text.length);
      if (this.#model.words === undefined) this.#word(text, ids, work);
      else for (const word of this.#model.words(text)) this.#word(word, ids, work);
    }
  }

  #word(word: string, ids: number[], work: Work): void {
    let found = this.#cache.get(word);
    if (found === undefined) {
      found = this.#model.encode(word, work);
      if (word.length <= cachedLengthLimit) {
        if (this.#cache.size >= cacheLimit) this.#cache.clear();
        this.#cache.set(word, found);
      }
    }
    for (const id of found) ids.push(id);
  }
}

function readModel(fields: Fields): Model {
  switch (fields.has('type') ? fields.type : untyped(fields)) {
    case 'BPE':
      return readBytePairs(fields);
    case 'WordPiece':
      return readWordPiece(fields);
    case 'WordLevel':
      return readWordLevel(fields);
    case 'Unigram':
      return readUnigram(fields);
    default:
      throw fields.fail('type', 'the model is not known');
  }
}

/** Early files do not name the kind of their model. */
function untyped(fields: Fields): string {
  if (fields.has('merges')) return 'BPE';
  if (Array.isArray(fields.raw('vocab'))) return 'Unigram';
  return fields.has('max_input_chars_per_word') ? 'WordPiece' : 'WordLevel';
}
