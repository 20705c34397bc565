import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { SottoError } from '../../src/errors/index.ts';
import { openTextClassifier } from '../../src/jobs/index.ts';
import { traceBert, traceBertPrivate } from '../../src/models/bert.ts';
import { openCheckpoint, writeCheckpoint } from '../../src/models/checkpoint.ts';
import { type BertConfig, parseBertConfig, parseModelConfig } from '../../src/models/config.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { exactPlan, type Plan, parsePlan, poolerPlan } from '../../src/models/plan.ts';
import { loadWeights, privateWeightShapes, randomBertWeights } from '../../src/models/weights.ts';
import { owners, type Tensor } from '../../src/program/index.ts';
import { difference, float, folded, index, mixedPlan, runReference } from './tiny.ts';

const fields = {
  model_type: 'bert',
  hidden_size: 12,
  intermediate_size: 18,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  vocab_size: 30,
  max_position_embeddings: 16,
  num_labels: 3,
};
const bert = parseBertConfig(fields);
const roberta = parseBertConfig({
  ...fields,
  model_type: 'roberta',
  type_vocab_size: 1,
  layer_norm_eps: 1e-5,
  hidden_act: 'gelu_new',
});

type Rows = number[][];

/** The model once more, in plain arithmetic on one text without padding, from the published description. */
function plainBert(config: BertConfig, plan: Plan, weights: ReadonlyMap<string, Tensor>, ids: number[], types: number[]) {
  const { hiddenSize: d, numAttentionHeads: heads, headDim, layerNormEps } = config;
  const prefix = config.layout;
  const get = (name: string): number[] => [...(weights.get(name)!.values as Float32Array)];
  const dense = (x: Rows, name: string): Rows => {
    const [w, b] = [get(`${name}.weight`), get(`${name}.bias`)];
    return x.map((row) => b.map((bias, o) => row.reduce((sum, value, i) => sum + value * w[o * row.length + i]!, bias)));
  };
  const norm = (x: Rows, name: string): Rows => {
    const [gain, bias] = [get(`${name}.weight`), get(`${name}.bias`)];
    return x.map((row) => {
      const mean = row.reduce((a, b) => a + b) / d;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / d;
      return row.map((value, i) => ((value - mean) / Math.sqrt(variance + layerNormEps)) * gain[i]! + bias[i]!);
    });
  };
  const plus = (x: Rows, y: Rows): Rows => x.map((row, t) => row.map((value, i) => value + y[t]![i]!));
  /** Φ by its integral; ten thousand steps are exact to 1e-9 here. */
  const phi = (x: number) => {
    const steps = 4000;
    let sum = 0;
    for (let k = 0; k < steps; k++) sum += Math.exp(-0.5 * (((k + 0.5) / steps) * x) ** 2);
    return 0.5 + (sum * x) / steps / Math.sqrt(2 * Math.PI);
  };
  const gelu = (x: number) =>
    config.hiddenAct === 'gelu' ? x * phi(x) : 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  const activated = (x: Rows, kind: Plan['layers'][number]['activation'], name: string, exact: (x: number) => number): Rows => {
    if (kind.kind === 'exact') return x.map((row) => row.map(exact));
    if (kind.kind === 'relu') return x.map((row) => row.map((value) => Math.max(0, value)));
    const [a, b, c] = ['a', 'b', 'c'].map((letter) => get(`${name}.${letter}`)) as [number[], number[], number[]];
    const at = (list: number[], i: number) => list[list.length === 1 ? 0 : i]!;
    return x.map((row) => row.map((value, i) => at(a, i) * value * value + at(b, i) * value + at(c, i)));
  };
  const table = (name: string, row: number) => get(`${prefix}.embeddings.${name}.weight`).slice(row * d, (row + 1) * d);
  let x = ids.map((id, t) => {
    const [word, place, type] = [
      table('word_embeddings', id),
      table('position_embeddings', t + config.firstPosition),
      table('token_type_embeddings', types[t]!),
    ];
    return word.map((value, i) => value + place[i]! + type[i]!);
  });
  x = norm(x, `${prefix}.embeddings.LayerNorm`);
  const hidden: Rows[] = [];
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const name = (part: string) => `${prefix}.encoder.layer.${layer}.${part}`;
    const [q, k, v] = ['query', 'key', 'value'].map((part) => dense(x, name(`attention.self.${part}`))) as [Rows, Rows, Rows];
    const mixed = x.map(() => new Array<number>(d).fill(0));
    const { attention, activation } = plan.layers[layer]!;
    for (let head = 0; head < heads; head++)
      for (let t = 0; t < x.length; t++) {
        const of = (row: number[]) => row.slice(head * headDim, (head + 1) * headDim);
        const scores = k.map((key) => of(q[t]!).reduce((sum, value, i) => sum + value * of(key)[i]!, 0) / Math.sqrt(headDim));
        const mean = scores.reduce((a, b) => a + b) / scores.length;
        const raw =
          attention.kind === 'power' ? scores.map((s) => (1 + s - mean) ** attention.exponent) : scores.map((s) => Math.exp(s));
        const floor = attention.kind === 'power' ? attention.epsilon * scores.length : 0;
        const sum = raw.reduce((a, b) => a + b) + floor;
        for (let i = 0; i < headDim; i++)
          mixed[t]![head * headDim + i] = raw.reduce((total, w, s) => total + (w / sum) * of(v[s]!)[i]!, 0);
      }
    const middle = norm(plus(x, dense(mixed, name('attention.output.dense'))), name('attention.output.LayerNorm'));
    const up = activated(dense(middle, name('intermediate.dense')), activation, name('intermediate.act'), gelu);
    x = norm(plus(middle, dense(up, name('output.dense'))), name('output.LayerNorm'));
    hidden.push(x);
  }
  const [pooler, act, head] =
    prefix === 'bert'
      ? ['bert.pooler.dense', 'bert.pooler.act', 'classifier']
      : ['classifier.dense', 'classifier.act', 'classifier.out_proj'];
  const pooled = activated(dense([x[0]!], pooler!), poolerPlan(plan), act!, Math.tanh);
  return { hidden, logits: dense(pooled, head!)[0]! };
}

const cases: [string, BertConfig, Plan][] = [
  ['BERT, exact', bert, exactPlan(bert)],
  ['BERT, full-p4', bert, parsePlan('full-p4', bert)],
  ['BERT, a mixed plan', bert, mixedPlan(bert)],
  ['BERT, hybrid-1 with a rectified pooler', bert, { ...parsePlan('hybrid-1', bert), pooler: { kind: 'relu' } }],
  ['RoBERTa, exact', roberta, exactPlan(roberta)],
  ['RoBERTa, full-p2', roberta, parsePlan('full-p2', roberta)],
];

describe.each(cases)('an encoder like %s', (_, config, plan) => {
  const weights = randomBertWeights(config, 5, plan);
  const ids = [3, 17, 29, 0, 8, 8, 21];
  const types = config.typeVocabSize === 1 ? ids.map(() => 0) : [0, 0, 0, 1, 1, 1, 1];
  const due = plainBert(config, plan, weights, ids, types);

  it('computes what its description says', async () => {
    const program = traceBert(config, plan, { batch: 1, tokens: 7, outputs: ['logits', 'hidden'] });
    const feeds = { ids: index(ids, [1, 7]), types: index(types, [1, 7]), mask: float(new Array(7).fill(1), [1, 7]) };
    const made = await runReference(program, weights, feeds);
    for (const [layer, rows] of due.hidden.entries())
      expect(difference(made.get(`hidden.${layer}`)!.values, rows.flat())).toBeLessThan(1e-6);
    expect(difference(made.get('logits')!.values, due.logits)).toBeLessThan(1e-6);
  });

  it('gives every text of a batch the logits it has alone, whatever the padding', async () => {
    const classifier = await openTextClassifier({ config, plan, weights, backend: referenceBackend() }, { batch: 2, tokens: 10 });
    const texts = [
      { ids: [4, 5], types: [0, 0] },
      { ids, types },
      { ids: [9], types: [0] },
    ];
    const made = await classifier.classify(texts);
    await classifier.close();
    expect(difference(made[1]!.logits, due.logits)).toBeLessThan(1e-6);
    expect(difference(made[0]!.logits, plainBert(config, plan, weights, [4, 5], [0, 0]).logits)).toBeLessThan(1e-6);
    expect(difference(made[2]!.logits, plainBert(config, plan, weights, [9], [0]).logits)).toBeLessThan(1e-6);
  });

  it('gives in private the logits of the published definition, from the folded tensors that it names', async () => {
    const privates = await folded(config, plan, weights);
    expect(new Map([...privates].map(([name, { shape }]) => [name, shape.join()]))).toEqual(
      new Map([...privateWeightShapes(config, plan)].map(([name, shape]) => [name, shape.join()])),
    );
    const program = traceBertPrivate(config, plan, { tokens: 7 });
    const feeds = { prompt: index(ids, [7]), ...(config.typeVocabSize === 1 ? {} : { types: index(types, [7]) }) };
    const made = (await runReference(program, privates, feeds)).get('logits')!;
    expect(made.shape).toEqual([3]);
    expect(difference(made.values, due.logits)).toBeLessThan(1e-6);
  });

  it('never multiplies two values of the server in private', () => {
    const program = traceBertPrivate(config, plan, { tokens: 4 });
    const known = owners(program);
    program.nodes.forEach((node, at) => {
      expect(node.shape.length).toBeLessThan(6);
      if (['matmul', 'multiply'].includes(node.operation)) expect(known[at], node.scope).toBe('shared');
    });
  });
});

describe('config.json of an encoder', () => {
  it('is read with the published defaults of either layout', () => {
    expect(parseModelConfig({ model_type: 'bert' })).toMatchObject({
      family: 'bert',
      hiddenSize: 768,
      vocabSize: 30522,
      firstPosition: 0,
      padTokenId: 0,
      layerNormEps: 1e-12,
      labels: ['LABEL_0', 'LABEL_1'],
    });
    expect(parseModelConfig({ model_type: 'roberta', max_position_embeddings: 514 })).toMatchObject({
      layout: 'roberta',
      vocabSize: 50265,
      firstPosition: 2,
      padTokenId: 1,
    });
  });

  it.each([
    ['num_attention_heads', { num_attention_heads: 5 }],
    ['position_embedding_type', { position_embedding_type: 'relative_key' }],
    ['is_decoder', { is_decoder: true }],
    ['id2label', { id2label: { 0: 'a', 2: 'b' } }],
    ['max_position_embeddings', { model_type: 'roberta', max_position_embeddings: 2 }],
  ])('is refused with the field %s where that is wrong', (field, change) => {
    expect(() => parseModelConfig({ ...fields, ...change })).toThrow(
      expect.objectContaining({ kind: 'model', place: { file: 'config.json', field } }),
    );
  });

  it('is read or refused with a typed error, whatever stands there', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.keys(fields).filter((key) => key !== 'model_type'), 'type_vocab_size', 'pad_token_id'),
        fc.anything(),
        (field, value) => {
          try {
            parseModelConfig({ ...fields, [field]: value });
          } catch (error) {
            expect(error).toBeInstanceOf(SottoError);
          }
        },
      ),
    );
  });
});

describe('the checkpoint of an encoder', () => {
  it('is read under the names of today and those of early files', async () => {
    const weights = randomBertWeights(bert, 2);
    const former = (name: string) =>
      name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta');
    for (const rename of [(name: string) => name, former]) {
      const files = memoryFiles();
      const tensors = [...weights].map(([name, { shape, values }]) => ({
        name: rename(name),
        shape,
        values: values as Float32Array,
      }));
      await writeCheckpoint(files, { config: fields, tensors });
      const read = await loadWeights(await openCheckpoint(files), bert, exactPlan(bert));
      expect(read).toEqual(weights);
    }
  });

  it('is refused with the name of a missing head', async () => {
    const files = memoryFiles();
    const tensors = [...randomBertWeights(bert, 2)].filter(([name]) => !name.startsWith('classifier'));
    await writeCheckpoint(files, {
      config: fields,
      tensors: tensors.map(([name, { shape, values }]) => ({ name, shape, values: values as Float32Array })),
    });
    await expect(
      openCheckpoint(files).then((checkpoint) => loadWeights(checkpoint, bert, exactPlan(bert))),
    ).rejects.toMatchObject({ kind: 'model', place: { tensor: 'classifier.weight' } });
  });
});

describe('a classifier of texts', () => {
  it('refuses texts that are too long, empty, or of another vocabulary', async () => {
    const plan = exactPlan(bert);
    const classifier = await openTextClassifier(
      { config: bert, plan, weights: randomBertWeights(bert, 1), backend: referenceBackend() },
      { tokens: 4 },
    );
    for (const text of [
      { ids: [1, 2, 3, 4, 5], types: [0, 0, 0, 0, 0] },
      { ids: [], types: [] },
      { ids: [30], types: [0] },
      { ids: [1], types: [2] },
      { ids: [1, 2], types: [0] },
    ])
      await expect(classifier.classify([{ ids: [1], types: [0] }, text])).rejects.toMatchObject({
        kind: 'input',
        place: { field: 'text 1' },
      });
    await classifier.close();
    expect(() => traceBert(roberta, exactPlan(roberta), { batch: 1, tokens: 15 })).toThrow(/1 to 14/);
  });
});
