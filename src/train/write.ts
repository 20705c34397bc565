import { type Pseudorandom, pseudorandom } from '../math/index.ts';
import type { Context } from '../models/block.ts';
import { openCheckpoint } from '../models/checkpoint.ts';
import { type LlamaConfig, parseLlamaConfig } from '../models/config.ts';
import type { Files } from '../models/files.ts';
import { llama, type Plan, planOf, rotaryRows } from '../models/index.ts';
import { greedy } from '../models/sample.ts';
import { loadTokenizer } from '../models/tokenizer.ts';
import type { OnnxBackend } from '../node/onnx.ts';
import { type Program, type Ref, type Tensor, trace } from '../program/index.ts';
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
  options: Writing & { readonly weights: Weights; readonly backend: OnnxBackend },
): Promise<Int32Array[]> {
  const { texts, length, batch = Math.min(64, texts), weights, backend } = options;
  const program = traceWriter(config, plan, { batch, capacity: length });
  const state = new Map<string, Tensor>();
  for (const node of program.nodes)
    if (node.operation === 'input' && node.parameters.name.startsWith('cache.'))
      state.set(node.parameters.name, zeros(node.shape));
  const step = await backend.compileStep(program, { state, bound: weights });
  const written: Int32Array[] = [];
  try {
    while (written.length < texts) {
      // What an earlier text left in the cache lies behind the mask until it is overwritten.
      const rows = Array.from({ length: batch }, (_, row) => new Draft(options, written.length + row));
      for (let position = 0; position + 1 < length && rows.some((row) => !row.done); position++) {
        const ids = Int32Array.from(rows, (row) => row.ids[position] ?? 0);
        const feeds = positionFeeds(config, { capacity: length, position });
        const { values } = (await step.run(feeds.set('ids', { shape: [batch, 1], values: ids }))).get('logits')!;
        rows.forEach((row, i) => {
          row.extend(position, values as Float32Array, i * config.vocabSize, config.vocabSize);
        });
      }
      written.push(...rows.map(({ ids }) => Int32Array.from(ids)));
    }
  } finally {
    await step.close();
  }
  return written.slice(0, texts);
}

const zeros = (shape: readonly number[]): Tensor => ({
  shape,
  values: new Float32Array(shape.reduce((product, extent) => product * extent, 1)),
});

/** One token of `batch` texts at one position; the caches are state. */
function traceWriter(config: LlamaConfig, plan: Plan, { batch, capacity }: { batch: number; capacity: number }): Program {
  return trace((ops) => {
    const ids = ops.input('ids', [batch, 1], 'public', 'index');
    const [cos, sin] = ['cos', 'sin'].map((name) => ops.input(name, [1, config.headDim], 'public')) as [Ref, Ref];
    const slot = ops.input('slot', [capacity], 'public');
    const free = ops.offset(ops.scale(slot, -1), 1);
    const next: Record<string, Ref> = {};
    // Positions are the last axis: what is broadcast along it costs a fraction of what is broadcast along short rows.
    const store = (name: string, now: Ref): Ref => {
      const past = ops.input(name, [batch, config.numKeyValueHeads, config.headDim, capacity], 'public');
      const stored = ops.add(ops.multiply(past, free), ops.multiply(ops.transposed(now), slot));
      next[`next/${name}`] = stored;
      return ops.transposed(stored);
    };
    const context: Context = {
      rotate: (x) => ops.rotary(x, cos, sin),
      remember: (layer, keys, values) => [store(`cache.key.${layer}`, keys), store(`cache.value.${layer}`, values)],
      mask: ops.input('mask', [1, capacity], 'public'),
      inverseLengths: ops.input('inverseLength', [1, 1], 'public'),
    };
    return { logits: llama(ops, config, plan, ids, context).logits, ...next };
  });
}

function positionFeeds(config: LlamaConfig, { capacity, position }: { capacity: number; position: number }): Map<string, Tensor> {
  const { cos, sin } = rotaryRows(config, position, 1);
  const slot = new Float32Array(capacity);
  slot[position] = 1;
  return new Map<string, Tensor>([
    ['cos', { shape: [1, config.headDim], values: cos }],
    ['sin', { shape: [1, config.headDim], values: sin }],
    ['slot', { shape: [capacity], values: slot }],
    ['mask', { shape: [1, capacity], values: new Float32Array(capacity).fill(1, 0, position + 1) }],
    ['inverseLength', { shape: [1, 1], values: Float32Array.of(1 / (position + 1)) }],
  ]);
}

/** A text under way. */
class Draft {
  readonly ids: number[];
  readonly #random: Pseudorandom;
  readonly #options: Writing;
  done = false;

  constructor(options: Writing, number: number) {
    this.ids = [...options.prompt];
    this.#random = pseudorandom(options.seed, number);
    this.#options = options;
  }

  /** Takes the logits at `position`, where they say what comes after the last id. */
  extend(position: number, logits: Float32Array, from: number, vocabulary: number): void {
    if (this.done || position + 1 < this.ids.length) return;
    const id = choose(logits.subarray(from, from + vocabulary), this.#options.temperature, this.#random);
    if (this.#options.stopIds.includes(id)) this.done = true;
    else this.ids.push(id);
  }
}

function choose(logits: Float32Array, temperature: number, random: Pseudorandom): number {
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
  options: { texts: number; length: number; temperature: number; seed: number; backend: OnnxBackend },
): Promise<string[]> {
  const checkpoint = await openCheckpoint(files);
  const config = parseLlamaConfig(checkpoint.config, `${files.name}/config.json`);
  const tokenizer = await loadTokenizer(files);
  const begin = tokenizer.bosId ?? config.bosTokenId ?? 0;
  // Where texts were packed end to end, a begin token ends one as well.
  const stopIds = [...config.eosTokenIds, begin];
  const weights = await checkpoint.readAll();
  const ids = await write(config, planOf(config), { ...options, prompt: [begin], stopIds, weights });
  return ids.map((text) => tokenizer.decode([...text.subarray(1)]).trim()).filter((text) => text !== '');
}
