import { describe, expect, it } from 'vitest';
import { referenceBackend, referenceTable } from '../../src/backends/reference/index.ts';
import type { FloatBackend, Operation, Program, Tensor } from '../../src/program/index.ts';
import { gradient, lowerings, trace } from '../../src/program/index.ts';
import { cases, numbers } from './cases.ts';

const primitives = Object.keys(referenceTable(() => ({ shape: [], values: new Float64Array(1) })));
const operations = [...primitives, ...Object.keys(lowerings)] as Operation[];
const backend: FloatBackend = referenceBackend();
/** Their gradient is zero by definition, whatever the differences say. */
const withoutGradient: ReadonlySet<Operation> = new Set(['stopGradient']);

/** Σ weights · operation(inputs): a number whose gradient tests every element of the result. */
function scalar(operation: Operation, seed: number): { program: Program; feeds: Map<string, Tensor>; floats: string[] } {
  const random = numbers(seed);
  const { inputs, build } = cases[operation](random);
  const feeds = new Map<string, Tensor>(inputs.map(({ shape, values }, i) => [`x${i}`, { shape, values }]));
  const program = trace((ops) => {
    const y = build(ops, ...inputs.map(({ shape, element }, i) => ops.input(`x${i}`, shape, 'client', element)));
    const shape = ops.shape(y);
    const weights = Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random() + 0.5);
    const weighted = ops.multiply(y, ops.constant(weights, shape));
    return { loss: ops.sum(weighted, [...shape.keys()]) };
  });
  return { program, feeds, floats: inputs.flatMap(({ element }, i) => (element === 'float' ? [`x${i}`] : [])) };
}

async function differences(program: Program, feeds: ReadonlyMap<string, Tensor>, name: string): Promise<Float64Array> {
  const executable = await backend.compile(program, new Map());
  const { shape, values } = feeds.get(name)!;
  const at = async (i: number, step: number): Promise<number> => {
    const moved = Float64Array.from(values);
    moved[i]! += step;
    return (await executable.run(new Map([...feeds, [name, { shape, values: moved }]]))).get('loss')!.values[0]!;
  };
  const step = 1e-5;
  const slopes = new Float64Array(values.length);
  for (let i = 0; i < slopes.length; i++) slopes[i] = ((await at(i, step)) - (await at(i, -step))) / (2 * step);
  return slopes;
}

describe('gradients against central differences', () => {
  it.each(operations)('%s', async (operation) => {
    for (let seed = 1; seed <= 6; seed++) {
      const { program, feeds, floats } = scalar(operation, seed);
      const executable = await backend.compile(gradient(program, 'loss', floats), new Map());
      const results = await executable.run(feeds);
      for (const name of floats) {
        const computed = results.get(`gradient/${name}`)!;
        expect(computed.shape).toEqual(feeds.get(name)!.shape);
        const expected = withoutGradient.has(operation)
          ? new Float64Array(computed.values.length)
          : await differences(program, feeds, name);
        const largest = Math.max(1, ...expected.map(Math.abs));
        computed.values.forEach((slope, i) => {
          expect(Math.abs(slope - expected[i]!)).toBeLessThan(1e-7 * largest);
        });
      }
    }
  });

  it('gives zeros for inputs that do not influence the result', async () => {
    const program = trace((ops) => {
      ops.input('idle', [2, 3], 'server');
      return { loss: ops.sum(ops.input('x', [4], 'client'), [0]) };
    });
    const executable = await backend.compile(gradient(program, 'loss', ['idle', 'x']), new Map());
    const results = await executable.run(
      new Map([
        ['idle', { shape: [2, 3], values: new Float64Array(6) }],
        ['x', { shape: [4], values: new Float64Array(4) }],
      ]),
    );
    expect([...results.get('gradient/idle')!.values]).toEqual([0, 0, 0, 0, 0, 0]);
    expect([...results.get('gradient/x')!.values]).toEqual([1, 1, 1, 1]);
  });

  it('leaves whole what no gradient passes through, and finds once what two losses ask for', async () => {
    const program = trace((ops) => {
      const [x, held] = [ops.input('x', [3], 'server'), ops.input('held', [3], 'server')];
      const target = ops.gelu(held);
      const error = (by: number) => ops.scale(ops.sum(ops.square(ops.subtract(ops.tanh(x), target)), [0]), by);
      return { loss: ops.add(error(2), error(3)) };
    });
    const made = gradient(program, 'loss', ['x']);
    const count = (operation: Operation): number => made.nodes.filter((node) => node.operation === operation).length;
    expect([count('gelu'), count('erf'), count('tanh'), count('square')]).toEqual([1, 0, 1, 2]);
    const feeds = new Map(['x', 'held'].map((name, i) => [name, { shape: [3], values: Float64Array.of(0.3, -1, 2 + i) }]));
    const found = (await (await backend.compile(made, new Map())).run(feeds)).get('gradient/x')!.values;
    (await differences(program, feeds, 'x')).forEach((slope, i) => {
      expect(found[i]).toBeCloseTo(slope, 6);
    });
    // Where the held side is asked for too, it is taken apart.
    expect(gradient(program, 'loss', ['x', 'held']).nodes.some(({ operation }) => operation === 'gelu')).toBe(false);
  });

  it('refuses unknown names and results that are not one number', () => {
    const program = trace((ops) => ({ y: ops.input('x', [2], 'client') }));
    expect(() => gradient(program, 'nothing', ['x'])).toThrow(/no output named nothing/);
    expect(() => gradient(program, 'y', ['x'])).toThrow(/has shape \[2\]/);
    const number = trace((ops) => ({ y: ops.sum(ops.input('x', [2], 'client'), [0]) }));
    expect(() => gradient(number, 'y', ['z'])).toThrow(/no input named z/);
  });
});
