import { SottoError } from '../errors/index.ts';
import { boundWeights } from '../models/bound.ts';
import type { LlamaConfig } from '../models/config.ts';
import { rotaryRows, traceLlamaStep } from '../models/llama.ts';
import type { Plan } from '../models/plan.ts';
import { compileStep, type FloatBackend, type Program, size, type Tensor } from '../program/index.ts';
import { type Job, readInTheClear } from './job.ts';
import { beginWrite, type WriteAsk, type Written } from './write.ts';

/** A Llama in the clear, with what computes it. */
export interface FloatModel {
  readonly config: LlamaConfig;
  readonly plan: Plan;
  /** Published tensors by name; others are ignored. */
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly backend: FloatBackend;
}

/** A prompt as token ids, and how it is to be continued; `maxNewTokens` is `newTokens` of a job. */
export type GenerationRequest = Omit<WriteAsk, 'prompt' | 'newTokens' | 'reveal' | 'padding'> & {
  readonly promptIds: readonly number[];
  readonly maxNewTokens: number;
};

/** A compiled step program that writes any number of texts, one at a time. */
export interface TextGenerator {
  /** Positions of a text, prompt included. */
  readonly capacity: number;
  /** Throws an `input` error where the prompt is empty, longer than the capacity, or has ids outside of the vocabulary. */
  generate(request: GenerationRequest): Promise<Written>;
  /** Frees the compiled program. */
  close(): Promise<void>;
}

/** Compiles the step program of a model. `capacity` is at most, and without it exactly, the length the model was made for. */
export async function openGenerator(model: FloatModel, options: { capacity?: number } = {}): Promise<TextGenerator> {
  const { config, plan, weights, backend } = model;
  const capacity = options.capacity ?? config.maxPositionEmbeddings;
  const program = traceLlamaStep(config, plan, { capacity });
  const step = await compileTexts(backend, program, { weights: boundWeights(program, weights) });
  const positions = oneText(config, capacity);
  return {
    capacity,
    async generate({ promptIds, maxNewTokens, ...ask }) {
      const job = beginWrite({ config, capacity }, { ...ask, prompt: { ids: promptIds }, newTokens: maxNewTokens });
      const [written] = await writeTogether({ batch: 1, run: (ids, at) => step.run(positions(ids[0]!, at[0]!)) }, [job]);
      return written!;
    },
    close: () => step.close(),
  };
}

/** One text in the clear; `openGenerator` is cheaper for several. Throws an `input` error where the prompt is empty or too long. */
export async function generateFloat(options: FloatModel & GenerationRequest): Promise<Written> {
  const { config, promptIds, maxNewTokens } = options;
  // What cannot be read is refused before anything is compiled.
  beginWrite({ config }, { prompt: { ids: promptIds }, newTokens: maxNewTokens });
  const capacity = Math.min(config.maxPositionEmbeddings, promptIds.length + maxNewTokens);
  const generator = await openGenerator(options, { capacity });
  try {
    return await generator.generate(options);
  } finally {
    await generator.close();
  }
}

/** Reads one token of each of `batch` texts, each at a position of its own, and gives what comes next: logits (batch, V). */
export interface TextStep {
  readonly batch: number;
  run(ids: Int32Array, positions: readonly number[]): Promise<Float32Array | Float64Array>;
}

/** A text under way. */
interface Row<Answer> {
  readonly number: number;
  readonly job: Job<Answer>;
  /** What is read next, of the job's last input. */
  ids: Tensor['values'];
  at: number;
  /** Of the token that is read next. */
  position: number;
  /** Tokens that were written. */
  made: number;
}

/**
 * Runs jobs that write, as many side by side as the step has rows: every row goes on with the next job where one ends. Answers in the order of
 * the jobs. What an earlier text left in the cache lies behind the mask until it is overwritten.
 */
export async function writeTogether<Answer>(step: TextStep, jobs: Iterable<Job<Answer>>): Promise<Answer[]> {
  const answers: Answer[] = [];
  const waiting = jobs[Symbol.iterator]();
  let begun = 0;
  const next = (): Row<Answer> | undefined => {
    for (let given = waiting.next(); given.done !== true; given = waiting.next()) {
      const job = given.value;
      checkClear(job);
      const number = begun++;
      if (job.asked.newTokens > 0) return { number, job, ids: job.input('prompt').values, at: 0, position: 0, made: 0 };
      answers[number] = job.answer();
    }
    return undefined;
  };
  const rows = Array.from({ length: step.batch }, next);
  while (rows.some((row) => row !== undefined)) {
    const ids = Int32Array.from(rows, (row) => row?.ids[row.at] ?? 0);
    const logits = await step.run(
      ids,
      rows.map((row) => row?.position ?? 0),
    );
    const words = logits.length / step.batch;
    for (const [index, row] of rows.entries()) {
      if (row === undefined || !advance(row, logits.subarray(index * words, (index + 1) * words))) continue;
      answers[row.number] = row.job.answer();
      rows[index] = next();
    }
  }
  return answers;
}

/** Whether a text has ended with the token that was read. */
function advance(row: Row<unknown>, logits: Float32Array | Float64Array): boolean {
  row.position++;
  if (++row.at < row.ids.length) return false;
  const { job } = row;
  const standing = job.take(`logits.${row.made++}`, { shape: [logits.length], values: logits });
  if (standing !== 'more' || row.made === job.asked.newTokens) return true;
  row.ids = job.input(`token.${row.made}`).values;
  row.at = 0;
  return false;
}

function checkClear(job: Job<unknown>): void {
  if (job.asked.padded === true || job.asked.reveal === 'token')
    throw new SottoError('usage', 'a text in the clear hides neither its length nor its logits', {
      remedy: 'leave padding and reveal out, or run it privately',
    });
  readInTheClear(job);
}

/** A step program whose caches are its state. */
export async function compileTexts(
  backend: FloatBackend,
  program: Program,
  { weights }: { readonly weights: ReadonlyMap<string, Tensor> },
): Promise<{ run(feeds: ReadonlyMap<string, Tensor>): Promise<Float32Array | Float64Array>; close(): Promise<void> }> {
  const state = new Map<string, Tensor>();
  for (const { operation, parameters, shape } of program.nodes)
    if (operation === 'input' && parameters.name.startsWith('cache.'))
      state.set(parameters.name, { shape, values: new Float32Array(size(shape)) });
  const step = await compileStep(backend, program, { state, bound: weights });
  return {
    run: async (feeds) => (await step.run(feeds)).get('logits')!.values as Float32Array | Float64Array,
    close: () => step.close(),
  };
}

/** The inputs of the step program of one text: see traceLlamaStep. */
function oneText(config: LlamaConfig, capacity: number) {
  return (id: number, position: number): Map<string, Tensor> => {
    const { cos, sin } = rotaryRows(config, position, 1);
    const slot = new Float64Array(capacity);
    slot[position] = 1;
    return new Map<string, Tensor>([
      ['ids', { shape: [1, 1], values: Int32Array.of(id) }],
      ['cos', { shape: [1, config.headDim], values: cos }],
      ['sin', { shape: [1, config.headDim], values: sin }],
      ['slot', { shape: [capacity, 1], values: slot }],
      ['mask', { shape: [1, capacity], values: new Float64Array(capacity).fill(1, 0, position + 1) }],
      ['inverseLength', { shape: [1, 1], values: Float64Array.of(1 / (position + 1)) }],
    ]);
  };
}
