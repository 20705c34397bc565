import { afterAll, describe, expect, it } from 'vitest';
import { scalars, stepOf } from '../../bench/training.ts';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import type { Program, Shape, Tensor } from '../../src/program/index.ts';
import { gradient, size, trace } from '../../src/program/index.ts';
import { optimiserStates } from '../../src/train/index.ts';
import { numbers } from '../program/cases.ts';

const backend = onnxBackend();
const parallel = onnxBackend({ threads: 2 });
afterAll(async () => {
  await backend.close();
  await parallel.close();
});

const random = numbers(7);
const normal = (shape: Shape, scale = 1): Tensor => ({
  shape,
  values: Float32Array.from({ length: size(shape) }, () => scale * (random() + random() + random() - 1.5)),
});
function expectClose(actual: Tensor, expected: Tensor, tolerance: number): void {
  expect(actual.shape).toEqual(expected.shape);
  const largest = Math.max(1e-6, ...Array.from(expected.values, Math.abs));
  for (let i = 0; i < expected.values.length; i++)
    expect(Math.abs(actual.values[i]! - expected.values[i]!)).toBeLessThanOrEqual(tolerance * largest);
}

describe('a whole training step (forward, backward, clipping, AdamW)', () => {
  const model = { width: 16, layers: 2, heads: 2, hidden: 24, vocabulary: 11, sequences: 2, tokens: 5 };
  const { program, parameters } = stepOf(model);
  const state = new Map<string, Tensor>();
  for (const [name, shape] of parameters) {
    state.set(name, shape.length === 1 ? { shape, values: new Float32Array(size(shape)).fill(1) } : normal(shape, 0.3));
    for (const moment of optimiserStates(name)) state.set(moment, { shape, values: new Float32Array(size(shape)) });
  }
  const tokens = Int32Array.from({ length: 10 }, (_, i) => (i * 3) % 11);
  const batch = new Map<string, Tensor>([
    ['tokens', { shape: [2, 5], values: tokens }],
    ['labels', { shape: [2, 5], values: tokens.map((token) => (token * token) % 11) }],
    ...scalars(1),
  ]);

  it('gives the reference’s loss and next state, step after step, with the state inside the runtime', async () => {
    const reference = await referenceBackend().compile(program, new Map());
    const step = await backend.compileStep(program, { state });
    let expected = new Map(state);
    const losses: number[] = [];
    for (let i = 0; i < 4; i++) {
      const result = await reference.run(new Map([...expected, ...batch]));
      expected = new Map([...state.keys()].map((name) => [name, result.get(`next/${name}`)!]));
      const outputs = await step.run(batch);
      expect([...outputs.keys()]).toEqual(['loss', 'gradientNorm']);
      expectClose(outputs.get('loss')!, result.get('loss')!, 1e-5);
      losses.push(outputs.get('loss')!.values[0]!);
    }
    const after = await step.readState();
    for (const [name, tensor] of expected) expectClose(after.get(name)!, tensor, 2e-5);
    expect(losses[3]).toBeLessThan(losses[0]!);
    await step.close();
    await reference.close();
  });

  it('repeats exactly after its state is written back, and gives only what is asked for', async () => {
    const step = await backend.compileStep(program, { state });
    const first = await step.run(batch, ['loss']);
    await step.run(batch, []);
    await step.writeState(state);
    expect([...first.keys()]).toEqual(['loss']);
    expect((await step.run(batch)).get('loss')).toEqual(first.get('loss'));
    await expect(step.run(batch, ['next/embedding'])).rejects.toThrow(/no output next\/embedding/);
    await expect(step.readState(['tokens'])).rejects.toThrow(/tokens is no state/);
    await step.close();
  });

  it('reads every state before it changes any', async () => {
    const swap = trace((ops) => {
      const [a, b] = [ops.input('a', [16], 'server'), ops.input('b', [16], 'server')];
      return { 'next/a': ops.scale(b, 2), 'next/b': ops.offset(a, 1) };
    });
    const full = (value: number): Tensor => ({ shape: [16], values: new Float32Array(16).fill(value) });
    const step = await backend.compileStep(swap, {
      state: new Map([
        ['a', full(1)],
        ['b', full(10)],
      ]),
    });
    for (let i = 0; i < 3; i++) await step.run(new Map());
    expect(await step.readState()).toEqual(
      new Map([
        ['a', full(42)],
        ['b', full(5)],
      ]),
    );
    await step.close();
  });

  it('needs a next value of the same shape for every state input', async () => {
    const lame = trace((ops) => ({ 'next/w': ops.input('w', [2], 'server'), y: ops.input('v', [2], 'server') }));
    await expect(backend.compileStep(lame, { state: new Map([['v', normal([2])]]) })).rejects.toThrow(/no output next\/v/);
  });
});

describe('forms with a kernel of their own', () => {
  const angles = (equal: boolean): Tensor => {
    const { values } = normal([5, 6]);
    return { shape: [5, 6], values: equal ? values.map((_, i) => values[i % 6 < 3 ? i : i - 3]!) : values };
  };
  const agree = async (program: Program, feeds: Map<string, Tensor>): Promise<void> => {
    const found = await (await backend.compile(program, new Map())).run(feeds);
    const expected = await (await referenceBackend().compile(program, new Map())).run(feeds);
    for (const [name, tensor] of expected) expectClose(found.get(name)!, tensor, 1e-5);
  };

  it.each([
    ['constant angles with equal halves', true, true],
    ['equal halves of one of the two', true, false],
    ['halves of their own', false, false],
  ])('rotate by %s, at every rank, and carry cotangents back', async (_, equalCos, equalSin) => {
    const [cos, sin] = [angles(equalCos), angles(equalSin)];
    for (const shape of [
      [5, 6],
      [2, 5, 6],
      [2, 3, 5, 6],
    ]) {
      const program = trace((ops) => {
        const x = ops.input('x', shape, 'server');
        const [c, s] = [cos, sin].map(({ values }) => ops.constant(values, [5, 6]));
        const y = ops.rotary(x, c!, s!);
        const flat = ops.reshape(ops.multiply(y, ops.input('z', shape, 'server')), [size(shape)]);
        return { y, loss: ops.reshape(ops.sum(flat, [0]), []) };
      });
      await agree(
        gradient(program, 'loss', ['x']),
        new Map([
          ['x', normal(shape)],
          ['z', normal(shape)],
        ]),
      );
    }
  });

  it.each([
    [7, 3, 5],
    [7, 5, 3],
    [4, 4, 4],
    [1, 2, 1],
  ])('multiply a transposed %i×%i matrix with %i columns, and share the transpose', async (inner, rows, columns) => {
    const program = trace((ops) => {
      const x = ops.input('x', [inner, rows], 'server');
      const y = ops.input('y', [inner, columns], 'server');
      const [product, reverse] = [ops.matmul(ops.transposed(x), y), ops.matmul(ops.transposed(y), x)];
      return { product, reverse, back: ops.transposed(product), sum: ops.add(product, ops.transposed(reverse)) };
    });
    await agree(
      program,
      new Map([
        ['x', normal([inner, rows])],
        ['y', normal([inner, columns])],
      ]),
    );
  });
});

describe('bound tensors', () => {
  const program = trace((ops) => ({ y: ops.matmul(ops.input('x', [2, 3], 'client'), ops.input('w', [3, 4], 'server')) }));
  it('are shared by programs and outlive the first that closes', async () => {
    const weights = new Map([['w', normal([3, 4])]]);
    const feeds = new Map([['x', normal([2, 3])]]);
    const [one, two] = [await backend.compile(program, weights), await backend.compile(program, weights)];
    const expected = await one.run(feeds);
    await one.close();
    expect(await two.run(feeds)).toEqual(expected);
    await two.close();
  });
  it('packed into the session give what shared ones give', async () => {
    const packing = onnxBackend({ weights: 'packed' });
    const weights = new Map([['w', normal([3, 4])]]);
    const feeds = new Map([['x', normal([2, 3])]]);
    const results = [];
    for (const each of [backend, packing]) results.push(await (await each.compile(program, weights)).run(feeds));
    expectClose(results[1]!.get('y')!, results[0]!.get('y')!, 1e-6);
    await packing.close();
  });
  it('may be views into a larger buffer', async () => {
    const whole = new Float32Array(20).map((_, i) => i);
    const w = { shape: [3, 4], values: whole.subarray(4, 16) };
    const executable = await backend.compile(program, new Map([['w', w]]));
    const x = { shape: [2, 3], values: new Float32Array([1, 0, 0, 0, 0, 1]) };
    expect([...(await executable.run(new Map([['x', x]]))).get('y')!.values]).toEqual([4, 5, 6, 7, 12, 13, 14, 15]);
    expect(whole[4]).toBe(4);
    await executable.close();
  });
});

describe('errors', () => {
  const program = trace((ops) => ({ y: ops.gather(ops.input('t', [3, 2], 'server'), ops.input('i', [1], 'client', 'index')) }));
  const table = new Map([['t', normal([3, 2])]]);
  it('name a provider that is not there and those that are', async () => {
    const other = onnxBackend({ providers: ['abacus'] });
    await expect(other.compile(program, table)).rejects.toThrow(
      /cannot compute on abacus: .* — choose from what there is: .*cpu/,
    );
    await other.close();
  });
  it.each([backend, referenceBackend()])('name an input that is missing or of another shape ($name)', async (each) => {
    const executable = await each.compile(program, table);
    await expect(executable.run(new Map())).rejects.toThrow(/tensor i: no value was fed/);
    await expect(executable.run(new Map([['i', normal([2])]]))).rejects.toThrow(/tensor i: shape \[2\] where \[1\] is due/);
    await executable.close();
  });
  it.each([backend, referenceBackend()])('are thrown for an index outside the table ($name)', async (each) => {
    const executable = await each.compile(program, table);
    await expect(executable.run(new Map([['i', { shape: [1], values: new Int32Array([3]) }]]))).rejects.toThrow(/ind(ex|ices)/);
    await executable.close();
  });
  it('are thrown after the backend is closed', async () => {
    const other = onnxBackend();
    const executable = await other.compile(program, table);
    await other.close();
    await expect(executable.run(new Map([['i', { shape: [1], values: new Int32Array(1) }]]))).rejects.toThrow(/closed/);
  });
});

it('rows that share an index are all added, on several threads too', async () => {
  const program = trace((ops) => ({
    y: ops.scatterAdd(ops.input('i', [4096], 'client', 'index'), ops.input('x', [4096, 64], 'client'), 3),
  }));
  const executable = await parallel.compile(program, new Map());
  const i = { shape: [4096], values: new Int32Array(4096).map((_, at) => at % 3) };
  const x = { shape: [4096, 64], values: new Float32Array(4096 * 64).fill(1) };
  for (let run = 0; run < 5; run++) {
    const { values } = (
      await executable.run(
        new Map<string, Tensor>([
          ['i', i],
          ['x', x],
        ]),
      )
    ).get('y')!;
    expect(new Set(values)).toEqual(new Set([1366, 1365]));
  }
  await executable.close();
});

it('outputs may be inputs, constants and each other', async () => {
  const program = trace((ops) => {
    const x = ops.input('x', [2], 'client');
    const y = ops.exp(x);
    return {
      x,
      constant: ops.constant([5], [1]),
      y,
      again: y,
      moved: ops.transpose(ops.broadcast(x, [3, 2]), [1, 0]),
      i: ops.argmax(x),
    };
  });
  const executable = await backend.compile(program, new Map());
  const results = await executable.run(new Map([['x', { shape: [2], values: new Float32Array([0, 1]) }]]));
  const values = Object.fromEntries([...results].map(([name, tensor]) => [name, [...tensor.values]]));
  const e = Math.fround(Math.E);
  expect(values).toEqual({ x: [0, 1], constant: [5], y: [1, e], again: [1, e], moved: [0, 0, 0, 1, 1, 1], i: [1] });
  expect(results.get('i')!.values).toBeInstanceOf(Int32Array);
  await executable.close();
});
