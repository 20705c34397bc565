import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { exactPlan, fullPlan, parseLlamaConfig, traceLlama } from '../../src/models/index.ts';
import { randomLlamaWeights } from '../../src/models/weights.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { batches, batchFeeds, splitDocuments, splitItems, write } from '../../src/train/index.ts';

/** Documents whose ids name them: the begin is 1000·d, then 1000·d + 1 … */
const documents = (lengths: readonly number[]): Int32Array[] =>
  lengths.map((length, d) => Int32Array.from({ length }, (_, i) => 1000 * d + i));

describe('batches', () => {
  it('depend on seed and step alone, and every label is the id that follows', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 3, maxLength: 12 }), fc.nat(1000), (lengths, seed) => {
        const texts = documents(lengths);
        fc.pre(lengths.reduce((a, b) => a + b) > 20);
        const options = { batch: 2, tokens: 8, seed };
        const [first, second] = [batches(texts, options), batches(texts, options)];
        for (const step of [5, 0, 17, 5]) expect(first(step)).toEqual(second(step));
        const { ids, labels } = first(3);
        for (let i = 0; i < ids.length - 1; i++) {
          if (i % 8 !== 7) expect(labels[i]).toBe(ids[i + 1]);
          // Within a document ids count up; elsewhere another document begins.
          if (labels[i]! % 1000 !== 0) expect(labels[i]).toBe(ids[i]! + 1);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('visit all documents, half of their rows from a document’s begin', () => {
    const at = batches(documents([50, 60, 70, 80]), { batch: 1, tokens: 10, seed: 1 });
    const rows = Array.from({ length: 60 }, (_, step) => at(step).ids);
    expect(new Set(rows.flatMap((row) => [...row].map((id) => Math.floor(id / 1000)))).size).toBe(4);
    expect(rows.filter((row) => row[0]! % 1000 === 0).length).toBeGreaterThan(10);
  });

  it('weigh positions to one in all, and are refused where the text is too short', () => {
    const feeds = batchFeeds(batches(documents([30]), { batch: 2, tokens: 4, seed: 1 })(0));
    const weights = Float64Array.from(feeds.get('positionWeights')!.values);
    expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 6);
    expect(() => batches(documents([4, 3]), { batch: 1, tokens: 8, seed: 1 })).toThrow(/no row of 8 tokens/);
  });

  it('come from documents that are split, trimmed, and held back every so many', () => {
    expect(splitDocuments(' a \n--\n\n--\nb\n', '--')).toEqual(['a', 'b']);
    const items = [1, 2, 3, 4, 5, 6, 7, 8];
    expect(splitItems(items, { holdOutEvery: 3 })).toEqual({ train: [1, 2, 4, 5, 7, 8], heldOut: [3, 6], reserved: [] });
    expect(splitItems(items, { holdOutEvery: 3, reserveEvery: 4 })).toMatchObject({ heldOut: [3, 6], reserved: [7] });
  });
});

describe('a model that writes', () => {
  const backend = onnxBackend();
  afterAll(() => backend.close());
  const config = parseLlamaConfig({
    hidden_size: 16,
    intermediate_size: 12,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 20,
    max_position_embeddings: 16,
    tie_word_embeddings: true,
  });
  const options = { prompt: [1, 4], texts: 5, length: 12, temperature: 1, seed: 3, stopIds: [2] };

  it.each(['exact', 'full-p4'] as const)(
    'under the %s plan takes the likeliest tokens of its whole-text program',
    async (name) => {
      const plan = name === 'exact' ? exactPlan(config) : fullPlan(config, 4);
      const weights = randomLlamaWeights(config, 5, plan);
      const [ids] = await write(config, plan, { ...options, texts: 1, temperature: 0, weights, backend });
      const whole = await backend.compile(traceLlama(config, plan, { batch: 1, tokens: ids!.length }), weights);
      const logits = (await whole.run(new Map([['ids', { shape: [1, ids!.length], values: ids! }]]))).get('logits')!.values;
      await whole.close();
      for (let position = 1; position + 1 < ids!.length; position++) {
        const row = [...logits.slice(position * 20, (position + 1) * 20)];
        expect(row[ids![position + 1]!]! + 1e-4).toBeGreaterThan(Math.max(...row));
      }
      expect(ids!.length).toBeGreaterThan(2);
    },
  );

  it('writes the likeliest text on a backend that keeps no state as on one that does', async () => {
    const weights = randomLlamaWeights(config, 5);
    const plan = exactPlan(config);
    const likeliest = { ...options, temperature: 0, weights };
    expect(await write(config, plan, { ...likeliest, backend: referenceBackend() })).toEqual(
      await write(config, plan, { ...likeliest, backend }),
    );
  });

  it('writes the same texts whatever the batch, each of them its own, none beyond its end', async () => {
    const weights = randomLlamaWeights(config, 5);
    const plan = exactPlan(config);
    const [one, three] = [
      await write(config, plan, { ...options, batch: 1, weights, backend }),
      await write(config, plan, { ...options, batch: 3, weights, backend }),
    ];
    expect(one).toEqual(three);
    expect(one).toHaveLength(5);
    expect(new Set(one.map((ids) => ids.join())).size).toBeGreaterThan(1);
    for (const ids of one) {
      expect(ids.length).toBeLessThanOrEqual(12);
      expect([...ids.subarray(0, 2)]).toEqual([1, 4]);
      expect(ids.includes(2)).toBe(false);
    }
  });
});
