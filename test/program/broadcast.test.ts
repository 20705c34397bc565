import fc from 'fast-check';
import { expect, it } from 'vitest';
import { erf, referenceBackend, roundHalfEven } from '../../src/backends/reference/index.ts';
import type { Shape } from '../../src/program/index.ts';
import { broadcastShapes, broadcastStrides, gradient, size, stridesOf, trace } from '../../src/program/index.ts';

const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 });
/** A shape and one that broadcasts to it. */
const pairs = shapes.chain((wide) =>
  fc
    .tuple(fc.array(fc.boolean(), { minLength: wide.length, maxLength: wide.length }), fc.nat(wide.length))
    .map(([thin, drop]): [Shape, Shape] => [wide, wide.map((extent, axis) => (thin[axis] ? 1 : extent)).slice(drop)]),
);

it('broadcasting is commutative, has [] as its unit and repeats nothing that has its extent', () => {
  fc.assert(
    fc.property(shapes, shapes, (a, b) => {
      expect(broadcastShapes(a, b)).toEqual(broadcastShapes(b, a));
      expect(broadcastShapes(a, [])).toEqual(a);
      expect(broadcastShapes(a, a)).toEqual(a);
      expect(broadcastStrides(a, a).map((stride, axis) => (a[axis] === 1 ? 0 : stride))).toEqual(
        stridesOf(a).map((stride, axis) => (a[axis] === 1 ? 0 : stride)),
      );
    }),
  );
});

it('a narrower shape broadcasts to the wider one', () => {
  fc.assert(
    fc.property(pairs, ([wide, narrow]) => {
      expect(broadcastShapes(wide, narrow)).toEqual(wide);
    }),
  );
});

it('the gradient of a broadcast is its adjoint: ⟨broadcast x, y⟩ = ⟨x, unbroadcast y⟩', async () => {
  await fc.assert(
    fc.asyncProperty(pairs, fc.infiniteStream(fc.double({ min: -1, max: 1, noNaN: true })), async ([wide, narrow], stream) => {
      const take = (shape: Shape): Float64Array => Float64Array.from({ length: size(shape) }, () => stream.next().value);
      const [x, y] = [take(narrow), take(wide)];
      const program = trace((ops) => {
        const product = ops.multiply(ops.input('x', narrow, 'client'), ops.constant(y, wide));
        return { loss: ops.sum(ops.reshape(product, [size(wide)]), [0]) };
      });
      const executable = await referenceBackend().compile(gradient(program, 'loss', ['x']), new Map());
      const results = await executable.run(new Map([['x', { shape: narrow, values: x }]]));
      const slope = results.get('gradient/x')!;
      expect(slope.shape).toEqual(narrow);
      const inner = x.reduce((sum, value, i) => sum + value * slope.values[i]!, 0);
      expect(inner).toBeCloseTo(results.get('loss')!.values[0]!, 10);
    }),
    { numRuns: 50 },
  );
});

it('the error function agrees with tables to 15 digits', () => {
  // Computed with 50 digits.
  const known: [number, number][] = [
    [0, 0],
    [1e-8, 1.1283791670955125e-8],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [2, 0.9953222650189527],
    [2.9999999, 0.9999779094890757],
    [3, 0.9999779095030014],
    [4, 0.9999999845827421],
    [7, 1],
  ];
  for (const [argument, value] of known) {
    expect(Math.abs(erf(argument) - value)).toBeLessThanOrEqual(1e-15 * value);
    expect(erf(-argument)).toBe(-erf(argument));
  }
  expect(erf(Number.NaN)).toBeNaN();
});

it('rounding takes halves to the even side', () => {
  expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4, -2.6].map(roundHalfEven).map((value) => value + 0)).toEqual([
    -2, -2, 0, 0, 2, 2, 2, -3,
  ]);
});
