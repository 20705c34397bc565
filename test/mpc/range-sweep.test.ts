import { describe, expect, it } from 'vitest';
import { subjectOf, sweep } from '../../bench/range-flags.ts';

/**
 * A small part of `npm run bench -- range-flags`: in every kind of wire one element beyond its window, and the multiples of every modulus that its readers
 * take it by. None may be silent but where nothing is looked at.
 */
const wide = { bits: 64, fraction: 16 };

describe('range flags', () => {
  it.each([
    ['llama', 'full-p2', wide, /sum|weights|act/],
    ['bert', 'exact', wide, /scores|sum|up|embed/],
    ['llama', 'full-p2', { bits: 32, fraction: 9 }, /sum|qkv|stream/],
  ] as const)(
    'of a %s under %s, %o, notice what is beyond a window of any kind',
    { timeout: 120_000 },
    async (family, plan, ring, of) => {
      const swept = await sweep(await subjectOf(family, plan, ring), { used: [2.5], of });
      const missed = swept.flatMap(({ wire, results }) =>
        wire.look === undefined || wire.look.repeats < 16
          ? results
              .filter(({ outcome }) => wire.look?.group === 1 && !outcome.startsWith('noticed'))
              .map(({ what }) => `${wire.name} ${what}`)
          : results.filter(({ outcome }) => outcome === 'silent').map(({ what }) => `${wire.name} ${what}`),
      );
      expect(missed).toEqual([]);
      expect(swept.length).toBeGreaterThan(5);
    },
  );

  it('notice scores whose differences a comparison would take modulo its bits, far within the ring', {
    timeout: 60_000,
  }, async () => {
    const far = { used: [2 ** -16, 2 ** -10], of: /scores/ };
    const [scores] = await sweep(await subjectOf('bert', 'exact', wide), far);
    expect(scores!.results.map(({ outcome }) => outcome)).toEqual(Array(4).fill('noticed'));
  });
});
