import { describe, expect, it } from 'vitest';
import {
  clientOffline,
  clientOnline,
  clientSetup,
  dealerOffline,
  dealerSetup,
  memoryBundle,
  serverOffline,
  serverOnline,
  serverSetup,
} from '../../src/backends/mpc/index.ts';
import { onlineFrame } from '../../src/backends/mpc/runner.ts';
import { quantise, schedule } from '../../src/backends/ring/index.ts';
import type { Channel, Frame, Timeout } from '../../src/net/contract.ts';
import { memoryPair } from '../../src/net/memory.ts';
import type { Tensor } from '../../src/program/index.ts';
import { numbers, toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';
import { platforms } from './platform.ts';

const options = { tokens: 2, width: 4, exponent: 2, steps: 1 };
const ring = { bits: 48, fraction: 14 };
const program = quantise(toyProgram(options), ring);
const [weights, tokens] = [toyWeights(4, 3), toyTokens(options)];
const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;
const session = { program, context: [] };
const timeout = (milliseconds: number): Timeout => ({
  milliseconds,
  alarm: (milliseconds, expired) => {
    const timer = setTimeout(expired, milliseconds);
    return () => clearTimeout(timer);
  },
});

/** Both parties ready to go online with bundles of one program, and the channel between them. */
async function ready(milliseconds = 10_000) {
  const roles = platforms(ring.bits);
  const [clientServer, serverClient] = memoryPair({ names: ['client', 'server'], timeout: timeout(milliseconds) });
  const [clientDealer, dealerClient] = memoryPair({ names: ['client', 'dealer'] });
  const [serverDealer, dealerServer] = memoryPair({ names: ['server', 'dealer'] });
  const [maskSeed, masked] = await Promise.all([
    clientSetup(roles.client, session, { server: clientServer }),
    dealerSetup(roles.dealer, session, { server: dealerServer }),
    serverSetup(roles.server, session, { client: serverClient, dealer: serverDealer }, read(weights)),
  ]);
  const [forClient, forServer] = [memoryBundle(), memoryBundle()];
  await Promise.all([
    dealerOffline(roles.dealer, session, { client: dealerClient, server: dealerServer }, masked),
    clientOffline(roles.client, session, { server: clientServer, dealer: clientDealer }, maskSeed, forClient.sink),
    serverOffline(roles.server, session, { client: serverClient, dealer: serverDealer }, forServer.sink),
  ]);
  return {
    roles,
    clientServer,
    serverClient,
    client: (channel: Channel, input = read(tokens)) =>
      clientOnline(roles.client, session, { channel, bundle: forClient.source, input, output: () => {} }),
    server: (channel: Channel) =>
      serverOnline(roles.server, session, { channel, bundle: forServer.source, weight: read(weights) }),
  };
}

type Tamper = (frame: Frame, number: number) => Frame | 'close';
/** A channel that changes what is received, as a hostile peer would send it. */
const tampering = (channel: Channel, tamper: Tamper): Channel => {
  let number = 0;
  return {
    peer: channel.peer,
    counters: channel.counters,
    send: (kind, payload) => channel.send(kind, payload),
    close: (reason) => channel.close(reason),
    async receive() {
      const frame = tamper(await channel.receive(), number++);
      if (frame !== 'close') return frame;
      // What the channel of a peer that has gone says.
      throw await memoryPairClosed(channel.peer);
    },
  };
};

async function memoryPairClosed(peer: string): Promise<unknown> {
  const [own, other] = memoryPair({ names: ['us', peer] });
  await other.close();
  return own.receive().catch((error: unknown) => error);
}

const hostile: Record<string, Tamper> = {
  'a frame one byte short': ({ kind, payload }) => ({ kind, payload: payload.slice(1) }),
  'a frame one byte long': ({ kind, payload }) => ({ kind, payload: new Uint8Array(payload.length + 1) }),
  'an empty frame': ({ kind }) => ({ kind, payload: new Uint8Array(0) }),
  'a frame of another kind': ({ payload }) => ({ kind: onlineFrame + 1, payload }),
  'an early end': () => 'close',
};

/** Frames that a side receives in a whole run. */
const incoming = (side: 'client' | 'server'): number =>
  schedule(program).filter(({ direction }) => (direction === 'serverToClient') === (side === 'client')).length;

describe.each(['client', 'server'] as const)('the %s', (side) => {
  const peer = side === 'client' ? 'server' : 'client';
  const run = async (tamper: Tamper) => {
    const party = await ready();
    const [own, other] = side === 'client' ? [party.clientServer, party.serverClient] : [party.serverClient, party.clientServer];
    const honest = side === 'client' ? party.server(other) : party.client(other);
    honest.catch(() => {});
    const error = await (side === 'client' ? party.client(tampering(own, tamper)) : party.server(tampering(own, tamper))).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    await own.close();
    await honest.catch(() => {});
    return { error, ...party };
  };

  describe.each(Object.keys(hostile))('refuses %s', (name) => {
    const last = incoming(side) - 1;
    it.each([0, 3, Math.floor(last / 2), last])(
      'as frame %i with a peer error, and frees every block',
      { timeout: 60_000 },
      async (at) => {
        const { error, roles } = await run((frame, number) => (number === at ? hostile[name]!(frame, number) : frame));
        expect(error).toMatchObject({ kind: 'peer', place: { party: peer } });
        expect(roles[side].kernels.allocatedBytes).toBe(0);
        expect(roles[peer].kernels.allocatedBytes).toBe(0);
      },
    );
  });

  it('refuses padding that is not zero with a peer error, and frees every block', { timeout: 60_000 }, async () => {
    // Whichever frame has bits to spare.
    let refused = 0;
    for (let at = 0; at < incoming(side); at++) {
      const { error, roles } = await run((frame, number) => {
        if (number === at) frame.payload.fill(0xff);
        return frame;
      });
      if (error !== undefined) {
        expect(error).toMatchObject({ kind: 'peer', place: { party: peer } });
        refused += 1;
      }
      expect(roles[side].kernels.allocatedBytes).toBe(0);
    }
    expect(refused).toBeGreaterThan(0);
  });

  it('survives garbage of the right size: it ends, with a result or a peer error, and frees every block', {
    timeout: 60_000,
  }, async () => {
    for (const seed of [1, 2, 3]) {
      const { error, roles } = await run(({ kind, payload }) => ({
        kind,
        payload: Uint8Array.from(numbers(payload.length, seed), (value) => Math.floor((value + 1) * 128)),
      }));
      if (error !== undefined) expect(error).toMatchObject({ kind: 'peer', place: { party: peer } });
      expect(roles[side].kernels.allocatedBytes).toBe(0);
    }
  });

  it('gives a silent peer up after the channel’s timeout, and frees every block', { timeout: 60_000 }, async () => {
    const { roles, clientServer, serverClient, client, server } = await ready(60);
    const alone = side === 'client' ? client(clientServer) : server(serverClient);
    await expect(alone).rejects.toMatchObject({ kind: 'peer', place: { party: peer } });
    expect(roles[side].kernels.allocatedBytes).toBe(0);
  });
});

describe('a client’s input that does not fit', () => {
  const given = (value: Tensor) => async (name: string) => (name === 'token.1' ? value : tokens.get(name)!);
  it.each([
    ['an unknown token', { shape: [1], values: Int32Array.of(101) }, 'input'],
    ['too many tokens', { shape: [2], values: Int32Array.of(1, 2) }, 'input'],
    ['a number that is no token', { shape: [1], values: Float64Array.of(0.5) }, 'input'],
  ] as const)('is an input error that names it: %s', { timeout: 60_000 }, async (_, value, kind) => {
    const { roles, clientServer, serverClient, client, server } = await ready();
    const other = server(serverClient).catch((error: unknown) => error);
    await expect(client(clientServer, given(value))).rejects.toMatchObject({ kind, place: { field: 'token.1' } });
    expect(roles.client.kernels.allocatedBytes).toBe(0);
    await clientServer.close();
    expect(await other).toMatchObject({ kind: 'peer', place: { party: 'client' } });
    expect(roles.server.kernels.allocatedBytes).toBe(0);
  });

  it('is the caller’s own error where the input cannot be had', async () => {
    const { roles, clientServer, serverClient, client, server } = await ready();
    const other = server(serverClient).catch(() => {});
    const missing = async (): Promise<Tensor> => {
      throw new Error('no such input');
    };
    await expect(client(clientServer, missing)).rejects.toThrow('no such input');
    await clientServer.close();
    await other;
    expect(roles.client.kernels.allocatedBytes + roles.server.kernels.allocatedBytes).toBe(0);
  });
});
