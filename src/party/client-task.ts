import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { beginPicture, beginText, type TextAsk } from '../jobs/classify.ts';
import { type Job, mapJob } from '../jobs/job.ts';
import type { PaddingPolicy } from '../jobs/lengths.ts';
import { beginWrite, type Prompt } from '../jobs/write.ts';
import type { LlamaConfig } from '../models/config.ts';
import { classifiesPictures, classifiesTexts, writesText } from '../models/families/index.ts';
import type { RgbImage, Sampler } from '../models/index.ts';
import type { PublicEmbedding } from '../models/plan.ts';
import type { EmbeddingTable } from '../models/public-embedding.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import type { RunRequest } from './control.ts';
import type { OpenManifest } from './manifest.ts';

/** What the client wants: a text continued, a picture named, or a text or a pair of texts classified. */
export type ClientTask = WriteTask | PictureTask | TextTask;

/** A text that is to be continued. */
export interface WriteTask {
  readonly kind: 'generate';
  readonly prompt: Prompt;
  /** Fewer are asked for where the context ends before. */
  readonly newTokens: number;
  /** `token`: the likeliest token of each step is all that is opened; no sampler then. `logits` where absent. */
  readonly reveal?: 'logits' | 'token' | undefined;
  /** What shows of the prompt's length. `steps` where absent, unless the manifest's hash is given or the prompt is ids: `none`. */
  readonly padding?: PaddingPolicy | undefined;
  /** The table of a model whose embedding is public. */
  readonly embedding?: EmbeddingSource | undefined;
  readonly sample?: Sampler;
  /**
   * Ends the run where the text ends, which then shows to the server: how many tokens it has, by rules that the server's own
   * configuration makes. Absent or false, the run goes to its scheduled end, whatever was opened.
   */
  readonly earlyStop?: boolean | undefined;
  /** The prompt's tokens, before the run. */
  readonly onPrompt?: (ids: readonly number[], tokenizer: Tokenizer) => void;
  /** Each new token as it is opened. */
  readonly onToken?: (id: number) => void;
}

/** A picture that is decoded: a file that cannot be is an error before anything is connected. */
export interface PictureTask {
  readonly kind: 'classify';
  readonly image: RgbImage;
}

/** A text, with the second one of a pair that the model is asked about; or what its tokenizer made of them. */
export type TextTask = TextAsk & {
  readonly kind: 'classify';
  /** As of a prompt. */
  readonly padding?: PaddingPolicy | undefined;
};

/** Where a client has the public table of embeddings from; what it gives is checked against the hash that the manifest declares. */
export type EmbeddingSource = (config: LlamaConfig, declared: PublicEmbedding) => Promise<EmbeddingTable>;

/** What a client learns beside its measurements. */
export interface Outcome {
  readonly promptIds: readonly number[];
  readonly newIds: readonly number[];
  readonly stopped: 'eos' | 'length' | 'context';
  /** Of a run that classifies: the likeliest class by number and name. */
  readonly class?: { readonly id: number; readonly label: string };
}

interface Asking {
  /** Whether the manifest's hash was given by somebody who knows the model. */
  readonly trusted: boolean;
  readonly onLogits?: ((logits: Float64Array) => void) | undefined;
}

/**
 * The job of a task with the model that a manifest describes. A task that is none of the model's is a `usage` error, and an input whose
 * length shows and which cannot be read an `input` error, before anything is asked for.
 */
export async function beginTask(task: ClientTask, manifest: OpenManifest, asking: Asking): Promise<Job<Outcome>> {
  if (task.kind === 'generate') return await beginWriting(task, manifest, asking);
  const { config } = manifest;
  const refuse = (remedy: string): never => {
    throw new SottoError('usage', `a ${config.family} does not classify ${'image' in task ? 'pictures' : 'texts'}`, { remedy });
  };
  const named = (job: ReturnType<typeof beginPicture>): Job<Outcome> =>
    mapJob(job, ({ id, label, logits }) => {
      asking.onLogits?.(logits);
      return { promptIds: [], newIds: [], stopped: 'length', class: { id, label } };
    });
  if ('image' in task) {
    if (!classifiesPictures(config)) return refuse(classifiesTexts(config) ? 'give a text' : 'give a prompt');
    const preprocessor = await manifest.preprocessor();
    return named(beginPicture({ config, preprocessor }, task, { watched: true }));
  }
  if (!classifiesTexts(config)) return refuse(classifiesPictures(config) ? 'give a picture' : 'give a prompt');
  const { padding = asking.trusted || 'ids' in task ? 'none' : 'steps' } = task;
  const tokenizer = await manifest.tokenizer();
  return named(beginText({ config, tokenizer }, task, { padding }));
}

async function beginWriting(task: WriteTask, manifest: OpenManifest, { trusted, onLogits }: Asking): Promise<Job<Outcome>> {
  const { config } = manifest;
  if (!writesText(config)) throw new SottoError('usage', `a ${config.family} does not generate`, { remedy: 'use classify' });
  const tokenizer = await manifest.tokenizer();
  const table = await publicTable(task.embedding, config, manifest.plan.embedding);
  const { prompt, newTokens, reveal, sample, onPrompt, onToken } = task;
  const padding = task.padding ?? (trusted || 'ids' in prompt ? 'none' : 'steps');
  const job = beginWrite(
    { config, tokenizer, table },
    {
      ...{ prompt, newTokens, reveal, padding, sample, onToken },
      onPrompt: (ids) => onPrompt?.(ids, tokenizer),
      onLogits: (logits) => onLogits?.(logits as Float64Array),
    },
  );
  return mapJob(job, ({ promptIds, newIds, stopped }) => ({ promptIds, newIds, stopped }));
}

/** The table that the client feeds rows of, where the manifest says that it is public. */
async function publicTable(
  source: EmbeddingSource | undefined,
  config: LlamaConfig,
  declared: PublicEmbedding | undefined,
): Promise<EmbeddingTable | undefined> {
  if (declared === undefined) return undefined;
  if (source !== undefined) return await source(config, declared);
  throw new SottoError('usage', "the model's embedding is public, and the client has no table", {
    place: { party: 'client', field: '--embedding' },
    remedy: 'name the safetensors file that was published with the model',
  });
}

/** What is asked of a server for a job. */
export function requestOf({ asked }: Job<unknown>, ring: RingParameters, rangeFlags: boolean): RunRequest {
  return { ...asked, ring, ...(rangeFlags ? { rangeFlags: true } : {}) };
}
