import { describe, expect, it } from 'vitest';
import { type Assignment, all, cases } from './cases.ts';
import { wrongResults, wrongTruncations } from './exactness.ts';
import { experiment, opened, signed } from './exhaustive.ts';
import { tiny } from './tiny.ts';

const widths = [4, 5, 6].flatMap((L) => Array.from({ length: L - 2 }, (_, i) => ({ L, f: i + 1 })));

describe.each(widths)('truncation by $f bits in a ring of $L', ({ L, f }) => {
  it.each(['pinned', 'floating'] as const)(
    'is ⌊(x + 2^f − 1 − ρ)/2^f⌋ for every x in range and all pads, %s',
    async (form) => {
      expect(await wrongTruncations(L, f, form)).toBe(0);
    },
    30_000,
  );
});

describe('exhaustively over inputs and pads', () => {
  it('a square is exact modulo 2^L', async () => {
    const secrets: Assignment[] = all(4, { x: 1 }).map((x) => ({ ...x, w: [3] }));
    const outcome = await experiment({ program: tiny(4, (p) => p.square(p.mixed())), secrets, enumerate: ['client', 'server'] });
    const results = opened(outcome, outcome.program.nodes.length - 1);
    expect(
      results.every((value, lane) => value === signed((secrets[Math.floor(lane / outcome.padValues)]!.x![0]! + 3) ** 2, 4)),
    ).toBe(true);
  });

  it('a product is exact modulo 2^L', async () => {
    const secrets: Assignment[] = all(2, { x: 1, y: 1 }).map((x) => ({ ...x, w: [1], v: [-1] }));
    const program = tiny(2, (p) => p.product(p.mixed('x', 'w'), p.mixed('y', 'v')));
    const outcome = await experiment({ program, secrets, enumerate: ['client', 'server'] });
    const results = opened(outcome, outcome.program.nodes.length - 1);
    const expected = secrets.map(({ x, y }) => signed((x![0]! + 1) * (y![0]! - 1), 2));
    expect(results.every((value, lane) => value === expected[Math.floor(lane / outcome.padValues)])).toBe(true);
  });

  it('a linear map is exact modulo 2^L', async () => {
    const secrets: Assignment[] = all(3, { x: 2 }).map((x) => ({ ...x, W: [3, -2] }));
    const program = tiny(3, (p) => p.linear(p.input('x', 2), 'W', 2, 1));
    const outcome = await experiment({ program, secrets, enumerate: ['client'] });
    const results = opened(outcome, outcome.program.nodes.length - 1);
    const expected = secrets.map(({ x }) => signed(3 * x![0]! - 2 * x![1]!, 3));
    expect(results.every((value, lane) => value === expected[Math.floor(lane / outcome.padValues)])).toBe(true);
  });
});

describe.each(cases)('$name', (given) => {
  it('is the plain evaluation with the rounding offsets of the client’s shares', { timeout: 60_000 }, async () => {
    expect(await wrongResults(given)).toBe(0);
  });
});
