import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/models/checkpoint.ts';
import { parseLlamaConfig } from '../../src/models/config.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { planOf } from '../../src/models/index.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { parseRecipe, type Recipe, type RunOptions, runRecipe } from '../../src/train/index.ts';

const text = Array.from({ length: 30 }, (_, i) => `The hen ${i} saw ${i % 5} eggs, and the fox ran home.`).join('\n--\n');
const backend = onnxBackend();
const root = mkdtempSync(join(tmpdir(), 'sotto-stages-'));
const folder = (name: string): string => join(root, name);
afterAll(async () => {
  await backend.close();
  rmSync(root, { recursive: true, force: true });
});

const data = { text: ['text.txt'], separator: '\n--\n', holdOutEvery: 5 };
const teacher = parseRecipe({
  kind: 'pretrain',
  name: 'teacher',
  seed: 7,
  data,
  tokenizer: { vocabularySize: 300 },
  model: { hiddenSize: 8, intermediateSize: 12, layers: 2, heads: 2, keyValueHeads: 1 },
  context: 16,
  batch: 2,
  steps: 12,
  optimiser: { kind: 'adamw', rate: 0.01 },
});
const staged = {
  kind: 'distill',
  name: 'progressive',
  seed: 8,
  teacher: 'teacher/checkpoint',
  data,
  conversion: { exponent: 4, activation: 'channel', calibrationRows: 4 },
  context: 16,
  batch: 2,
  steps: 9,
  stages: [
    { layers: 1, steps: 3, conversion: { exponent: 0, activation: 'channel', calibrationRows: 4 }, losses: { kl: 1 } },
    { layers: 1, steps: 2, optimiser: { rate: 0.0005 } },
    { layers: 2, steps: 4, conversion: { exponent: 4, activation: 'channel', initialisation: 'hessian', calibrationRows: 4 } },
  ],
  optimiser: { kind: 'adamw', rate: 0.001 },
  losses: { kl: 1, range: 0.1 },
  checkpointEvery: 2,
  evaluateEvery: 2,
};
const run = (recipe: Recipe, name: string, more: Partial<RunOptions> = {}) =>
  runRecipe({
    recipe,
    directory: folder(name),
    data: memoryFiles({ 'text.txt': text }),
    models: (model) => folderFiles(folder(model)),
    backend,
    clock: performance,
    ...more,
  });
const bytesOf = (name: string, path: string): string => readFileSync(join(folder(name), path)).toString('base64');
const planAt = async (name: string, path: string) =>
  planOf(parseLlamaConfig((await openCheckpoint(folderFiles(join(folder(name), path)))).config));

beforeAll(async () => {
  await run(teacher, 'teacher');
});

describe('a run of stages', () => {
  it('converts further what each stage trained, and numbers its steps through', async () => {
    const steps: number[] = [];
    const { finished, step, log } = await run(parseRecipe(staged), 'whole', {
      progress: (progress) => steps.push(progress.step / progress.steps),
    });
    expect([finished, step]).toEqual([true, 9]);
    expect(log.map((line) => line.step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(steps.at(-1)).toBe(1);
    const shape = async (path: string) =>
      (await planAt('whole', path)).layers.map(({ activation, attention }) => `${activation.kind} ${attention.kind}`);
    expect(await shape('start')).toEqual(['exact softmax', 'quadratic softmax']);
    expect(await shape('start-2')).toEqual(['exact softmax', 'quadratic power']);
    expect(await shape('start-3')).toEqual(['quadratic power', 'quadratic power']);
    expect(await shape('checkpoint')).toEqual(await shape('start-3'));
    // The second stage begins with what the first one trained: only the query matrices are folded anew.
    const [first, second] = [
      await openCheckpoint(folderFiles(join(folder('whole'), 'start'))),
      await openCheckpoint(folderFiles(join(folder('whole'), 'start-2'))),
    ];
    const moved = 'model.layers.1.mlp.act.a';
    expect(await second.read(moved)).not.toEqual(await first.read(moved));
    expect(readFileSync(join(folder('whole'), 'checkpoint/README.md'), 'utf8')).toContain('fully polynomial');
  });

  it.each([2, 3, 4, 8])('stopped after step %i, in a stage or between two, resumes to the same bits', async (at) => {
    const name = `stopped-${at}`;
    const half = await run(parseRecipe(staged), name, { stop: (step) => step === at });
    expect([half.finished, half.step]).toEqual([false, at]);
    await run(parseRecipe(staged), name, { resume: true });
    expect(bytesOf(name, 'state.safetensors')).toBe(bytesOf('whole', 'state.safetensors'));
    expect(bytesOf(name, 'checkpoint/model.safetensors')).toBe(bytesOf('whole', 'checkpoint/model.safetensors'));
  });

  it('that crashed between stages makes the next start again from the state', async () => {
    const name = 'crashed';
    await run(parseRecipe(staged), name, { stop: (step) => step === 5 });
    const before = bytesOf(name, 'start-2/model.safetensors');
    // As if it had died while the third start was written: config.json comes last.
    writeFileSync(join(folder(name), 'lock'), '4194999\n');
    mkdirSync(join(folder(name), 'start-3'));
    writeFileSync(join(folder(name), 'start-3/model.safetensors'), 'half');
    await run(parseRecipe(staged), name, { resume: true });
    expect(bytesOf(name, 'start-2/model.safetensors')).toBe(before);
    expect(bytesOf(name, 'state.safetensors')).toBe(bytesOf('whole', 'state.safetensors'));
  });
});

describe('a stage that converts nothing further', () => {
  it('goes on with the next batch from the weights before it', async () => {
    const { stages: _, ...rest } = staged;
    const level = { ...rest, steps: 5, optimiser: { kind: 'adamw', rate: 0.001, floor: 1 }, losses: { kl: 1 } };
    const plain = await run(parseRecipe(level), 'level');
    const cut = await run(parseRecipe({ ...level, stages: [{ steps: 3 }, { steps: 2 }] }), 'cut');
    const losses = (log: typeof plain.log) => log.slice(0, 4).map((line) => line.loss);
    expect(losses(cut.log)).toEqual(losses(plain.log));
    // Its moments are fresh: from its second step on it goes its own way.
    expect(cut.log[4]!.loss).not.toBe(plain.log[4]!.loss);
  });
});

describe('a recipe', () => {
  it('of no steps is a conversion with its held-out figures', async () => {
    const { stages: _, ...rest } = staged;
    const { log, finished } = await run(parseRecipe({ ...rest, steps: 0 }), 'untrained');
    expect([finished, log.length, log[0]!.step]).toEqual([true, 1, 0]);
    expect(log[0]!['heldOut/kl']).toBeGreaterThan(0);
    expect((await planAt('untrained', 'checkpoint')).finalNorm.table).toBeDefined();
  });

  it('may widen heads first: the student is a checkpoint of its own shape beside a teacher of the old one', async () => {
    const { stages: _, ...rest } = staged;
    const wide = parseRecipe({ ...rest, steps: 3, conversion: { ...rest.conversion, headDim: 8 } });
    const { log } = await run(wide, 'wide');
    expect(log.at(-1)!['heldOut/kl']).toBeGreaterThan(0);
    for (const path of ['start', 'checkpoint']) {
      const { config, shape } = await openCheckpoint(folderFiles(join(folder('wide'), path)));
      expect(parseLlamaConfig(config).headDim).toBe(8);
      expect(shape('model.layers.0.self_attn.q_proj.weight')).toEqual([16, 8]);
    }
    const stopped = await run(wide, 'wide-stopped', { stop: (step) => step === 2 });
    expect(stopped.finished).toBe(false);
    await run(wide, 'wide-stopped', { resume: true });
    expect(bytesOf('wide-stopped', 'state.safetensors')).toBe(bytesOf('wide', 'state.safetensors'));
  });

  it('whose coefficients have the rate 0 holds them', async () => {
    const { stages: _, ...rest } = staged;
    const held = { ...rest, steps: 3, optimiser: { kind: 'adamw', rate: 0.001, coefficientRate: 0 } };
    const { weights } = await run(parseRecipe(held), 'held');
    expect([...weights.keys()].some((name) => name.includes('.act.'))).toBe(false);
    const [start, result] = ['start', 'checkpoint'].map((path) => openCheckpoint(folderFiles(join(folder('held'), path))));
    for (const part of ['a', 'b', 'c']) {
      const name = `model.layers.1.mlp.act.${part}`;
      expect(await (await result!).read(name)).toEqual(await (await start!).read(name));
    }
  });
});
