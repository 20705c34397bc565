import { describe, expect, it } from 'vitest';
import { traceBert, traceBertPrivate } from '../../src/models/bert.ts';
import { type ModelConfig, parseBertConfig } from '../../src/models/config.ts';
import { layoutOf } from '../../src/models/families/index.ts';
import { publishedTensors } from '../../src/models/layout.ts';
import { traceLlama, traceLlamaPrivate } from '../../src/models/llama.ts';
import { exactPlan, fullPlan, type Plan, parsePlan } from '../../src/models/plan.ts';
import { seededNormal } from '../../src/models/sample.ts';
import { traceVit, traceVitPrivate } from '../../src/models/vit.ts';
import {
  blockMatrices,
  coefficientNames,
  firstWeights,
  privateWeightShapes,
  randomModelWeights,
  serverInputs,
  weightShapes,
} from '../../src/models/weights.ts';
import type { Program } from '../../src/program/index.ts';
import { mixedPlan, tinyLlama, tinyVit } from './tiny.ts';

const tinyBert = (fields: Record<string, unknown> = {}) =>
  parseBertConfig({
    ...{ model_type: 'bert', hidden_size: 12, intermediate_size: 18, num_hidden_layers: 2, num_attention_heads: 3 },
    ...{ vocab_size: 20, max_position_embeddings: 16, num_labels: 3, ...fields },
  });

interface Case {
  readonly name: string;
  readonly config: ModelConfig;
  readonly clear: (plan: Plan) => Program;
  readonly secret: (plan: Plan) => Program;
}
const llama = (name: string, fields: Record<string, unknown> = {}): Case => {
  const config = tinyLlama(fields);
  return {
    name,
    config,
    clear: (plan) => traceLlama(config, plan, { batch: 1, tokens: 2 }),
    secret: (plan) => traceLlamaPrivate(config, plan, { promptTokens: 2, newTokens: 2 }),
  };
};
const vit = (name: string, fields: Record<string, unknown> = {}): Case => {
  const config = tinyVit(fields);
  const clear = (plan: Plan) => traceVit(config, plan, { batch: 1 });
  return { name, config, clear, secret: (plan) => traceVitPrivate(config, plan) };
};
const bert = (name: string, fields: Record<string, unknown> = {}): Case => {
  const config = tinyBert(fields);
  return {
    name,
    config,
    clear: (plan) => traceBert(config, plan, { batch: 1, tokens: 2 }),
    secret: (plan) => traceBertPrivate(config, plan, { tokens: 2 }),
  };
};
const cases: readonly Case[] = [
  llama('llama'),
  llama('llama, tied, with biases, wide heads', {
    ...{ tie_word_embeddings: true, attention_bias: true, mlp_bias: true, head_dim: 6 },
  }),
  vit('vit'),
  vit('vit without biases of queries', { qkv_bias: false }),
  bert('bert'),
  bert('roberta', { model_type: 'roberta', type_vocab_size: 1 }),
];
const polynomial = [
  'exact',
  'full-p2',
  'full-p2-quartic',
  'hybrid-1',
  'mpcformer',
  'full-l2quad',
  'full-2relu',
  'mixed',
  'bilinear',
];
const planOf = (name: string, config: ModelConfig): Plan => {
  if (name === 'mixed') return mixedPlan(config);
  if (name !== 'bilinear') return parsePlan(name, config);
  const full = fullPlan(config, 2);
  return {
    ...full,
    layers: full.layers.map((layer) => ({ ...layer, activation: { kind: 'bilinear', per: 'channel' } })),
    pooler: { kind: 'bilinear', per: 'layer' },
  };
};

describe.each(cases)('the table of a $name', ({ config, clear, secret }) => {
  it.each(polynomial)('names the tensors that both definitions read, under %s', (name) => {
    const plan = planOf(name, config);
    expect(weightShapes(config, plan)).toEqual(serverInputs(clear(plan)));
    expect(privateWeightShapes(config, plan)).toEqual(serverInputs(secret(plan)));
  });

  it('has its tensors in the order of the definition, in which a training draws their first values', () => {
    const plan = exactPlan(config);
    expect([...weightShapes(config, plan).keys()]).toEqual([...serverInputs(clear(plan)).keys()]);
  });

  it('says which tensors are coefficients, and which are matrices of blocks', () => {
    const plan = parsePlan('full-p2-quartic', config);
    const made = [...weightShapes(config, plan)];
    const coefficients = made.filter(([name]) => /act\.[a-e]$/.test(name)).map(([name]) => name);
    expect(coefficientNames(config, plan)).toEqual(new Set(coefficients));
    const matrices = made.filter(([name, shape]) => shape.length === 2 && /\.[01]\..*weight$/.test(name)).map(([name]) => name);
    expect(blockMatrices(config, plan)).toEqual(new Set(matrices));
    expect(matrices.length).toBeGreaterThan(10);
  });

  it('draws random quartics near quadratics: what multiplies third and fourth powers is small', () => {
    const weights = randomModelWeights(config, 1, parsePlan('full-p2-quartic', config));
    const high = [...weights].filter(([name]) => /\.[de]$/.test(name));
    expect(high).toHaveLength(2 * config.numHiddenLayers);
    for (const [, { values }] of high) for (const value of values) expect(Math.abs(value)).toBeLessThan(0.1);
  });

  it('begins a training with gains of 1, biases of 0 and matrices as their inputs say', () => {
    const tensors = firstWeights(config, exactPlan(config), seededNormal(3));
    const published = publishedTensors(layoutOf(config), exactPlan(config));
    for (const { name, shape, values } of tensors) {
      const { role, block } = published.get(name)!;
      if (role === 'gain') expect(new Set(values)).toEqual(new Set([1]));
      if (role === 'bias') expect(new Set(values)).toEqual(new Set([0]));
      if (block === undefined || (role !== 'matrix' && role !== 'ending')) continue;
      const due = (role === 'ending' ? 1 / Math.sqrt(2 * config.numHiddenLayers) : 1) / Math.sqrt(shape[1]!);
      const met = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
      expect(met / due).toBeGreaterThan(0.75);
      expect(met / due).toBeLessThan(1.25);
    }
  });
});

it('a public table of words is not among what the server owns', () => {
  const config = tinyLlama();
  const plan: Plan = { ...exactPlan(config), embedding: { kind: 'public', sha256: '0'.repeat(64) } };
  const owned = (of: Plan) =>
    [...publishedTensors(layoutOf(config), of)].filter(([, { owner }]) => owner === 'public').map(([name]) => name);
  expect(owned(plan)).toEqual(['model.embed_tokens.weight']);
  expect(owned(exactPlan(config))).toEqual([]);
  expect(privateWeightShapes(config, plan)).toEqual(
    serverInputs(traceLlamaPrivate(config, plan, { promptTokens: 1, newTokens: 1 })),
  );
});
