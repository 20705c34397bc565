import { expect, it } from 'vitest';
import { simulate } from '../../src/backends/fixed/index.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { traceBertPrivate } from '../../src/models/bert.ts';
import { parseBertConfig } from '../../src/models/config.ts';
import { parsePlan } from '../../src/models/plan.ts';
import { randomBertWeights } from '../../src/models/weights.ts';
import type { Tensor } from '../../src/program/index.ts';
import { difference, folded, index, runReference } from './tiny.ts';

it.each([
  ['bert', 2],
  ['roberta', 1],
] as const)('a polynomial %s gives in the ring the logits it gives in floats', async (layout, typeCount) => {
  const config = parseBertConfig({
    model_type: layout,
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    vocab_size: 30,
    max_position_embeddings: 16,
    type_vocab_size: typeCount,
    num_labels: 3,
    layer_norm_eps: 1e-5,
  });
  const plan = parsePlan('full-p2', config);
  const weights = await folded(config, plan, randomBertWeights(config, 3, plan));
  const program = traceBertPrivate(config, plan, { tokens: 5 });
  const inputs: Record<string, Tensor> = { prompt: index([1, 2, 3, 4, 5], [5]) };
  if (typeCount > 1) inputs.types = index([0, 0, 1, 1, 1], [5]);
  const float = (await runReference(program, weights, inputs)).get('logits')!.values;
  const ring = await simulate(quantise(program, { bits: 64, fraction: 16 }), {
    kernels: createWasmKernels(64),
    weights: async (name) => weights.get(name)!,
    inputs: async (name) => inputs[name]!,
  });
  expect(difference(ring.get('logits')!.values, float)).toBeLessThan(0.01);
});
