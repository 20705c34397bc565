import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  clusteredRatio,
  estimate,
  PolynomialMoments,
  pseudorandom,
  quantile,
  ranks,
  solvePositive,
  staticFit,
} from '../../src/math/index.ts';

describe('polynomial fits', () => {
  it('recover an exact quadratic, per channel and together, whatever the scale and shift of the data', () => {
    fc.assert(
      fc.property(
        fc.tuple(...[0, 1, 2].map(() => fc.double({ min: -3, max: 3, noNaN: true }))),
        fc.double({ min: -20, max: 20, noNaN: true }),
        fc.double({ min: 0.1, max: 10, noNaN: true }),
        fc.integer(),
        ([a, b, c], centre, width, seed) => {
          const random = pseudorandom(seed);
          const x = Float64Array.from({ length: 300 }, () => centre + width * random.normal());
          const moments = new PolynomialMoments(2, 3);
          const f = x.map((v) => (a! * v + b!) * v + c!);
          moments.add(x.subarray(0, 150), f.subarray(0, 150));
          moments.add(x.subarray(150), f.subarray(150));
          const scale = Math.max(...f.map(Math.abs), 1e-6);
          for (const fit of [moments.fitAll(), ...moments.fitChannels()])
            x.forEach((v, i) => {
              expect(Math.abs((fit[2]! * v + fit[1]!) * v + fit[0]! - f[i]!)).toBeLessThan(1e-6 * scale);
            });
        },
      ),
      { numRuns: 30 },
    );
  });

  it('match the closed form of least squares: a line through three points', () => {
    const moments = new PolynomialMoments(1, 1);
    moments.add([0, 1, 2], [0, 2, 1]);
    const [intercept, slope] = moments.fitAll();
    expect(intercept).toBeCloseTo(0.5, 9);
    expect(slope).toBeCloseTo(0.5, 9);
  });

  it('weigh samples: a weight of two is the sample twice', () => {
    const [twice, weighted] = [new PolynomialMoments(1, 1), new PolynomialMoments(1, 1)];
    twice.add([0, 1, 2, 2], [0, 2, 1, 1]);
    weighted.add([0, 1, 2], [0, 2, 1], [1, 1, 2]);
    expect([...weighted.fitAll()].map((v) => v.toFixed(8))).toEqual([...twice.fitAll()].map((v) => v.toFixed(8)));
  });

  it('follow channels that differ, where one polynomial for all cannot', () => {
    const x = Float64Array.from({ length: 400 }, (_, i) => Math.floor(i / 2) / 50 - 2);
    const f = x.map((v, i) => (i % 2 === 0 ? v * v : -v));
    const moments = new PolynomialMoments(2, 2);
    moments.add(x, f);
    const [even, odd] = moments.fitChannels();
    expect(even![2]).toBeCloseTo(1, 6);
    expect(odd![1]).toBeCloseTo(-1, 6);
    expect(moments.fitAll()[2]).toBeCloseTo(0.5, 6);
    expect(moments.fitAll()[1]).toBeCloseTo(-0.5, 6);
  });

  it('fit even functions statically without a linear term, and refuse a fit without samples', () => {
    const [c, b, a] = staticFit((x) => x ** 4, 2);
    expect(b).toBeCloseTo(0, 9);
    // Under N(0, 1) without bounds it would be 6x² − 3; cut at three deviations it is less.
    expect(a).toBeGreaterThan(4.5);
    expect(a).toBeLessThan(6);
    expect(c).toBeLessThan(0);
    expect(() => new PolynomialMoments(2, 1).fitAll()).toThrow(/no samples/);
    expect(() =>
      solvePositive(
        [
          [1, 2],
          [2, 1],
        ],
        [1, 1],
      ),
    ).toThrow(/singular/);
  });
});

describe('statistics', () => {
  it('give the mean with its interval, and the same for clusters of one', () => {
    const samples = [1, 2, 3, 4, 5];
    const { mean, halfWidth, count } = estimate(samples);
    expect([mean, count]).toEqual([3, 5]);
    expect(halfWidth).toBeCloseTo(1.96 * Math.sqrt(2.5 / 5), 3);
    const clustered = clusteredRatio(samples, [1, 1, 1, 1, 1]);
    expect(clustered.mean).toBe(3);
    expect(clustered.halfWidth).toBeCloseTo(halfWidth, 9);
  });

  it('order: quantiles interpolate, ties share their rank', () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect([quantile([7], 0.3), quantile([1, 9], 1)]).toEqual([7, 9]);
    expect([...ranks([10, 20, 10, 5])]).toEqual([2.5, 4, 2.5, 1]);
  });

  it('draw the same numbers from the same words, others from others, evenly and normally', () => {
    const draw = (...words: number[]) =>
      Array.from(
        { length: 5 },
        (
          (random) => () =>
            random.uniform()
        )(pseudorandom(...words)),
      );
    expect(draw(1, 2)).toEqual(draw(1, 2));
    expect(draw(1, 2)).not.toEqual(draw(2, 1));
    const random = pseudorandom(9);
    const normal = Float64Array.from({ length: 20000 }, () => random.normal());
    const { mean } = estimate(normal);
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(estimate(normal.map((v) => v * v)).mean).toBeCloseTo(1, 1);
    const order = random.shuffle([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect([...order].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });
});
