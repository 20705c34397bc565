import { SottoError } from '../errors/index.ts';
import { flaggedTemplate } from './begin-end.ts';
import { flaggedParts } from './class-flags.ts';
import { type Files, fileLabel, refusePointer } from './files.ts';
import { isObject, readJsonObject } from './json.ts';
import { namedTokens } from './named-tokens.ts';
import { Pipeline } from './tokenizer/pipeline.ts';
import { wordPieceDefinition } from './wordpiece.ts';

const tokenizerLimitBytes = 128 * 2 ** 20;
/** Token ids index an array, so their largest value is bounded, whatever the file claims. */
const idLimit = 2 ** 22;

/** Text to token ids and back, as the tokenizer.json of the model says. */
export interface Tokenizer {
  /** Text → token ids, by default with the special tokens of the model's template (such as <s>) around them. */
  encode(text: string, options?: { addSpecial?: boolean }): number[];
  /** One text or a pair with the template's special tokens, and which text each token belongs to (0 or 1). */
  encodePair?(first: string, second?: string, options?: { addSpecial?: boolean }): { ids: number[]; types: number[] };
  /** Token ids → text, special tokens left out. An id of a padded vocabulary, which no token has, is no text. */
  decode(ids: readonly number[]): string;
  /** One more than the largest id. */
  readonly vocabularySize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  /** True where decoding tidies spaces before punctuation, which can change the last characters when text is appended. */
  readonly tidiesSpaces: boolean;
  /**
   * Whether the text of the last ids may still change as a whole when another follows: bytes of a run are a text only if all of them
   * are. `open` says so of the ids before `id`. Absent where it never does.
   */
  staysOpen?(id: number, open: boolean): boolean;
}

/**
 * Loads tokenizer.json, or builds it from BERT's vocab.txt, and tokenizer_config.json where present. Structure and ids are checked here; whatever the library still
 * rejects becomes an `input` error of the file. Ids that are no whole numbers and characters without a token are `input` errors.
 */
export async function loadTokenizer(files: Files): Promise<Tokenizer> {
  const path = 'tokenizer.json';
  const configPath = 'tokenizer_config.json';
  const early = await earlyDefinition(files);
  const definition = early ?? (await readJsonObject(files, path, tokenizerLimitBytes));
  const config = (await files.exists(configPath)) ? await readJsonObject(files, configPath, tokenizerLimitBytes) : {};
  const file = fileLabel(files, early === undefined ? path : 'vocab.txt');
  checkDefinition(definition, file);
  definition.added_tokens = namedTokens(definition, config, fileLabel(files, configPath));
  const template = flaggedTemplate(definition, config, fileLabel(files, configPath));
  if (template !== undefined) definition.post_processor = template;
  Object.assign(definition, flaggedParts(definition, config, fileLabel(files, configPath)));
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
  const pipeline = guarded('loading the tokenizer', () => new Pipeline(definition, file));
  return wrap(pipeline, config, file, guarded);
}

/** What tokenizer.json would say of a folder that has BERT's vocab.txt in its place; undefined for every other folder. */
export async function earlyDefinition(files: Files): Promise<Record<string, unknown> | undefined> {
  const configPath = 'tokenizer_config.json';
  const early = (await files.exists('tokenizer.json')) ? undefined : await earlyVocabulary(files);
  if (early === undefined) return undefined;
  const config = (await files.exists(configPath)) ? await readJsonObject(files, configPath, tokenizerLimitBytes) : {};
  return wordPieceDefinition(early, config, fileLabel(files, 'vocab.txt'));
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

function wrap(pipeline: Pipeline, config: Record<string, unknown>, file: string, guarded: Guarded): Tokenizer {
  const tidiesSpaces = config.clean_up_tokenization_spaces === true;
  const problem = (reason: string) =>
    new SottoError('input', reason, { place: { file }, remedy: 'use the tokenizer of this model' });
  const special = (name: string): number | null => {
    const token = config[name];
    const text = isObject(token) ? token.content : token;
    return typeof text === 'string' ? (pipeline.tokenToId(text) ?? null) : null;
  };
  const whole = (text: string): string => {
    // The reference library takes no such text either: it has no UTF-8.
    if (/\p{Surrogate}/u.test(text))
      throw new SottoError('input', 'the text holds half a character (a surrogate alone)', {
        place: { field: 'text' },
        remedy: 'remove it: it is not Unicode text',
      });
    return text;
  };
  const encode = (first: string, second: string | undefined, addSpecial: boolean) =>
    guarded('encoding', () => pipeline.encode(whole(first), second === undefined ? undefined : whole(second), addSpecial));
  return {
    vocabularySize: pipeline.vocabularySize,
    tidiesSpaces,
    staysOpen: (id, open) => pipeline.staysOpen(id, open),
    bosId: special('bos_token'),
    eosId: special('eos_token'),
    encode: (text, options = {}) => encode(text, undefined, options.addSpecial ?? true).ids,
    encodePair: (first, second, options = {}) => encode(first, second, options.addSpecial ?? true),
    decode: (ids) =>
      guarded('decoding', () => {
        const strange = ids.find((id) => !Number.isInteger(id) || id < 0);
        if (strange !== undefined) throw problem(`there is no token with the id ${strange}`);
        const text = pipeline.decode(ids);
        return tidiesSpaces ? tidied(text) : text;
      }),
  };
}

/** Takes out the spaces before English punctuation and contractions, as published pipelines do where the configuration asks for it. */
function tidied(text: string): string {
  return text
    .replaceAll(/ ([.?!,])/g, '$1')
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
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
  let open = false;
  const take = (text: string, end: number) => {
    const piece = text.slice(shown, Math.max(shown, end));
    shown = Math.max(shown, end);
    return piece;
  };
  return {
    push: (id) => {
      ids.push(id);
      open = tokenizer.staysOpen?.(id, open) ?? false;
      if (open) return '';
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
  // The fields that size tables are checked before anything is built of them.
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
  if (!Array.isArray(added)) throw damaged('added_tokens', 'the field is not a list');
  for (const token of added) {
    if (!isObject(token) || typeof token.content !== 'string' || token.content === '')
      throw damaged('added_tokens', 'an entry has no content');
    checkId('added_tokens', token.id);
  }
}
