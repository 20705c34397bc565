import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { trainBytePairTokenizer } from '../../src/lab/tokenizer.ts';
import { parseModelConfig } from '../../src/models/config.ts';
import { parsePlan, writeCheckpoint } from '../../src/models/index.ts';
import { randomModelWeights } from '../../src/models/weights.ts';
import { folderFiles } from '../../src/node/files.ts';

/** A folder that is removed after the tests of the file. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sotto-test-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export const stories = [
  'Once upon a time there was a little fox. The fox saw a red ball.',
  'One day the little girl went to the park. She saw a dog and a ball.',
];

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 300,
  max_position_embeddings: 32,
  bos_token_id: 1,
  eos_token_id: 2,
};
const vit = {
  architectures: ['ViTForImageClassification'],
  model_type: 'vit',
  hidden_size: 12,
  intermediate_size: 18,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  image_size: 8,
  patch_size: 4,
  num_channels: 3,
  id2label: { 0: 'fox', 1: 'ball', 2: 'park' },
  hidden_act: 'gelu',
  layer_norm_eps: 1e-6,
};

/** A tiny random checkpoint under a plan: a Llama with a tokenizer, or a vision transformer with a preprocessor. */
export async function writeTiny(
  folder: string,
  {
    family = 'llama',
    plan = 'full-p2',
    seed = 1,
    fields = {},
    planFields = {},
    factors = {},
  }: {
    family?: 'llama' | 'vit';
    plan?: string;
    seed?: number;
    fields?: Record<string, unknown>;
    planFields?: Record<string, unknown>;
    /** By the name of a tensor, multiplies its values. */
    factors?: Record<string, number>;
  } = {},
): Promise<string> {
  const raw = { ...(family === 'llama' ? llama : vit), ...fields };
  const config = parseModelConfig(raw);
  const chosen = parsePlan(plan, config);
  const weights = randomModelWeights(config, seed, chosen);
  const json = (value: unknown) => JSON.stringify(value);
  const tokenizer = family === 'llama' ? trainBytePairTokenizer(stories, { vocabularySize: 300 }) : undefined;
  const extra =
    tokenizer === undefined
      ? { 'preprocessor_config.json': json({ size: 8, image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] }) }
      : Object.fromEntries(Object.entries(tokenizer).map(([path, value]) => [path, json(value)]));
  await writeCheckpoint(folderFiles(folder), {
    // Random weights stay within the tables that a plan has before calibration: nothing is left to measure.
    config: plan === 'exact' ? raw : { ...raw, sotto: { ...chosen, ranges: {}, ...planFields } },
    tensors: [...weights].map(([name, { shape, values }]) => ({
      name,
      shape,
      values: Float32Array.from(values, (value) => value * (factors[name] ?? 1)),
    })),
    extra,
  });
  return folder;
}
