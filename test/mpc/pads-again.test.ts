import { describe, expect, it } from 'vitest';
import {
  clientOffline,
  clientOnline,
  clientSetup,
  dealerOffline,
  dealerSetup,
  memoryBundle,
  type Platform,
  rehearse,
  serverFromDealer,
  serverOffline,
  serverOnline,
  serverSetup,
} from '../../src/backends/mpc/index.ts';
import { purposes } from '../../src/backends/mpc/random.ts';
import { quantise, type RingProgram } from '../../src/backends/ring/index.ts';
import type { Channel } from '../../src/net/contract.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { recorded } from '../../src/net/recorded.ts';
import { type Ops, type Ref, type Tensor, trace } from '../../src/program/index.ts';
import { numbers, toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';
import { platforms } from './platform.ts';
import { tiny } from './tiny.ts';

/**
 * What is done again meets other pads: a run that is tried again, a token that is generated again after the cache was rolled back, and
 * a peer's old frames played back to a server that was started again. Each statement below is asked of the code and of planted bugs.
 */
const planted = {
  'pads by position in the text: a token again is the same position': 'position',
  'a retry that begins with the entropy of the first attempt': 'entropy',
  'seeds that do not depend on the session': 'context',
  'a server that opens its old bundle after a restart': 'bundle',
} as const;
type Planted = (typeof planted)[keyof typeof planted] | undefined;

const ring = { bits: 64, fraction: 16 };
const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Notes every stream that a platform fills, as "seed stream", and may answer for another stream. */
function watching(platform: Platform, fills: Set<string>[], reroute = (stream: number) => stream): Platform {
  return {
    ...platform,
    prg: (seed) => {
      const [prg, name] = [platform.prg(seed), hex(seed)];
      return {
        algorithm: prg.algorithm,
        fill: (stream, out) => {
          fills.at(-1)!.add(`${name} ${reroute(stream)}`);
          prg.fill(reroute(stream), out);
        },
      };
    },
  };
}

const common = (a: ReadonlySet<string>, b: ReadonlySet<string>): string[] => [...a].filter((each) => b.has(each));

const toy = { tokens: 2, width: 4, exponent: 2, steps: 1 };
const [weights, tokens] = [toyWeights(4, 3), toyTokens(toy)];

describe('a run that is tried again after it broke off in the middle', () => {
  /** The streams of both attempts that serve both of them, by role. Masks of weights are told by their lone stream. */
  async function attempts(setting: 'dealer' | 'helper', bug?: Planted): Promise<string[]> {
    const fills: Set<string>[] = [new Set()];
    const seed = 1;
    const watched = (): ReturnType<typeof platforms> => {
      const { client, server, dealer } = platforms(ring.bits, seed);
      return { client: watching(client, fills), server: watching(server, fills), dealer: watching(dealer, fills) };
    };
    const roles = watched();
    const program = quantise(toyProgram(toy), ring);
    const run = (platforms: typeof roles, input: (name: string) => Promise<Tensor>) =>
      rehearse({ program, setting, platforms, weight: read(weights), input });
    let asked = 0;
    const breaking = async (name: string): Promise<Tensor> => {
      if (++asked > 1) throw new Error('the user went away');
      return tokens.get(name)!;
    };
    // The rehearsal's server goes on waiting for the client that has gone: it is left behind.
    await expect(run(roles, breaking)).rejects.toThrow('the user went away');
    fills.push(new Set());
    await run(bug === 'entropy' ? watched() : roles, read(tokens));
    return common(fills[0]!, fills[1]!);
  }

  it.each(['dealer', 'helper'] as const)('draws from other seeds, in the %s setting', async (setting) => {
    expect(await attempts(setting)).toEqual([]);
  });

  it('sees the planted bug: a retry that begins with the entropy of the first attempt', async () => {
    expect(
      (await attempts('dealer', planted['a retry that begins with the entropy of the first attempt'])).length,
    ).toBeGreaterThan(0);
  });
});

/** A key for the prompt and one for a token; the cache is rolled back and the token comes again, with its own query. */
function rolledBack(): RingProgram {
  const width = 4;
  const program = trace((ops: Ops<Ref>) => {
    const [key, query] = ['key', 'query'].map((name) => ops.input(name, [width, width], 'server')) as [Ref, Ref];
    const cache = ops.matmul(ops.input('prompt', [2, width], 'client'), key);
    const step = (name: string): Ref =>
      ops.scope(name, () => {
        const token = ops.input(name, [1, width], 'client');
        const keys = ops.concat([cache, ops.matmul(token, key)], 0);
        return ops.square(ops.matmul(ops.matmul(token, query), ops.transposed(keys)));
      });
    return { first: step('token'), again: step('token again') };
  });
  return quantise(program, ring);
}

describe('a token that is generated again after the cache was rolled back', () => {
  const program = rolledBack();
  const nodesOf = (scope: string): number[] =>
    program.nodes.flatMap(({ scope: of, operation }, index) => (of === scope && operation !== 'serverInput' ? [index] : []));
  const [first, again] = [nodesOf('token'), nodesOf('token again')];

  /** What the first step did for its cache is not done again: from the end, the two steps have the same statements. */
  const counterpart = (node: number): number => {
    const alike = (nodes: readonly number[]): number[] =>
      nodes.filter((other) => program.nodes[other]!.operation === program.nodes[node]!.operation).reverse();
    return alike(first)[alike(again).indexOf(node)]!;
  };

  /** What the run drew and said for the two: the same token, so that equal pads would show as equal messages. */
  async function generated(bug?: Planted) {
    const position = new Map(again.map((node) => [node, counterpart(node)]));
    const reroute = (stream: number): number => {
      const node = Math.floor(stream / purposes);
      return bug === 'position' && position.has(node) ? position.get(node)! * purposes + (stream % purposes) : stream;
    };
    const fills: Set<string>[] = [new Set()];
    const plain = platforms(ring.bits);
    const said = new Map<number, string>();
    const token = { shape: [1, 4], values: numbers(4, 9) };
    const inputs = new Map<string, Tensor>([
      ['prompt', { shape: [2, 4], values: numbers(8, 7) }],
      ['token', token],
      ['token again', token],
      ['key', { shape: [4, 4], values: numbers(16, 3) }],
      ['query', { shape: [4, 4], values: numbers(16, 4) }],
    ]);
    const { outputs } = await rehearse({
      program,
      platforms: {
        client: watching(plain.client, fills, reroute),
        server: watching(plain.server, fills, reroute),
        dealer: watching(plain.dealer, fills, reroute),
      },
      weight: read(inputs),
      input: read(inputs),
      observeServer: (protocol) => ({
        ...protocol,
        *open(node, x) {
          const step = protocol.open(node, x!);
          if (!('next' in step)) return step;
          for (let result = step.next(); ; ) {
            if (result.done) return result.value;
            if ('send' in result.value) said.set(node.index, hex(result.value.send));
            result = step.next(yield result.value);
          }
        },
      }),
    });
    const messages = (nodes: readonly number[]): string[] => nodes.flatMap((node) => said.get(node) ?? []);
    return { streams: fills[0]!, repeated: common(new Set(messages(first)), new Set(messages(again))), said, outputs };
  }

  it('is other statements: the step has them all again, and none in common', () => {
    expect(again.length).toBeGreaterThan(10);
    for (const node of again) expect(counterpart(node)).toBeDefined();
    expect(first.filter((node) => again.includes(node))).toEqual([]);
  });

  it('says nothing twice, though the token is the same and so is its result', async () => {
    const { repeated, said, outputs } = await generated();
    expect(repeated).toEqual([]);
    expect(new Set(said.values()).size).toBe(said.size);
    const opens = program.nodes.filter(({ operation }) => operation === 'open');
    expect(said.size).toBe(opens.length);
    const [one, other] = [outputs.get('first')!.values, outputs.get('again')!.values];
    for (const [at, value] of Array.from(one).entries()) expect(Math.abs(value - other[at]!)).toBeLessThan(1e-3);
  });

  it('sees the planted bug: pads by position in the text', async () => {
    const bug = planted['pads by position in the text: a token again is the same position'];
    expect((await generated(bug)).repeated.length).toBeGreaterThan(0);
  });
});

describe('seeds of a session whose master is played back', () => {
  const master = new Uint8Array(32).fill(7);
  const nonces = (of: number): Uint8Array[] => [1, 2, 3, of].map((value) => new Uint8Array(16).fill(value));
  const seeds = (derive: Platform['derive']): Set<string> =>
    new Set([4, 5, 6].map((of) => hex(derive(master, 'sotto correlations server/v1', nonces(of)))));

  it('are other ones: they depend on the nonces, which the party drew itself', () => {
    expect(seeds(platforms(64).server.derive).size).toBe(3);
  });

  it('see the planted bug: seeds that do not depend on the session', () => {
    const { derive } = platforms(64).server;
    expect(seeds((secret, label) => derive(secret, label, [])).size).toBe(1);
  });

  it.each([
    ['its own', 4, undefined],
    ['another session’s', 5, { kind: 'material', place: { party: 'dealer' } }],
  ] as const)('are made of %s stream alone', async (_, of, refusal) => {
    const all = platforms(64);
    const program = tiny(64, (p) => p.square(p.input()))(1);
    const [toServer, server] = memoryPair({ names: ['dealer', 'server'] });
    const [toClient] = memoryPair({ names: ['dealer', 'client'] });
    await dealerOffline(all.dealer, { program, context: nonces(4) }, { client: toClient, server: toServer }, new Map());
    const fills = serverFromDealer(all.server, { program, context: nonces(of) }, server, async () => {});
    if (refusal === undefined) await fills;
    else await expect(fills).rejects.toMatchObject(refusal);
  });
});

describe('a server that was started again, to which the old frames of a client are played back', () => {
  const program = quantise(toyProgram(toy), ring);
  const session = { program, context: [] };
  type Stored = ReturnType<typeof memoryBundle>;

  /** Setup and offline phase of one session. */
  async function dealt(roles: ReturnType<typeof platforms>): Promise<{ client: Stored; server: Stored }> {
    const [clientServer, serverClient] = memoryPair({ names: ['client', 'server'] });
    const [clientDealer, dealerClient] = memoryPair({ names: ['client', 'dealer'] });
    const [serverDealer, dealerServer] = memoryPair({ names: ['server', 'dealer'] });
    const [maskSeed, masked] = await Promise.all([
      clientSetup(roles.client, session, { server: clientServer }),
      dealerSetup(roles.dealer, session, { server: dealerServer }),
      serverSetup(roles.server, session, { client: serverClient, dealer: serverDealer }, read(weights)),
    ]);
    const made = { client: memoryBundle(), server: memoryBundle() };
    await Promise.all([
      dealerOffline(roles.dealer, session, { client: dealerClient, server: dealerServer }, masked),
      clientOffline(roles.client, session, { server: clientServer, dealer: clientDealer }, maskSeed, made.client.sink),
      serverOffline(roles.server, session, { client: serverClient, dealer: serverDealer }, made.server.sink),
    ]);
    return made;
  }

  /** What the server sent in the first run, and what it sends to the same frames in the second. */
  async function replayed(bug?: Planted): Promise<{ first: string[]; second: string[] }> {
    const roles = platforms(ring.bits);
    const old = await dealt(roles);
    const [clientEnd, serverEnd] = memoryPair({ names: ['client', 'server'] });
    const watched = recorded(serverEnd);
    const serve = (channel: Channel, bundle: Stored) =>
      serverOnline(roles.server, session, { channel, bundle: bundle.source, weight: read(weights) });
    await Promise.all([
      clientOnline(roles.client, session, {
        channel: clientEnd,
        bundle: old.client.source,
        input: read(tokens),
        output: () => {},
      }),
      serve(watched, old.server),
    ]);
    const frames = (direction: 'sent' | 'received') => watched.frames.filter((frame) => frame.direction === direction);
    const playback = frames('received').map(({ kind, payload }) => ({ kind, payload: new Uint8Array(payload) }));
    const sent: string[] = [];
    const stale: Channel = {
      peer: 'client',
      counters: serverEnd.counters,
      send: async (_, payload) => void sent.push(hex(payload)),
      receive: async () => playback.shift()!,
      close: async () => {},
    };
    await serve(stale, bug === 'bundle' ? old.server : (await dealt(roles)).server);
    return { first: frames('sent').map(({ payload }) => hex(payload)), second: sent };
  }
  /** Frames of a few bits may be equal by chance. */
  const equal = ({ first, second }: { first: string[]; second: string[] }): number =>
    first.filter((frame, at) => frame.length >= 16 && frame === second[at]).length;

  it('masks every frame anew: what it sends is none of what it sent', async () => {
    const both = await replayed();
    expect(both.second).toHaveLength(both.first.length);
    expect(both.first.filter((frame) => frame.length >= 16).length).toBeGreaterThan(10);
    expect(equal(both)).toBe(0);
  });

  it('sees the planted bug: a server that opens its old bundle after a restart', async () => {
    const both = await replayed(planted['a server that opens its old bundle after a restart']);
    expect(equal(both)).toBeGreaterThan(10);
  });
});
