import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { generateFloat } from '../../src/jobs/index.ts';
import { traceLlamaPrivate } from '../../src/models/llama.ts';
import { exactPlan } from '../../src/models/plan.ts';
import { randomLlamaWeights } from '../../src/models/weights.ts';
import type { Tensor } from '../../src/program/index.ts';
import { folded, index, tinyLlama } from '../models/tiny.ts';
import { both } from './piecewise.ts';

const config = tinyLlama();
const plan = exactPlan(config);
const [prompt, newTokens] = [[3, 17, 0, 29, 8], 4];

describe('a Llama with its published softmax, SiLU and norms, privately', () => {
  it('writes what the float model writes, and reveals only the tokens when asked', { timeout: 60_000 }, async () => {
    const weights = randomLlamaWeights(config, 5, plan);
    const float = await generateFloat({
      config,
      plan,
      weights,
      backend: referenceBackend(),
      promptIds: prompt,
      maxNewTokens: newTokens,
    });
    const own = await folded(config, plan, weights);
    const feeds = new Map<string, Tensor>([['prompt', index(prompt, [prompt.length])]]);
    for (let step = 1; step < newTokens; step++) feeds.set(`token.${step}`, index([float.newIds[step - 1]!], [1]));
    for (const [reveal, setting] of [
      ['logits', 'dealer'],
      ['token', 'helper'],
    ] as const) {
      const generation = { promptTokens: prompt.length, newTokens, reveal } as const;
      const program = traceLlamaPrivate(config, plan, generation);
      const lowered = quantise(program, { bits: 64, fraction: 16 });
      const { run, exact, held } = await both(lowered, own, feeds, 1, setting);
      expect(run.outputs).toEqual(exact);
      expect([...exact.values()].map(({ shape }) => shape)).toEqual(
        Array(newTokens).fill(reveal === 'token' ? [] : [config.vocabSize]),
      );
      expect(run.measured).toEqual(forecast(lowered, setting).total);
      expect(held).toBe(0);
      const ids = [...run.outputs.values()].map(({ values }) => (values.length === 1 ? values[0]! : largest(values)));
      expect(ids).toEqual([...float.newIds]);
    }
  });
});

const largest = (values: ArrayLike<number>): number => Array.from(values).indexOf(Math.max(...Array.from(values)));
