import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { classifyFloat } from '../../src/jobs/index.ts';
import { exactPlan, type Plan, parsePlan } from '../../src/models/plan.ts';
import { patches, traceVit, traceVitPrivate } from '../../src/models/vit.ts';
import { privateWeightShapes, randomVitWeights } from '../../src/models/weights.ts';
import { owners, trace } from '../../src/program/index.ts';
import { difference, float, folded, mixedPlan, runReference, tinyVit } from './tiny.ts';

const config = tinyVit();
const bare = tinyVit({ qkv_bias: false, hidden_act: 'gelu_new' });
const picture = (shift: number) => Float64Array.from({ length: 2 * 64 }, (_, at) => Math.sin(at * 0.7 + shift));

const cases: [string, ReturnType<typeof tinyVit>, Plan][] = [
  ['exact', config, exactPlan(config)],
  ['full-p2', config, parsePlan('full-p2', config)],
  ['full-p8 without biases of queries, keys and values', bare, parsePlan('full-p8', bare)],
  ['hybrid-1', bare, parsePlan('hybrid-1', bare)],
  ['a mixed plan', config, mixedPlan(config)],
];

describe.each(cases)('a vision transformer under %s', (_, model, plan) => {
  const weights = randomVitWeights(model, 8, plan);

  it('gives in private the logits of the published definition', async () => {
    const privates = await folded(model, plan, weights);
    const open = await runReference(traceVit(model, plan, { batch: 1 }), weights, { pixels: float(picture(0), [1, 2, 8, 8]) });
    const secret = await runReference(traceVitPrivate(model, plan), privates, { pixels: float(picture(0), [2, 8, 8]) });
    expect(secret.get('logits')!.shape).toEqual([5]);
    expect(difference(open.get('logits')!.values, secret.get('logits')!.values)).toBeLessThan(1e-9);
  });

  it('names the folded tensors that its private program reads, with their shapes', async () => {
    const made = [...(await folded(model, plan, weights))].map(([name, tensor]): [string, string] => [name, tensor.shape.join()]);
    expect(new Map(made)).toEqual(new Map([...privateWeightShapes(model, plan)].map(([name, shape]) => [name, shape.join()])));
  });
});

describe('the programs of a vision transformer', () => {
  it('cut a picture into patches row by row, channels first', async () => {
    const program = trace((ops) => ({ rows: patches(ops, config, ops.input('pixels', [1, 2, 8, 8], 'public')) }));
    const pixels = float(
      Array.from({ length: 128 }, (_, at) => at),
      [1, 2, 8, 8],
    );
    const { shape, values } = (await runReference(program, new Map(), { pixels })).get('rows')!;
    expect(shape).toEqual([1, 4, 32]);
    expect([...values.subarray(32, 38)]).toEqual([4, 5, 6, 7, 12, 13]);
    expect(values[32 + 16]).toBe(64 + 4);
    expect(values[64]).toBe(32);
  });

  it('treat every picture of a batch as if it were alone, the last batch filled up', async () => {
    const plan = exactPlan(config);
    const model = { config, plan, weights: randomVitWeights(config, 2, plan), backend: referenceBackend() };
    const pictures = [picture(0), picture(1), picture(2)];
    const together = await classifyFloat({ ...model, pictures, batch: 2 });
    const alone = await classifyFloat({ ...model, pictures });
    expect(together).toHaveLength(3);
    for (const [at, made] of together.entries()) expect(difference(made.logits, alone[at]!.logits)).toBeLessThan(1e-12);
    expect(together[1]!.label).toBe(`LABEL_${together[1]!.id}`);
  });

  it('refuse pictures of another size', async () => {
    const plan = exactPlan(config);
    const model = { config, plan, weights: randomVitWeights(config, 2, plan), backend: referenceBackend() };
    await expect(classifyFloat({ ...model, pictures: [new Float32Array(3)] })).rejects.toMatchObject({ kind: 'input' });
  });

  it('never multiply two values of the server in a private run, and keep ranks below six', () => {
    const program = traceVitPrivate(config, parsePlan('full-p4', config));
    const known = owners(program);
    program.nodes.forEach((node, at) => {
      expect(node.shape.length).toBeLessThan(6);
      if (['matmul', 'multiply'].includes(node.operation)) expect(known[at], node.scope).toBe('shared');
    });
  });

  it('give hidden states and attention outputs of every layer where asked', () => {
    const program = traceVit(config, exactPlan(config), { batch: 2, outputs: ['logits', 'hidden', 'attention'] });
    expect([...program.outputs.keys()]).toEqual(['logits', 'hidden.0', 'hidden.1', 'attention.0', 'attention.1']);
    expect(program.nodes[program.outputs.get('attention.1')!]!.shape).toEqual([2, 5, 12]);
  });
});
