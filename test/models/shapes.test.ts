import { readdirSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { parsePlan } from '../../src/models/plan.ts';
import { seededNormal } from '../../src/models/sample.ts';
import { loadShape, type ModelShape, parseShape, traceShape, traceShapeLayer } from '../../src/models/shapes.ts';
import { randomInputs, serverInputs } from '../../src/models/weights.ts';
import { folderFiles } from '../../src/node/files.ts';
import { owners, size, type Tensor } from '../../src/program/index.ts';
import { difference, float, index, runReference } from './tiny.ts';

const folder = folderFiles('shapes');
const names = readdirSync('shapes').map((file) => file.replace('.json', ''));
const load = (name: string) => loadShape(folder, name);

/** x (m, k) · y (k, n). */
function product(x: number[][], y: number[][]): number[][] {
  return x.map((row) => y[0]!.map((_, column) => row.reduce((sum, value, k) => sum + value * y[k]![column]!, 0)));
}
const rows = ({ shape, values }: Tensor): number[][] =>
  Array.from({ length: shape[0]! }, (_, row) => [...values.subarray(row * shape[1]!, (row + 1) * shape[1]!)]);

/** The layer of the protocol's specification in plain arithmetic, its epsilon on the mean power. */
function plainLayer(
  x: number[][],
  w: Record<'qkv' | 'out' | 'up' | 'down', number[][]>,
  heads: number,
  power: number,
): number[][] {
  const [n, d] = [x.length, x[0]!.length];
  const dk = d / heads;
  const norm = (values: number[][]) =>
    values.map((row) => row.map((value) => value / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / d + 1e-5)));
  const qkv = product(norm(x), w.qkv);
  const mixed = Array.from({ length: n }, () => new Array<number>(d).fill(0));
  for (let head = 0; head < heads; head++)
    for (let query = 0; query < n; query++) {
      const at = (row: number, part: number, k: number) => qkv[row]![part * d + head * dk + k]!;
      const scores = Array.from({ length: n }, (_, key) =>
        Array.from({ length: dk }, (_, k) => at(query, 0, k) * at(key, 1, k)).reduce((a, b) => a + b),
      );
      const mean = scores.reduce((a, b) => a + b) / n;
      const powers = scores.map((score) => (score - mean + 1) ** power);
      const sum = powers.reduce((a, b) => a + b);
      for (let k = 0; k < dk; k++)
        mixed[query]![head * dk + k] = powers.reduce((total, p, key) => total + p * at(key, 2, k), 0) / (sum + n * 1e-3);
    }
  const middle = product(mixed, w.out).map((row, i) => row.map((value, j) => value + x[i]![j]!));
  const up = product(norm(middle), w.up).map((row) => row.map((value) => value * value));
  return product(up, w.down).map((row, i) => row.map((value, j) => value + middle[i]![j]!));
}

describe('the shapes that come with sotto', () => {
  it('are bert-base, gpt2, llama2-7b and vit-base at least', () => {
    expect(names).toEqual(expect.arrayContaining(['bert-base', 'gpt2', 'llama2-7b', 'vit-base']));
  });

  it.each(names)('%s is sound and traces under a full plan without a product of two server values', async (name) => {
    const shape = await load(name);
    expect(shape.name).toBe(name);
    const program = traceShape(shape, parsePlan('full-p4', shape), { promptTokens: 8, newTokens: 2 });
    const known = owners(program);
    program.nodes.forEach((node, at) => {
      expect(node.shape.length).toBeLessThan(6);
      if (['matmul', 'multiply'].includes(node.operation)) expect(known[at], node.scope).toBe('shared');
    });
    expect(program.nodes.some((node) => node.scope === `layers.${shape.numHiddenLayers - 1}.mlp.act`)).toBe(true);
  });

  it.each([
    ['bert-base', 110e6],
    ['gpt2', 124e6 + 50257 * 768],
    ['llama2-7b', 6.74e9],
    ['vit-base', 86.6e6],
  ])('%s has the published number of parameters', async (name, published) => {
    const shape = await load(name);
    const program = traceShape(shape, parsePlan('exact', shape), { promptTokens: 8, newTokens: 1 });
    const count = [...serverInputs(program).values()].reduce((sum, extents) => sum + size(extents), 0);
    expect(Math.abs(count / published - 1)).toBeLessThan(0.015);
  });
});

const small: ModelShape = {
  ...parseShape(JSON.parse(await folder.read('bert-base.json').then((bytes) => new TextDecoder().decode(bytes)))),
  hiddenSize: 12,
  intermediateSize: 20,
  heads: 3,
  numHiddenLayers: 2,
  embedding: { kind: 'tokens', vocabSize: 9 },
};

describe('an encoder like bert-base', () => {
  it.each([2, 4, 8])('computes under full-p%d the layer of the specification', async (power) => {
    const plan = parsePlan(`full-p${power}`, small);
    const program = traceShapeLayer(small, plan, { tokens: 6 });
    const weights = randomInputs(program, 4);
    expect([...weights.keys()].sort()).toEqual(
      ['attention.out', 'attention.qkv', 'mlp.down', 'mlp.up'].map((part) => `private/layers.0.${part}`),
    );
    const normal = seededNormal(1);
    const x = float(
      Array.from({ length: 72 }, () => normal()),
      [6, 12],
    );
    const made = (await runReference(program, weights, { x })).get('hidden')!;
    const matrix = (part: string) => rows(weights.get(`private/layers.0.${part}`)!);
    const w = { qkv: matrix('attention.qkv'), out: matrix('attention.out'), up: matrix('mlp.up'), down: matrix('mlp.down') };
    expect(difference(made.values, plainLayer(rows(x), w, 3, power).flat())).toBeLessThan(1e-9);
  });

  it('has that layer once a layer in its whole program', () => {
    const plan = parsePlan('full-p2', small);
    const operations = (program: ReturnType<typeof traceShape>, scope: string) =>
      program.nodes
        .filter((node) => node.scope.startsWith(scope) && node.operation !== 'constant')
        .map((node) => [node.operation, node.shape]);
    const whole = traceShape(small, plan, { promptTokens: 6, newTokens: 0 });
    const alone = operations(traceShapeLayer(small, plan, { tokens: 6 }), 'layers.0');
    expect(operations(whole, 'layers.0')).toEqual(alone);
    expect(operations(whole, 'layers.1')).toEqual(alone);
  });
});

describe('a decoder with learned positions, biases and LayerNorm', () => {
  it('gives after its second token what a longer prompt gives', async () => {
    const shape: ModelShape = {
      ...(await load('gpt2')),
      hiddenSize: 12,
      intermediateSize: 20,
      heads: 3,
      numHiddenLayers: 2,
      embedding: { kind: 'tokens', vocabSize: 9 },
      positions: { kind: 'learned', count: 16 },
    };
    const plan = parsePlan('full-p4', shape);
    const written = traceShape(shape, plan, { promptTokens: 3, newTokens: 2 });
    const read = traceShape(shape, plan, { promptTokens: 4, newTokens: 1 });
    const weights = randomInputs(written, 2);
    const one = await runReference(written, weights, { prompt: index([1, 5, 2], [3]), 'token.1': index([7], [1]) });
    const two = await runReference(read, weights, { prompt: index([1, 5, 2, 7], [4]) });
    expect(difference(one.get('logits.1')!.values, two.get('logits.0')!.values)).toBeLessThan(1e-9);
    expect(() => traceShape(shape, plan, { promptTokens: 16, newTokens: 2 })).toThrow(/17 positions/);
  });
});

describe('shape files', () => {
  const wrong: [string, object][] = [
    ['heads', { heads: 5 }],
    ['keyValueHeads', { keyValueHeads: 2 }],
    ['head', { kind: 'decoder' }],
    ['head', { head: { kind: 'vocabulary' } }],
    ['hiddenSize', { hiddenSize: 0 }],
    ['norm', { norm: 'batch' }],
    ['positions', { positions: { kind: 'rotary', count: 8, theta: 1e4 }, headDim: 3 }],
    ['embedding', { embedding: { kind: 'patches', imageSize: 9, patchSize: 2, numChannels: 3 } }],
  ];
  it.each(wrong)('are refused with the field %s where it is wrong', (field, change) => {
    expect(() => parseShape({ ...small, ...change })).toThrow(
      expect.objectContaining({ kind: 'model', place: { file: 'shape', field } }),
    );
  });

  it('are refused or sound, whatever stands there', () => {
    const fields = Object.keys(small) as (keyof ModelShape)[];
    fc.assert(
      fc.property(fc.constantFrom(...fields), fc.oneof(fc.anything(), fc.integer(), fc.double()), (field, value) => {
        try {
          parseShape({ ...small, [field]: value });
        } catch (error) {
          expect(error).toBeInstanceOf(SottoError);
        }
      }),
    );
  });
});
