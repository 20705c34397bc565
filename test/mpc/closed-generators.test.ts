import { describe, expect, it, vi } from 'vitest';
import type { Setting } from '../../src/backends/cost/index.ts';
import { type Platform, rehearse } from '../../src/backends/mpc/index.ts';
import type { ChannelEnd } from '../../src/backends/mpc/rehearse.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { pagePrg } from '../../src/browser/randomness.ts';
import type { Prg } from '../../src/math/random.ts';
import type { Channel } from '../../src/net/contract.ts';
import { aesPrg } from '../../src/node/randomness.ts';
import { toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';
import { platforms } from './platform.ts';

const options = { tokens: 3, width: 8, exponent: 4, steps: 2 };
const [bits, fraction] = [48, 14];
const program = quantise(toyProgram(options), { bits, fraction });

/** Whether each generator of a run of all roles is closed at its end; `fail` ends the run at the client's first input. */
async function generators(setting: Setting, fail: boolean): Promise<Record<string, boolean[]>> {
  const channels: Channel[] = [];
  const closed: Record<string, boolean[]> = {};
  const watched = Object.fromEntries(
    Object.entries(platforms(bits, 7)).map(([by, platform]) => {
      const of: boolean[] = [];
      closed[by] = of;
      const prg = (seed: Uint8Array): Prg => {
        const [made, at] = [platform.prg(seed), of.push(false) - 1];
        const close = (): void => {
          of[at] = true;
          made.close?.();
        };
        return { algorithm: made.algorithm, fill: (stream, out) => made.fill(stream, out), close };
      };
      return [by, { ...platform, prg } satisfies Platform];
    }),
  ) as ReturnType<typeof platforms>;
  const [tokens, weights] = [toyTokens(options), toyWeights(8, 3)];
  const input = async (name: string) => {
    if (fail) throw new Error('no input');
    return tokens.get(name)!;
  };
  const observeChannel = (_: ChannelEnd, channel: Channel): Channel => {
    channels.push(channel);
    return channel;
  };
  const weight = async (name: string) => weights.get(name)!;
  const run = rehearse({ program, setting, platforms: watched, weight, input, observeChannel });
  if (!fail) await run;
  else {
    await expect(run).rejects.toThrow();
    // As a party does whose session has failed.
    for (const channel of channels) await channel.close();
  }
  return closed;
}

describe('the keys of a session’s pads', () => {
  it.each([
    ['dealer', 'is done'],
    ['dealer', 'fails'],
    ['helper', 'is done'],
    ['helper', 'fails'],
  ] as const)('are cleared at client, server and %s when the run %s', async (setting, end) => {
    const closed = await generators(setting, end === 'fails');
    for (const party of ['client', 'server', 'dealer']) {
      expect(closed[party]!.length).toBeGreaterThan(0);
      await vi.waitFor(() => expect(closed[party]).not.toContain(false));
    }
  });

  for (const [where, make] of [
    ['Node', aesPrg],
    ['a page', pagePrg],
  ] as const)
    it(`give nothing once they are cleared, in ${where}`, () => {
      const prg = make(new Uint8Array(32).fill(3));
      const [small, large] = [new Uint8Array(100), new Uint8Array(10_000)];
      prg.fill(1, small);
      prg.fill(1, large);
      expect(large.subarray(0, 100)).toEqual(small);
      prg.close!();
      prg.close!();
      for (const out of [small, large]) expect(() => prg.fill(2, out)).toThrow('cleared');
    });
});
