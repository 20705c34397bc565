import { expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { widenHeads } from '../../src/convert/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { parseLlamaConfig } from '../../src/models/config.ts';
import { exactPlan, traceLlama } from '../../src/models/index.ts';
import { randomLlamaWeights } from '../../src/models/weights.ts';
import type { Tensor } from '../../src/program/index.ts';
import { raw } from './raw.ts';

const scaling = {
  rope_type: 'llama3',
  factor: 4,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8,
};

type Fields = Record<string, unknown>;
const programOf = (fields: Fields) => {
  const config = parseLlamaConfig(fields);
  return traceLlama(config, exactPlan(config), { batch: 1, tokens: 12 });
};

function sourceOf(fields: Fields) {
  const config = parseLlamaConfig(fields);
  const tensors = new Map(
    [...randomLlamaWeights(config, 3, exactPlan(config))].map(([name, { shape, values }]) => [
      name,
      { shape, values: Float32Array.from(values) },
    ]),
  );
  return { config: fields, readAll: async () => tensors };
}

async function logits({ config, readAll }: ReturnType<typeof sourceOf>): Promise<ArrayLike<number>> {
  const executable = await referenceBackend().compile(programOf(config), await readAll());
  const random = pseudorandom(4);
  const ids: Tensor = { shape: [1, 12], values: Int32Array.from({ length: 12 }, () => random.integer(20)) };
  return (await executable.run(new Map([['ids', ids]]))).get('logits')!.values;
}

it.each([
  ['plain rotary positions', {}, 8],
  ['four times as wide', {}, 16],
  ['one width for keys, queries and values that is not the hidden size over the heads', { head_dim: 6 }, 12],
  ['linear scaling', { rope_scaling: { type: 'linear', factor: 3 } }, 8],
  ['the scaling of Llama 3', { rope_scaling: scaling }, 8],
])('wider heads are the same function: %s', async (_, fields, headDim) => {
  const source = sourceOf({ ...raw, ...fields });
  const wide = (await widenHeads(source, headDim, 1)) as typeof source;
  expect(parseLlamaConfig(wide.config)).toMatchObject({ headDim });
  const [before, after] = [await logits(source), await logits(wide)];
  for (let i = 0; i < before.length; i++) expect(after[i]).toBeCloseTo(before[i]!, 4);
});

it('keys and values get rows that training can use, queries and outputs none, the same from the same seed', async () => {
  const source = sourceOf(raw);
  const drawn = async (seed: number, part: string) =>
    (await (await widenHeads(source, 8, seed)).readAll()).get(`model.layers.0.self_attn.${part}.weight`)!;
  const zeros = ({ values }: { values: Float32Array }): number => values.filter((value) => value === 0).length;
  for (const part of ['k_proj', 'v_proj']) {
    expect(zeros(await drawn(1, part))).toBe(0);
    expect(await drawn(1, part)).toEqual(await drawn(1, part));
    expect(await drawn(2, part)).not.toEqual(await drawn(1, part));
  }
  for (const part of ['q_proj', 'o_proj']) {
    const { shape, values } = await drawn(1, part);
    expect([...shape].sort((a, b) => a - b)).toEqual([16, 32]);
    expect(zeros({ values })).toBe(values.length / 2);
  }
});

it('a checkpoint whose heads are so wide already stays', async () => {
  const source = sourceOf(raw);
  expect(await widenHeads(source, 4, 1)).toBe(source);
});

it.each([
  ['no multiple', raw, 10, /no multiple/],
  ['narrower', raw, 2, /no multiple/],
  ['biases', { ...raw, attention_bias: true }, 8, /biases/],
  [
    'a vision transformer',
    { model_type: 'vit', hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 4, image_size: 8, patch_size: 4 },
    8,
    /of a vit/,
  ],
])('is refused: %s', async (_, fields, headDim, reason) => {
  const source = { config: fields as Fields, readAll: async () => new Map() };
  await expect(widenHeads(source, headDim, 1)).rejects.toThrow(reason);
  await expect(widenHeads(source, headDim, 1)).rejects.toMatchObject({ kind: 'model', place: { field: 'conversion.headDim' } });
});
