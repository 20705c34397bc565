import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { classifyFloat } from '../../src/jobs/index.ts';
import type { PictureSet } from '../../src/lab/data/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { openCheckpoint } from '../../src/models/checkpoint.ts';
import { parseVitConfig } from '../../src/models/config.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { planOf } from '../../src/models/index.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { parseRecipe, pictureSamples, type Recipe, type RunOptions, runRecipe, splitPictures } from '../../src/train/index.ts';

const backend = onnxBackend();
const root = mkdtempSync(join(tmpdir(), 'sotto-vision-'));
const folder = (name: string): string => join(root, name);
afterAll(async () => {
  await backend.close();
  rmSync(root, { recursive: true, force: true });
});

const [side, count, classes] = [8, 240, 4];
/** Grey pictures of noise with a bright quarter: the class says which. */
function synthetic(): PictureSet {
  const random = pseudorandom(5);
  const pixels = new Uint8Array(count * side * side);
  const labels = Uint16Array.from({ length: count }, () => random.integer(classes));
  for (let at = 0; at < pixels.length; at++) {
    const [y, x] = [Math.floor((at % 64) / side), at % side];
    const bright = 2 * Number(y >= 4) + Number(x >= 4) === labels[Math.floor(at / 64)];
    pixels[at] = Math.floor(random.uniform() * 80) + (bright ? 150 : 0);
  }
  return { count, width: side, height: side, channels: 1, pixels, labels, classes: ['0', '1', '2', '3'] };
}
const set = synthetic();
const idx = (extents: readonly number[], values: Uint8Array): Buffer => {
  const header = Buffer.alloc(4 + 4 * extents.length);
  header.set([0, 0, 8, extents.length]);
  extents.forEach((extent, at) => {
    header.writeUInt32BE(extent, 4 + 4 * at);
  });
  return Buffer.concat([header, values]);
};
writeFileSync(folder('images'), idx([count, side, side], set.pixels));
writeFileSync(folder('labels'), idx([count], Uint8Array.from(set.labels)));

const data = { format: 'idx', images: 'images', labels: 'labels', classes, heldOut: 40 };
const raw = {
  kind: 'vision-pretrain',
  name: 'tiny-teacher',
  seed: 3,
  data,
  model: { hiddenSize: 16, intermediateSize: 24, layers: 2, heads: 2, patchSize: 4 },
  batch: 20,
  steps: 100,
  optimiser: { kind: 'adamw', rate: 0.01, warmup: 4, decay: 0.01 },
  checkpointEvery: 20,
  evaluateEvery: 20,
};
const distillRaw = {
  kind: 'vision-distill',
  name: 'tiny-student',
  seed: 4,
  data,
  teacher: 'teacher/checkpoint',
  augmentation: { randAugment: { operations: 1, magnitude: 3 }, mixup: { alpha: 0.4 } },
  conversion: { exponent: 4, activation: 'layer', initialisation: 'static', calibrationRows: 40 },
  batch: 20,
  steps: 40,
  optimiser: { kind: 'adamw', rate: 0.0005, warmup: 5, floor: 0.02 },
  losses: { logitMse: 1 },
  evaluateEvery: 20,
};

const run = (recipe: Recipe, name: string, more: Partial<RunOptions> = {}) =>
  runRecipe({
    recipe,
    directory: folder(name),
    data: memoryFiles({}),
    pictures: root,
    models: (model) => folderFiles(folder(model)),
    backend,
    clock: performance,
    ...more,
  });
const stateOf = (name: string): string => readFileSync(join(folder(name), 'state.safetensors')).toString('base64');

describe('vision in the trainer', () => {
  it('trains a transformer whose loss falls and whose held-back accuracy rises', async () => {
    const units: string[] = [];
    const { log, finished } = await run(parseRecipe(raw), 'teacher', { progress: ({ unit }) => units.push(unit) });
    expect(finished).toBe(true);
    expect(log.at(-1)!.loss).toBeLessThan(log[0]!.loss! / 4);
    expect(log.at(-1)!['heldOut/accuracy']).toBeGreaterThan(0.9);
    expect(new Set(units)).toEqual(new Set(['pictures']));
  });

  it('distils a polynomial student by logit error alone, which follows its teacher and resumes bit for bit', async () => {
    const recipe = parseRecipe(distillRaw);
    const { log } = await run(recipe, 'student');
    await run(recipe, 'studentHalves', { stop: (step) => step === 7 });
    await run(recipe, 'studentHalves', { resume: true });
    expect(stateOf('studentHalves')).toBe(stateOf('student'));
    // Mixtures differ in how hard they are: ten steps together say more than one.
    const mean = (lines: typeof log): number => lines.reduce((sum, line) => sum + line['loss/logitMse']! / lines.length, 0);
    expect(mean(log.slice(-10))).toBeLessThan(mean(log.slice(0, 10)) / 1.5);
    expect(log.at(-1)!['heldOut/fidelity']).toBeGreaterThan(0.9);
    const checkpoint = await openCheckpoint(folderFiles(join(folder('student'), 'checkpoint')));
    const config = parseVitConfig(checkpoint.config);
    const plan = planOf(config);
    expect(plan.layers.map(({ attention }) => attention.kind)).toEqual(['power', 'power']);
    expect(plan.layers[1]!.norm!.table).toBeDefined();
    // The checkpoint is whole: it classifies, by its own preprocessor's figures.
    const picture = Float32Array.from(set.pixels.subarray(0, 64), (byte) => byte / 127.5 - 1);
    const weights = await checkpoint.readAll();
    const [found] = await classifyFloat({ config, plan, weights, backend, pictures: [picture] });
    expect(found!.id).toBe(set.labels[0]);
  });

  it('trains adapters alone where asked, merged into a checkpoint of the published names', async () => {
    const lora = { rank: 2, alpha: 4, matrices: ['query', 'intermediate.dense'] };
    const recipe = parseRecipe({ ...distillRaw, steps: 6, lora });
    const { weights } = await run(recipe, 'adapted');
    const trained = [...weights.keys()];
    expect(trained.filter((name) => name.includes('lora_'))).toHaveLength(8);
    expect(trained.filter((name) => name.includes('.act.'))).toHaveLength(6);
    expect(trained).toHaveLength(14);
    const [before, after] = [
      await openCheckpoint(folderFiles(join(folder('adapted'), 'start'))),
      await openCheckpoint(folderFiles(join(folder('adapted'), 'checkpoint'))),
    ];
    expect(after.names()).toEqual(before.names());
    const changed: string[] = [];
    for (const name of after.names()) if (String(await after.read(name)) !== String(await before.read(name))) changed.push(name);
    expect(
      changed.filter((name) => !name.includes('.act.')).every((name) => /(query|intermediate\.dense)\.weight$/.test(name)),
    ).toBe(true);
    expect(changed.length).toBeGreaterThan(4);
  });

  it('trains on mixed labels and by KL, with the last layer alone converted where asked', async () => {
    const mixed = await run(parseRecipe({ ...raw, steps: 4, augmentation: { mixup: { alpha: 1 } } }), 'mixed');
    expect(mixed.log[0]!['loss/targets']).toBeGreaterThan(0);
    const { steps: _, ...rest } = distillRaw;
    const hybrid = parseRecipe({
      ...rest,
      steps: 2,
      conversion: { ...distillRaw.conversion, layers: 1 },
      losses: { kl: 1, temperature: 2 },
    });
    const { log } = await run(hybrid, 'hybrid');
    expect(log[0]!['loss/kl']).toBeGreaterThan(0);
    const { config } = await openCheckpoint(folderFiles(join(folder('hybrid'), 'checkpoint')));
    expect(planOf(parseVitConfig(config)).layers.map(({ attention }) => attention.kind)).toEqual(['softmax', 'power']);
  });
});

describe('batches of pictures', () => {
  const split = splitPictures(count, { heldOut: 50, splitSeed: 1 });
  const normalisation = { scale: 1 / 255, mean: [0, 0, 0], deviation: [1, 1, 1] } as const;
  const recipe = { batch: 19, seed: 6, evaluateRows: 1000 };

  it('hold the same pictures back for every run, and use every other one once an epoch', () => {
    expect(splitPictures(count, { heldOut: 50, splitSeed: 1 })).toEqual(split);
    expect([...splitPictures(count, { heldOut: 50, splitSeed: 2 }).heldOut]).not.toEqual([...split.heldOut]);
    expect([...split.train, ...split.heldOut].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
    const samples = pictureSamples(recipe, set, split, normalisation, classes);
    const epoch = (number: number): string[] =>
      Array.from({ length: 10 }, (_, at) => samples.feeds(10 * number + at).get('pixels')!.values).flatMap((values) =>
        Array.from({ length: 19 }, (_, row) =>
          [...values.subarray(64 * row, 64 * row + 64)].map((v) => Math.round(v * 255)).join(),
        ),
      );
    const own = [...split.train].map((index) => [...set.pixels.subarray(64 * index, 64 * index + 64)].join());
    expect(epoch(0).sort()).toEqual(own.sort());
    expect(epoch(1)).not.toEqual(epoch(0));
    expect(epoch(1).sort()).toEqual(own.sort());
  });

  it('count every held-back picture once, whatever the batch', () => {
    const { heldOut } = pictureSamples(recipe, set, split, normalisation, classes);
    const weights = heldOut!.feeds.flatMap((feeds) => [...feeds.get('positionWeights')!.values]);
    expect(heldOut!.feeds).toHaveLength(3);
    expect(weights.filter((weight) => weight > 0)).toHaveLength(50);
    expect(weights.reduce((a, b) => a + b) / 3).toBeCloseTo(1, 6);
  });

  it('mix labels as they mix pixels', () => {
    const plain = pictureSamples(recipe, set, split, normalisation, classes).feeds(3);
    const feeds = pictureSamples({ ...recipe, augmentation: { mixup: { alpha: 1 } } }, set, split, normalisation, classes).feeds(
      3,
    );
    const [targets, labels] = [feeds.get('targets')!.values, plain.get('labels')!.values];
    for (let row = 0; row < 19; row++) {
      const shares = [...targets.subarray(row * classes, (row + 1) * classes)];
      expect(shares.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
      expect(shares[labels[row]!]).toBeGreaterThan(0);
    }
    expect(feeds.get('pixels')!.values).not.toEqual(plain.get('pixels')!.values);
  });

  it('are refused with their place where the recipe or the data is wrong', async () => {
    const broken = (changed: object) => run(parseRecipe({ ...raw, ...changed }), 'broken');
    await expect(broken({ data: { ...data, heldOut: 240 } })).rejects.toMatchObject({
      kind: 'input',
      place: { field: 'data.heldOut' },
    });
    await expect(broken({ data: { ...data, classes: 3 } })).rejects.toMatchObject({ kind: 'input', reason: /label 3/ });
    await expect(broken({ data: { ...data, images: 'absent' } })).rejects.toMatchObject({ kind: 'input' });
    await expect(broken({ model: { ...raw.model, patchSize: 3 } })).rejects.toMatchObject({
      place: { field: 'model.patchSize' },
    });
    expect(() => parseRecipe({ ...raw, data: { ...data, images: '../images' } })).toThrow(/inside the data folder/);
    expect(() => parseRecipe({ ...raw, augmentation: { cutout: 1 } })).toThrow(/cutout/);
    expect(() => parseRecipe({ ...raw, context: 4 })).toThrow(/context/);
  });
});
