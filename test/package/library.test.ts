import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/package/index.ts';
import { writeTiny } from '../cli/checkpoints.ts';
import { root } from '../cli/command.ts';

const folder = await mkdtemp(join(tmpdir(), 'sotto-library-'));
afterAll(() => rm(folder, { recursive: true, force: true }));
const teacher = loadModel(join(root, 'artefacts/stories-teacher'));
const shipped = loadModel(join(root, 'artefacts/stories-polynomial'));

describe('the library', () => {
  it('loads a checkpoint, converts it and runs it privately in one process', async () => {
    const model = await (await teacher).convert({ plan: 'full-p2', rows: 4, tokens: 32 });
    const prompt = 'Once upon a time';
    const written = await model.generatePrivately(prompt, { newTokens: 4 });
    expect(written.text.startsWith(prompt)).toBe(true);
    expect(written.ids.length - written.promptTokens).toBe(4);
    const { setup, offline, online, forecast } = written;
    expect({ setup, offline, online }).toEqual(forecast);
    await model.save(join(folder, 'converted'));
    const again = await (await loadModel(join(folder, 'converted'))).generate(prompt, { newTokens: 4 });
    expect(again.ids).toEqual((await model.generate(prompt, { newTokens: 4 })).ids);
  });

  it('writes the same privately as in the clear, with pieces that make up the text', async () => {
    const model = await shipped;
    const pieces: string[] = [];
    const [secret, clear, simulated] = [
      await model.generatePrivately('Once upon a time', { newTokens: 4, onText: (piece) => pieces.push(piece) }),
      await model.generate('Once upon a time', { newTokens: 4 }),
      await model.generate('Once upon a time', { newTokens: 4, backend: 'fixed' }),
    ];
    expect(secret.ids).toEqual(clear.ids);
    expect(simulated.ids).toEqual(clear.ids);
    expect(pieces.join('')).toBe(secret.text);
  });

  it('forecasts what a run sends from the program alone', async () => {
    const model = await shipped;
    const { ids, promptTokens, online } = await model.generatePrivately('A cat', { newTokens: 2 });
    expect(ids.length - promptTokens).toBe(2);
    expect(model.forecast({ promptTokens, newTokens: 2 }).total.online).toEqual(online);
  });

  it('gives no answer where a value left the ring, unless it is told not to look', async () => {
    const wild = { factors: { 'model.layers.0.mlp.down_proj.weight': 2 ** 30 } };
    const model = await loadModel(await writeTiny(join(folder, 'wild'), wild));
    const pieces: string[] = [];
    const options = { newTokens: 2, onText: (piece: string) => pieces.push(piece) };
    await expect(model.generatePrivately([1, 270], options)).rejects.toMatchObject({ kind: 'range' });
    expect(pieces).toEqual([]);
    expect((await model.generatePrivately([1, 270], { newTokens: 2, rangeFlags: false })).ids).toHaveLength(4);
  });

  it('draws the same text for the same seed', async () => {
    const sampling = { temperature: 1, topP: 0.95, seed: 5 };
    const texts = await Promise.all(
      [1, 2].map(async () => (await (await teacher).generate('One day', { newTokens: 8, sampling })).text),
    );
    expect(texts[0]).toBe(texts[1]);
  });

  it('runs a model that nobody converted', async () => {
    const made = await (await teacher).generatePrivately('Once upon', { newTokens: 2 });
    expect(made.ids).toEqual((await (await teacher).generate('Once upon', { newTokens: 2 })).ids);
    expect(made.online).toEqual(made.forecast.online);
  });

  it('refuses what it cannot do with a typed error', async () => {
    await expect((await teacher).classify(new Float32Array(3))).rejects.toMatchObject({ kind: 'model' });
    await expect((await shipped).generate(Array(400).fill(3))).rejects.toMatchObject({ kind: 'input' });
    await expect(loadModel(join(folder, 'nowhere'))).rejects.toMatchObject({ kind: 'input' });
  });

  it('has every entry point that the package names', async () => {
    const { exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { exports: Record<string, unknown> };
    for (const [name, target] of Object.entries(exports)) {
      if (typeof target === 'string') continue;
      const { types } = target as { types: string };
      const source = types.replace('./dist/', 'src/').replace(/\.d\.ts$/, '.ts');
      expect(existsSync(join(root, source)), name).toBe(true);
    }
  });
});
