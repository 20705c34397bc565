import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { referenceBackend, referenceTable } from '../../src/backends/reference/index.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import type { FloatBackend, Operation, Program, Tensor } from '../../src/program/index.ts';
import { lowerings, trace } from '../../src/program/index.ts';
import { cases, numbers } from '../program/cases.ts';
import { define } from '../program/definition.ts';

const primitives = Object.keys(referenceTable(() => ({ shape: [], values: new Float64Array(1) })));
const operations = [...primitives, ...Object.keys(lowerings)] as Operation[];

/** Several random uses of one operation as one program, so that a backend compiles once. */
function uses(operation: Operation, count: number): { program: Program; feeds: Map<string, Tensor> } {
  const random = numbers(operation.length * 1000 + operation.charCodeAt(0));
  const feeds = new Map<string, Tensor>();
  const program = trace((ops) => {
    const results = Array.from({ length: count }, (_, use) => {
      const { inputs, build } = cases[operation](random);
      const refs = inputs.map(({ shape, element, values }, i) => {
        feeds.set(`${use}.${i}`, { shape, values });
        return ops.input(`${use}.${i}`, shape, 'client', element);
      });
      return [`use ${use}`, build(ops, ...refs)] as const;
    });
    return Object.fromEntries(results);
  });
  return { program, feeds };
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  const largest = Math.max(...Array.from(expected, Math.abs), 1);
  for (let i = 0; i < expected.length; i++) expect(Math.abs(actual[i]! - expected[i]!)).toBeLessThanOrEqual(tolerance * largest);
}

const onnx = onnxBackend();
const backends: { backend: FloatBackend; tolerance: number }[] = [
  { backend: referenceBackend(), tolerance: 2e-7 },
  { backend: onnx, tolerance: 1e-5 },
];
afterAll(() => onnx.close());

it('has a case for every operation of the language', () => {
  expect(new Set(Object.keys(cases))).toEqual(new Set(operations));
});

describe.each(backends)('$backend.name', ({ backend, tolerance }) => {
  describe.each(operations)('%s', (operation) => {
    const { program, feeds } = uses(operation, 12);
    let results: Map<string, Tensor>;
    beforeAll(async () => {
      const executable = await backend.compile(program, new Map());
      results = await executable.run(feeds);
      await executable.close();
    });
    it('means what its definition says', () => {
      for (const [name, index] of program.outputs) {
        expect(results.get(name)!.shape).toEqual(program.nodes[index]!.shape);
        expectClose(results.get(name)!.values, define(program, feeds, name), tolerance);
      }
    });
  });
});
