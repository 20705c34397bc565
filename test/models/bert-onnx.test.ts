import { afterAll, describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { openTextClassifier } from '../../src/jobs/index.ts';
import { bert } from '../../src/models/bert.ts';
import { parseBertConfig } from '../../src/models/config.ts';
import { parsePlan } from '../../src/models/plan.ts';
import { randomBertWeights } from '../../src/models/weights.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { gradient, type Program, trace } from '../../src/program/index.ts';
import { difference, float, index, runReference } from './tiny.ts';

const config = parseBertConfig({
  hidden_size: 12,
  intermediate_size: 18,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  vocab_size: 30,
  num_labels: 3,
});
const backend = onnxBackend();
afterAll(() => backend.close());

describe.each(['exact', 'full-p4'])('an encoder under %s', (name) => {
  const plan = parsePlan(name, config);
  const weights = randomBertWeights(config, 4, plan);

  it('gives on ONNX Runtime the logits of the reference', async () => {
    const texts = [
      { ids: [1, 2, 3], types: [0, 0, 1] },
      { ids: [4, 5, 6, 7, 8], types: [0, 0, 0, 1, 1] },
    ];
    const made = [];
    for (const one of [backend, referenceBackend()]) {
      const classifier = await openTextClassifier({ config, plan, weights, backend: one }, { batch: 2, tokens: 8 });
      made.push((await classifier.classify(texts)).map(({ logits }) => logits));
      await classifier.close();
    }
    for (const row of [0, 1]) expect(difference(made[0]![row]!, made[1]![row]!)).toBeLessThan(2e-5);
  });

  it('has the gradients that finite differences give, padding or not', async () => {
    const program: Program = trace((ops) => {
      const input = (which: string) => ops.input(which, [2, 6], 'public', 'index');
      const mask = ops.input('mask', [2, 6], 'public');
      const { logits } = bert(ops, config, plan, { ids: input('ids'), types: input('types'), mask });
      return { loss: ops.crossEntropy(logits, ops.input('labels', [2], 'public', 'index'), ops.constant([0.5, 0.5], [2])) };
    });
    const feeds = {
      ids: index([1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0], [2, 6]),
      types: index([0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0], [2, 6]),
      mask: float([1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], [2, 6]),
      labels: index([2, 0], [2]),
    };
    const names = [
      'bert.embeddings.word_embeddings.weight',
      'bert.embeddings.LayerNorm.weight',
      'bert.encoder.layer.0.attention.self.key.weight',
      'bert.encoder.layer.1.output.dense.bias',
      'bert.pooler.dense.weight',
    ];
    const derived = gradient(program, 'loss', names);
    const made = await runReference(derived, weights, feeds);
    for (const name of names) {
      const { shape, values } = weights.get(name)!;
      const at = name.includes('word') ? 8 * 12 + 3 : 5;
      const loss = async (step: number) => {
        const moved = Float64Array.from(values);
        moved[at]! += step;
        return (await runReference(program, new Map([...weights, [name, { shape, values: moved }]]), feeds)).get('loss')!
          .values[0]!;
      };
      const due = ((await loss(1e-4)) - (await loss(-1e-4))) / 2e-4;
      const found = [...made].find(([output]) => output.endsWith(name))![1].values[at]!;
      expect(Math.abs(found - due)).toBeLessThan(1e-5 + 1e-4 * Math.abs(due));
    }
  });
});
