import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/models/checkpoint.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { openSafetensors } from '../../src/models/safetensors.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { parseRecipe, runRecipe } from '../../src/train/index.ts';

const text = Array.from({ length: 40 }, (_, i) => `The cat number ${i} sat on the mat, and the dog ${i % 7} ran.`).join('\n--\n');
const data = memoryFiles({ 'text.txt': text });
const backend = onnxBackend();
const root = mkdtempSync(join(tmpdir(), 'sotto-precision-'));
const folder = (name: string): string => join(root, name);
const run = (raw: object, name: string) =>
  runRecipe({
    recipe: parseRecipe(raw),
    directory: folder(name),
    data,
    models: (model) => folderFiles(folder(model)),
    backend,
    clock: performance,
  });
const common = {
  seed: 7,
  data: { text: ['text.txt'], separator: '\n--\n', holdOutEvery: 5 },
  context: 16,
  batch: 2,
  evaluateEvery: 3,
  checkpointEvery: 3,
};
const student = {
  ...common,
  kind: 'distill',
  name: 'student',
  teacher: 'teacher/checkpoint',
  conversion: { exponent: 4, activation: 'channel', calibrationRows: 4 },
  steps: 3,
  optimiser: { kind: 'adamw', rate: 0.001 },
  losses: { kl: 1 },
  lora: { rank: 2, alpha: 4, matrices: ['q_proj', 'up_proj', 'down_proj'] },
};

beforeAll(async () => {
  await run(
    {
      ...common,
      kind: 'pretrain',
      name: 'teacher',
      tokenizer: { vocabularySize: 300 },
      model: { hiddenSize: 16, intermediateSize: 24, layers: 2, heads: 2, keyValueHeads: 1 },
      steps: 6,
      optimiser: { kind: 'adamw', rate: 0.01 },
    },
    'teacher',
  );
});
afterAll(async () => {
  await backend.close();
  rmSync(root, { recursive: true, force: true });
});
const firstKl = (name: string): number =>
  (JSON.parse(readFileSync(join(folder(name), 'log.jsonl'), 'utf8').split('\n')[0]!) as Record<string, number>)['loss/kl']!;

describe('a distillation in 4 bits', () => {
  it('trains adapters and coefficients alone, beside a teacher in full precision or in 4 bits', async () => {
    const base = { format: 'nf4', block: 64 };
    const same = { ...student, conversion: { exponent: 0, activation: 'none', calibrationRows: 4 } };
    await run({ ...same, base }, 'cross');
    await run({ ...same, base, teacherBase: base }, 'same');
    await run(same, 'full');
    // Before the first step student and teacher are the same model, but for their codes.
    expect(firstKl('full')).toBeCloseTo(0, 6);
    expect(firstKl('same')).toBeCloseTo(0, 6);
    expect(firstKl('cross')).toBeGreaterThan(1e-5);
    const { tensors } = await openSafetensors(folderFiles(folder('cross')), 'state.safetensors');
    expect([...tensors.keys()].every((name) => /lora_[AB]$/.test(name))).toBe(true);
    const checkpoint = await openCheckpoint(folderFiles(join(folder('cross'), 'checkpoint')));
    expect(checkpoint.names().some((name) => /nf4|absmax|lora/.test(name))).toBe(false);
    // Without an adapter the result is the levels: sixteen a block.
    const kept = await checkpoint.read('model.layers.0.self_attn.o_proj.weight');
    expect(new Set(kept.slice(0, 64)).size).toBeLessThanOrEqual(16);
  });

  it('goes with rounding in the loop, recomputation, norms of layers and no clipping', async () => {
    const recipe = {
      ...student,
      base: { format: 'nf4', block: 32, doubleQuantisation: true },
      quantise: { fraction: 12 },
      checkpoint: 'layers',
      logGradientNorms: true,
      losses: { kl: 1, range: 0.1, variance: 0.1, varianceLimit: 2 },
      optimiser: { ...student.optimiser, clip: null },
    };
    const { log } = await run(recipe, 'all');
    const first = log[0] as Record<string, number>;
    const parts = ['layers.0', 'layers.1'].map((part) => first[`gradientNorm/${part}`]!);
    expect(Math.hypot(...parts)).toBeCloseTo(first.gradientNorm!, 4);
    expect(first['loss/variance']).toBeGreaterThanOrEqual(0);
    const { base: _, checkpoint: __, ...plain } = recipe;
    const kept = await run({ ...plain, base: recipe.base }, 'kept');
    expect(kept.log.map(({ loss }) => loss)).toEqual(log.map(({ loss }) => loss));
  });

  it('is refused without adapters, and in blocks that no kernel has', () => {
    const { lora: _, ...rest } = student;
    expect(() => parseRecipe({ ...rest, base: { format: 'nf4' } })).toThrow(/cannot be trained/);
    expect(() => parseRecipe({ ...student, base: { format: 'nf4', block: 48 } })).toThrow();
    expect(() => parseRecipe({ ...student, quantise: { fraction: 60 } })).toThrow();
  });
});
