import { describe, expect, it } from 'vitest';
import { pointFunctionBytes } from '../../src/backends/ring/index.ts';
import { all, cases } from './cases.ts';
import { experiment, opened } from './exhaustive.ts';
import { judge } from './secrecy.ts';
import { dealerViews } from './setup-view.ts';
import { tiny } from './tiny.ts';

/** Exact: every assignment of the hidden pads in a tiny ring, not a statistical look at samples. */
describe.each(cases)('$name in a ring of $bits bits', (given) => {
  it('gives the server one distribution of views for all inputs, with one pad for every view', { timeout: 60_000 }, async () => {
    const verdict = await judge(given, 'server');
    expect(verdict).toMatchObject({ differing: 0, bijective: true });
  });

  it('gives the client one distribution of views for all weights, with one pad for every view, and outputs only', {
    timeout: 60_000,
  }, async () => {
    const verdict = await judge(given, 'client');
    expect(verdict).toMatchObject({ differing: 0, bijective: true, wrongReveals: 0 });
  });
});

describe('the dealer', () => {
  it('gets every pair of masked weights once, whatever the weights are', async () => {
    for (const weights of [
      [0, 0],
      [1, 1],
      [3, -5],
      [-8, 7],
    ] as const)
      expect(await dealerViews(weights)).toEqual(Array.from({ length: 256 }, (_, i) => i));
  });
});

describe('the keys of a lookup', () => {
  it('have a number of bytes that depends on rows and index bits only', async () => {
    for (const fixed of [0, 1, 2]) {
      const program = tiny(4, (p) => p.lookup(p.mixed(), 2, [[1, -2, 3, 5]]));
      const secrets = all(4, { x: 1 }).map((secret) => ({ ...secret, w: [fixed] }));
      const outcome = await experiment({ program, secrets, enumerate: [], fixed });
      expect([...outcome.keys.values()].map((bytes) => bytes.length)).toEqual([16 * pointFunctionBytes(2, 32)]);
    }
  });
});

describe('the functionality', () => {
  // What the server holds of x fixes ρ: with the output it would tell low bits of x, and so the server never gets outputs.
  it('rounds by an offset that the client knows and that the server’s share leaves uniform', async () => {
    const program = tiny(4, (p) => p.truncate(p.mixed(), 2));
    const secrets = [-4, -1, 0].map((x) => ({ x: [x], w: [0] }));
    const outcome = await experiment({ program, secrets, enumerate: ['client'] });
    const node = outcome.program.nodes.length - 1;
    const input = outcome.program.nodes[node]!.inputs[0]!;
    const [results, own] = [opened(outcome, node), outcome.share('server', input)];
    secrets.forEach(({ x: [x] }, secret) => {
      const rounded = new Set<number>();
      for (let lane = secret * outcome.padValues; lane < (secret + 1) * outcome.padValues; lane++) {
        const rho = (((x! - own[lane]!) % 4) + 4) % 4;
        expect(results[lane]).toBe(Math.floor((x! + 3 - rho) / 4));
        rounded.add(results[lane]!);
      }
      expect(rounded.size).toBe(x! % 4 === 0 ? 1 : 2);
    });
  });
});
