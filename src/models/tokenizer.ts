import { Tokenizer as Published } from '@huggingface/tokenizers';
import { SottoError } from '../errors/index.ts';
import { flaggedTemplate } from './begin-end.ts';
import { type Files, fileLabel, refusePointer } from './files.ts';
import { isObject, readJsonObject } from './json.ts';
import { wordPieceDefinition } from './wordpiece.ts';

const tokenizerLimitBytes = 128 * 2 ** 20;
/** Token ids index an array, so their largest value is bounded, whatever the file claims. */
const idLimit = 2 ** 22;

/** What is used of the library, whose own declarations the compiler cannot resolve in this module mode. */
interface PublishedTokenizer {
  encode(
    text: string,
    options: { add_special_tokens: boolean; text_pair?: string | null; return_token_type_ids?: boolean },
  ): { ids: number[]; tokens: string[]; token_type_ids?: number[] };
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): Map<string, number>;
  readonly decoder: unknown;
  /** Cuts normalised text into the parts that are encoded one by one. */
  pre_tokenizer: ((text: string) => string[]) | null;
}

export interface Tokenizer {
  /** Text → token ids, by default with the special tokens of the model's template (such as <s>) around them. */
  encode(text: string, options?: { addSpecial?: boolean }): number[];
  /** One text or a pair with the template's special tokens, and which text each token belongs to (0 or 1). */
  encodePair?(first: string, second?: string): { ids: number[]; types: number[] };
  /** Token ids → text, special tokens left out. An id of a padded vocabulary, which no token has, is no text. */
  decode(ids: readonly number[]): string;
  /** One more than the largest id. */
  readonly vocabularySize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  /** True where decoding tidies spaces before punctuation, which can change the last characters when text is appended. */
  readonly tidiesSpaces: boolean;
}

/**
 * Loads tokenizer.json, or builds it from BERT's vocab.txt, and tokenizer_config.json where present. Structure and ids are checked here; whatever the library still
 * rejects becomes an `input` error of the file. Ids that are no whole numbers and characters without a token are `input` errors.
 */
export async function loadTokenizer(files: Files): Promise<Tokenizer> {
  const path = 'tokenizer.json';
  const configPath = 'tokenizer_config.json';
  const early = (await files.exists(path)) ? undefined : await earlyVocabulary(files);
  const definition = early === undefined ? await readJsonObject(files, path, tokenizerLimitBytes) : {};
  const config = (await files.exists(configPath)) ? await readJsonObject(files, configPath, tokenizerLimitBytes) : {};
  const file = fileLabel(files, early === undefined ? path : 'vocab.txt');
  if (early !== undefined) Object.assign(definition, wordPieceDefinition(early, config, file));
  checkDefinition(definition, file);
  const template = flaggedTemplate(definition, config, fileLabel(files, configPath));
  if (template !== undefined) definition.post_processor = template;
  const guarded = <T>(what: string, work: () => T): T => {
    try {
      return work();
    } catch (cause) {
      if (cause instanceof SottoError) throw cause;
      throw new SottoError('input', `${what} failed: ${String((cause as Error)?.message ?? cause).slice(0, 200)}`, {
        place: { file },
        remedy: 'the tokenizer is damaged or of a kind that is not supported',
        cause,
      });
    }
  };
  const published = guarded('loading the tokenizer', () => new Published(definition, config) as PublishedTokenizer);
  keepByteOrderMarks(published);
  if (piecesStartAtSpaces(definition)) published.pre_tokenizer = (text) => text.split(/(?<=[^▁])(?=▁)/);
  return guarded('loading the tokenizer', () => wrap(published, config, file, guarded));
}

/** vocab.txt of a folder that BERT's first tools wrote; undefined where there is none. Byte pairs without tokenizer.json are refused. */
async function earlyVocabulary(files: Files): Promise<Uint8Array | undefined> {
  if (await files.exists('vocab.txt')) {
    if ((await files.size('vocab.txt')) <= tokenizerLimitBytes) {
      const bytes = await files.read('vocab.txt');
      refusePointer(bytes, fileLabel(files, 'vocab.txt'));
      return bytes;
    }
  } else if (await files.exists('merges.txt')) {
    throw new SottoError('input', 'the folder has vocab.json and merges.txt, but no tokenizer.json', {
      place: { file: files.name },
      remedy: 'save the tokenizer with a recent version of its library, which writes tokenizer.json',
    });
  }
  return undefined;
}

type Guarded = <T>(what: string, work: () => T) => T;

function wrap(published: PublishedTokenizer, config: Record<string, unknown>, file: string, guarded: Guarded): Tokenizer {
  let vocabularySize = 0;
  for (const id of published.get_vocab().values()) vocabularySize = Math.max(vocabularySize, id + 1);
  const tidiesSpaces = config.clean_up_tokenization_spaces === true;
  const problem = (reason: string) =>
    new SottoError('input', reason, { place: { file }, remedy: 'use the tokenizer of this model' });
  const special = (name: string): number | null => {
    const token = config[name];
    const text = isObject(token) ? token.content : token;
    return typeof text === 'string' ? (published.token_to_id(text) ?? null) : null;
  };
  return {
    vocabularySize,
    tidiesSpaces,
    bosId: special('bos_token'),
    eosId: special('eos_token'),
    encode: (text, options = {}) =>
      guarded('encoding', () => {
        const { ids, tokens } = published.encode(text, { add_special_tokens: options.addSpecial ?? true });
        const index = ids.findIndex((id) => !Number.isInteger(id));
        if (index >= 0) throw problem(`there is no token for ${JSON.stringify(tokens[index]?.slice(0, 40))}`);
        return ids;
      }),
    encodePair: (first, second) =>
      guarded('encoding', () => {
        const options = { add_special_tokens: true, text_pair: second ?? null, return_token_type_ids: true };
        const { ids, tokens, token_type_ids: types } = published.encode(first, options);
        const index = ids.findIndex((id) => !Number.isInteger(id));
        if (index >= 0) throw problem(`there is no token for ${JSON.stringify(tokens[index]?.slice(0, 40))}`);
        return { ids, types: types ?? ids.map(() => 0) };
      }),
    decode: (ids) =>
      guarded('decoding', () => {
        const strange = ids.find((id) => !Number.isInteger(id) || id < 0);
        if (strange !== undefined) throw problem(`there is no token with the id ${strange}`);
        const known = ids.filter((id) => published.id_to_token(id) !== undefined);
        if (known.length === 0) return '';
        return published.decode(known, { skip_special_tokens: true, clean_up_tokenization_spaces: tidiesSpaces });
      }),
  };
}

/** Turns ids that arrive one by one into text. The pieces together equal decoding all ids at once. */
export interface StreamingDecoder {
  /** The text that this id completes; empty while a character of several bytes is still incomplete. */
  push(id: number): string;
  /** What was held back at the end. */
  end(): string;
}

/** Longest ending that tidying spaces may still change, in characters (" n't" and its like). */
const tidyReach = 5;

/**
 * A decoder for text that is shown while it is generated. All ids are decoded every time: the published decoders look at
 * neighbours in ways that only the whole list decides, and a conversation is short beside the cost of its tokens.
 */
export function streamingDecoder(tokenizer: Tokenizer): StreamingDecoder {
  const ids: number[] = [];
  let shown = 0;
  const take = (text: string, end: number) => {
    const piece = text.slice(shown, Math.max(shown, end));
    shown = Math.max(shown, end);
    return piece;
  };
  return {
    push: (id) => {
      ids.push(id);
      const text = tokenizer.decode(ids);
      // Incomplete bytes decode to replacement characters, which later bytes may turn into another character.
      let end = text.length;
      while (end > shown && text[end - 1] === '\uFFFD') end--;
      return take(text, tokenizer.tidiesSpaces ? Math.min(end, text.length - tidyReach) : end);
    },
    end: () => {
      const text = tokenizer.decode(ids);
      return take(text, text.length);
    },
  };
}

function checkDefinition(definition: Record<string, unknown>, file: string): void {
  const damaged = (field: string, reason: string) =>
    new SottoError('input', reason, {
      place: { file, field },
      remedy: 'the tokenizer is damaged or of a kind that is not supported',
    });
  const { model, added_tokens: added } = definition;
  if (!isObject(model)) throw damaged('model', 'the field is not an object');
  // The library works on with whatever it finds, so the fields that size its tables are checked before.
  const checkId = (field: string, id: unknown) => {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= idLimit) {
      throw damaged(field, `a token id is not a whole number from 0 to ${idLimit - 1}`);
    }
  };
  if (Array.isArray(model.vocab)) {
    const sound = (piece: unknown) => Array.isArray(piece) && typeof piece[0] === 'string' && typeof piece[1] === 'number';
    if (!model.vocab.every(sound)) throw damaged('model.vocab', 'the field is not a list of pieces and scores');
  } else if (isObject(model.vocab)) {
    const seen = new Set<unknown>();
    for (const id of Object.values(model.vocab)) {
      checkId('model.vocab', id);
      if (seen.has(id)) throw damaged('model.vocab', `two tokens have the id ${id}`);
      seen.add(id);
    }
  } else throw damaged('model.vocab', 'the field is neither an object nor a list');
  if (model.merges !== undefined) {
    const pair = (merge: unknown) =>
      typeof merge === 'string' ||
      (Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === 'string'));
    if (!Array.isArray(model.merges) || !model.merges.every(pair))
      throw damaged('model.merges', 'the field is not a list of pairs');
  }
  for (const field of ['normalizer', 'pre_tokenizer', 'decoder']) checkPatterns(definition[field], field, damaged);
  if (!Array.isArray(added)) throw damaged('added_tokens', 'the field is not a list');
  for (const token of added) {
    if (!isObject(token) || typeof token.content !== 'string' || token.content === '')
      throw damaged('added_tokens', 'an entry has no content');
    checkId('added_tokens', token.id);
  }
}

/** Patterns of normalizer, pre-tokenizer and decoder: the library would leave out a step whose pattern it does not know. */
function checkPatterns(value: unknown, field: string, damaged: (field: string, reason: string) => SottoError): void {
  if (typeof value !== 'object' || value === null) return;
  const needed = isObject(value) && (value.type === 'Replace' || value.type === 'Split') && value.pattern === undefined;
  if (needed) throw damaged(`${field}.pattern`, 'there is no pattern');
  for (const [key, inner] of Object.entries(value)) {
    if (key !== 'pattern') checkPatterns(inner, `${field}.${key}`, damaged);
    else if (!isObject(inner) || typeof (inner.String ?? inner.Regex) !== 'string')
      throw damaged(`${field}.pattern`, 'the pattern is not known');
  }
}

/** The library's byte decoder drops a byte order mark inside text; the published tokenizers keep it. */
function keepByteOrderMarks(published: PublishedTokenizer): void {
  const visit = (decoder: unknown) => {
    if (decoder === null || (typeof decoder !== 'object' && typeof decoder !== 'function')) return;
    const fields = decoder as { decoders?: unknown; text_decoder?: unknown };
    if (fields.text_decoder !== undefined) fields.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    if (Array.isArray(fields.decoders)) for (const inner of fields.decoders) visit(inner);
  };
  visit(published.decoder);
}

/**
 * True where no piece of a byte-pair encoding without a pre-tokenizer goes on past the ▁ after a word. Then words are encoded
 * one by one with the same result as the whole text, and the library finds most of them in its cache.
 */
function piecesStartAtSpaces(definition: Record<string, unknown>): boolean {
  const model = definition.model as Record<string, unknown>;
  if (model.type !== 'BPE' || definition.pre_tokenizer !== null || !Array.isArray(model.merges)) return false;
  if (model.ignore_merges || model.continuing_subword_prefix || model.continuing_subword_suffix || model.end_of_word_suffix)
    return false;
  return (model.merges as (string | string[])[]).every(
    (merge) => !/[^▁]▁/.test(typeof merge === 'string' ? merge.split(' ', 2).join('') : merge.join('')),
  );
}
