import { traceBert } from '../models/bert.ts';
import { boundWeights } from '../models/bound.ts';
import type { BertConfig, VitConfig } from '../models/config.ts';
import { paddingInputs } from '../models/padding.ts';
import type { Plan } from '../models/plan.ts';
import { traceVit } from '../models/vit.ts';
import type { Executable, FloatBackend, Tensor } from '../program/index.ts';
import { beginPicture, beginText, type Classification, type TextAsk } from './classify.ts';
import { type Job, readInTheClear } from './job.ts';

/** A model in the clear, with what computes it. */
export interface FloatParts<Config> {
  readonly config: Config;
  readonly plan: Plan;
  /** Published tensors by name; others are ignored. */
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly backend: FloatBackend;
}
/** A vision transformer in the clear. */
export type FloatVision = FloatParts<VitConfig>;
/** A BERT in the clear. */
export type FloatEncoder = FloatParts<BertConfig>;

/** A compiled classifier for pictures of (C, S, S) preprocessed pixels. */
export interface PictureClassifier {
  /** One result a picture, in order. Throws an `input` error where a picture has another number of values than C · S · S. */
  classify(pictures: readonly (Float32Array | Float64Array)[]): Promise<Classification[]>;
  /** Frees the compiled program. */
  close(): Promise<void>;
}

/** A compiled classifier of texts. */
export interface TextClassifier {
  /** The most tokens of a text. */
  readonly tokens: number;
  /** One result a text, in order. Throws an `input` error for no or too many tokens, or ids outside of the vocabulary. */
  classify(texts: readonly TextAsk[]): Promise<Classification[]>;
  /** Frees the compiled program. */
  close(): Promise<void>;
}

/** Compiles a classifier that takes `batch` pictures a run; an unfilled last batch is filled with blanks. */
export async function openClassifier(model: FloatVision, { batch = 1 }: { batch?: number } = {}): Promise<PictureClassifier> {
  const { config, plan, weights, backend } = model;
  const program = traceVit(config, plan, { batch });
  const executable = await backend.compile(program, boundWeights(program, weights));
  const shape = [batch, config.numChannels, config.imageSize, config.imageSize];
  const count = config.numChannels * config.imageSize ** 2;
  const feed = (jobs: readonly Job<unknown>[]): Map<string, Tensor> => {
    const values = new Float64Array(batch * count);
    for (const [row, job] of jobs.entries()) values.set(job.input('pixels').values, row * count);
    return new Map([['pixels', { shape, values }]]);
  };
  return {
    classify: async (pictures) =>
      classifyTogether(
        { batch, executable, feed },
        pictures.map((pixels) => beginPicture(model, { pixels })),
      ),
    close: () => executable.close(),
  };
}

/** Pictures in the clear; `openClassifier` is cheaper for several calls. */
export async function classifyFloat(
  options: FloatVision & { readonly pictures: readonly (Float32Array | Float64Array)[]; readonly batch?: number },
): Promise<Classification[]> {
  const classifier = await openClassifier(options, { batch: options.batch ?? 1 });
  try {
    return await classifier.classify(options.pictures);
  } finally {
    await classifier.close();
  }
}

/** Compiles a classifier that takes `batch` texts of up to `tokens` tokens a run, filled up with padding that nobody looks at. */
export async function openTextClassifier(
  model: FloatEncoder,
  options: { batch?: number; tokens?: number } = {},
): Promise<TextClassifier> {
  const { config, plan, weights, backend } = model;
  const { batch = 1, tokens = Math.min(128, config.maxPositionEmbeddings - config.firstPosition) } = options;
  const program = traceBert(config, plan, { batch, tokens });
  const executable = await backend.compile(program, boundWeights(program, weights));
  const feed = (jobs: readonly Job<unknown>[]) => textFeeds(config, { batch, tokens }, jobs);
  return {
    tokens,
    classify: async (texts) =>
      classifyTogether(
        { batch, executable, feed },
        texts.map((text, at) => beginText({ config, capacity: tokens }, text, { field: `text ${at}` })),
      ),
    close: () => executable.close(),
  };
}

function textFeeds(
  config: BertConfig,
  { batch, tokens }: { readonly batch: number; readonly tokens: number },
  jobs: readonly Job<unknown>[],
): Map<string, Tensor> {
  const shape = [batch, tokens];
  const ids = new Int32Array(batch * tokens).fill(config.padTokenId);
  const types = new Int32Array(batch * tokens);
  const mask = new Float32Array(batch * tokens);
  for (let row = 0; row < batch; row++) {
    // Rows without a text repeat the first one, so that no row is all padding.
    const job = jobs[row] ?? jobs[0]!;
    const at = row * tokens;
    ids.set(job.input('prompt').values, at);
    types.set(job.input('types').values, at);
    if (job.asked.padded === true) mask.set(job.input(paddingInputs.mask).values, at);
    else mask.fill(1, at, at + job.asked.promptTokens);
  }
  return new Map<string, Tensor>([
    ['ids', { shape, values: ids }],
    ['types', { shape, values: types }],
    ['mask', { shape, values: mask }],
  ]);
}

interface Batches {
  readonly batch: number;
  readonly executable: Executable;
  readonly feed: (jobs: readonly Job<unknown>[]) => Map<string, Tensor>;
}

/** Runs jobs that classify, `batch` at a time; all of them are read before any is run. */
async function classifyTogether<Answer>({ batch, executable, feed }: Batches, jobs: readonly Job<Answer>[]): Promise<Answer[]> {
  for (const job of jobs) readInTheClear(job);
  const answers: Answer[] = [];
  for (let start = 0; start < jobs.length; start += batch) {
    const some = jobs.slice(start, start + batch);
    const all = (await executable.run(feed(some))).get('logits')!.values;
    const classes = all.length / batch;
    for (const [row, job] of some.entries()) {
      job.take('logits', { shape: [classes], values: all.subarray(row * classes, (row + 1) * classes) });
      answers.push(job.answer());
    }
  }
  return answers;
}
