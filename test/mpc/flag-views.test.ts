import { describe, expect, it } from 'vitest';
import type { RingNode } from '../../src/backends/ring/index.ts';
import { all, cases } from './cases.ts';
import { experiment, type Fault, type Outcome, opened } from './exhaustive.ts';
import { judge } from './secrecy.ts';
import { type Tiny, tiny } from './tiny.ts';

/**
 * What a client has of a run with range flags: fresh pads and one bit. Every mask of the server's in a ring of 3 bits (views.test.ts has all cases; its judge
 * finds that the views before the bit are the same for all secrets, and that the bit's message is the bit less the client's own share), and here what the bit is.
 */
const given = cases.find(({ name }) => name.startsWith('range flags'))!;
const secrets = all(3, { x: 2 }, 5).flatMap((client) => all(3, { w: 2 }, 11).map((server) => ({ ...client, ...server })));
const indexOf = (outcome: Outcome, operation: RingNode['operation']): number =>
  outcome.program.nodes.findIndex((node) => node.operation === operation);

/** Lanes whose bit is not whether one of the sums left its window. */
async function wrongBits(build: (p: Tiny) => number, fault: Fault = {}): Promise<{ wrong: number; ones: number; lanes: number }> {
  const outcome = await experiment({ program: tiny(3, build), secrets, enumerate: ['client'], fault });
  const sums = opened(outcome, indexOf(outcome, 'project'));
  const bits = outcome.outputs.get('range.0')!;
  const expected = Array.from({ length: outcome.lanes }, (_, lane) =>
    [sums[2 * lane]!, sums[2 * lane + 1]!].some((sum) => sum < -2 || sum >= 2) ? 1 : 0,
  );
  const wrong = expected.filter((bit, lane) => bit !== bits[lane]).length;
  return { wrong, ones: expected.filter((bit) => bit === 1).length, lanes: outcome.lanes };
}

const flags = (p: Tiny, counted = false): number => p.flags(p.mixed('x', 'w', 2), { width: 2, high: 1, counted });

describe('the bit of range flags', () => {
  it('is whether anything left its window, in every lane, and takes both values', async () => {
    const { wrong, ones, lanes } = await wrongBits(flags);
    expect(wrong).toBe(0);
    expect(ones).toBeGreaterThan(0);
    expect(ones).toBeLessThan(lanes);
  });

  it('is the whole of what the client learns', async () => {
    expect(await judge(given, 'client')).toMatchObject({ differing: 0, bijective: true, wrongReveals: 0 });
  });

  it('is found leaking where the number of misses is told without a second look', async () => {
    const counted = (p: Tiny): number => flags(p, true);
    expect((await wrongBits(counted)).wrong).toBeGreaterThan(0);
  });

  it('is found leaking where the server sends another bit of its share', async () => {
    const high: Fault = {
      server: (protocol, kernels) => ({
        ...protocol,
        flag: (node, x) => {
          const shifted = kernels.allocate(x.block!.length);
          kernels.shiftRight(shifted, x.block!, 1, 3);
          return protocol.flag(node, { block: shifted });
        },
      }),
    };
    expect((await judge(given, 'client', high)).wrongReveals).toBeGreaterThan(0);
  });

  it.each(['piecewise', 'pin'] as const)('is found leaking where a %s of it has no pad', async (operation) => {
    const viewer = operation === 'pin' ? 'server' : 'client';
    const { nodes } = tiny(3, given.build)(1);
    const at = nodes.findIndex((node) => node.operation === operation);
    const bare: Fault = {
      spoil: (side, stream, words) => {
        if (side !== viewer && Math.floor(stream / 4) === at) words.fill(0);
      },
    };
    expect((await judge(given, viewer, bare)).differing).toBeGreaterThan(0);
  });
});
