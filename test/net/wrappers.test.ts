import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/net/contract.ts';
import { type Fault, faults, faultyPair } from '../../src/net/faulty.ts';
import { frameHeaderBytes } from '../../src/net/frame.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { recorded } from '../../src/net/recorded.ts';
import { type Network, networks, parseNetwork, shaped } from '../../src/net/shaped.ts';
import { systemAlarm, systemClock } from '../../src/node/clock.ts';

const names = ['client', 'server'] as const;
const lan = parseNetwork('lan')!;
const wan: Network = { name: 'home', bitsPerSecond: 400e6, roundTripSeconds: 0.02 };

/** A clock that stands still until everything else has run, then jumps to the next sleeper. */
function virtualClock(): Clock {
  let now = 0;
  const sleepers: { until: number; wake: () => void }[] = [];
  const advance = () => {
    sleepers.sort((a, b) => a.until - b.until);
    const next = sleepers.shift();
    if (!next) return;
    now = Math.max(now, next.until);
    next.wake();
    if (sleepers.length > 0) setImmediate(advance);
  };
  return {
    now: () => now,
    sleep: (milliseconds) =>
      new Promise((wake) => {
        sleepers.push({ until: now + milliseconds, wake });
        if (sleepers.length === 1) setImmediate(advance);
      }),
  };
}

describe('a network', () => {
  it('has a name of its own, or a bandwidth and a round trip', () => {
    for (const network of networks) expect(parseNetwork(network.name)).toBe(network);
    expect(new Set(networks.map(({ name }) => name)).size).toBe(networks.length);
    expect(parseNetwork('2.5gbit:300us')).toEqual({ name: '2.5gbit:300us', bitsPerSecond: 2.5e9, roundTripSeconds: 3e-4 });
    for (const text of ['', 'moon', '100:40', '0mbit:1ms', '-1mbit:1ms', '1e3mbit:1ms', '1mbit', '1mbit:', '1mbit:1m'])
      expect(parseNetwork(text)).toBeUndefined();
  });

  it('is never a number that is not finite and positive', () => {
    const unit = fc.constantFrom('kbit', 'mbit', 'gbit', 'ms', 's', 'us', '');
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.tuple(fc.float(), unit, fc.float(), unit).map(([a, b, c, d]) => `${a}${b}:${c}${d}`),
        ),
        (text) => {
          const network = parseNetwork(text);
          if (network === undefined) return;
          expect(network.bitsPerSecond).toBeGreaterThan(0);
          expect(Number.isFinite(network.bitsPerSecond + network.roundTripSeconds)).toBe(true);
        },
      ),
    );
  });
});

describe('a shaped channel', () => {
  const pair = (network: Network, clock: Clock) => memoryPair({ names }).map((channel) => shaped(channel, network, clock));

  it('delays a small frame by half a round trip', async () => {
    const clock = virtualClock();
    const [client, server] = pair(wan, clock);
    await client!.send(1, new Uint8Array(0));
    await server!.receive();
    await server!.send(1, new Uint8Array(0));
    await client!.receive();
    expect(clock.now()).toBeCloseTo(20 + (2 * frameHeaderBytes * 8) / 400e3, 6);
  });

  it('spends the bandwidth on payload and headers, once for many frames in flight', async () => {
    const clock = virtualClock();
    const [client, server] = pair(wan, clock);
    const sending = (async () => {
      for (let i = 0; i < 20; i++) await client!.send(i, new Uint8Array(10 ** 6));
    })();
    for (let i = 0; i < 20; i++) expect((await server!.receive()).kind).toBe(i);
    await sending;
    expect(clock.now()).toBeCloseTo(10 + (20 * (10 ** 6 + frameHeaderBytes) * 8) / 400e3, 3);
    expect(client!.counters.sentBytes).toBe(20 * (10 ** 6 + frameHeaderBytes));
    expect(server!.counters.receivedBytes).toBe(20 * (10 ** 6 + frameHeaderBytes));
  });

  it('delivers what was sent before a close', async () => {
    const [client, server] = pair(wan, virtualClock());
    await client!.send(1, new Uint8Array(5000));
    await client!.close();
    expect((await server!.receive()).payload.length).toBe(5000);
    await expect(server!.receive()).rejects.toMatchObject({ kind: 'peer' });
    await expect(client!.send(1, new Uint8Array(0))).rejects.toMatchObject({ kind: 'usage' });
  });

  it('keeps real time within a factor that a benchmark can use', async () => {
    const [client, server] = pair(lan, systemClock);
    const started = systemClock.now();
    for (let trip = 0; trip < 20; trip++) {
      await client!.send(1, new Uint8Array(0));
      await server!.receive();
      await server!.send(1, new Uint8Array(0));
      await client!.receive();
    }
    const perTrip = (systemClock.now() - started) / 20;
    expect(perTrip).toBeGreaterThanOrEqual(0.1);
    expect(perTrip).toBeLessThan(5);
  });
});

describe('a recorded channel', () => {
  it('keeps both directions in order, as copies', async () => {
    const [first, second] = memoryPair({ names });
    const client = recorded(first);
    const payload = new Uint8Array([1, 2]);
    await client.send(4, payload);
    payload.fill(9);
    await second.send(5, new Uint8Array([3]));
    (await client.receive()).payload.fill(9);
    expect(client.frames).toEqual([
      { direction: 'sent', kind: 4, payload: new Uint8Array([1, 2]) },
      { direction: 'received', kind: 5, payload: new Uint8Array([3]) },
    ]);
    expect(client.counters).toBe(first.counters);
  });
});

describe('a faulty connection', () => {
  const payload = (i: number) => new Uint8Array(50).fill(i + 1);
  /** What the receiver saw of four frames, and the error that ended it. */
  async function outcome(fault: Fault, frame: number, seed: number) {
    const timeout = { milliseconds: 40, alarm: systemAlarm };
    const [client, server] = faultyPair({ names, plan: { fault, frame, seed }, timeout, maximumPayloadBytes: 1000 });
    const seen: { kind: number; payload: Uint8Array }[] = [];
    for (let i = 0; i < 4; i++) await client.send(i, payload(i)).catch(() => {});
    try {
      for (let i = 0; i < 4; i++) seen.push(await server.receive());
      return { seen, error: null };
    } catch (error) {
      return { seen, error };
    } finally {
      await Promise.all([client.close(), server.close()]);
    }
  }

  it.each(faults)('with "%s" ends in an error that names the peer, after the good frames', async (fault) => {
    for (const frame of [0, 2]) {
      const { seen, error } = await outcome(fault, frame, 3);
      expect(error).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'client' } });
      expect(seen.length).toBe(fault === 'duplicate' ? frame + 1 : frame);
      seen.forEach((got, i) => {
        expect(got).toEqual({ kind: i, payload: payload(i) });
      });
    }
  });

  it('with a flipped bit ends in an error at that frame, wherever the bit is', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const { seen, error } = await outcome('corrupt', 1, seed);
      expect(error).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'client' } });
      expect(seen).toEqual([{ kind: 0, payload: payload(0) }]);
    }
  });
});
