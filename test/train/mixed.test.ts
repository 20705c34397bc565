import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer } from '../../src/models/tokenizer.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { type DistillRecipe, parseRecipe, type Recipe, type RunOptions, runRecipe } from '../../src/train/index.ts';
import { mixedText } from '../../src/train/mixed.ts';

const backend = onnxBackend();
const root = mkdtempSync(join(tmpdir(), 'sotto-mixed-'));
const folder = (name: string): string => join(root, name);
afterAll(async () => {
  await backend.close();
  rmSync(root, { recursive: true, force: true });
});

const webRow = (i: number): string => `web page ${i} says that hens and cats walk home in the rain of may`;
mkdirSync(folder('data'));
writeFileSync(folder('data/web.jsonl'), Array.from({ length: 60 }, (_, i) => JSON.stringify({ text: webRow(i) })).join('\n'));
writeFileSync(
  folder('data/tasks.json'),
  JSON.stringify(
    Array.from({ length: 40 }, (_, i) => ({ instruction: `Add ${i} and one.`, input: '', output: `It is ${i + 1}.` })),
  ),
);
writeFileSync(
  folder('data/code.txt'),
  Array.from({ length: 60 }, (_, i) => `def f${i}(x):\n  return x * ${i} + ${i}`).join('\n---\n'),
);

const teacher = parseRecipe({
  kind: 'pretrain',
  name: 'teacher',
  seed: 7,
  data: { text: ['web.jsonl', 'tasks.json', 'code.txt'], separator: '\n', holdOutEvery: 9 },
  tokenizer: { vocabularySize: 400 },
  model: { hiddenSize: 8, intermediateSize: 12, layers: 1, heads: 2, keyValueHeads: 1 },
  context: 24,
  batch: 2,
  steps: 2,
  optimiser: { kind: 'adamw', rate: 0.01 },
});
const raw = {
  kind: 'distill',
  name: 'mixed',
  seed: 8,
  teacher: 'teacher/checkpoint',
  data: {
    mixture: [
      { file: 'web.jsonl', format: 'jsonl', share: 50 },
      { file: 'tasks.json', format: 'alpaca', share: 30 },
      { file: 'code.txt', format: 'text', share: 20 },
    ],
    separator: '\n---\n',
    holdOutEvery: 4,
    reserveEvery: 5,
  },
  conversion: { exponent: 4, activation: 'channel', calibrationRows: 4 },
  context: 24,
  batch: 5,
  steps: 5,
  evaluateRows: 10,
  optimiser: { kind: 'adamw', rate: 0.001 },
  losses: { kl: 1, nll: 0.5 },
  evaluateEvery: 5,
};
const run = (recipe: Recipe, name: string, more: Partial<RunOptions> = {}) =>
  runRecipe({
    recipe,
    directory: folder(name),
    data: folderFiles(folder('data')),
    pictures: folder('data'),
    models: (model) => folderFiles(folder(model)),
    backend,
    clock: performance,
    ...more,
  });

describe('a mixture in a recipe', () => {
  beforeAll(async () => {
    await run(teacher, 'teacher');
  });

  it('gives rows in exact proportions, masks prompts, and never shows what is held back or reserved', async () => {
    const model = folderFiles(folder('teacher/checkpoint'));
    const tokenizer = await loadTokenizer(model);
    const recipe = parseRecipe(raw) as DistillRecipe;
    const text = await mixedText(recipe, { data: folder('data'), caches: folder('caches'), model });
    const counts = { web: 0, tasks: 0, code: 0 };
    const shown = new Set<number>();
    for (let step = 0; step < 20; step++) {
      const feeds = text.samples.feeds(step);
      const [ids, weights] = [feeds.get('ids')!.values, feeds.get('positionWeights')!.values];
      expect([...weights].reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 5);
      for (let row = 0; row < 5; row++) {
        const said = tokenizer.decode([...ids.subarray(24 * row, 24 * row + 24)]);
        for (const [, number] of said.matchAll(/page (\d+) says/g)) shown.add(Number(number));
        const kind = said.includes('Below is an') ? 'tasks' : /def|return| x/.test(said) ? 'code' : 'web';
        counts[kind]++;
        // The prompt is longer than a row: nothing of it is learnt.
        const counted = weights.subarray(24 * row, 24 * row + 24).filter((weight) => weight > 0).length;
        expect(counted).toBe(kind === 'tasks' ? 0 : 24);
      }
    }
    text.close();
    expect(counts).toEqual({ web: 50, tasks: 30, code: 20 });
    expect(shown.size).toBeGreaterThan(10);
    for (const number of shown) expect([number % 4 === 3, number % 5 === 2]).toEqual([false, false]);
  });

  it('trains a student that stops in the middle of an epoch and resumes to the same bits', async () => {
    const recipe = parseRecipe(raw);
    const { log } = await run(recipe, 'whole');
    expect(log.at(-1)!['heldOut/kl']).toBeGreaterThan(0);
    await run(recipe, 'halves', { stop: (step) => step === 2 });
    await run(recipe, 'halves', { resume: true });
    const state = (name: string): string => readFileSync(join(folder(name), 'state.safetensors')).toString('base64');
    expect(state('halves')).toBe(state('whole'));
  });

  it('is refused where its recipe, a file or a row is wrong', async () => {
    const broken = (data: object) => () => parseRecipe({ ...raw, data: { ...raw.data, ...data } });
    expect(broken({ text: ['web.jsonl'] })).toThrow(/either texts or a mixture/);
    expect(broken({ mixture: [{ ...raw.data.mixture[0], share: 0 }] })).toThrow(/mixture.0.share/);
    expect(broken({ mixture: [{ ...raw.data.mixture[0], file: '../web.jsonl' }] })).toThrow(/inside the data folder/);
    expect(() => parseRecipe({ ...raw, data: {} })).toThrow(/either texts or a mixture/);
    const absent = parseRecipe({ ...raw, data: { mixture: [{ file: 'absent.jsonl', format: 'jsonl', share: 1 }] } });
    await expect(run(absent, 'absent')).rejects.toMatchObject({ kind: 'input' });
    writeFileSync(folder('data/bad.jsonl'), '{"text": "good"}\n{"text": 3}\n');
    const bad = parseRecipe({ ...raw, data: { mixture: [{ file: 'bad.jsonl', format: 'jsonl', share: 1 }] } });
    await expect(run(bad, 'bad')).rejects.toMatchObject({ kind: 'input', place: { field: expect.stringContaining('line 2') } });
    await expect(run(parseRecipe(raw), 'nowhere', { data: memoryFiles({}), pictures: undefined })).rejects.toMatchObject({
      kind: 'usage',
    });
  });
});
