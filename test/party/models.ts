import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { simulate } from '../../src/backends/fixed/index.ts';
import { wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { trainBytePairTokenizer } from '../../src/lab/tokenizer.ts';
import { openCheckpoint, writeCheckpoint } from '../../src/models/checkpoint.ts';
import { parseModelConfig } from '../../src/models/config.ts';
import { foldWeights, fullPlan, greedy, planOf } from '../../src/models/index.ts';
import { randomModelWeights } from '../../src/models/weights.ts';
import { folderFiles } from '../../src/node/files.ts';
import type { RunRequest } from '../../src/party/control.ts';
import { traceRun } from '../../src/party/manifest.ts';
import { encodePng } from '../../src/pictures/index.ts';
import type { Tensor } from '../../src/program/index.ts';

/** A directory that only this user enters, and what removes it. */
export function temporary(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'sotto-test-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

const words = ['the bird sang in the tree', 'the tree stood in the wind', 'a small bird and a small tree'];
export const vocabularySize = 280;

/** Tables wide enough for random weights of this size in either ring, and fine enough that an index's random rounding hardly shows. */
function tinyPlan(layers: number, hiddenSize: number) {
  const plan = fullPlan({ hiddenSize, numHiddenLayers: layers }, 4);
  const norm = { table: { rangeBits: 8, indexBits: 11, extraBits: 0 } };
  const table = { rangeBits: 8, indexBits: 12, extraBits: 4 };
  return {
    ...plan,
    finalNorm: norm,
    layers: plan.layers.map((layer) => ({ ...layer, norm, attention: { ...layer.attention, table } })),
    ranges: { 'layers.0.mlp.act': { maxAbs: 12.25 } },
  };
}

export const llamaFields = {
  model_type: 'llama',
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: vocabularySize,
  max_position_embeddings: 64,
  bos_token_id: 1,
};

/** A polynomial Llama with random weights and a tokenizer of its own, as a folder. */
export async function writeLlama(folder: string, fields: Record<string, unknown> = {}, seed = 17): Promise<void> {
  const config = { ...llamaFields, eos_token_id: null, sotto: tinyPlan(2, 16), ...fields };
  await write(folder, config, trainBytePairTokenizer(words, { vocabularySize }), seed);
}

/** A polynomial vision transformer, with a picture beside it. */
export async function writeVit(folder: string): Promise<string> {
  const config = {
    model_type: 'vit',
    hidden_size: 12,
    intermediate_size: 18,
    num_hidden_layers: 2,
    num_attention_heads: 3,
    image_size: 8,
    patch_size: 4,
    num_channels: 3,
    num_labels: 5,
    layer_norm_eps: 1e-6,
    sotto: tinyPlan(2, 12),
  };
  await write(folder, config, { 'preprocessor_config.json': { size: { height: 8, width: 8 }, do_resize: true } });
  const picture = join(folder, '..', 'picture.png');
  const pixels = Uint8Array.from({ length: 12 * 12 * 3 }, (_, at) => (at * 37 + (at % 11) * 29) % 256);
  await writeFile(picture, await encodePng({ width: 12, height: 12, data: pixels }));
  return picture;
}

const pieces = [
  'the',
  'film',
  'tree',
  'bird',
  'is',
  'great',
  'bad',
  'small',
  '##ly',
  '!',
  '?',
  'a',
  'b',
  'c',
  '##a',
  '##b',
  '##c',
];
/** WordPiece as early folders have it: no tokenizer.json. */
export const encoderVocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...pieces];

/** A polynomial BERT that classifies texts and pairs, with a vocab.txt and nothing else of a tokenizer. */
export async function writeBert(folder: string, fields: Record<string, unknown> = {}): Promise<void> {
  const config = {
    model_type: 'bert',
    hidden_size: 12,
    intermediate_size: 18,
    num_hidden_layers: 2,
    num_attention_heads: 3,
    vocab_size: encoderVocabulary.length,
    max_position_embeddings: 64,
    id2label: { 0: 'negative', 1: 'neutral', 2: 'positive' },
    sotto: tinyPlan(2, 12),
    ...fields,
  };
  await write(folder, config, {
    'vocab.txt': encoderVocabulary.join('\n'),
    'tokenizer_config.json': { tokenizer_class: 'BertTokenizer', do_lower_case: true },
  });
}

async function write(folder: string, config: Record<string, unknown>, extra: object, seed = 17): Promise<void> {
  const parsed = parseModelConfig(config);
  const tensors = [...randomModelWeights(parsed, seed, planOf(parsed))].map(([name, { shape, values }]) => ({
    name,
    shape,
    values: values as Float32Array,
  }));
  const files = Object.fromEntries(
    Object.entries(extra).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]),
  );
  await writeCheckpoint(folderFiles(folder), { config, tensors, extra: files });
}

export interface Expected {
  readonly logits: Float64Array[];
  readonly ids: number[];
  /** The smallest distance of a greedy choice to the next best. */
  readonly margin: number;
}

/** What a private run must give, from the exact integers with nearest rounding. */
export async function expected(
  folder: string,
  run: Pick<RunRequest, 'task' | 'newTokens' | 'ring'>,
  input: readonly number[] | Tensor,
): Promise<Expected> {
  const checkpoint = await openCheckpoint(folderFiles(folder));
  const config = parseModelConfig(checkpoint.config);
  const weights = new Map<string, Tensor>();
  for await (const [name, tensor] of foldWeights(config, planOf(config), (name) => checkpoint.read(name)))
    weights.set(name, tensor);
  const promptTokens = 'shape' in input ? 1 : input.length;
  const { ringProgram } = traceRun(checkpoint.config, { ...run, promptTokens });
  const logits: Float64Array[] = [];
  const ids: number[] = [];
  await simulate(ringProgram, {
    kernels: createWasmKernels(wordBitsOf(run.ring.bits)),
    weights: async (name) => weights.get(name)!,
    inputs: async (name) => {
      if ('shape' in input) return input;
      if (name === 'prompt') return { shape: [input.length], values: Int32Array.from(input) };
      return { shape: [1], values: Int32Array.of(ids.at(-1)!) };
    },
    onOutput: (_, value) => {
      logits.push(value.values as Float64Array);
      ids.push(greedy(value.values as Float64Array));
      return true;
    },
  });
  const margins = logits.map((values) => {
    const sorted = [...values].sort((a, b) => b - a);
    return sorted[0]! - sorted[1]!;
  });
  return { logits, ids, margin: Math.min(...margins) };
}

/** The largest difference of two lists of logits. */
export function farthest(a: readonly Float64Array[], b: readonly Float64Array[]): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return Math.max(...a.flatMap((values, row) => [...values].map((value, i) => Math.abs(value - b[row]![i]!))));
}
