import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { attentionReach } from '../../src/evaluate/attention.ts';
import { exactPlan, type Plan, parsePlan } from '../../src/models/plan.ts';
import { randomLlamaWeights, randomVitWeights } from '../../src/models/weights.ts';
import type { Tensor } from '../../src/program/index.ts';
import { sottoHere } from '../cli/command.ts';
import { tinyLlama, tinyVit } from '../models/tiny.ts';

const backend = referenceBackend();

/** With queries of zero every head looks at all of its keys alike. */
const indifferent = (weights: ReadonlyMap<string, Tensor>): Map<string, Tensor> =>
  new Map(
    [...weights].map(([name, tensor]) => [
      name,
      /q_proj|attention\.query/.test(name) ? { ...tensor, values: new Float32Array(tensor.values.length) } : tensor,
    ]),
  );

const config = tinyLlama();
const plans: [string, Plan][] = [
  ['softmax', exactPlan(config)],
  ['a power', parsePlan('full-p4', config)],
];

describe.each(plans)('heads that look at everything alike under %s', (_, plan) => {
  it('have the mean distance and the entropy of uniform causal rows, padding left out', async () => {
    const weights = indifferent(randomLlamaWeights(config, 3, plan));
    const found = await attentionReach(
      { config, plan, weights },
      { ids: [Int32Array.of(1, 2, 3, 4, 5), Int32Array.of(2, 1)] },
      backend,
    );
    const uniform = (tokens: number, of: (keys: number) => number): number =>
      Array.from({ length: tokens }, (_, at) => of(at + 1)).reduce((sum, value) => sum + value / tokens, 0);
    const expected = (of: (keys: number) => number): number => (uniform(5, of) + uniform(2, of)) / 2;
    expect(found.attention_distance!.value).toBeCloseTo(
      expected((keys) => (keys - 1) / 2),
      6,
    );
    expect(found.attention_entropy!.value).toBeCloseTo(expected(Math.log), 6);
    expect(found['attention_entropy.1']!.count).toBe(2);
  });
});

describe('attention over pictures', () => {
  it('is measured in patches, without the class token', async () => {
    const vit = tinyVit();
    const weights = indifferent(randomVitWeights(vit, 4));
    const pixels = [new Float32Array(vit.numChannels * vit.imageSize ** 2)];
    const found = await attentionReach({ config: vit, plan: exactPlan(vit), weights }, { pixels }, backend);
    const side = vit.imageSize / vit.patchSize;
    let [sum, pairs] = [0, 0];
    for (let a = 0; a < side * side; a++)
      for (let b = 0; b < side * side; b++, pairs++)
        sum += Math.hypot((a % side) - (b % side), Math.floor(a / side) - Math.floor(b / side));
    expect(found.attention_distance!.value).toBeCloseTo(sum / pairs, 6);
    expect(found.attention_entropy!.value).toBeCloseTo(Math.log(side * side + 1), 6);
  });

  it('is not looked at in a private run', async () => {
    const words = [
      'eval',
      '--task',
      'attention',
      '--model',
      'artefacts/stories-polynomial',
      '--data',
      'README.md',
      '--backend',
      'fixed',
    ];
    const { code, stderr } = await sottoHere(words);
    expect([code, stderr]).toEqual([2, expect.stringContaining('attention weights')]);
  });
});
