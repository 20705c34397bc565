import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeCheckpoint } from '../../src/models/checkpoint.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { type ModelFolder, openModelFolder } from '../../src/models/folder.ts';
import { type Asked, logitsOf, relative } from './compute.ts';

interface Golden extends Asked {
  readonly config: Record<string, unknown>;
  /** Of every floating-point tensor that the published library saves. */
  readonly shapes: Record<string, number[]>;
  readonly logits: number[];
}

/** `python reference.py golden golden.json`: two models a family of the published library, float64. */
const { models }: { models: Golden[] } = JSON.parse(readFileSync(join(import.meta.dirname, 'golden.json'), 'utf8'));

/** The numbers of reference.py. */
function numbers(name: string, count: number): Float64Array {
  let seed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) seed = Math.imul(seed ^ byte, 0x01000193);
  return Float64Array.from({ length: count }, (_, i) => {
    let x = (seed + Math.imul(i, 2654435761)) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 2246822519) >>> 0;
    x = Math.imul(x ^ (x >>> 13), 3266489917) >>> 0;
    return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32 - 0.5;
  });
}

function tensorOf(name: string, shape: number[]) {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const change = (value: number): number => {
    if (shape.length === 1) return value * 0.4 + (name.endsWith('bias') ? 0 : 1);
    if (name.includes('embed') && !name.includes('projection')) return value * 3;
    return value * Math.sqrt(12 / (count / shape[0]!));
  };
  return { name, shape, values: Float32Array.from(numbers(name, count), change) };
}

async function open(config: Record<string, unknown>, shapes: Record<string, number[]>): Promise<ModelFolder> {
  const files = memoryFiles();
  await writeCheckpoint(files, { config, tensors: Object.entries(shapes).map(([name, shape]) => tensorOf(name, shape)) });
  return await openModelFolder(files);
}

/** One setting changed that the tensors do not show: another function. */
const changes: Record<string, (config: Record<string, unknown>) => Record<string, unknown>[]> = {
  llama: ({ rope_theta, rms_norm_eps }) => [
    { rope_theta: 2 * (rope_theta as number) },
    { rope_scaling: { rope_type: 'linear', factor: 3 } },
    { rms_norm_eps: 10 * (rms_norm_eps as number) },
    { hidden_act: 'quick_gelu' },
  ],
  vit: () => [{ layer_norm_eps: 0.05 }, { hidden_act: 'silu' }],
  bert: () => [{ layer_norm_eps: 0.05 }, { hidden_act: 'quick_gelu' }],
  roberta: () => [{ layer_norm_eps: 0.05 }, { hidden_act: 'quick_gelu' }, { pad_token_id: 0 }],
};

describe('models of the published library', () => {
  it.each(models)(
    'give the same logits: $config.model_type, $config.hidden_act',
    async ({ config, shapes, logits, ...asked }) => {
      expect(relative(await logitsOf(await open(config, shapes), asked), logits)).toBeLessThan(1e-5);
    },
  );

  it.each(models)('give others where a setting is another: $config.model_type, $config.hidden_act', async (golden) => {
    const { config, shapes, logits, ...asked } = golden;
    for (const change of changes[config.model_type as string]!(config)) {
      const found = relative(await logitsOf(await open({ ...config, ...change }, shapes), asked), logits);
      expect([change, found > 1e-5]).toEqual([change, true]);
    }
  });

  it.each(models)(
    'are refused without one of their tensors, or with one more: $config.model_type',
    async ({ config, shapes }) => {
      for (const name of Object.keys(shapes)) {
        const { [name]: shape, ...others } = shapes;
        await expect(open(config, others)).rejects.toMatchObject({ kind: 'model', place: { tensor: name } });
        const more = { ...shapes, [`${name}_`]: shape! };
        await expect(open(config, more)).rejects.toMatchObject({ kind: 'model', place: { tensor: `${name}_` } });
      }
    },
  );
});
