import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Channel } from '../../src/net/contract.ts';
import { frameHeaderBytes } from '../../src/net/frame.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { makeCertificates } from '../../src/node/certificates.ts';
import { systemAlarm } from '../../src/node/clock.ts';
import { connect, listen } from '../../src/node/sockets.ts';

const directory = mkdtempSync(join(tmpdir(), 'sotto-net-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const certificates = await makeCertificates({ now: new Date(), days: 2 });

type Pair = { client: Channel; server: Channel; end(): Promise<void> };
type Options = { maximumPayloadBytes?: number; milliseconds?: number };

async function socketPair(address: string, { maximumPayloadBytes, milliseconds = 3000 }: Options): Promise<Pair> {
  const { authority, server: own } = certificates;
  const credentials = address.startsWith('wss:') ? { authority: authority.certificate, own } : undefined;
  const limits = { timeoutMilliseconds: milliseconds, credentials, ...(maximumPayloadBytes ? { maximumPayloadBytes } : {}) };
  const listener = await listen({ address, peer: 'client', ...limits });
  const [server, client] = await Promise.all([
    listener.accept(),
    connect({ address: listener.address, peer: 'server', ...limits }),
  ]);
  return {
    client,
    server,
    async end() {
      await Promise.all([client.close(), server.close(), listener.close()]);
    },
  };
}

let sockets = 0;
const kinds: Record<string, (options: Options) => Promise<Pair>> = {
  async memory({ maximumPayloadBytes, milliseconds = 3000 }) {
    const [client, server] = memoryPair({
      names: ['client', 'server'],
      timeout: { milliseconds, alarm: systemAlarm },
      ...(maximumPayloadBytes ? { maximumPayloadBytes } : {}),
    });
    return {
      client,
      server,
      async end() {
        await Promise.all([client.close(), server.close()]);
      },
    };
  },
  unix: (options) => socketPair(`unix:${join(directory, `run${sockets++}`, 's')}`, options),
  tcp: (options) => socketPair('tcp:127.0.0.1:0', options),
  ws: (options) => socketPair('ws:127.0.0.1:0/run', options),
  wss: (options) => socketPair('wss:127.0.0.1:0', options),
};

const random = (length: number, seed = 1) => {
  const bytes = new Uint8Array(length);
  for (let i = 0, x = seed; i < length; i++) bytes[i] = (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) >>> 24;
  return bytes;
};
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

describe.each(Object.keys(kinds))('a channel over %s', (name) => {
  const open = kinds[name]!;

  it('carries frames of every size in order, both ways, and counts headers and payloads', async () => {
    const pair = await open({});
    const sizes = [0, 1, 15, 16, 17, 1000, 65_535, 65_536, 300_001];
    for (const [from, to] of [
      [pair.client, pair.server],
      [pair.server, pair.client],
    ] as const) {
      const sending = (async () => {
        for (const size of sizes) await from.send(size % 256, random(size, size));
      })();
      for (const size of sizes) {
        const frame = await to.receive();
        expect(frame.kind).toBe(size % 256);
        expect(same(frame.payload, random(size, size))).toBe(true);
      }
      await sending;
      const bytes = sizes.reduce((sum, size) => sum + size + frameHeaderBytes, 0);
      expect(from.counters).toMatchObject({ sentBytes: bytes, sentFrames: sizes.length });
      expect(to.counters).toMatchObject({ receivedBytes: bytes, receivedFrames: sizes.length });
    }
    await pair.end();
  });

  it('lets a payload be reused once send has resolved', async () => {
    const pair = await open({});
    const payload = random(200_000);
    const receiving = Promise.all([pair.server.receive(), pair.server.receive()]);
    await pair.client.send(1, payload);
    payload.fill(0);
    await pair.client.send(2, payload);
    const [first, second] = await receiving;
    expect(same(first.payload, random(200_000))).toBe(true);
    expect(second.payload.every((byte) => byte === 0)).toBe(true);
    await pair.end();
  });

  it('does not block when both parties send a large frame before either receives', async () => {
    const pair = await open({ maximumPayloadBytes: 8 * 2 ** 20 });
    const payload = random(8 * 2 ** 20);
    await Promise.all([pair.client.send(1, payload), pair.server.send(2, payload)]);
    expect(same((await pair.server.receive()).payload, payload)).toBe(true);
    expect(same((await pair.client.receive()).payload, payload)).toBe(true);
    await pair.end();
  });

  it('holds a sender back whose peer receives nothing, and ends with an error that names the peer', async () => {
    const pair = await open({ maximumPayloadBytes: 2 ** 20, milliseconds: 250 });
    const payload = new Uint8Array(2 ** 20);
    const flood = async () => {
      for (let sent = 0; sent < 64; sent++) await pair.client.send(0, payload);
    };
    await expect(flood()).rejects.toMatchObject({ kind: 'peer', place: { party: 'server' } });
    expect(pair.client.counters.sentFrames).toBeLessThan(32);
    await pair.end();
  });

  it('resumes when the peer receives again', async () => {
    const pair = await open({ maximumPayloadBytes: 2 ** 20 });
    const payload = new Uint8Array(2 ** 20);
    const sending = (async () => {
      for (let sent = 0; sent < 24; sent++) await pair.client.send(sent, payload);
    })();
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (let received = 0; received < 24; received++) expect((await pair.server.receive()).kind).toBe(received);
    await sending;
    await pair.end();
  });

  it('names a silent peer after the timeout and can still receive afterwards', async () => {
    const pair = await open({ milliseconds: 60 });
    await expect(pair.client.receive()).rejects.toMatchObject({
      kind: 'peer',
      place: { party: 'server' },
      reason: expect.stringContaining('silent'),
    });
    await pair.server.send(7, new Uint8Array([1]));
    expect((await pair.client.receive()).kind).toBe(7);
    await pair.end();
  });

  it('delivers everything that was sent before a close, then names the closed peer', async () => {
    const pair = await open({});
    const payload = random(500_000);
    const sends = [pair.client.send(1, payload), pair.client.send(2, payload)];
    await Promise.all([...sends, pair.client.close()]);
    expect((await pair.server.receive()).kind).toBe(1);
    expect(same((await pair.server.receive()).payload, payload)).toBe(true);
    await expect(pair.server.receive()).rejects.toMatchObject({
      kind: 'peer',
      place: { party: 'client' },
      reason: expect.stringContaining('closed'),
    });
    await expect(pair.server.send(0, payload)).rejects.toMatchObject({ kind: 'peer' });
    await pair.end();
  });

  it('rejects every call after its own close, with the reason', async () => {
    const pair = await open({});
    const waiting = pair.client.receive();
    const refused = expect(waiting).rejects.toThrow(/the run was aborted/);
    await pair.client.close('the run was aborted');
    await refused;
    await expect(pair.client.send(0, new Uint8Array(1))).rejects.toThrow(/the run was aborted/);
    await expect(pair.client.receive()).rejects.toThrow(/the run was aborted/);
    await pair.client.close();
    await pair.end();
  });

  it('refuses to send a frame longer than its bound', async () => {
    const pair = await open({ maximumPayloadBytes: 1000 });
    await expect(pair.client.send(0, new Uint8Array(1001))).rejects.toMatchObject({ kind: 'usage' });
    await pair.client.send(0, new Uint8Array(1000));
    expect((await pair.server.receive()).payload.length).toBe(1000);
    await pair.end();
  });
});

describe('sockets', () => {
  it('waits for a listener that comes up late', async () => {
    const address = `unix:${join(directory, 'late', 's')}`;
    const connecting = connect({ address, peer: 'server', timeoutMilliseconds: 3000 });
    await new Promise((resolve) => setTimeout(resolve, 80));
    const listener = await listen({ address, peer: 'client', timeoutMilliseconds: 1000 });
    const [client, server] = await Promise.all([connecting, listener.accept()]);
    await client.send(3, new Uint8Array(3));
    expect((await server.receive()).kind).toBe(3);
    await Promise.all([client.close(), server.close(), listener.close()]);
  });

  it('gives up at the deadline and names who could not be reached', async () => {
    const started = performance.now();
    const attempt = connect({
      address: `unix:${directory}/nobody`,
      peer: 'dealer',
      timeoutMilliseconds: 5000,
      connectMilliseconds: 150,
    });
    await expect(attempt).rejects.toMatchObject({ kind: 'peer', place: { party: 'dealer' } });
    expect(performance.now() - started).toBeLessThan(1500);
  });

  it('stops waiting for a connection at the timeout or when the listener closes', async () => {
    const listener = await listen({ address: 'tcp:127.0.0.1:0', peer: 'client', timeoutMilliseconds: 1000 });
    await expect(listener.accept({ timeoutMilliseconds: 50 })).rejects.toMatchObject({
      kind: 'peer',
      place: { party: 'client' },
    });
    const waiting = expect(listener.accept()).rejects.toMatchObject({ kind: 'usage' });
    await listener.close();
    await waiting;
  });

  it('makes Unix sockets of mode 0600 in a directory of mode 0700 and removes them', async () => {
    const path = join(directory, 'private', 's');
    const listener = await listen({ address: `unix:${path}`, peer: 'client', timeoutMilliseconds: 1000 });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, 'private')).mode & 0o777).toBe(0o700);
    await expect(listen({ address: `unix:${path}`, peer: 'client', timeoutMilliseconds: 1000 })).rejects.toMatchObject({
      kind: 'resource',
    });
    await listener.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
  });

  it('refuses a directory that others can enter, a file that is no socket, and malformed addresses', async () => {
    const limits = { peer: 'client', timeoutMilliseconds: 1000 };
    writeFileSync(join(directory, 'file'), 'x');
    for (const address of [
      `unix:${tmpdir()}/sotto-test-socket`,
      `unix:${directory}/file`,
      `unix:/${'x'.repeat(120)}`,
      'tcp:host',
      'tcp:h:70000',
      'tcp:a b:1',
      'http://x',
    ]) {
      await expect(listen({ address, ...limits }), address).rejects.toMatchObject({ kind: 'usage' });
    }
  });

  it('names a peer that breaks the connection in the middle of a frame, or speaks another protocol', async () => {
    const speak = async (talk: (socket: Socket) => void) => {
      const server = createServer(talk).listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      const { port } = server.address() as { port: number };
      const channel = await connect({ address: `tcp:127.0.0.1:${port}`, peer: 'server', timeoutMilliseconds: 1000 });
      const outcome = await channel.receive().catch((error) => error);
      await channel.close();
      server.close();
      return outcome;
    };
    const half = await speak((socket) => void socket.end(new Uint8Array([0x51, 0, 0])));
    expect(half).toMatchObject({
      kind: 'peer',
      place: { party: 'server' },
      reason: expect.stringContaining('middle of a frame'),
    });
    const http = await speak((socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    expect(http).toMatchObject({ kind: 'peer', place: { party: 'server' }, reason: expect.stringContaining('0x48') });
    const reset = await speak((socket) => void setTimeout(() => socket.resetAndDestroy(), 20));
    expect(reset).toMatchObject({ kind: 'peer', place: { party: 'server' } });
  });

  it('survives strangers that connect and leave', async () => {
    const listener = await listen({ address: 'tcp:127.0.0.1:0', peer: 'client', timeoutMilliseconds: 1000 });
    const port = Number(listener.address.split(':').at(-1));
    const strangers = Array.from({ length: 20 }, () => createConnection(port, '127.0.0.1').on('error', () => {}));
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const stranger of strangers) stranger.resetAndDestroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (let stranger = 0; stranger < 20; stranger++) {
      const channel = await listener.accept({ timeoutMilliseconds: 500 });
      await expect(channel.receive()).rejects.toMatchObject({ kind: 'peer' });
      await channel.close();
    }
    const [client, server] = await Promise.all([
      connect({ address: listener.address, peer: 'server', timeoutMilliseconds: 1000 }),
      listener.accept(),
    ]);
    await client.send(1, new Uint8Array(1));
    expect((await server.receive()).kind).toBe(1);
    await Promise.all([client.close(), server.close(), listener.close()]);
  });
});
