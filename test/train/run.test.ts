import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { openCheckpoint } from '../../src/models/checkpoint.ts';
import { parseLlamaConfig } from '../../src/models/config.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { planOf } from '../../src/models/index.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { parseRecipe, type Recipe, type RunOptions, runRecipe } from '../../src/train/index.ts';

const text = Array.from(
  { length: 40 },
  (_, i) => `The cat number ${i} sat on the mat, and the dog ${i % 7} ran to the tree.`,
).join('\n--\n');
const data = memoryFiles({ 'text.txt': text });
const backend = onnxBackend();
const root = mkdtempSync(join(tmpdir(), 'sotto-train-'));
const folder = (name: string): string => join(root, name);
afterAll(async () => {
  await backend.close();
  rmSync(root, { recursive: true, force: true });
});

const raw = {
  kind: 'pretrain',
  name: 'tiny',
  seed: 7,
  data: { text: ['text.txt'], separator: '\n--\n', holdOutEvery: 5 },
  tokenizer: { vocabularySize: 300 },
  model: { hiddenSize: 8, intermediateSize: 12, layers: 1, heads: 2, keyValueHeads: 1 },
  context: 16,
  batch: 2,
  steps: 10,
  optimiser: { kind: 'adamw', rate: 0.01, warmup: 3, decay: 0.1 },
  checkpointEvery: 4,
  evaluateEvery: 5,
};
const distillRaw = {
  kind: 'distill',
  name: 'tiny-polynomial',
  seed: 8,
  teacher: 'teacher/checkpoint',
  data: raw.data,
  written: { model: 'teacher/checkpoint', texts: 5, length: 20, seed: 3 },
  conversion: { exponent: 4, activation: 'channel', calibrationRows: 4 },
  context: 16,
  batch: 2,
  steps: 6,
  optimiser: { kind: 'adamw', rate: 0.001 },
  losses: { kl: 1, hiddenMse: 0.1, attentionMse: 0.1, range: 0.1 },
  checkpointEvery: 3,
  evaluateEvery: 3,
  dtype: 'F16',
};

const run = (recipe: Recipe, name: string, more: Partial<RunOptions> = {}) =>
  runRecipe({
    recipe,
    directory: folder(name),
    data,
    models: (model) => folderFiles(folder(model)),
    backend,
    clock: performance,
    ...more,
  });
const stateOf = (name: string): string => readFileSync(join(folder(name), 'state.safetensors')).toString('base64');
const logOf = (name: string): unknown[] =>
  readFileSync(join(folder(name), 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => ({ ...JSON.parse(line), seconds: 0 }));

describe('a run', () => {
  const recipe = parseRecipe(raw);

  it('that stops and resumes ends bit for bit where one that never stopped ends', async () => {
    const losses: number[] = [];
    const whole = await run(recipe, 'teacher', { progress: ({ loss }) => losses.push(loss) });
    expect([whole.finished, whole.step, losses.length]).toEqual([true, 10, 10]);
    const half = await run(recipe, 'halves', { stop: (step) => step === 5 });
    expect([half.finished, half.step]).toEqual([false, 5]);
    // A line that a crash left behind, of a step that is run again.
    writeFileSync(
      join(folder('halves'), 'log.jsonl'),
      `${readFileSync(join(folder('halves'), 'log.jsonl'), 'utf8')}{"step":6,"lo`,
    );
    await run(recipe, 'halves', { resume: true });
    expect(stateOf('halves')).toBe(stateOf('teacher'));
    expect(logOf('halves')).toEqual(logOf('teacher'));
    expect(logOf('teacher')).toHaveLength(10);
  });

  it('learns, and leaves a checkpoint that opens', async () => {
    const log = logOf('teacher') as { loss: number; 'heldOut/nll'?: number }[];
    expect(log.at(-1)!.loss).toBeLessThan(log[0]!.loss);
    expect(log.at(-1)!['heldOut/nll']).toBeGreaterThan(0);
    const checkpoint = await openCheckpoint(folderFiles(join(folder('teacher'), 'checkpoint')));
    expect(parseLlamaConfig(checkpoint.config).numHiddenLayers).toBe(1);
    expect(existsSync(join(folder('teacher'), 'checkpoint', 'tokenizer.json'))).toBe(true);
    expect(existsSync(join(folder('teacher'), 'lock'))).toBe(false);
  });

  it('is refused in a folder that holds a run, of this recipe without resuming and of another at all', async () => {
    await expect(run(recipe, 'teacher')).rejects.toMatchObject({ kind: 'usage', reason: /holds a run already/ });
    const other = parseRecipe({ ...raw, seed: 8 });
    await expect(run(other, 'teacher', { resume: true })).rejects.toMatchObject({ kind: 'usage', reason: /another recipe/ });
  });

  it('is refused in a folder that another run is writing to, and takes over from a process that is gone', async () => {
    let second: unknown;
    const progress = (): void => {
      second ??= run(recipe, 'busy', { resume: true }).then(
        () => 'ran',
        (error: unknown) => error,
      );
    };
    await run(recipe, 'busy', { progress });
    await expect(second).resolves.toMatchObject({ kind: 'usage', reason: /another run is writing/ });
    writeFileSync(join(folder('busy'), 'lock'), '4194999\n');
    await expect(run(recipe, 'busy', { resume: true })).resolves.toMatchObject({ finished: true });
  });

  it('whose loss becomes no number fails with its step, and its last good state can be resumed', async () => {
    const wild = parseRecipe({ ...raw, steps: 80, optimiser: { kind: 'adamw', rate: 1, decay: 10, clip: 1e6, floor: 1 } });
    await expect(run(wild, 'wild')).rejects.toMatchObject({ kind: 'range', reason: /is (NaN|Infinity|-Infinity) at step \d+/ });
    const { tensors } = await import('../../src/models/safetensors.ts').then((m) =>
      m.openSafetensors(folderFiles(folder('wild')), 'state.safetensors'),
    );
    expect(tensors.size).toBeGreaterThan(10);
    expect(existsSync(join(folder('wild'), 'lock'))).toBe(false);
  });
});

describe('a model with power attention from the first step on', () => {
  it('is trained within its ranges, resumes bit for bit and comes out with tables', async () => {
    const power = { exponent: 4, range: 0.5, rangeLimit: 2, calibrationRows: 4 };
    const recipe = parseRecipe({ ...raw, model: { ...raw.model, hiddenSize: 32, power } });
    const { log } = await run(recipe, 'power');
    expect(log[0]!['loss/range']).toBeGreaterThanOrEqual(0);
    expect(log.at(-1)!['loss/nll']).toBeLessThan(log[0]!['loss/nll']!);
    await run(recipe, 'powerHalves', { stop: (step) => step === 5 });
    await run(recipe, 'powerHalves', { resume: true });
    expect(stateOf('powerHalves')).toBe(stateOf('power'));
    const checkpoint = await openCheckpoint(folderFiles(join(folder('power'), 'checkpoint')));
    const [layer] = planOf(parseLlamaConfig(checkpoint.config)).layers;
    expect(layer!.attention).toMatchObject({ kind: 'power', exponent: 4, table: expect.anything() });
    expect(layer!.activation.kind).toBe('exact');
  });
});

describe('a step of several passes', () => {
  const several = { ...raw, batch: 1, accumulate: 2, optimiser: { ...raw.optimiser, sam: { radius: 0.05 } } };

  it('with SAM and accumulation resumes bit for bit, and logs the loss where the ascent led', async () => {
    const recipe = parseRecipe(several);
    await run(recipe, 'several');
    await run(recipe, 'severalHalves', { stop: (step) => step === 5 });
    await run(recipe, 'severalHalves', { resume: true });
    expect(stateOf('severalHalves')).toBe(stateOf('several'));
    expect(logOf('severalHalves')).toEqual(logOf('several'));
    const lines = logOf('several') as { loss: number; perturbedLoss: number }[];
    // A short way along the gradient the loss is higher.
    for (const { loss, perturbedLoss } of lines) expect(perturbedLoss).toBeGreaterThan(loss);
  });

  it('over two micro-batches is the step of one batch of twice the rows', async () => {
    const { batch, ...rest } = raw;
    const large = await run(parseRecipe({ ...rest, batch: 2 * batch, steps: 4 }), 'large');
    const small = await run(parseRecipe({ ...raw, accumulate: 2, steps: 4 }), 'small');
    for (const [name, { values }] of large.weights) {
      const others = small.weights.get(name)!.values;
      values.forEach((value, i) => {
        expect(Math.abs(value - others[i]!)).toBeLessThan(2e-4);
      });
    }
    expect(small.log.at(-1)!.loss).toBeCloseTo(large.log.at(-1)!.loss!, 4);
  });
});

describe('a distillation', () => {
  it('converts the teacher, trains beside it, resumes bit for bit, and leaves a calibrated polynomial checkpoint', async () => {
    const recipe = parseRecipe(distillRaw);
    await run(recipe, 'student');
    await run(recipe, 'studentHalves', { stop: (step) => step === 2 });
    await run(recipe, 'studentHalves', { resume: true });
    expect(stateOf('studentHalves')).toBe(stateOf('student'));
    const checkpoint = await openCheckpoint(folderFiles(join(folder('student'), 'checkpoint')));
    const plan = planOf(parseLlamaConfig(checkpoint.config));
    expect(plan.layers[0]!.attention).toMatchObject({ kind: 'power', exponent: 4 });
    expect(plan.layers[0]!.norm!.table).toBeDefined();
    expect(checkpoint.has('model.layers.0.mlp.act.a')).toBe(true);
    expect(checkpoint.config.torch_dtype).toBe('float16');
    const written: unknown = JSON.parse(readFileSync(join(folder('student'), 'written.json'), 'utf8'));
    expect(written).toHaveLength(5);
    expect((logOf('student').at(-1) as Record<string, number>)['heldOut/kl']).toBeGreaterThan(0);
  });
});

describe('a recipe', () => {
  it('is refused with the field that is wrong', () => {
    const field = (value: unknown): string => {
      try {
        parseRecipe(value);
      } catch (error) {
        return (error as { place: { field: string } }).place.field;
      }
      return 'accepted';
    };
    expect(field({ ...raw, dropout: 0.1 })).toBe('dropout');
    expect(field({ ...raw, optimiser: { ...raw.optimiser, momentum: 1 } })).toBe('optimiser.momentum');
    expect(field({ ...raw, optimiser: { ...raw.optimiser, sam: { radius: 0 } } })).toBe('optimiser.sam.radius');
    expect(field({ ...raw, accumulate: 0 })).toBe('accumulate');
    expect(field({ ...raw, steps: 0 })).toBe('steps');
    expect(field({ ...raw, kind: 'dream' })).toBe('kind');
    expect(field({ ...distillRaw, conversion: { ...distillRaw.conversion, exponent: 3 } })).toBe('conversion.exponent');
    for (const value of [null, 3, [], '{}']) expect(() => parseRecipe(value)).toThrow(/recipe/);
    expect(field(raw)).toBe('accepted');
  });

  it('of any shape is accepted or refused with a typed error', () => {
    const value = fc.oneof(fc.jsonValue(), fc.double(), fc.constant(undefined));
    const field = fc.constantFrom(...Object.keys(raw), 'optimiser.rate', 'model.heads', 'data.text', 'written');
    fc.assert(
      fc.property(field, value, (name, changed) => {
        const [outer, inner] = name.split('.') as [keyof typeof raw, string?];
        const made =
          inner === undefined
            ? { ...raw, [outer]: changed }
            : { ...raw, [outer]: { ...(raw[outer] as object), [inner]: changed } };
        try {
          parseRecipe(made);
        } catch (error) {
          expect(error).toBeInstanceOf(SottoError);
        }
      }),
      { numRuns: 300 },
    );
  });
});
