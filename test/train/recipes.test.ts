import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { loadRecipe } from '../../src/train/index.ts';

const shipped = async (name: string): Promise<unknown> => JSON.parse(readFileSync(`recipes/${name}.json`, 'utf8'));
const names = readdirSync('recipes').map((file) => file.replace('.json', ''));

describe('a recipe that ships', () => {
  it('is whole, bears the name of its file, and names others that ship', async () => {
    for (const name of names) {
      const recipe = await loadRecipe(await shipped(name), shipped, name);
      expect(recipe.name).toBe(name);
      // What was loaded is a recipe of its own: loading it again changes nothing.
      expect(await loadRecipe(JSON.parse(JSON.stringify(recipe)), shipped, name)).toEqual(recipe);
    }
  });

  it('of each rung differs from the next in what the rung is about', async () => {
    for (const set of ['mnist', 'cifar']) {
      const rung = async (name: string) => {
        const recipe = await loadRecipe(await shipped(`polyvit-${name}-${set}`), shipped);
        if (recipe.kind !== 'vision-distill') throw new Error(recipe.kind);
        return recipe;
      };
      const [v1, v2, v3] = [await rung('v1'), await rung('v2'), await rung('v3')];
      expect([v1.steps, v1.conversion.initialisation, v2.conversion.initialisation]).toEqual([0, 'static', 'direct-scale']);
      expect([v2.augmentation, v3.optimiser.coefficientRate]).toEqual([undefined, 0]);
      expect(v3.augmentation).toMatchObject({ mixup: {}, randAugment: {} });
      const { losses, optimiser } = await rung('ultimate');
      expect([losses.logitMse, losses.kl, losses.nll, losses.range]).toEqual([1, 0, 0, 0]);
      expect(optimiser.coefficientRate).toBeGreaterThan(0);
      expect((await rung('full')).conversion.exponent).toBe(set === 'mnist' ? 4 : 8);
      expect((await rung('progressive')).stages).toHaveLength(2);
    }
  });
});

describe('a recipe that extends another', () => {
  it('has its fields under its own, null among them, but for those it does without', async () => {
    const load = async (name: string) => {
      const recipe = await loadRecipe(await shipped(name), shipped);
      if (recipe.kind !== 'distill') throw new Error(recipe.kind);
      return recipe;
    };
    const [clipped, free] = [await load('polyllama-4bit-deep-babyllama'), await load('polyllama-4bit-deep-unclipped-babyllama')];
    expect([clipped.optimiser.clip, free.optimiser.clip]).toEqual([1, null]);
    expect({ ...free, name: '', optimiser: 0 }).toEqual({ ...clipped, name: '', optimiser: 0 });
    const [sharp, plain] = [await load('polyllama-fft-phase1-babyllama'), await load('polyllama-fft-phase1-adamw-babyllama')];
    expect([sharp.optimiser.sam, plain.optimiser.sam]).toEqual([{ radius: 0.02 }, undefined]);
    expect((await load('polyllama-fft-phase2-babyllama')).data.mixture?.map(({ share }) => share)).toEqual([50, 30, 20]);
    expect((await load('polyllama-4bit-same-babyllama')).teacherBase).toEqual({ format: 'nf4', block: 64 });
  });

  const base = { kind: 'pretrain', a: { b: 1, c: [1, 2] } };
  const load = (own: unknown) => loadRecipe(own, async () => base);

  it('is refused where it has no name, where the other extends one too, and where a field is wrong after all', async () => {
    await expect(load({ extends: 'base' })).rejects.toMatchObject({ place: { field: 'extends' } });
    await expect(load({ extends: '../base', name: 'x' })).rejects.toMatchObject({ place: { field: 'extends' } });
    await expect(load({ extends: 'base', name: 'x', without: 'a' })).rejects.toMatchObject({ place: { field: 'without' } });
    await expect(load({ extends: 3, name: 'x' })).rejects.toMatchObject({ kind: 'input' });
    await expect(loadRecipe({ extends: 'base', name: 'x' }, async () => ({ extends: 'other' }))).rejects.toThrow(
      /extends another/,
    );
    await expect(load({ extends: 'base', name: 'x' })).rejects.toMatchObject({ kind: 'input' });
    const stages = await shipped('polyvit-progressive-mnist');
    const wrong = { ...(stages as object), stages: [{ layers: 1, steps: 7 }] };
    await expect(loadRecipe(wrong, shipped)).rejects.toMatchObject({ kind: 'input', place: { field: 'steps' } });
  });

  it('of any shape is loaded or refused with a typed error', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.constantFrom('extends', 'without', 'name', 'losses', 'stages', 'data'), fc.jsonValue()),
        async (own) => {
          await loadRecipe({ extends: 'mnist-polynomial', name: 'x', ...own }, shipped).catch((error: unknown) => {
            // A base that is not there is the reader's to report.
            if ((error as { code?: string }).code !== 'ENOENT') expect(error).toBeInstanceOf(SottoError);
          });
        },
      ),
      { numRuns: 100 },
    );
  });
});
