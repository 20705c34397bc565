import { describe, expect, it } from 'vitest';
import { type Platform, rehearse } from '../../src/backends/mpc/index.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { platforms } from '../mpc/platform.ts';
import { toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';

/** Keeps every seed that a platform draws, derives from, derives and expands. */
function watching(platform: Platform, seeds: Uint8Array[]): Platform {
  const kept = <T extends Uint8Array>(seed: T): T => {
    seeds.push(seed);
    return seed;
  };
  return {
    ...platform,
    entropy: (bytes) => platform.entropy(kept(bytes)),
    derive: (secret, label, context) => kept(platform.derive(kept(secret), label, context)),
    prg: (seed) => platform.prg(kept(seed)),
  };
}

describe('seeds', () => {
  it('are cleared once they are used, by every role', async () => {
    const options = { tokens: 3, width: 8, exponent: 2, steps: 1 };
    const ring = { bits: 64, fraction: 16 };
    const [weights, tokens] = [toyWeights(8, 3), toyTokens(options)];
    const plain = platforms(64);
    const seen = { client: [] as Uint8Array[], server: [] as Uint8Array[], dealer: [] as Uint8Array[] };
    await rehearse({
      program: quantise(toyProgram(options), ring),
      platforms: {
        client: watching(plain.client, seen.client),
        server: watching(plain.server, seen.server),
        dealer: watching(plain.dealer, seen.dealer),
      },
      weight: async (name) => weights.get(name)!,
      input: async (name) => tokens.get(name)!,
    });
    for (const [role, seeds] of Object.entries(seen)) {
      expect(seeds.length, role).toBeGreaterThan(3);
      for (const seed of seeds) expect([...seed], role).toEqual(new Array(32).fill(0));
    }
  });
});
