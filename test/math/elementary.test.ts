import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { exponential, hyperbolicTangent, logarithm, power, sineAndCosine } from '../../src/math/elementary.ts';

const near = (value: number, right: number, relative: number, absolute = 0): void => {
  if (Object.is(value, right)) return;
  expect(Math.abs(value - right), `${value} for ${right}`).toBeLessThanOrEqual(Math.max(relative * Math.abs(right), absolute));
};
const double = (min: number, max: number) => fc.double({ min, max, noNaN: true });

describe('elementary functions of basic operations', () => {
  it('agree with those of the engine to some units in the last place', () => {
    fc.assert(
      fc.property(double(-1e6, 1e6), double(-700, 700), double(1e-300, 1e300), (angle, x, positive) => {
        const { sine, cosine } = sineAndCosine(angle);
        near(sine, Math.sin(angle), 4e-16, 1e-16);
        near(cosine, Math.cos(angle), 4e-16, 1e-16);
        near(exponential(x), Math.exp(x), 1e-15);
        near(logarithm(positive), Math.log(positive), 1e-15);
        near(hyperbolicTangent(x / 100), Math.tanh(x / 100), 1e-14);
      }),
      { numRuns: 5000 },
    );
  });

  it('give the powers of rotary embeddings', () => {
    for (const theta of [10_000, 500_000, 1e6])
      for (let pair = 0; pair < 64; pair++) near(power(theta, -pair / 64), theta ** (-pair / 64), 4e-15);
  });

  it('give what they should at the ends', () => {
    expect([exponential(0), exponential(-1000), exponential(1000), logarithm(1)]).toEqual([1, 0, Number.POSITIVE_INFINITY, 0]);
    expect([hyperbolicTangent(0), hyperbolicTangent(30), hyperbolicTangent(-30)]).toEqual([0, 1, -1]);
    expect(sineAndCosine(0)).toEqual({ sine: 0, cosine: 1 });
    expect(Number.isNaN(exponential(Number.NaN))).toBe(true);
  });

  it('keep their golden bits', () => {
    const values = Float64Array.from({ length: 4000 }, (_, i) => {
      const { sine, cosine } = sineAndCosine(i * 0.37);
      return [sine, cosine, exponential(i / 37 - 50), power(10_000, -i / 4000), hyperbolicTangent(i / 300)][i % 5]!;
    });
    expect(createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex')).toBe(
      'd2163b1e74b665db0225291f5c2f5a2cfd31d4c0fcba7e70dda671b8827298b4',
    );
  });
});
