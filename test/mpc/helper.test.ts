import { describe, expect, it } from 'vitest';
import { forecast, sectionsOf } from '../../src/backends/cost/index.ts';
import { simulate } from '../../src/backends/fixed/index.ts';
import {
  clientLive,
  clientSetup,
  dealerSetup,
  helperLive,
  offlineFrame,
  rehearse,
  serverLive,
  serverSetup,
} from '../../src/backends/mpc/index.ts';
import { onlineFrame } from '../../src/backends/mpc/runner.ts';
import { quantise, schedule, wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import type { Channel, Timeout } from '../../src/net/contract.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { recorded } from '../../src/net/recorded.ts';
import type { Tensor } from '../../src/program/index.ts';
import { toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';
import { breathe, plain, unbuffered, within } from './channels.ts';
import { offsetsOf } from './offsets.ts';
import { platforms } from './platform.ts';

const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;
const options = { tokens: 3, width: 8, exponent: 4, steps: 2 };
const [weights, tokens] = [toyWeights(8, 3), toyTokens(options)];
/** Platforms that let input and output happen, so that the three roles take turns. */
const turns = (bits: number, seed?: number) => {
  const { client, server, dealer } = platforms(bits, seed);
  return { client: { ...client, breathe }, server: { ...server, breathe }, dealer: { ...dealer, breathe } };
};

const settings = ['dealer', 'helper'] as const;
const rings = [
  { bits: 64, fraction: 16 },
  { bits: 32, fraction: 9 },
];
describe.each(settings.flatMap((setting) => rings.map((ring) => ({ setting, ring, bits: ring.bits }))))(
  'the $setting setting in a ring of $bits bits',
  ({ setting, ring }) => {
    const program = quantise(toyProgram(options), ring);
    const roles = turns(ring.bits);
    const { offsets, observe } = offsetsOf(roles.client.kernels);
    const run = rehearse({
      program,
      setting,
      platforms: roles,
      weight: read(weights),
      input: read(tokens),
      observeClient: observe,
    });

    it('gives what the fixed backend gives, bit for bit, with the rounding offsets of the client’s shares', async () => {
      const { outputs } = await run;
      const exact = await simulate(program, {
        kernels: createWasmKernels(wordBitsOf(ring.bits)),
        weights: read(weights),
        inputs: read(tokens),
        offsets: (node) => offsets.get(node),
      });
      expect([...outputs.keys()]).toEqual(['logits.0', 'logits.1', 'logits.2']);
      for (const [name, value] of exact) expect(outputs.get(name)).toEqual(value);
    });

    it('sends what its forecast says, to the byte, in every phase', async () => {
      const { measured } = await run;
      expect(measured).toEqual(forecast(program, setting).total);
    });

    it('frees every block', async () => {
      await run;
      for (const { kernels } of Object.values(roles)) expect(kernels.allocatedBytes).toBe(0);
    });
  },
);

describe('the two settings', () => {
  const program = quantise(toyProgram(options), { bits: 64, fraction: 16 });
  it('differ in frame headers of the correlations only', () => {
    const [dealer, helper] = settings.map((setting) => forecast(program, setting).total);
    expect(helper!.setup).toEqual(dealer!.setup);
    expect(helper!.online).toEqual(dealer!.online);
    const frames = Object.values(sectionsOf(program))
      .flat()
      .filter((bytes) => bytes > 0).length;
    const bytes = ({ offline }: typeof dealer & object): number => offline.clientSentBytes + offline.dealerSentBytes;
    // In the dealer setting each of the three streams of this program fits one frame or two.
    expect(bytes(helper!) - bytes(dealer!)).toBeLessThanOrEqual(16 * (frames - 3));
    expect(bytes(helper!)).toBeGreaterThan(bytes(dealer!));
  });
});

/** Large enough for several sections of each stream. */
const larger = { tokens: 20, width: 16, exponent: 4, steps: 2 };
const [largerWeights, largerTokens] = [toyWeights(16, 3), toyTokens(larger)];
const program = quantise(toyProgram(larger), { bits: 48, fraction: 14 });
const session = { program, context: [Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(3), Uint8Array.of(4)] };
const timeout = (milliseconds: number): Timeout => ({
  milliseconds,
  alarm: (milliseconds, expired) => {
    const timer = setTimeout(expired, milliseconds);
    return () => clearTimeout(timer);
  },
});

/** Three roles ready to run, and every channel recorded where the helper or the material is at one end. */
async function ready(milliseconds = 10_000, wrapEnds = (ends: [Channel, Channel]) => ends, keptBytes?: number) {
  const roles = turns(48);
  const pair = (first: string, second: string) =>
    wrapEnds(memoryPair({ names: [first, second], timeout: timeout(milliseconds) })).map(recorded) as [Recorded, Recorded];
  type Recorded = ReturnType<typeof recorded>;
  const [clientServer, serverClient] = pair('client', 'server');
  const [clientHelper, helperClient] = pair('client', 'helper');
  const [serverHelper, helperServer] = pair('server', 'helper');
  const [clientMaterial, serverMaterial] = pair('client', 'server');
  const channels = {
    ...{ clientServer, serverClient, clientHelper, helperClient },
    ...{ serverHelper, helperServer, clientMaterial, serverMaterial },
  };
  const [maskSeed, masked] = await Promise.all([
    clientSetup(roles.client, session, { server: clientServer }),
    dealerSetup(roles.dealer, session, { server: helperServer }),
    serverSetup(roles.server, session, { client: serverClient, dealer: serverHelper }, read(largerWeights)),
  ]);
  const setupFrames = Object.fromEntries(Object.entries(channels).map(([name, { frames }]) => [name, frames.length]));
  const outputs = new Map<string, Tensor>();
  return {
    roles,
    channels,
    outputs,
    /** Frames of the run alone. */
    frames: (name: keyof typeof channels) => channels[name].frames.slice(setupFrames[name]),
    client: (input = read(largerTokens)) =>
      clientLive(roles.client, session, {
        ...{ channel: clientServer, helper: clientHelper, material: clientMaterial, maskSeed, input, keptBytes },
        output: (name, value) => void outputs.set(name, value),
      }),
    server: () =>
      serverLive(roles.server, session, {
        ...{ channel: serverClient, helper: serverHelper, material: serverMaterial, weight: read(largerWeights), keptBytes },
      }),
    helper: (wrap = (channel: Channel) => channel) =>
      helperLive(roles.dealer, session, { client: wrap(helperClient), server: wrap(helperServer) }, masked),
  };
}

const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

describe('the channels of a run with a helper', () => {
  it('bring the helper nothing after the setup: it sends material and receives no frame', async () => {
    const { client, server, helper, frames } = await ready();
    await Promise.all([client(), server(), helper()]);
    for (const name of ['helperClient', 'helperServer'] as const) {
      expect(frames(name).length).toBeGreaterThan(1);
      for (const { direction, kind } of frames(name))
        expect({ direction, kind }).toEqual({ direction: 'sent', kind: offlineFrame });
    }
  });

  it('keep online frames and material apart: the second connection has material alone, one way', async () => {
    const { client, server, helper, frames } = await ready();
    await Promise.all([client(), server(), helper()]);
    for (const { direction, kind } of frames('clientMaterial')) {
      expect({ direction, kind }).toEqual({ direction: 'sent', kind: offlineFrame });
    }
    expect(new Set(frames('clientServer').map(({ kind }) => kind))).toEqual(new Set([onlineFrame]));
    expect(frames('clientServer')).toHaveLength(schedule(program).length);
  });

  it('carry online frames before the last material is made', async () => {
    const { client, server, helper, channels } = await ready();
    let onlineBeforeTheEnd = 0;
    const noting = (channel: Channel): Channel => ({
      ...plain(channel),
      send: async (kind, payload) => {
        // A helper that takes its time: the run goes on with what it has.
        await new Promise((resolve) => setTimeout(resolve, 20));
        onlineBeforeTheEnd = channels.clientServer.frames.length;
        await channel.send(kind, payload);
      },
    });
    await Promise.all([client(), server(), helper(noting)]);
    expect(onlineBeforeTheEnd).toBeGreaterThan(schedule(program).length / 3);
  });

  it('never repeat what they carried in another session', async () => {
    const payloads = async (seed: number): Promise<Set<string>> => {
      const seen = new Set<string>();
      const roles = turns(48, seed);
      const drawn = { ...roles.dealer, prg: spying(roles.dealer.prg, seen) };
      await rehearse({
        ...{ program, setting: 'helper' as const, platforms: { ...roles, dealer: drawn } },
        ...{ weight: read(largerWeights), input: read(largerTokens) },
      });
      return seen;
    };
    const [first, again, other] = [await payloads(1), await payloads(1), await payloads(5)];
    // The same entropy gives the same seeds: the test can fail.
    expect([...first].filter((seed) => again.has(seed))).toHaveLength(2);
    expect([...first].filter((seed) => other.has(seed))).toHaveLength(0);
  });
});

/** Notes the seeds of every generator. */
function spying(prg: (seed: Uint8Array) => ReturnType<ReturnType<typeof platforms>['client']['prg']>, seen: Set<string>) {
  return (seed: Uint8Array) => {
    seen.add(Buffer.from(seed).toString('hex'));
    return prg(seed);
  };
}

describe('a helper that dies', () => {
  const frameCounts = Object.values(sectionsOf(program)).map((sections) => sections.filter((bytes: number) => bytes > 0).length);
  it.each([0, 1, 2, 5])(
    'before its frame %i ends the run of both parties with an error that names it, and no hang',
    async (at) => {
      expect(Math.max(...frameCounts)).toBeGreaterThan(3);
      const { client, server, helper, channels, roles } = await ready();
      let frame = 0;
      const dying = (channel: Channel): Channel => ({
        ...plain(channel),
        send: async (kind, payload) => {
          if (frame++ >= at) {
            await Promise.all([channels.helperClient.close(), channels.helperServer.close()]);
            throw new Error('killed');
          }
          await channel.send(kind, payload);
        },
      });
      const runs = [client(), server()];
      const [clientError, serverError] = await within(5000, Promise.all([...runs.map(failure), failure(helper(dying))]));
      for (const error of [clientError, serverError]) {
        expect(error).toMatchObject({ kind: 'peer', place: { party: 'helper' } });
      }
      expect(roles.client.kernels.allocatedBytes).toBe(0);
      expect(roles.server.kernels.allocatedBytes).toBe(0);
    },
  );

  it('silently is given up after the timeout', async () => {
    const { client, server, helper, roles } = await ready(150);
    let frame = 0;
    const stalling = (channel: Channel): Channel => ({
      ...plain(channel),
      send: (kind, payload) => (frame++ >= 3 ? new Promise(() => {}) : channel.send(kind, payload)),
    });
    void helper(stalling);
    const errors = await within(5000, Promise.all([client(), server()].map(failure)));
    // Whoever waits for the other party's frame may give that up first; somebody names the helper.
    for (const error of errors) expect(error).toMatchObject({ kind: 'peer' });
    expect(errors.map((error) => (error as { place: { party: string } }).place.party)).toContain('helper');
    expect(roles.client.kernels.allocatedBytes + roles.server.kernels.allocatedBytes).toBe(0);
  });
});

describe('a slow role', () => {
  const slowly = (channel: Channel): Channel => ({
    ...plain(channel),
    send: async (kind, payload) => {
      await new Promise((resolve) => setTimeout(resolve, 15));
      await channel.send(kind, payload);
    },
  });
  it('only delays where it is the helper', async () => {
    const [quick, slow] = [await ready(), await ready()];
    await Promise.all([quick.client(), quick.server(), quick.helper()]);
    await within(15_000, Promise.all([slow.client(), slow.server(), slow.helper(slowly)]));
    expect([...slow.outputs]).toEqual([...quick.outputs]);
  });

  it('holds no helper up where it is the client: all material is taken before the first input is there', async () => {
    const { client, server, helper, outputs } = await ready(10_000, unbuffered);
    let given: (tensor: Tensor) => void;
    const first = new Promise<Tensor>((resolve) => {
      given = resolve;
    });
    const input = (name: string): Promise<Tensor> => (name === 'token.0' ? first : read(largerTokens)(name));
    const runs = Promise.all([client(input), server()]);
    await within(5000, helper());
    expect(outputs.size).toBe(0);
    given!(largerTokens.get('token.0')!);
    await within(10_000, runs);
    expect(outputs.size).toBe(3);
  });

  it('stops nobody for ever where no channel holds a frame: every send waits until it is received', async () => {
    const { client, server, helper, outputs } = await ready(10_000, unbuffered);
    await within(10_000, Promise.all([client(), server(), helper()]));
    expect(outputs.size).toBe(3);
  });

  it('is waited for by a helper once enough is kept: neither fills a party’s memory, and nobody waits for ever', async () => {
    for (const keptBytes of [0, 1, 20_000]) {
      const { client, server, helper, outputs } = await ready(10_000, unbuffered, keptBytes);
      let given: (tensor: Tensor) => void;
      const first = new Promise<Tensor>((resolve) => {
        given = resolve;
      });
      const input = (name: string): Promise<Tensor> => (name === 'token.0' ? first : read(largerTokens)(name));
      let ended = false;
      const material = helper().then(() => {
        ended = true;
      });
      const runs = Promise.all([client(input), server(), material]);
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(ended).toBe(false);
      given!(largerTokens.get('token.0')!);
      await within(10_000, runs);
      expect(outputs.size).toBe(3);
    }
  });
});

describe('a party that fails', () => {
  it('ends with its own error, the other with an error that names it, and both free every block', async () => {
    const { client, server, helper, channels, roles } = await ready();
    const broken = async (name: string): Promise<Tensor> => {
      if (name === 'token.1') throw new Error('no such input');
      return largerTokens.get(name)!;
    };
    const failed = failure(client(broken)).then(async (error) => {
      await Promise.all([channels.clientServer, channels.clientHelper, channels.clientMaterial].map((it) => it.close()));
      return error;
    });
    const [own, other] = await within(8000, Promise.all([failed, failure(server()), failure(helper())]));
    expect(own).toMatchObject({ message: 'no such input' });
    expect(other).toMatchObject({ kind: 'peer', place: { party: 'client' } });
    expect(roles.client.kernels.allocatedBytes + roles.server.kernels.allocatedBytes).toBe(0);
  });

  it.each(['clientHelper', 'serverMaterial'] as const)('refuses material of another size on %s', async (name) => {
    const { client, server, helper, channels, roles } = await ready();
    const channel = channels[name] as { receive: Channel['receive'] };
    const receive = channel.receive.bind(channel);
    let frame = 0;
    channel.receive = async () => {
      const { kind, payload } = await receive();
      return { kind, payload: frame++ === 1 ? payload.slice(1) : payload };
    };
    const [own, other] = name === 'clientHelper' ? [client(), server()] : [server(), client()];
    const ending = failure(own).then(async (error) => {
      await Promise.all(Object.values(channels).map((it) => it.close()));
      return error;
    });
    const [error] = await within(8000, Promise.all([ending, failure(other), failure(helper())]));
    expect(error).toMatchObject({ kind: 'peer', place: { party: name === 'clientHelper' ? 'helper' : 'client' } });
    expect(roles.client.kernels.allocatedBytes + roles.server.kernels.allocatedBytes).toBe(0);
  });
});
