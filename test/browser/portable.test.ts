import { createHash, randomBytes } from 'node:crypto';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { storedManifests } from '../../src/browser/manifests.ts';
import { pagePlatform } from '../../src/browser/platform.ts';
import { blockCipher, pageEntropy, pageHkdf, pagePrg } from '../../src/browser/randomness.ts';
import { memoryStore } from '../../src/browser/store.ts';
import { type PageSocket, pageChannel } from '../../src/browser/websocket.ts';
import { encodeFrameHeader } from '../../src/net/frame.ts';
import { aesPrg, fixedKeyAes, hkdf } from '../../src/node/randomness.ts';
import { listen } from '../../src/node/sockets.ts';
import { runClientOn } from '../../src/party/client.ts';
import { runDealer, runServer } from '../../src/party/index.ts';
import { expected, temporary, writeLlama } from '../party/models.ts';

const seed = Uint8Array.from({ length: 32 }, (_, i) => i);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('the generators of a page', () => {
  it('keep the golden vectors', () => {
    const out = new Uint8Array(32);
    pagePrg(seed).fill(5, out);
    expect(hex(out)).toBe('9c1277c0f4baa8fe5bcf5c57b4f747889679cd071ae987ab6ae7fd889f80e594');
    const large = new Uint8Array(2 ** 20 + 3);
    pagePrg(seed).fill(6, large);
    expect(createHash('sha256').update(large).digest('hex')).toBe(
      'ff08ab02f74c8020ced6d3e59262c792f2521b9e05bee5d68a1c7000621f50ae',
    );
    expect(hex(pageHkdf(seed, 'label', [new Uint8Array([1, 2]), new Uint8Array(0)]))).toBe(
      '0e68736d823d0a7ca855fd8ac4407f626de62f4bf13a6e5c4d09ef0c11e12c7f',
    );
  });

  it("give Node's streams, keys and blocks for any seed, stream and length", () => {
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    const context = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 4 });
    const stream = fc.oneof(fc.integer({ min: 0, max: 2 ** 20 }), fc.maxSafeNat());
    fc.assert(
      fc.property(
        bytes(32),
        stream,
        fc.integer({ min: 0, max: 40_000 }),
        context,
        fc.string(),
        (key, number, length, parts, label) => {
          const [ours, nodes] = [new Uint8Array(length + 8), new Uint8Array(length + 8)];
          pagePrg(key).fill(number, ours.subarray(3, 3 + length));
          aesPrg(key).fill(number, nodes.subarray(3, 3 + length));
          expect(Buffer.compare(ours, nodes)).toBe(0);
          expect(hex(pageHkdf(key, label, parts))).toBe(hex(hkdf(key, label, parts)));
          const blocks = ours.slice(0, length & ~15);
          expect(Buffer.compare(blockCipher(key.subarray(0, 16))(blocks), fixedKeyAes(key.subarray(0, 16))(blocks))).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('fill more than the browser gives at once', () => {
    const bytes = new Uint8Array(200_000);
    pageEntropy(bytes);
    for (const at of [0, 65_536, 131_072, 199_900]) expect(bytes.subarray(at, at + 64).some((byte) => byte !== 0)).toBe(true);
  });
});

describe('material in the memory of a page', () => {
  const header = () => ({
    id: randomBytes(16).toString('hex'),
    program: '0'.repeat(64),
    weights: '1'.repeat(64),
    ring: { bits: 64, fraction: 16 },
    createdFor: 'client' as const,
  });

  it('is read once claimed, as it was written', async () => {
    const store = memoryStore();
    const it = header();
    const writer = await store.write(it);
    const written = randomBytes(200_000);
    for (let at = 0; at < written.length; at += 70_000) await writer.append(written.subarray(at, at + 70_000));
    await writer.finish();
    await expect(store.open(it.id)).rejects.toMatchObject({ kind: 'material' });
    await store.claim(it.id, it);
    const reader = await store.open(it.id);
    expect(Buffer.compare(await reader.read(1000, 150_000), written.subarray(1000, 151_000))).toBe(0);
    await expect(reader.read(199_999, 2)).rejects.toMatchObject({ kind: 'material' });
  });

  it('is never there twice: not after a claim, not after it was burned, not under the same id', async () => {
    const store = memoryStore();
    const it = header();
    await (await store.write(it)).finish();
    await store.claim(it.id, it);
    await expect(store.claim(it.id, it)).rejects.toMatchObject({ kind: 'material' });
    await expect(store.write(it)).rejects.toMatchObject({ kind: 'material' });
    await store.burn(it.id);
    await expect(store.open(it.id)).rejects.toMatchObject({ kind: 'material' });
    await expect(store.claim(it.id, it)).rejects.toMatchObject({ kind: 'material' });
    await expect(store.write(it)).rejects.toMatchObject({ kind: 'material' });
  });
});

/** A WebSocket as a page has it. */
const pageSocket = (address: string): PageSocket => new WebSocket(address.replace('ws:', 'ws://')) as unknown as PageSocket;
const limits = { timeoutMilliseconds: 2000 };

describe("a page's channel", () => {
  const pair = async (options: { milliseconds?: number; maximumPayloadBytes?: number } = {}) => {
    const { milliseconds = 2000, ...rest } = options;
    const listener = await listen({ address: 'ws:127.0.0.1:0', peer: 'client', timeoutMilliseconds: milliseconds, ...rest });
    const page = { peer: 'server', timeoutMilliseconds: milliseconds, ...rest };
    const connecting = pageChannel(pageSocket(listener.address), listener.address, page);
    const [client, server] = await Promise.all([connecting, listener.accept()]);
    return { client, server, end: () => Promise.all([client.close(), server.close(), listener.close()]) };
  };

  it('carries frames of every size both ways', async () => {
    const { client, server, end } = await pair();
    const sizes = [0, 1, 16, 1000, 16_384, 65_536, 262_144, 1_000_001];
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      const payloads = sizes.map((size) => new Uint8Array(randomBytes(size)));
      const sending = (async () => {
        for (const payload of payloads) await from.send(payload.length % 256, payload);
      })();
      for (const payload of payloads) {
        const frame = await to.receive();
        expect(frame.kind).toBe(payload.length % 256);
        expect(Buffer.compare(frame.payload, payload)).toBe(0);
      }
      await sending;
    }
    await end();
  });

  it('holds a page back whose server reads nothing, and ends with its name', async () => {
    const { client, end } = await pair({ milliseconds: 250, maximumPayloadBytes: 2 ** 20 });
    const flood = async () => {
      for (let sent = 0; sent < 64; sent++) await client.send(0, new Uint8Array(2 ** 20));
    };
    await expect(flood()).rejects.toMatchObject({ kind: 'peer', place: { party: 'server' } });
    expect(client.counters.sentFrames).toBeLessThan(32);
    await end();
  });

  it('names a server that closes, is silent, sends text, or is not there', async () => {
    const gone = await pair();
    await gone.server.close();
    await expect(gone.client.receive()).rejects.toMatchObject({ kind: 'peer', place: { party: 'server' }, reason: /closed/ });
    await gone.end();
    const silent = await pair({ milliseconds: 50 });
    await expect(silent.client.receive()).rejects.toMatchObject({ reason: expect.stringContaining('silent') });
    await silent.end();
    const missing = pageChannel(pageSocket('ws:127.0.0.1:9'), 'ws://127.0.0.1:9', { peer: 'dealer', ...limits });
    await expect(missing).rejects.toMatchObject({ kind: 'peer', place: { party: 'dealer' } });
  });

  it('takes any bytes for frames that were sent or for a typed error', async () => {
    const payload = Uint8Array.of(1, 2, 3);
    const good = Buffer.concat([encodeFrameHeader(7, payload, 0), payload]);
    const message = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.constant(good),
      fc.string({ maxLength: 5 }),
      fc.constant(new Uint8Array(2 ** 20 + 1)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(message, { maxLength: 4 }), async (messages) => {
        const socket = { binaryType: '', readyState: 1, bufferedAmount: 0, send() {}, close() {} } as unknown as PageSocket;
        const opening = pageChannel(socket, 'ws://x', { peer: 'server', ...limits });
        (socket.onopen as () => void)();
        const channel = await opening;
        for (const each of messages) {
          const data = typeof each === 'string' ? each : new Uint8Array(each).buffer;
          (socket.onmessage as (event: object) => void)({ data });
        }
        (socket.onclose as (event: object) => void)({ code: 1006 });
        for (;;) {
          const outcome = await channel.receive().catch((error: Error) => error);
          if (!(outcome instanceof Error)) {
            expect(outcome).toEqual({ kind: 7, payload });
            continue;
          }
          expect(outcome).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'server' } });
          break;
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('a client with what a page has', () => {
  const { path: root, remove } = temporary();
  afterAll(remove);
  const ring = { bits: 64, fraction: 16 };
  const ids = [1, 5, 270, 271, 272];
  beforeAll(() => writeLlama(`${root}/model`));

  it.each(['dealer', 'helper'] as const)('and a %s gives the right text over WebSockets', async (setting) => {
    const right = await expected(`${root}/model`, { task: 'generate', newTokens: 2, ring }, ids);
    const waitingOn = async (start: (announce: (address: string) => void) => Promise<unknown>) => {
      let done: Promise<unknown> = Promise.resolve();
      const address = await new Promise<string>((resolve, reject) => {
        done = start(resolve);
        done.catch(reject);
      });
      return { address, done };
    };
    const patience = { timeoutMilliseconds: 10_000 };
    const listen = 'ws:127.0.0.1:0';
    const dealer = await waitingOn((onListening) => runDealer({ listen, setting, ...patience, onListening }));
    const server = await waitingOn((onListening) =>
      runServer({
        model: `${root}/model`,
        listen,
        dealer: dealer.address,
        setting,
        state: `${root}/${setting}`,
        ...patience,
        onListening,
      }),
    );
    const host = {
      platform: (bits: number) => pagePlatform(bits, () => new Promise((resolve) => setImmediate(resolve))),
      connect: (address: string, peer: string) => pageChannel(pageSocket(address), address, { peer, ...patience }),
      patienceMilliseconds: 20_000,
      store: async () => memoryStore(),
      manifests: storedManifests(undefined),
    };
    const report = await runClientOn(host, {
      server: server.address,
      dealer: dealer.address,
      setting,
      ring,
      task: { kind: 'generate', prompt: { ids }, newTokens: 2 },
    });
    await Promise.all([server.done, dealer.done]);
    expect(report.newIds).toEqual(right.ids);
    expect(report.hops).toBe(report.forecast.online.hops);
  });
});
