import { afterAll, describe, expect, it } from 'vitest';
import { simulate } from '../../src/backends/fixed/index.ts';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { exactPlan, parsePlan, traceLlama, traceLlamaPrivate } from '../../src/models/index.ts';
import { randomLlamaWeights } from '../../src/models/weights.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { gradient, type Program, type Tensor, trace } from '../../src/program/index.ts';
import { type AdamW, fixedInLoop, lossProgram, optimiserStates, trainingStep } from '../../src/train/index.ts';
import { folded, index, runReference, tinyLlama } from '../models/tiny.ts';
import { toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';

const onnx = onnxBackend();
afterAll(() => onnx.close());
const adamW: AdamW = { kind: 'adamw', beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0 };
const random = pseudorandom(6);
const draw = (shape: readonly number[]): Tensor => ({
  shape,
  values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
});
const scalar = (value: number): Tensor => ({ shape: [], values: Float32Array.of(value) });

/** How many products are left once equal nodes with equal inputs are merged, as ONNX Runtime merges them. */
function differentProducts({ nodes }: Program): number {
  const classes = new Map<string, number>();
  const classOf: number[] = [];
  for (const [i, node] of nodes.entries()) {
    const same = `${node.operation} ${JSON.stringify(node.parameters)} ${node.inputs.map((input) => classOf[input])}`;
    classOf.push(classes.get(same) ?? i);
    classes.set(same, classOf[i]!);
  }
  return new Set(nodes.flatMap(({ operation }, i) => (operation === 'matmul' ? [classOf[i]!] : []))).size;
}

describe('values that are computed again on the way back', () => {
  const config = tinyLlama({ num_hidden_layers: 3 });
  const [batch, tokens] = [2, 5];
  const weights = randomLlamaWeights(config, 2);
  const names = [...weights.keys()];
  const loss = lossProgram({
    student: traceLlama(config, exactPlan(config), { batch, tokens }),
    losses: { nll: 1, variance: 1 },
  });
  const ids = { shape: [batch, tokens], values: Int32Array.from({ length: 10 }, (_, i) => (i * 5) % config.vocabSize) };
  const even = { shape: [batch, tokens], values: new Float32Array(10).fill(0.1) };
  const feeds = new Map<string, Tensor>([...weights, ['ids', ids], ['labels', ids], ['positionWeights', even]]);
  const layerOf = (scope: string): string | undefined => /^layers\.\d+/.exec(scope)?.[0];

  it('give the very same gradients, on both backends, from a program in which nothing of the way there is left to merge', async () => {
    const plain = gradient(loss, 'loss', names);
    const again = gradient(loss, 'loss', names, layerOf);
    expect(differentProducts(again)).toBeGreaterThan(differentProducts(plain) + 20);
    for (const backend of [referenceBackend(), onnx]) {
      const [due, found] = await Promise.all(
        [plain, again].map(async (program) => (await backend.compile(program, new Map())).run(feeds)),
      );
      for (const [name, { values }] of due!) expect([...found!.get(name)!.values], name).toEqual([...values]);
    }
  });
});

describe('a step without clipping', () => {
  const program = trace((ops) => {
    const [first, second] = [ops.input('a.0.w', [2], 'server'), ops.input('b.w', [2], 'server')];
    const x = ops.input('x', [2], 'public');
    const both = ops.add(ops.multiply(first, x), ops.scale(ops.multiply(second, x), 3));
    return { loss: ops.reshape(ops.sum(both, [0]), []) };
  });
  const names = ['a.0.w', 'b.w'];
  const feeds = new Map<string, Tensor>([
    ...['learningRate', 'correction1', 'correction2'].map((name) => [name, scalar(1)] as const),
    ['x', { shape: [2], values: Float32Array.of(300, 400) }],
    ...names.flatMap((name) => [name, ...optimiserStates(name)].map((state) => [state, draw([2])] as const)),
  ]);
  const run = async (clip: number | null) => {
    const trained = names.map((name) => ({ name, rate: 1 }));
    const step = trainingStep(program, { trained, optimiser: adamW, clip, partNorms: true });
    return (await referenceBackend().compile(step, new Map())).run(feeds);
  };

  it('takes the gradients as they are, and tells their norms layer by layer', async () => {
    const [free, wide, narrow] = [await run(null), await run(1e6), await run(1)];
    const moment = (results: typeof free): number[] => [...results.get('next/moment1/a.0.w')!.values];
    expect(moment(free)).toEqual(moment(wide));
    expect(moment(free)).not.toEqual(moment(narrow));
    expect(free.get('gradientNorm/layers.0')!.values[0]).toBeCloseTo(500, 6);
    expect(free.get('gradientNorm/rest')!.values[0]).toBeCloseTo(1500, 6);
    expect(free.get('gradientNorm')!.values[0]).toBeCloseTo(Math.hypot(500, 1500), 6);
  });
});

describe('fixed point in the loop', () => {
  const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;
  const options = { tokens: 4, width: 8, exponent: 2, steps: 2 };
  const program = toyProgram(options);
  const [weights, tokens] = [toyWeights(8, 3), toyTokens(options)];
  const units = (a: ReadonlyMap<string, Tensor>, b: ReadonlyMap<string, Tensor>, fraction: number): number[] =>
    [...a].flatMap(([name, { values }]) => Array.from(values, (x, i) => Math.abs(x - b.get(name)!.values[i]!) * 2 ** fraction));
  const rms = (list: readonly number[]): number => Math.sqrt(list.reduce((sum, x) => sum + x * x, 0) / list.length);

  // A ring of 64 bits no longer truncates what enters a map by weights (backends/ring/uses.ts); the loop still does, which is the stricter training.
  it.each([
    [64, 9, 2],
    [64, 7, 3],
    [32, 9, 2],
  ])(
    'of a ring of %i bits and %i after the point is within %i units of it, and nearer to it than exact values are',
    async (bits, fraction, most) => {
      const run = async (of: typeof program) =>
        (await (await referenceBackend().compile(of, weights)).run(tokens)) as Map<string, Tensor>;
      const [exact, loop] = [await run(program), await run(fixedInLoop(program, { fraction }))];
      const kernels = createWasmKernels(bits <= 32 ? 32 : 64);
      const ring = await simulate(quantise(program, { bits, fraction }), {
        kernels,
        weights: read(weights),
        inputs: read(tokens),
      });
      expect(Math.max(...units(loop, ring, fraction))).toBeLessThan(most);
      expect(rms(units(loop, ring, fraction))).toBeLessThan(rms(units(exact, ring, fraction)));
      expect(Math.max(...units(loop, exact, fraction))).toBeGreaterThan(0.5);
    },
  );

  it('of a published Llama errs as much as the ring of its private program, whose weights are folded', async () => {
    const config = tinyLlama();
    const parsed = parsePlan('full-p4', config);
    const norm = { table: { rangeBits: 9, indexBits: 13, extraBits: 4 } };
    const layers = parsed.layers.map((layer) => {
      if (layer.attention.kind !== 'power') throw new Error('a power was asked for');
      return { ...layer, norm, attention: { ...layer.attention, table: { rangeBits: 11, indexBits: 14, extraBits: 8 } } };
    });
    const plan = { ...parsed, layers, finalNorm: norm };
    const [prompt, fraction] = [[1, 7, 3, 9, 20, 4], 10];
    const program = traceLlamaPrivate(config, plan, { promptTokens: 6, newTokens: 1 });
    const ring = quantise(program, { bits: 64, fraction });
    const student = traceLlama(config, plan, { batch: 1, tokens: 6 });
    const [ofRing, ofLoop]: [number[], number[]] = [[], []];
    for (let seed = 1; seed <= 4; seed++) {
      const weights = randomLlamaWeights(config, seed, plan);
      const feeds = { ids: index(prompt, [1, 6]) };
      const last = async (of: typeof student) =>
        (await runReference(of, weights, feeds)).get('logits')!.values.slice(-config.vocabSize);
      const [exact, loop] = [await last(student), await last(fixedInLoop(student, { fraction }))];
      const run = await simulate(ring, {
        kernels: createWasmKernels(64),
        weights: read(await folded(config, plan, weights)),
        inputs: async () => index(prompt, [6]),
      });
      const logits = run.get('logits.0')!.values;
      exact.forEach((value, i) => {
        ofRing.push((value - logits[i]!) * 2 ** fraction);
        ofLoop.push((value - loop[i]!) * 2 ** fraction);
      });
    }
    expect(rms(ofLoop) / rms(ofRing)).toBeGreaterThan(0.5);
    expect(rms(ofLoop) / rms(ofRing)).toBeLessThan(1.5);
  });

  it('lets gradients through as if nothing were rounded, and leaves teacher and losses alone', async () => {
    const model = (ops: Parameters<Parameters<typeof trace>[0]>[0]) => {
      const ids = ops.input('ids', [1, 2], 'public', 'index');
      const table = ops.input('w', [3, 4], 'server');
      const square = ops.square(ops.embedding(table, ids));
      return { logits: ops.matmul(square, ops.transposed(ops.input('v', [5, 4], 'server'))) };
    };
    const whole = lossProgram({ student: trace(model), teacher: trace(model), losses: { kl: 1 } });
    const [w, v] = [draw([3, 4]), draw([5, 4])];
    const feeds = new Map<string, Tensor>([
      ...[w, draw([3, 4])].map((tensor, i) => [i === 0 ? 'w' : 'teacher/w', tensor] as const),
      ['v', v],
      ['teacher/v', v],
      ['ids', { shape: [1, 2], values: Int32Array.of(0, 2) }],
      ['labels', { shape: [1, 2], values: Int32Array.of(0, 1) }],
      ['positionWeights', { shape: [1, 2], values: Float32Array.of(0.5, 0.5) }],
    ]);
    const at = async (fraction: number) => {
      const of = gradient(fixedInLoop(whole, { fraction }), 'loss', ['w', 'v']);
      return (await onnx.compile(of, new Map())).run(feeds);
    };
    const exact = await (await onnx.compile(gradient(whole, 'loss', ['w', 'v']), new Map())).run(feeds);
    const [coarse, fine] = [await at(6), await at(18)];
    for (const name of ['gradient/w', 'gradient/v', 'loss'])
      exact.get(name)!.values.forEach((value, i) => {
        expect(Math.abs(fine.get(name)!.values[i]! - value)).toBeLessThan(1e-4 * Math.max(1, Math.abs(value)));
        expect(Math.abs(coarse.get(name)!.values[i]! - value)).toBeLessThan(0.15 * Math.max(1, Math.abs(value)));
      });
    // Rounded as the student is, a teacher would agree with a student of equal weights.
    const equal = new Map([...feeds, ['teacher/w', w] as const]);
    const rounded = await (await onnx.compile(fixedInLoop(whole, { fraction: 3 }), new Map())).run(equal);
    expect(rounded.get('loss')!.values[0]).toBeGreaterThan(1e-4);
  });
});

describe('the variance penalty', () => {
  it('is the squared logarithm of what lies beyond the limit, of every norm', async () => {
    const rows = [0.1, 1, 1, 10].flatMap((size) => [size, -size, size, size]);
    const student = trace((ops) => {
      const x = ops.input('w', [4, 4], 'server');
      ops.input('ids', [4], 'public', 'index');
      const logits = ops.add(ops.rmsNorm(x, { epsilon: 1e-12 }), ops.rmsNorm(ops.scale(x, 5), { epsilon: 1e-12 }));
      return { logits };
    });
    const run = async (varianceLimit: number): Promise<number> => {
      const program = lossProgram({ student, losses: { variance: 1, varianceLimit } });
      const feeds = new Map<string, Tensor>([
        ['w', { shape: [4, 4], values: Float64Array.from(rows) }],
        ['ids', { shape: [4], values: new Int32Array(4) }],
        ['labels', { shape: [4], values: new Int32Array(4) }],
        ['positionWeights', { shape: [4], values: new Float64Array(4) }],
      ]);
      return (await (await referenceBackend().compile(program, new Map())).run(feeds)).get('loss')!.values[0]!;
    };
    // Mean squares 0.01, 1, 1, 100: two of four rows are a factor of 100 away.
    expect(await run(10)).toBeCloseTo(Math.log(10) ** 2 / 2, 6);
    expect(await run(1000)).toBe(0);
  });
});
