import { SottoError } from '../errors/index.ts';
import type { LlamaConfig } from '../models/config.ts';
import { type PaddedLengths, paddedIds, paddingInput } from '../models/padding.ts';
import type { EmbeddingTable } from '../models/public-embedding.ts';
import { greedy, type Logits, type Sampler } from '../models/sample.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import { checkVocabulary } from '../models/vocabulary.ts';
import type { Tensor } from '../program/index.ts';
import { type Asked, indices, type Job, startJob, type Taken } from './job.ts';
import { bytesOf, checkWithin, type PaddingPolicy, positionsFor } from './lengths.ts';

/** A text, or token ids of the model's tokenizer. */
export type Prompt = { readonly text: string } | { readonly ids: readonly number[] };

/** What of a Llama a text is written by. */
export interface Writer {
  readonly config: Pick<LlamaConfig, 'vocabSize' | 'maxPositionEmbeddings' | 'eosTokenIds'>;
  /** For prompts that are texts. */
  readonly tokenizer?: Pick<Tokenizer, 'encode'> | undefined;
  /** The client's table, of a model whose embedding is public. */
  readonly table?: EmbeddingTable | undefined;
  /** Positions that there are, where they are fewer than the model's. */
  readonly capacity?: number | undefined;
}

/** How a text is to be continued. */
export interface WriteAsk {
  readonly prompt: Prompt;
  /** Fewer are written where the context ends before. */
  readonly newTokens: number;
  /** `token`: of each step the likeliest token alone; no sampler then. `logits` where absent. */
  readonly reveal?: 'logits' | 'token' | undefined;
  /** `none` where absent. */
  readonly padding?: PaddingPolicy | undefined;
  /** Greedy where absent. */
  readonly sample?: Sampler | undefined;
  /** Ids that end the text, of which it is the last; the model's where absent. */
  readonly ends?: readonly number[] | undefined;
  /** Ends the text where it says so of the new ids. */
  readonly ended?: ((newIds: readonly number[]) => boolean) | undefined;
  /** Keeps the logits that each new token was chosen from. */
  readonly keepLogits?: boolean | undefined;
  /** Logits as they are known to be right. */
  readonly onLogits?: ((logits: Logits) => void) | undefined;
  /** The prompt's tokens, before the first new one. */
  readonly onPrompt?: ((ids: readonly number[]) => void) | undefined;
  /** Each new token as it is known to be right. An error that it throws ends the text, and is the answer's. */
  readonly onToken?: ((id: number) => void) | undefined;
}

/** A text as it was continued. */
export interface Written {
  /** Prompt and new ids; an end-of-text id is the last where one came. */
  readonly ids: readonly number[];
  readonly promptIds: readonly number[];
  readonly newIds: readonly number[];
  /** What ended it: an end-of-text id, the number asked for, or the end of the context. */
  readonly stopped: 'eos' | 'length' | 'context';
  /** Per new token, (V); empty unless kept. */
  readonly logits: readonly Logits[];
}

/**
 * A text continued. Inputs `prompt`, `token.k` and those of padding, outputs `logits.k` or `choice.k`. A prompt without padding is read at
 * once: `input` errors where it has no token, does not fit or is none of the vocabulary. With `steps` of its bytes these are the answer's.
 */
export function beginWrite(model: Writer, ask: WriteAsk): Job<Written> {
  const { reveal = 'logits', padding = 'none', sample = greedy, keepLogits = false } = ask;
  if (reveal === 'token' && ask.sample !== undefined)
    throw new SottoError('usage', 'a token is drawn from logits, and none are revealed', {
      place: { field: 'reveal' },
      remedy: 'leave the temperature out, or reveal logits',
    });
  const { asked, read } = promptOf(model, ask, padding);
  const ends = ask.ends ?? model.config.eosTokenIds;
  const newIds: number[] = [];
  const logits: Logits[] = [];
  let ended = false;
  let prompt: ReadPrompt = { ids: [], fed: [0], input: () => undefined };
  const take = (values: Logits): Taken => {
    const id = reveal === 'logits' ? sample(values) : values[0]!;
    if (!isToken(id, model.config)) throw noToken();
    if (keepLogits && reveal === 'logits') logits.push(values);
    newIds.push(id);
    ended = ends.includes(id) || ask.ended?.(newIds) === true;
    const show = (): void => {
      if (reveal === 'logits') ask.onLogits?.(values);
      ask.onToken?.(id);
    };
    return { last: ended, show };
  };
  return startJob(
    {
      asked: { ...asked, ...(reveal === 'token' ? { reveal } : {}) },
      read: () => {
        // A text of secret length that cannot be read is run as another one, of as many positions.
        prompt = read([0]);
        prompt = read(undefined);
        ask.onPrompt?.(prompt.ids);
      },
      input: (name, over) => {
        const ids = name === 'prompt' ? prompt.fed : [over ? 0 : newIds.at(-1)!];
        return prompt.input(name) ?? model.table?.rows(ids) ?? indices(ids);
      },
      take,
      answer: () => ({
        ids: [...prompt.ids, ...newIds],
        promptIds: prompt.ids,
        newIds,
        stopped: ended ? 'eos' : asked.newTokens < ask.newTokens ? 'context' : 'length',
        logits,
      }),
    },
    { secret: padding === 'steps' },
  );
}

/** A prompt as it is fed. */
interface ReadPrompt {
  /** The tokens that count. */
  readonly ids: readonly number[];
  /** The ids of the program's prompt. */
  readonly fed: readonly number[];
  /** The client's inputs beside its tokens. */
  readonly input: (name: string) => Tensor | undefined;
}

/** What is asked for, and a way to read the prompt or, in its place, other ids. */
function promptOf(
  { config, tokenizer, capacity = config.maxPositionEmbeddings }: Writer,
  { prompt, newTokens }: WriteAsk,
  padding: PaddingPolicy,
): { asked: Asked; read: (instead: readonly number[] | undefined) => ReadPrompt } {
  if (!Number.isInteger(newTokens) || newTokens < 0)
    throw refusal(`${newTokens} new tokens`, 'newTokens', 'ask for a whole number from 0 on');
  const encoded = (): readonly number[] => ('ids' in prompt ? prompt.ids : tokenizer!.encode(prompt.text));
  if (padding === 'none') {
    const ids = encoded();
    checkIds(ids, config.vocabSize);
    if (ids.length > capacity)
      throw refusal(`the prompt has ${ids.length} tokens, the context ${capacity}`, 'prompt', 'shorten the prompt');
    // The last token needs no position.
    const fitting = Math.min(newTokens, capacity - ids.length + 1);
    const read = { ids, fed: ids, input: () => undefined };
    return { asked: { task: 'generate', promptTokens: ids.length, newTokens: fitting }, read: () => read };
  }
  const room = capacity - newTokens + 1;
  if (room < 1)
    throw refusal(
      `${newTokens} new tokens leave no position of ${capacity} for the prompt`,
      'newTokens',
      'ask for fewer new tokens',
    );
  const bytes = 'text' in prompt ? bytesOf(prompt.text) : prompt.ids.length;
  const positions = Math.min(positionsFor(bytes), room);
  return {
    asked: { task: 'generate', promptTokens: positions, padded: true, newTokens },
    read: (instead) => {
      const ids = instead ?? encoded();
      checkIds(ids, config.vocabSize);
      checkWithin(ids.length, positions, 'prompt');
      const lengths: PaddedLengths = { kind: 'causal', real: ids.length, positions, newTokens };
      return { ids, fed: paddedIds(ids, lengths), input: (name) => paddingInput(name, lengths) };
    },
  };
}

function checkIds(ids: readonly number[], vocabSize: number): void {
  if (ids.length === 0) throw refusal('the prompt is empty', 'prompt', 'give at least the beginning-of-text token');
  checkVocabulary(ids, vocabSize, 'prompt');
}

const refusal = (reason: string, field: string, remedy: string): SottoError =>
  new SottoError('input', reason, { place: { field }, remedy });

const isToken = (id: number, { vocabSize }: Pick<LlamaConfig, 'vocabSize'>): boolean =>
  Number.isInteger(id) && id >= 0 && id < vocabSize;

/** Says nothing of the value: who wrote a model so that it opens this may read the error. */
const noToken = (): SottoError =>
  new SottoError('peer', 'gave a result that is no token of its vocabulary', {
    place: { party: 'server' },
    remedy: 'check the ranges of the plan; the server may also have lied',
  });
