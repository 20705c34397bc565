import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { curves } from '../../src/lab/plot.ts';

const lines = Array.from({ length: 3000 }, (_, i) => ({
  step: i + 1,
  loss: 3 / (i + 1) + 0.01 * ((i * 7919) % 13),
  'loss/kl': 2 / (i + 1),
  'loss/range': 0,
  gradientNorm: 10 / (i + 1) ** 0.5,
  'gradientNorm/layers.0': 5 / (i + 1) ** 0.5,
  rate: 1e-3 * (1 - i / 3000),
  ...((i + 1) % 500 === 0 ? { 'heldOut/kl': 1 / i, 'heldOut/accuracy': 0.9 + i / 40000 } : {}),
}));

describe('the curves of a run', () => {
  it('are a picture with a panel for losses, held-out figures, shares, gradient norms and the rate', () => {
    const svg = curves('a <run> & more', lines);
    for (const title of ['loss', 'held out', 'held out, shares', 'gradient norm', 'learning rate'])
      expect(svg).toContain(`class="title">${title}</text>`);
    expect(svg).toContain('a &lt;run&gt; &amp; more');
    expect(svg).toContain('layers.0');
    // Six evaluations of two figures are marked; a figure that is never above zero has no place on a logarithmic scale.
    expect(svg.match(/<circle/g)).toHaveLength(12);
    expect(svg).not.toContain('>range <');
    expect(svg.length).toBeLessThan(200_000);
    expect(svg).toContain('width="960"');
    // The line of the loss is there, from one end of its panel to the other.
    const loss = /<polyline points="([^"]*)" fill="none" stroke="#0072b2"/
      .exec(svg)![1]!
      .split(' ')
      .map((point) => point.split(',').map(Number));
    expect(loss.length).toBeGreaterThan(400);
    expect(loss[0]![0]).toBeLessThan(80);
    expect(loss.at(-1)![0]).toBeGreaterThan(740);
  });

  it('stay within the picture, whatever the figures', () => {
    const value = fc.oneof(fc.double(), fc.constantFrom(0, -1, 1e-300, 1e300, Number.NaN));
    const line = fc.record(
      { loss: value, rate: fc.double({ noNaN: true, noDefaultInfinity: true }), 'heldOut/nll': value },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 30 }), (figures) => {
        const svg = curves(
          'run',
          figures.map((own, step) => ({ step, ...own })),
        );
        expect(svg).not.toMatch(/NaN,|,NaN|"NaN"|Infinity/);
        for (const [, y] of svg.matchAll(/cy="([^"]*)"/g)) expect(Number(y)).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});
