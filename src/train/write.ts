import { SottoError } from '../errors/index.ts';
import { beginWrite, compileTexts, type Job, mapJob, writeTogether } from '../jobs/index.ts';
import { type Pseudorandom, pseudorandom } from '../math/index.ts';
import type { Context } from '../models/block.ts';
import type { LlamaConfig } from '../models/config.ts';
import { writesText } from '../models/families/index.ts';
import type { Files } from '../models/files.ts';
import { llama, openModelFolder, type Plan, rotaryRows } from '../models/index.ts';
import { greedy } from '../models/sample.ts';
import { type FloatBackend, type Program, type Ref, type Tensor, trace } from '../program/index.ts';
import type { Weights } from './loop.ts';

export interface Writing {
  /** What every text starts with; at least one id. */
  readonly prompt: readonly number[];
  readonly texts: number;
  /** Tokens of a text, prompt included, at most. */
  readonly length: number;
  /** 0 takes the likeliest token; 1 samples the model's own distribution. */
  readonly temperature: number;
  readonly seed: number;
  /** Any of these ids ends a text and is left out of it. */
  readonly stopIds: readonly number[];
  /** Texts written side by side; 64 by default. */
  readonly batch?: number;
}

/**
 * Lets a Llama write in the clear: all texts start with the prompt, and depend on the seed and their number alone, not on the batch.
 * Gives token ids with the prompt.
 */
export async function write(
  config: LlamaConfig,
  plan: Plan,
  options: Writing & { readonly weights: Weights; readonly backend: FloatBackend },
): Promise<Int32Array[]> {
  const { texts, length, batch = Math.min(64, texts), weights, backend } = options;
  const program = traceWriter(config, plan, { batch, capacity: length });
  const step = await compileTexts(backend, program, { weights });
  const jobs = function* () {
    for (let number = 0; number < texts; number++) yield draft(config, options, number);
  };
  const run = (ids: Int32Array, positions: readonly number[]) =>
    step.run(positionFeeds(config, { capacity: length, positions }).set('ids', { shape: [batch, 1], values: ids }));
  try {
    return await writeTogether({ batch, run }, jobs());
  } finally {
    await step.close();
  }
}

/** One of the texts as a job; an id that ends it is left out. */
function draft(config: LlamaConfig, { prompt, length, temperature, seed, stopIds }: Writing, number: number): Job<Int32Array> {
  const random = pseudorandom(seed, number);
  const job = beginWrite(
    { config },
    {
      prompt: { ids: prompt },
      newTokens: Math.max(0, length - prompt.length),
      sample: (logits) => choose(logits, temperature, random),
      ends: stopIds,
    },
  );
  return mapJob(job, ({ ids, stopped }) => Int32Array.from(stopped === 'eos' ? ids.slice(0, -1) : ids));
}

/** One token of `batch` texts, each at a position of its own; the caches are state. */
function traceWriter(config: LlamaConfig, plan: Plan, { batch, capacity }: { batch: number; capacity: number }): Program {
  return trace((ops) => {
    const ids = ops.input('ids', [batch, 1], 'public', 'index');
    const [cos, sin] = ['cos', 'sin'].map((name) => ops.input(name, [batch, config.headDim], 'public')) as [Ref, Ref];
    const slot = ops.input('slot', [batch, 1, 1, capacity], 'public');
    const free = ops.offset(ops.scale(slot, -1), 1);
    const next: Record<string, Ref> = {};
    // Positions are the last axis: what is broadcast along it costs a fraction of what is broadcast along short rows.
    const store = (name: string, now: Ref): Ref => {
      const past = ops.input(name, [batch, config.numKeyValueHeads, config.headDim, capacity], 'public');
      const stored = ops.add(ops.multiply(past, free), ops.multiply(ops.transposed(now), slot));
      next[`next/${name}`] = stored;
      return ops.transposed(stored);
    };
    // The texts (batch, heads, 1, Dh) turn as the positions of one text do.
    const exchanged = (x: Ref): Ref => ops.transpose(x, [2, 1, 0, 3]);
    const context: Context = {
      rotate: (x) => exchanged(ops.rotary(exchanged(x), cos, sin)),
      remember: (layer, keys, values) => [store(`cache.key.${layer}`, keys), store(`cache.value.${layer}`, values)],
      mask: ops.input('mask', [batch, 1, 1, capacity], 'public'),
      inverseLengths: ops.input('inverseLength', [batch, 1, 1, 1], 'public'),
    };
    return { logits: llama(ops, config, plan, ids, context).logits, ...next };
  });
}

function positionFeeds(
  config: LlamaConfig,
  { capacity, positions }: { capacity: number; positions: readonly number[] },
): Map<string, Tensor> {
  const [batch, width] = [positions.length, config.headDim];
  const [cosines, sines] = [new Float32Array(batch * width), new Float32Array(batch * width)];
  const [slot, mask] = [new Float32Array(batch * capacity), new Float32Array(batch * capacity)];
  for (const [row, position] of positions.entries()) {
    const { cos, sin } = rotaryRows(config, position, 1);
    cosines.set(cos, row * width);
    sines.set(sin, row * width);
    slot[row * capacity + position] = 1;
    mask.fill(1, row * capacity, row * capacity + position + 1);
  }
  return new Map<string, Tensor>([
    ['cos', { shape: [batch, width], values: cosines }],
    ['sin', { shape: [batch, width], values: sines }],
    ['slot', { shape: [batch, 1, 1, capacity], values: slot }],
    ['mask', { shape: [batch, 1, 1, capacity], values: mask }],
    ['inverseLength', { shape: [batch, 1, 1, 1], values: Float32Array.from(positions, (position) => 1 / (position + 1)) }],
  ]);
}

function choose(logits: Float32Array | Float64Array, temperature: number, random: Pseudorandom): number {
  const best = greedy(logits);
  if (temperature === 0) return best;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - logits[best]!) / temperature));
  let left = random.uniform() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let i = 0; i < weights.length; i++) if ((left -= weights[i]!) < 0) return i;
  return best;
}

/** Texts that the model of a checkpoint folder writes from its begin token on, decoded. */
export async function writeTexts(
  files: Files,
  options: { texts: number; length: number; temperature: number; seed: number; backend: FloatBackend },
): Promise<string[]> {
  const { checkpoint, config, plan, ...folder } = await openModelFolder(files);
  if (!writesText(config))
    throw new SottoError('model', `a ${config.family} does not write text`, {
      place: { file: files.name },
      remedy: 'name the folder of a llama',
    });
  const tokenizer = await folder.tokenizer();
  const begin = tokenizer.bosId ?? config.bosTokenId ?? 0;
  // Where texts were packed end to end, a begin token ends one as well.
  const stopIds = [...config.eosTokenIds, begin];
  const weights = await checkpoint.readAll();
  const ids = await write(config, plan, { ...options, prompt: [begin], stopIds, weights });
  return ids.map((text) => tokenizer.decode([...text.subarray(1)]).trim()).filter((text) => text !== '');
}
