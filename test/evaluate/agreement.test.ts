import { afterAll, describe, expect, it } from 'vitest';
import { compareIds, FloatTextModel, type TextModel } from '../../src/evaluate/index.ts';
import { loadTokenizer, openCheckpoint, parseLlamaConfig, planOf } from '../../src/models/index.ts';
import { isPolynomial } from '../../src/models/plan.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import type { Tensor } from '../../src/program/index.ts';
import { write } from '../../src/train/index.ts';

/** A model of two tokens whose logits are (0, slope · id). */
const toy = (slope: number): TextModel => ({
  tokenizer: {} as TextModel['tokenizer'],
  vocabularySize: 2,
  context: 64,
  predict: async (requests) =>
    requests.map(({ ids, from }) => [...ids.subarray(from - 1, -1)].map((id) => Float64Array.of(0, slope * id))),
  write: async () => [],
});

describe('a student beside its teacher', () => {
  const texts = [Int32Array.of(1, 1, 0, 1, 1), Int32Array.of(1, 0), Int32Array.of(1)];

  it('is compared by hand: divergence, likelihoods and same arg max over all positions', async () => {
    const found = await compareIds(toy(-1), toy(1), texts);
    const p = Math.E / (1 + Math.E);
    // At an id 1 the two have p and 1 − p for the same token, at an id 0 they agree.
    const kl = p * Math.log(p / (1 - p)) + (1 - p) * Math.log((1 - p) / p);
    expect(found.kl).toMatchObject({ count: 5, value: expect.closeTo((4 * kl) / 5, 9) });
    expect(found.fidelity!.value).toBeCloseTo(1 / 5, 12);
    // Predicted: 1→1, 1→0, 0→1, 1→1 of the first text, 1→0 of the second.
    const [likely, unlikely] = [-Math.log(p), -Math.log(1 - p)];
    expect(found.teacher_perplexity!.value).toBeCloseTo(Math.exp((2 * likely + 2 * unlikely + Math.log(2)) / 5), 9);
    expect(found.perplexity_ratio!.value).toBeCloseTo(1, 9);
    expect(found.kl!.low).toBeLessThan(found.kl!.value);
  });

  it('is perfect where it is the teacher, in every bucket of positions', async () => {
    const long = [Int32Array.from({ length: 41 }, (_, at) => at % 2), Int32Array.of(1, 0)];
    const found = await compareIds(toy(2), toy(2), long);
    const buckets = ['@0-15', '@16-31', '@32-39'].map((bucket) => found[`fidelity${bucket}`]);
    expect(buckets).toMatchObject([
      { value: 1, count: 17 },
      { value: 1, count: 16 },
      { value: 1, count: 8 },
    ]);
    expect(found.perplexity_ratio).toMatchObject({ value: 1, low: 1, high: 1 });
  });

  it('is refused without anything to compare', async () => {
    await expect(compareIds(toy(1), toy(1), [Int32Array.of(1)])).rejects.toMatchObject({ kind: 'input' });
  });
});

describe('the checkpoints that come with sotto', () => {
  const backend = onnxBackend();
  afterAll(() => backend.close());
  const load = async (name: string) => {
    const files = folderFiles(`artefacts/${name}`);
    const checkpoint = await openCheckpoint(files);
    const config = parseLlamaConfig(checkpoint.config);
    const parts = { config, plan: planOf(config), weights: await checkpoint.readAll(), backend };
    return { parts, tokenizer: await loadTokenizer(files) };
  };

  it('agree on text that the teacher writes: KL at most 0.1 nats, the same arg max at least 85 % of the time', async () => {
    const [teacher, student] = [await load('stories-teacher'), await load('stories-polynomial')];
    expect(isPolynomial(student.parts.plan)).toBe(true);
    expect(student.parts.plan.ring).toEqual({ bits: 64, fraction: 16 });
    const writing = { prompt: [1], texts: 16, length: 192, temperature: 1, seed: 2026, stopIds: [1, 2], batch: 16 };
    const texts = await write(teacher.parts.config, teacher.parts.plan, { ...writing, weights: teacher.parts.weights, backend });
    const theirs = new FloatTextModel(teacher.parts, teacher.tokenizer);
    const own = new FloatTextModel(student.parts, student.tokenizer);
    const found = await compareIds(own, theirs, texts);
    expect(found.kl!.count).toBeGreaterThan(1500);
    expect(found.kl!.value).toBeLessThan(0.1);
    expect(found.fidelity!.value).toBeGreaterThan(0.85);
    // Planted: a student whose last layer lost its quadratic terms is noticed.
    const damaged = new Map<string, Tensor>(student.parts.weights);
    const name = 'model.layers.3.mlp.act.a';
    const { shape, values } = student.parts.weights.get(name)!;
    damaged.set(name, { shape, values: new Float32Array(values.length) });
    const broken = new FloatTextModel({ ...student.parts, weights: damaged }, student.tokenizer);
    expect((await compareIds(broken, theirs, texts)).kl!.value).toBeGreaterThan(0.1);
    for (const model of [own, theirs, broken]) await model.close();
  });
});
