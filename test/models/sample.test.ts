import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { greedy, sampler, seededNormal, seededUniform } from '../../src/models/sample.ts';

/** Of seed 1, from an implementation in another language. */
const known = [0.09156953175513294, 0.8881928137485323, 0.43427017709149285];
const logits = (...values: number[]): Float64Array => Float64Array.from(values);

describe('the seeded generator', () => {
  it('gives the same numbers on every platform', () => {
    const uniform = seededUniform(1);
    expect([uniform(), uniform(), uniform()]).toEqual(known);
  });

  it('gives other numbers for other seeds, also beyond 32 bits', () => {
    const first = [0, 1, 2 ** 32, 2 ** 32 + 1, 2 ** 52].map((seed) => seededUniform(seed)());
    expect(new Set(first).size).toBe(5);
  });

  it('is uniform in [0, 1), and normal where asked', () => {
    const [uniform, normal] = [seededUniform(7), seededNormal(7)];
    const bins = new Float64Array(10);
    let [sum, squares] = [0, 0];
    for (let i = 0; i < 20_000; i++) {
      bins[Math.floor(uniform() * 10)]! += 1;
      const value = normal();
      sum += value;
      squares += value * value;
    }
    for (const count of bins) expect(Math.abs(count - 2000)).toBeLessThan(200);
    expect(Math.abs(sum / 20_000)).toBeLessThan(0.03);
    expect(Math.abs(squares / 20_000 - 1)).toBeLessThan(0.05);
  });
});

describe('sampling', () => {
  it('takes the first of equal largest logits when greedy', () => {
    expect(greedy(logits(1, 3, 3, -Infinity))).toBe(1);
  });

  it('draws tokens as often as their probability says', () => {
    const draw = sampler({ temperature: 2, seed: 3 });
    const counts = [0, 0, 0];
    for (let i = 0; i < 20_000; i++) counts[draw(logits(2 * Math.log(0.6), 2 * Math.log(0.3), 2 * Math.log(0.1)))]! += 1;
    expect(counts[0]! / 20_000).toBeCloseTo(0.6, 1);
    expect(counts[1]! / 20_000).toBeCloseTo(0.3, 1);
    expect(counts[2]! / 20_000).toBeCloseTo(0.1, 1);
  });

  it('never draws below the smallest set that reaches topP', () => {
    const draw = sampler({ temperature: 1, topP: 0.85, seed: 3 });
    const seen = new Set<number>();
    for (let i = 0; i < 2000; i++) seen.add(draw(logits(Math.log(0.1), Math.log(0.6), Math.log(0.3))));
    expect([...seen].sort()).toEqual([1, 2]);
  });

  it('always gives a token of the vocabulary', () => {
    const list = fc.array(fc.double({ min: -1e300, max: 1e300, noNaN: true }), { minLength: 1, maxLength: 20 });
    const real = fc.double({ min: 0, max: 100, noNaN: true });
    const share = fc.double({ min: 1e-9, max: 1, noNaN: true });
    fc.assert(
      fc.property(list, real, share, fc.nat(), (values, temperature, topP, seed) => {
        const token = sampler({ temperature, topP, seed })(Float64Array.from(values));
        expect(Number.isInteger(token) && token >= 0 && token < values.length).toBe(true);
      }),
    );
  });

  it('refuses options outside their range', () => {
    for (const options of [
      { temperature: -1 },
      { temperature: Number.NaN },
      { temperature: 1, topP: 0 },
      { temperature: 1, topP: 1.1 },
      { temperature: 1, seed: -1 },
      { temperature: 1, seed: 0.5 },
    ])
      expect(() => sampler(options)).toThrow(expect.objectContaining({ kind: 'usage' }));
  });
});
