import { SottoError } from '../errors/index.ts';
import type { LlamaConfig } from '../models/config.ts';
import { type PaddedLengths, paddedIds, paddingInput } from '../models/padding.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import type { Tensor } from '../program/index.ts';

/**
 * What shows of a prompt's length. `steps`: the step that its bytes reach, whatever a tokenizer makes of them. `none`: the number of its
 * tokens, which a server's tokenizer can make tell letters: for manifests whose hash was given.
 */
export type PaddingPolicy = 'steps' | 'none';

/** Tokens that stand for no byte of a text: those that begin and end it, one for a space that is put before it, and one to spare. */
const extraTokens = 4;

/**
 * Positions for a text of so many bytes: 16, 24, 32, 48, 64, 96, … the first that holds a token for every byte and four more. It depends on
 * the bytes alone, and is enough for tokenizers whose tokens stand for a byte at least.
 */
export function positionsFor(bytes: number): number {
  const needed = bytes + extraTokens;
  const power = 2 ** Math.max(4, Math.ceil(Math.log2(needed)));
  return power > 16 && needed <= 0.75 * power ? 0.75 * power : power;
}

/** A prompt as it is asked for. */
export interface Prompt {
  readonly asked: { readonly promptTokens: number; readonly padded?: true };
  /** What a tokenizer makes of it. In `steps` this comes after the request, so that neither going nor its time shows in that. */
  read(): Promise<ReadPrompt>;
}

/** A prompt as it is fed. */
export interface ReadPrompt {
  /** The tokens that count. */
  readonly ids: readonly number[];
  /** The ids of the program's prompt. */
  readonly fed: readonly number[];
  /** The client's inputs beside its tokens. */
  readonly input: (name: string) => Tensor | undefined;
  /** Why there is no such prompt: told when the run has ended as it would have with one. */
  readonly fault?: { readonly error: unknown } | undefined;
}

interface Wanted {
  readonly prompt: { readonly text: string } | { readonly ids: readonly number[] };
  readonly newTokens: number;
  readonly padding: PaddingPolicy;
  readonly config: LlamaConfig;
  readonly tokenizer: Pick<Tokenizer, 'encode'>;
}

/**
 * With `none`, an error of tokenizer and prompt is thrown; with `steps` nothing that depends on the text is, since going or staying would
 * show: the run is made with another prompt then, and the error is the caller's to throw at its end.
 */
export async function preparePrompt(wanted: Wanted): Promise<Prompt> {
  if (wanted.padding === 'none') {
    const ids = await checkedIds(wanted, Number.POSITIVE_INFINITY);
    const read = { ids, fed: ids, input: () => undefined };
    return { asked: { promptTokens: ids.length }, read: async () => read };
  }
  const positions = steps(wanted);
  return { asked: { promptTokens: positions, padded: true }, read: () => readPadded(wanted, positions) };
}

async function readPadded(wanted: Wanted, positions: number): Promise<ReadPrompt> {
  const { ids, fault } = await checkedIds(wanted, positions).then(
    (ids) => ({ ids, fault: undefined }),
    (error: unknown) => ({ ids: [0], fault: { error } }),
  );
  const lengths: PaddedLengths = { family: 'causal', real: ids.length, positions, newTokens: wanted.newTokens };
  return { ids, fed: paddedIds(ids, lengths), input: (name) => paddingInput(name, lengths), fault };
}

/** By the text's bytes, the new tokens and the model's length alone. */
function steps({ prompt, newTokens, config }: Wanted): number {
  const bytes = 'text' in prompt ? new TextEncoder().encode(prompt.text).length : prompt.ids.length;
  const room = config.maxPositionEmbeddings - newTokens + 1;
  if (room >= 1) return Math.min(positionsFor(bytes), room);
  throw new SottoError('input', `${newTokens} new tokens leave no position of ${config.maxPositionEmbeddings} for the prompt`, {
    place: { field: 'newTokens' },
    remedy: 'ask for fewer new tokens',
  });
}

async function checkedIds({ prompt, config, tokenizer }: Wanted, most: number): Promise<readonly number[]> {
  const ids = 'ids' in prompt ? prompt.ids : tokenizer.encode(prompt.text);
  const refuse = (reason: string, remedy: string): never => {
    throw new SottoError('input', reason, { place: { field: 'prompt' }, remedy });
  };
  if (ids.length === 0) refuse('the prompt has no tokens', 'give a text or the ids of at least one token');
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= config.vocabSize);
  if (wrong >= 0)
    refuse(`token ${ids[wrong]} at position ${wrong} is not in 0 … ${config.vocabSize - 1}`, "use the model's own tokenizer");
  if (ids.length > most)
    refuse(
      `the prompt has ${ids.length} tokens where its bytes reach ${most} positions`,
      'shorten it; or check the manifest with the operator, give its hash, and leave padding out',
    );
  return ids;
}
