import { afterAll, describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { agreement, type Evaluated } from '../../src/evaluate/index.ts';
import { openCheckpoint, parseLlamaConfig, planOf, traceLlama } from '../../src/models/index.ts';
import { isPolynomial } from '../../src/models/plan.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { type Tensor, trace } from '../../src/program/index.ts';
import { write } from '../../src/train/index.ts';

/** A model of two tokens whose logits are (0, slope · id). */
const toy = (slope: number): Evaluated => ({
  trace: ({ batch, tokens }) =>
    trace((ops) => {
      const ids = ops.input('ids', [batch, tokens], 'public', 'index');
      return { logits: ops.gather(ops.input('table', [2, 2], 'server'), ids) };
    }),
  weights: new Map<string, Tensor>([['table', { shape: [2, 2], values: Float64Array.of(0, 0, 0, slope) }]]),
});

describe('agreement', () => {
  const backend = referenceBackend();
  const texts = [Int32Array.of(1, 1, 0, 1, 1), Int32Array.of(1, 0), Int32Array.of(1)];

  it('is exact by hand: divergence, likelihoods and same arg max over all positions', async () => {
    const found = await agreement({ teacher: toy(1), student: toy(-1), texts, context: 4, batch: 2, backend });
    const p = Math.E / (1 + Math.E);
    // At an id 1 the two have p and 1 − p for the same token, at an id 0 they agree.
    const kl = p * Math.log(p / (1 - p)) + (1 - p) * Math.log((1 - p) / p);
    expect(found.kl.count).toBe(8);
    expect(found.kl.mean).toBeCloseTo((6 * kl) / 8, 9);
    expect(found.sameArgMax.mean).toBeCloseTo(2 / 8, 12);
    // Predicted: 1→1, 1→0, 0→1 of the first text's first piece of four, 1→0 of the second text.
    expect(found.teacherNll.count).toBe(4);
    expect(found.teacherNll.mean).toBeCloseTo((-Math.log(p) - 2 * Math.log(1 - p) + Math.log(2)) / 4, 9);
    expect(found.kl.halfWidth).toBeGreaterThan(0);
    expect(found.texts).toBe(3);
  });

  it('of a model with itself is perfect, and its buckets cover all positions', async () => {
    const found = await agreement({ teacher: toy(2), student: toy(2), texts, context: 5, buckets: [1, 3, 5], backend });
    expect([found.kl.mean, found.sameArgMax.mean]).toEqual([0, 1]);
    expect(found.buckets.map(({ from, to, kl }) => [from, to, kl.count])).toEqual([
      [0, 1, 3],
      [1, 3, 3],
      [3, 5, 2],
    ]);
  });

  it('is refused without texts', async () => {
    const options = { teacher: toy(1), student: toy(1), texts: [], context: 4, backend };
    await expect(agreement(options)).rejects.toMatchObject({ kind: 'input' });
  });
});

describe('the checkpoints that come with sotto', () => {
  const backend = onnxBackend();
  afterAll(() => backend.close());
  const load = async (name: string) => {
    const checkpoint = await openCheckpoint(folderFiles(`artefacts/${name}`));
    const config = parseLlamaConfig(checkpoint.config);
    return { config, plan: planOf(config), weights: await checkpoint.readAll() };
  };
  const evaluated = ({ config, plan, weights }: Awaited<ReturnType<typeof load>>): Evaluated => ({
    trace: (shape) => traceLlama(config, plan, shape),
    weights,
  });

  it('agree on text that the teacher writes: KL at most 0.1 nats, the same arg max at least 85 % of the time', async () => {
    const [teacher, student] = [await load('stories-teacher'), await load('stories-polynomial')];
    expect(isPolynomial(student.plan)).toBe(true);
    expect(student.plan.ring).toEqual({ bits: 64, fraction: 16 });
    const texts = await write(teacher.config, teacher.plan, {
      ...{ prompt: [1], texts: 16, length: 192, temperature: 1, seed: 2026, stopIds: [1, 2], batch: 16 },
      ...{ weights: teacher.weights, backend },
    });
    const [a, b] = [evaluated(teacher), evaluated(student)];
    const found = await agreement({ teacher: a, student: b, texts, context: 192, backend });
    expect(found.kl.count).toBeGreaterThan(1500);
    expect(found.kl.mean).toBeLessThan(0.1);
    expect(found.sameArgMax.mean).toBeGreaterThan(0.85);
    // Planted: a student whose last layer lost its quadratic terms is noticed.
    const damaged = new Map<string, Tensor>(student.weights);
    const name = 'model.layers.3.mlp.act.a';
    damaged.set(name, {
      shape: student.weights.get(name)!.shape,
      values: new Float32Array(student.weights.get(name)!.values.length),
    });
    const worse = await agreement({ teacher: a, student: { ...b, weights: damaged }, texts, context: 192, backend });
    expect(worse.kl.mean).toBeGreaterThan(0.1);
  });
});
