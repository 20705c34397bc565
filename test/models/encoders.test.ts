import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { writeCheckpoint } from '../../src/models/checkpoint.ts';
import { parseBertConfig } from '../../src/models/config.ts';
import { parsePlan } from '../../src/models/plan.ts';
import { randomBertWeights } from '../../src/models/weights.ts';
import { folderFiles } from '../../src/node/files.ts';
import { classifyTexts, classifyTextsFixed, evaluateGlueFile } from '../../src/package/encoders.ts';
import { loadModel } from '../../src/package/index.ts';
import { openMeasured } from '../../src/package/measure.ts';
import { openModel } from '../../src/package/model.ts';
import { sottoHere } from '../cli/command.ts';

const folder = mkdtempSync(join(tmpdir(), 'sotto-encoder-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'film', 'is', 'great', 'bad', '##ly', '!'];
const config = {
  model_type: 'bert',
  hidden_size: 12,
  intermediate_size: 18,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  vocab_size: vocabulary.length,
  max_position_embeddings: 16,
  id2label: { 0: 'negative', 1: 'positive' },
};

describe('a folder of an encoder with only a vocab.txt', () => {
  const opened = (async () => {
    const tensors = [...randomBertWeights(parseBertConfig(config), 9)];
    const files = folderFiles(folder);
    const named = tensors.map(([name, { shape, values }]) => ({ name, shape, values: values as Float32Array }));
    await writeCheckpoint(files, { config, tensors: named, extra: { 'vocab.txt': vocabulary.join('\n') } });
    return await openModel(folder);
  })();

  it('classifies texts, alike on both float backends', async () => {
    const texts = [['the film is great!'], ['badly'], ['the film', 'is bad']] as const;
    const model = await opened;
    const [onnx, reference] = [
      await classifyTexts(model, texts),
      await classifyTexts(model, texts, { backend: 'reference', batch: 2 }),
    ];
    expect(onnx.map(({ label }) => label)).toEqual(reference.map(({ label }) => label));
    for (const [at, { logits }] of onnx.entries())
      expect(Math.max(...logits.map((value, i) => Math.abs(value - reference[at]!.logits[i]!)))).toBeLessThan(1e-4);
  });

  it('is scored on the file of a GLUE task as its own predictions say', async () => {
    const sentences = ['the film is great', 'bad film', 'is the film bad', 'great !', 'film'];
    const model = await opened;
    const predicted = await classifyTexts(
      model,
      sentences.map((sentence) => [sentence] as const),
    );
    const rows = sentences.map((sentence, at) => `${sentence}\t${at < 3 ? predicted[at]!.id : 1 - predicted[at]!.id}`);
    const file = join(folder, 'dev.tsv');
    writeFileSync(file, `sentence\tlabel\n${rows.join('\n')}\n`);
    expect((await evaluateGlueFile(model, 'sst2', file)).acc).toMatchObject({ value: 0.6, count: 5 });
    expect((await evaluateGlueFile(model, 'sst2', file, { limit: 3 })).acc).toMatchObject({ value: 1, count: 3 });
    await expect(evaluateGlueFile(model, 'mnli', file)).rejects.toMatchObject({
      kind: 'input',
      place: { field: 'line 2, premise' },
    });
  });

  it('is scored from the command line, on floats and on the integers of a private run alike', async () => {
    const parsed = parseBertConfig(config);
    const plan = parsePlan('full-p2', parsed);
    const polynomial = join(folder, 'polynomial');
    const named = [...randomBertWeights(parsed, 9, plan)].map(([name, { shape, values }]) => ({
      name,
      shape,
      values: values as Float32Array,
    }));
    const extra = { 'vocab.txt': vocabulary.join('\n') };
    await writeCheckpoint(folderFiles(polynomial), { config: { ...config, sotto: plan }, tensors: named, extra });
    const sentences = ['the film is great', 'bad film', 'is the film bad', 'great !'];
    const samples = join(folder, 'samples.txt');
    writeFileSync(samples, sentences.join('\n'));
    const unmeasured = await sottoHere([
      'eval',
      '--model',
      polynomial,
      '--task',
      'sst2',
      '--data',
      samples,
      '--backend',
      'fixed',
    ]);
    expect(unmeasured).toMatchObject({ code: 5, stderr: expect.stringMatching(/sotto calibrate/) });
    const calibrated = await sottoHere(['calibrate', '--model', polynomial, '--text', samples, '--separator', '\\n']);
    expect(calibrated).toMatchObject({ code: 0, stdout: expect.stringMatching(/64 bits with 16 of fraction/) });
    const model = await openMeasured(polynomial, {});
    const texts = sentences.map((sentence) => [sentence] as const);
    const [float, ring] = [await classifyTexts(model, texts), await classifyTextsFixed(model, texts, { bits: 64, fraction: 16 })];
    for (const [at, { logits }] of ring.entries())
      expect(Math.max(...logits.map((value, i) => Math.abs(value - float[at]!.logits[i]!)))).toBeLessThan(0.01);
    const file = join(folder, 'polynomial.tsv');
    writeFileSync(file, `sentence\tlabel\n${sentences.map((text, at) => `${text}\t${ring[at]!.id}`).join('\n')}\n`);
    for (const [backend, count] of [
      ['onnx', 4],
      ['fixed', 4],
      ['mpc', 1],
    ] as const) {
      const data = ['--data', file, '--limit', String(count)];
      const words = ['eval', '--model', polynomial, '--task', 'sst2', ...data, '--backend', backend, '--json'];
      const { code, stdout } = await sottoHere(words);
      expect(code).toBe(0);
      const metrics = { acc: { value: 1, count }, ...(backend === 'mpc' ? { bytes_per_sample: { count } } : {}) };
      expect(JSON.parse(stdout)).toMatchObject({ task: 'sst2', backend, metrics, samples: count });
    }
  });

  it('is classified through the library, in the clear and under the whole protocol', async () => {
    const model = await loadModel(join(folder, 'polynomial'));
    const text = ['the film', 'is bad'] as const;
    const fixed = await model.classifyText(text, { backend: 'fixed' });
    const rehearsed = await model.classifyTextPrivately(text);
    expect([rehearsed.label, rehearsed.online]).toEqual([fixed.label, rehearsed.forecast.online]);
    expect(Math.max(...rehearsed.logits.map((value, i) => Math.abs(value - fixed.logits[i]!)))).toBeLessThan(0.01);
    await expect(model.classifyTextPrivately(['the '.repeat(40)])).rejects.toMatchObject({ kind: 'input' });
  });
});
