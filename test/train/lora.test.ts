import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { type Feed, gradient, type Tensor, trace } from '../../src/program/index.ts';
import { adapters, plainBase } from '../../src/train/index.ts';

const [rows, into, out] = [3, 4, 5];
const program = trace((ops) => {
  const x = ops.input('x', [rows, into], 'public');
  const [first, second] = [ops.input('a.query.weight', [out, into], 'server'), ops.input('a.key.weight', [out, out], 'server')];
  const hidden = ops.silu(ops.matmul(x, ops.transposed(first)));
  const y = ops.matmul(hidden, ops.transposed(second));
  return { y, loss: ops.reshape(ops.sum(ops.square(y), [0, 1]), []) };
});
const random = pseudorandom(3);
const draw = (shape: readonly number[]): Tensor => ({
  shape,
  values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
});
const weights = new Map([
  ['a.query.weight', draw([out, into])],
  ['a.key.weight', draw([out, out])],
]);
const lora = { rank: 2, alpha: 3, matrices: ['query', 'key'] };
const none = { seed: 1, kept: () => false };
const feeds = new Map([['x', draw([rows, into])]]);
const run = async (of: typeof program, bound: ReadonlyMap<string, Feed>): Promise<number[]> => {
  const executable = await referenceBackend().compile(of, new Map());
  return [...(await executable.run(new Map([...feeds, ...bound]))).get('y')!.values];
};

describe('low-rank adapters', () => {
  it('give the same before and after they are merged', async () => {
    const { adapt, merge, start, frozen } = adapters(lora, plainBase(weights), none);
    const trained = new Map([...start].map(([name, { shape }]) => [name, draw(shape)]));
    const [apart, together] = [await run(adapt(program), new Map([...frozen, ...trained])), await run(program, merge(trained))];
    apart.forEach((value, i) => {
      expect(value).toBeCloseTo(together[i]!, 4);
    });
    expect(apart).not.toEqual(await run(program, weights));
    expect([...merge(trained).keys()]).toEqual([...weights.keys()]);
  });

  it('change nothing at the start', async () => {
    const { adapt, start, frozen } = adapters(lora, plainBase(weights), none);
    expect(await run(adapt(program), new Map([...frozen, ...start]))).toEqual(await run(program, weights));
  });

  it('need no gradient of the shape of the matrix they adapt', () => {
    const { adapt, start } = adapters({ ...lora, matrices: ['query'] }, plainBase(weights), none);
    const inShape = (of: typeof program): number =>
      of.nodes.filter(
        ({ operation, shape }) => operation === 'matmul' && [`${out},${into}`, `${into},${out}`].includes(shape.join()),
      ).length;
    expect(inShape(gradient(program, 'loss', ['a.query.weight']))).toBe(1);
    expect(inShape(gradient(adapt(program), 'loss', [...start.keys()]))).toBe(0);
  });

  it('are refused where no matrix has the name', () => {
    expect(() => adapters({ ...lora, matrices: ['value'] }, plainBase(weights), none)).toThrow(/no matrix/);
  });
});
