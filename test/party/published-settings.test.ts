import { afterAll, describe, expect, it } from 'vitest';
import { FloatTextModel } from '../../src/evaluate/float.ts';
import { openCheckpoint, writeCheckpoint } from '../../src/models/checkpoint.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { type LoadedModel, openModel } from '../../src/package/model.ts';
import { rehearseText, writer, writeText } from '../../src/package/text.ts';
import { launchLocal } from '../../src/party/index.ts';
import { readManifest } from '../../src/party/manifest.ts';
import { writeTexts } from '../../src/train/write.ts';
import { temporary } from './models.ts';

const ring = { bits: 64, fraction: 16 };
const promptIds = [1, 403, 407];
const source = folderFiles('artefacts/stories-polynomial');
const place = temporary();
afterAll(place.remove);

interface Written {
  readonly newIds: readonly number[];
  readonly stopped: string;
}
const backends: Record<string, (model: LoadedModel, folder: string, newTokens: number) => Promise<Written>> = {
  reference: (model, _, newTokens) => writeText(model, 'reference', { promptIds, newTokens, ring }),
  onnx: (model, _, newTokens) => writeText(model, 'onnx', { promptIds, newTokens, ring }),
  fixed: (model, _, newTokens) => writeText(model, 'fixed', { promptIds, newTokens, ring }),
  rehearsal: (model, _, newTokens) => rehearseText(model, { promptIds, newTokens, ring, rangeFlags: false }),
  'rehearsal, tokens alone': (model, _, newTokens) =>
    rehearseText(model, { promptIds, newTokens, ring, rangeFlags: false, reveal: 'token' }),
  async processes(_, folder, newTokens) {
    const task = { kind: 'generate', prompt: { ids: promptIds }, newTokens } as const;
    return (await launchLocal({ model: folder, task, ring, rangeFlags: false, transport: 'unix', timeoutMilliseconds: 60_000 }))
      .client;
  },
};

describe('end tokens of generation_config.json', () => {
  const folder = `${place.path}/ends`;
  const made = (async () => {
    const plain = await writeText(await openModel(source), 'fixed', { promptIds, newTokens: 3, ring });
    const [first, , end] = plain.newIds as [number, number, number];
    expect(plain.newIds.indexOf(end)).toBe(2);
    const { config, readAll } = await openCheckpoint(source);
    const tensors = [...(await readAll())].map(([name, tensor]) => ({ name, ...tensor }));
    // config.json names the first new token: whoever believes it stops too early.
    await writeCheckpoint(folderFiles(folder), {
      config: { ...config, eos_token_id: first },
      tensors,
      companions: source,
      extra: { 'generation_config.json': JSON.stringify({ eos_token_id: [2, end], do_sample: true, temperature: 0.6 }) },
    });
    return { model: await openModel(folder), expected: plain.newIds, end };
  })();

  it.each(Object.keys(backends))('end a text: %s', async (name) => {
    const { model, expected } = await made;
    expect(await backends[name]!(model, folder, 6)).toMatchObject({ newIds: expected, stopped: 'eos' });
  });

  it('end what evaluation and training write, and stand in what a server tells its clients', async () => {
    const { model, expected, end } = await made;
    const backend = onnxBackend();
    try {
      const parts = { config: writer(model), plan: model.plan, weights: await model.weights(), backend };
      const written = new FloatTextModel(parts, await model.tokenizer());
      expect(await written.write({ promptIds, newTokens: 6 })).toEqual(expected);
      await written.close();
      const options = { texts: 1, length: 40, temperature: 0, seed: 1, backend };
      const [text] = await writeTexts(folderFiles(folder), options);
      const ids = (await model.tokenizer()).encode(text!);
      expect(ids.includes(end)).toBe(false);
      expect(ids.length).toBeLessThan(20);
    } finally {
      await backend.close();
    }
    const manifest = await readManifest(model.checkpoint.files, model.checkpoint.config);
    expect(manifest.config).toMatchObject({ eos_token_id: [2, end] });
  });
});

describe('a vocabulary padded beyond the tokenizer’s', () => {
  const folder = `${place.path}/padded`;
  const padded = 517;
  const made = (async () => {
    const plain = await writeText(await openModel(source), 'fixed', { promptIds, newTokens: 1, ring });
    const { config, readAll } = await openCheckpoint(source);
    const tensors = [...(await readAll())].map(([name, { shape, values }]) => {
      if (name !== 'model.embed_tokens.weight') return { name, shape, values };
      const width = shape[1]!;
      const rows = new Float32Array(576 * width);
      rows.set(values);
      // A padded row that wins: the likeliest token's, a little longer.
      const likeliest = values.subarray(plain.newIds[0]! * width, (plain.newIds[0]! + 1) * width);
      rows.set(
        likeliest.map((value) => 1.25 * value),
        padded * width,
      );
      return { name, shape: [576, width], values: rows };
    });
    await writeCheckpoint(folderFiles(folder), { config: { ...config, vocab_size: 576 }, tensors, companions: source });
    return await openModel(folder);
  })();

  it.each(Object.keys(backends))('decodes to nothing, and writing goes on: %s', async (name) => {
    const model = await made;
    const expected = await backends.fixed!(model, folder, 4);
    expect(expected.newIds[0]).toBe(padded);
    const written = await backends[name]!(model, folder, 4);
    expect(written).toMatchObject({ newIds: expected.newIds, stopped: 'length' });
    const tokenizer = await model.tokenizer();
    expect(tokenizer.decode(written.newIds)).toBe(tokenizer.decode(written.newIds.filter((id) => id < 512)));
  });
});
