import { describe, expect, it } from 'vitest';
import { type Platform, rehearse } from '../../src/backends/mpc/index.ts';
import { purposes } from '../../src/backends/mpc/random.ts';
import { maskedWeights, quantise, type RingProgram, wordBitsOf } from '../../src/backends/ring/index.ts';
import { hkdf } from '../../src/node/randomness.ts';
import { size, type Tensor } from '../../src/program/index.ts';
import { toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';
import { drawsOf, type Side } from './exhaustive.ts';
import { platforms } from './platform.ts';

/** One fill of a stream: by whom, under which seed, how long. */
interface Fill {
  readonly by: keyof ReturnType<typeof platforms>;
  readonly seed: string;
  readonly stream: number;
  readonly bytes: number;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const options = { tokens: 3, width: 8, exponent: 4, steps: 2 };
const [bits, fraction] = [48, 14];
const program = quantise(toyProgram(options), { bits, fraction });
const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;

/** Every fill of a whole run of all roles, offline and online. `reroute` plants a fault: another stream for one that is asked for. */
async function record(entropySeed: number, reroute: (stream: number) => number = (stream) => stream): Promise<Fill[]> {
  const fills: Fill[] = [];
  const watched = Object.fromEntries(
    Object.entries(platforms(bits, entropySeed)).map(([by, platform]) => [
      by,
      {
        ...platform,
        prg: (seed: Uint8Array) => {
          const [prg, name] = [platform.prg(seed), hex(seed)];
          return {
            algorithm: prg.algorithm,
            fill: (stream: number, out: Uint8Array<ArrayBuffer>) => {
              fills.push({ by: by as Fill['by'], seed: name, stream: reroute(stream), bytes: out.length });
              prg.fill(reroute(stream), out);
            },
          };
        },
      } satisfies Platform,
    ]),
  ) as ReturnType<typeof platforms>;
  const tokens = toyTokens(options);
  await rehearse({ program, platforms: watched, weight: read(toyWeights(8, 3)), input: read(tokens) });
  return fills;
}

const of = (fills: readonly Fill[], seed: string): Fill[] => fills.filter((fill) => fill.seed === seed);
const seedsOf = (fills: readonly Fill[], by: Fill['by']): Set<string> =>
  new Set(fills.filter((fill) => fill.by === by).map(({ seed }) => seed));

interface Seeds {
  readonly client: string;
  readonly server: string;
  readonly weights: string[];
}
/** The run's seeds, told apart by who uses them: the dealer shares one with each party, the parties share those of the weights. */
function seeds(fills: readonly Fill[]): Seeds {
  const [client, server, dealer] = (['client', 'server', 'dealer'] as const).map((by) => seedsOf(fills, by)) as [
    Set<string>,
    Set<string>,
    Set<string>,
  ];
  const only = (of: Set<string>): string => {
    const shared = [...of].filter((seed) => dealer.has(seed));
    expect(shared).toHaveLength(1);
    return shared[0]!;
  };
  return { client: only(client), server: only(server), weights: [...client].filter((seed) => server.has(seed)) };
}

/** Streams that are filled with more than one length, or not as the operation declares: what a reused pad looks like. */
function misuses(fills: readonly Fill[], side: Side, seed: string, of_: RingProgram): string[] {
  const wordBytes = wordBitsOf(bits) / 8;
  const declared = new Map<number, number>();
  of_.nodes.forEach((node, index) => {
    for (const draw of drawsOf(node, of_)) {
      if (draw.side !== side) continue;
      expect(draw.purpose).toBeLessThan(purposes);
      expect(declared.has(index * purposes + draw.purpose)).toBe(false);
      declared.set(index * purposes + draw.purpose, draw.kind === 'bytes' ? draw.count : draw.count * wordBytes);
    }
  });
  const used = of(fills, seed);
  const wrong = used
    .filter(({ stream, bytes }) => declared.get(stream) !== bytes)
    .map(({ stream, bytes }) => `${side} stream ${stream}: ${bytes} bytes for ${declared.get(stream)}`);
  const roles: Fill['by'][] = [side, 'dealer'];
  for (const stream of declared.keys()) {
    for (const by of roles) {
      const times = used.filter((fill) => fill.stream === stream && fill.by === by).length;
      // The client draws a share once to prepare and once online, the server a narrow b for its opening and as its addend of α.
      if (times < 1 || times > (by === 'dealer' ? 1 : 2)) wrong.push(`${by} draws stream ${stream} ${times} times`);
    }
  }
  return wrong;
}

describe('the pads of a whole run with a cache and decode steps', () => {
  const run = record(1);

  it('are streams of one purpose and one length each, for every node anew', async () => {
    const fills = await run;
    const { client, server } = seeds(fills);
    expect(misuses(fills, 'client', client, program)).toEqual([]);
    expect(misuses(fills, 'server', server, program)).toEqual([]);
  });

  it('come from one seed for each party, which the other party never has', async () => {
    const fills = await run;
    const { client, server, weights } = seeds(fills);
    expect(seedsOf(fills, 'server').has(client)).toBe(false);
    expect(seedsOf(fills, 'client').has(server)).toBe(false);
    expect([...seedsOf(fills, 'dealer')].sort()).toEqual([client, server].sort());
    expect(seedsOf(fills, 'client').size + seedsOf(fills, 'server').size).toBe(2 + 2 * weights.length);
  });

  it('mask every weight with a seed of its own, which the dealer never has', async () => {
    const fills = await run;
    const { weights } = seeds(fills);
    expect(weights).toHaveLength(maskedWeights(program).length);
    for (const seed of weights) {
      expect(seedsOf(fills, 'dealer').has(seed)).toBe(false);
      expect(new Set(of(fills, seed).map(({ stream, bytes }) => `${stream} ${bytes}`)).size).toBe(1);
    }
    const sizes = maskedWeights(program).map((index) => size(program.nodes[index]!.shape) * 8);
    expect(weights.map((seed) => of(fills, seed)[0]!.bytes).sort((a, b) => a - b)).toEqual(sizes.sort((a, b) => a - b));
  });

  it('are other ones in another run: no seed appears twice', async () => {
    const again = new Set((await record(100)).map(({ seed }) => seed));
    expect((await run).filter(({ seed }) => again.has(seed))).toEqual([]);
  });

  it('see a planted fault: one stream for two nodes', async () => {
    const opens = program.nodes.flatMap((node, index) => (node.operation === 'open' ? [index * purposes] : []));
    const fills = await record(1, (stream) => (stream === opens[1] ? opens[0]! : stream));
    const { server } = seeds(fills);
    expect(misuses(fills, 'server', server, program)).not.toEqual([]);
  });

  it('see a planted fault: two purposes on one stream of a node', async () => {
    const floating = program.nodes.findIndex(
      (node) => node.operation === 'truncate' && program.nodes[node.inputs[0]!]!.state === 'floating',
    );
    const fills = await record(1, (stream) => (stream === floating * purposes + 1 ? floating * purposes : stream));
    expect(misuses(fills, 'client', seeds(fills).client, program)).not.toEqual([]);
  });
});

describe('seeds', () => {
  it('depend on the pair, the program, the nonces and the master, and each of them alone changes them', () => {
    const parts = (program: number, nonce: number): Uint8Array[] => [
      new Uint8Array(32).fill(program),
      new Uint8Array(16).fill(nonce),
    ];
    const master = new Uint8Array(32).fill(9);
    const all = [
      hkdf(master, 'sotto correlations client/v1', parts(1, 1)),
      hkdf(master, 'sotto correlations server/v1', parts(1, 1)),
      hkdf(master, 'sotto correlations client/v1', parts(2, 1)),
      hkdf(master, 'sotto correlations client/v1', parts(1, 2)),
      hkdf(new Uint8Array(32).fill(8), 'sotto correlations client/v1', parts(1, 1)),
    ];
    expect(new Set(all.map(hex)).size).toBe(all.length);
  });
});
