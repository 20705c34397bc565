import { describe, expect, it } from 'vitest';
import { forecast, sectionsOf } from '../../src/backends/cost/index.ts';
import { LiveMaterial } from '../../src/backends/mpc/correlations/live.ts';
import { rehearse } from '../../src/backends/mpc/index.ts';
import { Trouble } from '../../src/backends/mpc/trouble.ts';
import { quantise, type RingProgram } from '../../src/backends/ring/index.ts';
import type { Tensor } from '../../src/program/index.ts';
import { toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';
import { platforms } from './platform.ts';

/** The parts of the helper setting by themselves; helper.test.ts has whole runs. */
const options = { tokens: 3, width: 8, exponent: 4, steps: 2 };
const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;

describe('material that comes while it is used', () => {
  const pieces = [
    { offset: 0, bytes: 3, dueAfter: 0 },
    { offset: 3, bytes: 0, dueAfter: 0 },
    { offset: 3, bytes: 5, dueAfter: 2 },
    { offset: 8, bytes: 2, dueAfter: 5 },
  ];
  const stream = () => {
    let at = 0;
    return { read: async (count: number) => Uint8Array.from({ length: count }, () => at++) };
  };

  it('is given in any order, early or late, once, and is kept no longer than until then', async () => {
    const material = new LiveMaterial(new Trouble());
    const early = material.read(8, 2);
    await material.follow(stream(), pieces);
    expect([...(await early)]).toEqual([8, 9]);
    expect([...(await material.read(3, 5))]).toEqual([3, 4, 5, 6, 7]);
    expect([material.has(3), material.has(0)]).toEqual([false, true]);
    expect([...(await material.read(0, 3))]).toEqual([0, 1, 2]);
    // What was waited for was never kept.
    expect(material.peakBytes).toBe(8);
  });

  it('is not read on where enough is kept, until some is used, something is due or somebody waits', async () => {
    const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
    const begun = () => {
      const material = new LiveMaterial(new Trouble(), 2);
      return { material, reading: material.follow(stream(), pieces) };
    };
    const used = begun();
    await settled();
    expect([used.material.has(0), used.material.has(3), used.material.has(8)]).toEqual([true, false, false]);
    await used.material.read(0, 3);
    await settled();
    expect([used.material.has(3), used.material.has(8)]).toEqual([true, false]);
    await used.material.read(3, 5);
    await used.reading;
    expect(used.material.peakBytes).toBe(5);
    const due = begun();
    due.material.reached(1);
    await settled();
    expect(due.material.has(3)).toBe(false);
    due.material.reached(2);
    await settled();
    expect([due.material.has(3), due.material.has(8)]).toEqual([true, false]);
    expect([...(await due.material.read(8, 2))]).toEqual([8, 9]);
    await due.reading;
    // A failure ends the pause too.
    const trouble = new Trouble();
    const stuck = new LiveMaterial(trouble, 2).follow(stream(), pieces);
    await settled();
    const error = new Error('the run failed');
    trouble.raise(error);
    await expect(stuck).rejects.toBe(error);
  });

  it('is refused in another size than it came in, and not waited for after a failure', async () => {
    const trouble = new Trouble();
    const material = new LiveMaterial(trouble);
    await material.follow(stream(), pieces);
    expect(() => material.read(0, 4)).toThrow(/a node has 3/);
    const waiting = material.read(20, 1);
    const error = new Error('the stream broke');
    trouble.raise(error);
    trouble.raise(new Error('an echo'));
    await expect(waiting).rejects.toBe(error);
    await expect(material.read(30, 1)).rejects.toBe(error);
  });
});

describe('sections', () => {
  const large = (count: number): RingProgram => quantise(toyProgram({ ...options, tokens: count }), { bits: 64, fraction: 16 });
  it.each([1, 8])('add up to what the nodes declare, with the seeds first (%i tokens)', (count) => {
    const sections = sectionsOf(large(count));
    const { offline } = forecast(large(count)).total;
    const sum = (bytes: readonly number[]): number => bytes.reduce((all, next) => all + next, 0);
    const framed = (bytes: number): number => bytes + 16 * Math.ceil(bytes / 2 ** 20);
    expect([sections.helperToServer[0], sections.helperToClient[0], sections.clientToServer[0]]).toEqual([48, 48, 0]);
    expect(framed(sum(sections.clientToServer))).toBe(offline.clientSentBytes);
    expect(framed(sum(sections.helperToServer)) + framed(sum(sections.helperToClient))).toBe(offline.dealerSentBytes);
  });
});

describe('seeds of a run with a helper', () => {
  it('are cleared once they are used, by every role', async () => {
    const seeds: Uint8Array[] = [];
    const kept = <T extends Uint8Array>(bytes: T): T => {
      // Nonces are no secret.
      if (bytes.length === 32) seeds.push(bytes);
      return bytes;
    };
    const watched = Object.fromEntries(
      Object.entries(platforms(48)).map(([role, { entropy, derive, prg, ...rest }]) => [
        role,
        {
          ...rest,
          entropy: (bytes: Uint8Array<ArrayBuffer>) => entropy(kept(bytes)),
          derive: (secret: Uint8Array, label: string, context: readonly Uint8Array[]) =>
            kept(derive(kept(secret), label, context)),
          prg: (seed: Uint8Array) => prg(kept(seed)),
        },
      ]),
    ) as unknown as ReturnType<typeof platforms>;
    await rehearse({
      ...{ program: quantise(toyProgram(options), { bits: 48, fraction: 14 }), setting: 'helper' as const, platforms: watched },
      ...{ weight: read(toyWeights(8, 3)), input: read(toyTokens(options)) },
    });
    expect(seeds.length).toBeGreaterThan(10);
    for (const seed of seeds) expect([...seed]).toEqual(new Array(32).fill(0));
  });
});
