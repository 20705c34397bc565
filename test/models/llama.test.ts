import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { generateFloat } from '../../src/jobs/index.ts';
import { traceLlama, traceLlamaPrivate } from '../../src/models/llama.ts';
import { exactPlan, type Plan, parsePlan } from '../../src/models/plan.ts';
import { publicEmbedding } from '../../src/models/public-embedding.ts';
import { greedy, sampler } from '../../src/models/sample.ts';
import { loadWeights, privateWeightShapes, randomLlamaWeights, weightShapes } from '../../src/models/weights.ts';
import { owners, type Tensor } from '../../src/program/index.ts';
import { difference, float, folded, index, mixedPlan, runReference, tinyLlama } from './tiny.ts';

const biased = tinyLlama({ attention_bias: true, mlp_bias: true, tie_word_embeddings: true, head_dim: 6, rope_theta: 500 });
const ungrouped = tinyLlama({ num_key_value_heads: 4, rope_scaling: { type: 'linear', factor: 2 } });
const cases: [string, ReturnType<typeof tinyLlama>, Plan][] = [
  ['exact', tinyLlama(), exactPlan(tinyLlama())],
  ['full-p2', tinyLlama(), parsePlan('full-p2', tinyLlama())],
  ['full-p8, one key head a query head, scaled positions', ungrouped, parsePlan('full-p8', ungrouped)],
  ['hybrid-1', tinyLlama(), parsePlan('hybrid-1', tinyLlama())],
  ['a mixed plan with biases, a tied head and a head dimension of its own', biased, mixedPlan(biased)],
];
const tokens = [3, 17, 0, 29, 8, 8, 21];

async function fullLogits(config: ReturnType<typeof tinyLlama>, plan: Plan, weights: Map<string, Tensor>, ids: number[]) {
  const program = traceLlama(config, plan, { batch: 1, tokens: ids.length });
  const { values } = (await runReference(program, weights, { ids: index(ids, [1, ids.length]) })).get('logits')!;
  return (position: number) => values.subarray(position * config.vocabSize, (position + 1) * config.vocabSize);
}

describe.each(cases)('a Llama under %s', (_, config, plan) => {
  const weights = randomLlamaWeights(config, 5, plan);

  it('gives in a private generation the logits of full recomputation', async () => {
    const program = traceLlamaPrivate(config, plan, { promptTokens: 4, newTokens: 4 });
    const feeds = {
      prompt: index(tokens.slice(0, 4), [4]),
      'token.1': index([tokens[4]!], [1]),
      'token.2': index([tokens[5]!], [1]),
      'token.3': index([tokens[6]!], [1]),
    };
    const outputs = await runReference(program, await folded(config, plan, weights), feeds);
    const expected = await fullLogits(config, plan, weights, tokens);
    for (let step = 0; step < 4; step++) {
      const { shape, values } = outputs.get(`logits.${step}`)!;
      expect(shape).toEqual([config.vocabSize]);
      expect(difference(values, expected(3 + step))).toBeLessThan(1e-9);
    }
  });

  it('opens the logits of every position where a whole text is scored, and in blocks gives the same', async () => {
    const program = traceLlamaPrivate(config, plan, { promptTokens: tokens.length, newTokens: 1, everyPosition: true });
    const prompt = index([...tokens], [tokens.length]);
    const opened = (await runReference(program, await folded(config, plan, weights), { prompt })).get('logits.0')!;
    expect(opened.shape).toEqual([tokens.length, config.vocabSize]);
    const logits = async (blocks: number) => {
      const whole = traceLlama(config, plan, { batch: 1, tokens: 6, blocks });
      return (await runReference(whole, weights, { ids: index([...tokens].slice(0, 6), [1, 6]) })).get('logits')!.values;
    };
    const six = await logits(1);
    expect(difference(opened.values.slice(0, six.length), six)).toBeLessThan(1e-9);
    for (const blocks of [2, 3, 6]) expect(difference(await logits(blocks), six)).toBeLessThan(1e-12);
  });

  it('gives step by step the logits of full recomputation', async () => {
    const model = { config, plan, weights, backend: referenceBackend() };
    // Feeding the text as a prompt of one token and choosing its own continuation replays it.
    let at = 1;
    const generated = await generateFloat({
      ...model,
      promptIds: tokens.slice(0, 1),
      maxNewTokens: tokens.length - 1,
      sample: () => tokens[at++]!,
      keepLogits: true,
    });
    expect(generated.ids).toEqual(tokens);
    const expected = await fullLogits(config, plan, weights, tokens);
    generated.logits.forEach((logits, position) => {
      expect(difference(logits, expected(position))).toBeLessThan(1e-9);
    });
  });

  it('does not see later tokens', async () => {
    const one = await fullLogits(config, plan, weights, tokens);
    const other = await fullLogits(config, plan, weights, [...tokens.slice(0, 4), 1, 2, 3]);
    for (let position = 0; position < 4; position++) expect(difference(one(position), other(position))).toBe(0);
    expect(difference(one(4), other(4))).toBeGreaterThan(1e-3);
  });

  it('names the folded tensors that its private program reads, with their shapes', async () => {
    const made = [...(await folded(config, plan, weights))].map(([name, tensor]) => [name, tensor.shape.join()]);
    expect(new Map(made as [string, string][])).toEqual(
      new Map([...privateWeightShapes(config, plan)].map(([name, shape]) => [name, shape.join()])),
    );
  });
});

describe('the programs of a Llama', () => {
  const config = tinyLlama();
  const plan = parsePlan('full-p4', config);
  const weights = randomLlamaWeights(config, 1, plan);

  it('treat every text of a batch as if it were alone', async () => {
    const program = traceLlama(config, plan, { batch: 2, tokens: 3 });
    const both = (await runReference(program, weights, { ids: index([4, 5, 6, 9, 8, 7], [2, 3]) })).get('logits')!.values;
    const alone = await fullLogits(config, plan, weights, [9, 8, 7]);
    for (let position = 0; position < 3; position++) {
      const row = (3 + position) * config.vocabSize;
      expect(difference(both.subarray(row, row + config.vocabSize), alone(position))).toBeLessThan(1e-12);
    }
  });

  it('give hidden states and attention outputs of every layer where asked', () => {
    const program = traceLlama(config, plan, { batch: 2, tokens: 3, outputs: ['hidden', 'attention'] });
    expect([...program.outputs.keys()]).toEqual(['hidden.0', 'hidden.1', 'attention.0', 'attention.1']);
    for (const at of program.outputs.values()) expect(program.nodes[at]!.shape).toEqual([2, 3, config.hiddenSize]);
  });

  it('take rows of a public table in place of secret token numbers', async () => {
    const d = config.hiddenSize;
    const privates = await folded(config, plan, weights);
    const table = privates.get('private/embedding')!.values;
    const rows = (ids: number[]) =>
      float(
        ids.flatMap((id) => [...table.subarray(id * d, (id + 1) * d)]),
        [ids.length, d],
      );
    const options = { promptTokens: 2, newTokens: 2 } as const;
    const open: Plan = { ...plan, embedding: publicEmbedding(Float32Array.from(table)) };
    const fed = await runReference(traceLlamaPrivate(config, open, options), privates, {
      prompt: rows([4, 9]),
      'token.1': rows([2]),
    });
    const secret = await runReference(traceLlamaPrivate(config, plan, options), privates, {
      prompt: index([4, 9], [2]),
      'token.1': index([2], [1]),
    });
    expect(difference(fed.get('logits.1')!.values, secret.get('logits.1')!.values)).toBe(0);
    expect(privateWeightShapes(config, open).has('private/embedding')).toBe(false);
    expect([...(await folded(config, open, weights)).keys()]).toEqual(
      [...privates.keys()].filter((name) => name !== 'private/embedding'),
    );
  });

  it('ask the client for a token only after the logits that it is chosen from', () => {
    const program = traceLlamaPrivate(config, plan, { promptTokens: 2, newTokens: 3 });
    const inputs = new Map(
      program.nodes.flatMap((node, at) => (node.operation === 'input' ? [[node.parameters.name, at]] : [])) as [string, number][],
    );
    expect(inputs.get('token.1')!).toBeGreaterThan(program.outputs.get('logits.0')!);
    expect(inputs.get('token.2')!).toBeGreaterThan(program.outputs.get('logits.1')!);
  });

  it('never multiply two values of the server in a private run, and keep ranks below six', () => {
    const program = traceLlamaPrivate(config, plan, { promptTokens: 3, newTokens: 2 });
    const known = owners(program);
    program.nodes.forEach((node, at) => {
      expect(node.shape.length).toBeLessThan(6);
      if (['matmul', 'multiply'].includes(node.operation)) expect(known[at], node.scope).toBe('shared');
    });
  });

  it('label every operation with its place', () => {
    const scopes = new Set(traceLlamaPrivate(config, plan, { promptTokens: 3, newTokens: 1 }).nodes.map((node) => node.scope));
    const parts = [
      'attention.norm',
      'attention.qkv',
      'attention.scores',
      'attention.weights',
      'attention.out',
      'mlp.norm',
      'mlp.up',
      'mlp.act',
      'mlp.down',
    ];
    for (const part of parts) expect(scopes).toContain(`layers.1.${part}`);
    for (const scope of ['embed', 'norm', 'head']) expect(scopes).toContain(scope);
  });

  it('refuse texts longer than the model', () => {
    expect(() => traceLlama(config, plan, { batch: 1, tokens: 33 })).toThrow(/33 positions/);
    expect(() => traceLlamaPrivate(config, plan, { promptTokens: 30, newTokens: 4 })).toThrow(/33 positions/);
    expect(() => traceLlamaPrivate(config, plan, { promptTokens: 3, newTokens: 0 })).toThrow(/0 positions/);
  });
});

describe('generation', () => {
  const config = tinyLlama({ eos_token_id: [7, 2] });
  const plan = exactPlan(config);
  const weights = randomLlamaWeights(config, 3, plan);
  const model = { config, plan, weights, backend: referenceBackend() };

  it('stops after an end-of-text token and tells it', async () => {
    const seen: number[] = [];
    const script = [5, 6, 2, 9];
    const made = await generateFloat({
      ...model,
      promptIds: [1, 4],
      maxNewTokens: 9,
      sample: () => script[seen.length]!,
      onToken: (id) => seen.push(id),
    });
    expect(made).toMatchObject({ ids: [1, 4, 5, 6, 2], newIds: [5, 6, 2], stopped: 'eos', logits: [] });
    expect(seen).toEqual([5, 6, 2]);
  });

  it('stops at the end of the context', async () => {
    const made = await generateFloat({ ...model, promptIds: Array(31).fill(1), maxNewTokens: 9, sample: () => 3 });
    expect(made).toMatchObject({ newIds: [3, 3], stopped: 'context' });
  });

  it('refuses prompts that are empty, too long or outside the vocabulary', async () => {
    const attempt = (promptIds: number[], maxNewTokens = 1) => generateFloat({ ...model, promptIds, maxNewTokens });
    await expect(attempt([])).rejects.toMatchObject({ kind: 'input', place: { field: 'prompt' } });
    await expect(attempt(Array(33).fill(1))).rejects.toMatchObject({ kind: 'input', place: { field: 'prompt' } });
    await expect(attempt([30])).rejects.toMatchObject({ kind: 'input', place: { field: 'prompt' } });
    await expect(attempt([1], Number.NaN)).rejects.toMatchObject({ kind: 'input', place: { field: 'newTokens' } });
  });

  it('names the tensor that the weights lack', async () => {
    const poorer = new Map(weights);
    poorer.delete('model.norm.weight');
    await expect(generateFloat({ ...model, weights: poorer, promptIds: [1], maxNewTokens: 1 })).rejects.toMatchObject({
      kind: 'model',
      place: { tensor: 'model.norm.weight' },
    });
    const full = parsePlan('full-p2', config);
    await expect(generateFloat({ ...model, plan: full, promptIds: [1], maxNewTokens: 1 })).rejects.toMatchObject({
      place: { tensor: 'model.layers.0.mlp.act.a' },
    });
  });

  it('samples the same text from the same seed, and the greedy one at temperature zero', async () => {
    const text = async (sample: ReturnType<typeof sampler>) =>
      (await generateFloat({ ...model, promptIds: [1], maxNewTokens: 12, sample })).ids;
    const drawn = { temperature: 1.5, topP: 0.9 };
    expect(await text(sampler({ ...drawn, seed: 4 }))).toEqual(await text(sampler({ ...drawn, seed: 4 })));
    expect(await text(sampler({ ...drawn, seed: 4 }))).not.toEqual(await text(sampler({ ...drawn, seed: 5 })));
    expect(await text(sampler({ temperature: 0, seed: 9 }))).toEqual(await text(greedy));
  });
});

describe('loading weights', () => {
  const config = tinyLlama();
  const plan = exactPlan(config);
  const weights = randomLlamaWeights(config, 3);
  const reader = (changes: Record<string, readonly number[] | null>) => ({
    has: (name: string) => weights.has(name) && changes[name] !== null,
    shape: (name: string) => changes[name] ?? weights.get(name)!.shape,
    read: async (name: string) => weights.get(name)!.values as Float32Array,
  });

  it('reads exactly the tensors that the model names', async () => {
    expect([...(await loadWeights(reader({}), config, plan)).keys()]).toEqual([...weightShapes(config, plan).keys()]);
  });

  it('names the tensor that is missing or misshapen', async () => {
    const name = 'model.layers.1.self_attn.k_proj.weight';
    await expect(loadWeights(reader({ [name]: null }), config, plan)).rejects.toMatchObject({
      kind: 'model',
      place: { tensor: name },
    });
    await expect(loadWeights(reader({ [name]: [16, 8] }), config, plan)).rejects.toMatchObject({
      kind: 'model',
      place: { tensor: name },
    });
  });

  it('names the tensor whose size does not fit when folding', async () => {
    const broken = new Map(weights).set('lm_head.weight', float([1, 2], [2]));
    await expect(folded(config, plan, broken)).rejects.toMatchObject({ kind: 'model', place: { tensor: 'lm_head.weight' } });
  });

  it('makes the same random weights from the same seed', () => {
    const again = randomLlamaWeights(config, 3);
    const other = randomLlamaWeights(config, 4);
    const name = 'model.layers.0.mlp.up_proj.weight';
    expect(again.get(name)).toEqual(weights.get(name));
    expect(other.get(name)).not.toEqual(weights.get(name));
  });
});
