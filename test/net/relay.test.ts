import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { relayProcess } from '../../bench/network.ts';
import type { Network } from '../../src/net/shaped.ts';

/** A network between processes takes the time that it declares, whatever the bytes are cut into. */
describe('the relay between processes', () => {
  let folder: string;
  let stop: () => void;
  let server: Server;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sotto-relay-'));
  });
  afterEach(() => {
    stop();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** A client, and a server that answers one byte to every `bytes` that it got. */
  async function joined(network: Network, bytes: number): Promise<Socket> {
    const [listen, target] = [join(folder, 'near'), join(folder, 'far')];
    server = createServer((socket) => {
      let got = 0;
      socket.on('data', (chunk) => {
        got += chunk.length;
        for (; got >= bytes; got -= bytes) socket.write('.');
      });
      socket.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(target, resolve));
    stop = await relayProcess({ lines: [{ listen, target }], network });
    const socket = createConnection(listen);
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    return socket;
  }
  /** Seconds until the answer to so many bytes is here: the best of some tries, since other work on the machine only lengthens them. */
  async function transfer(socket: Socket, bytes: number, tries: number): Promise<number> {
    const taken: number[] = [];
    for (let at = 0; at < tries; at++) {
      const start = performance.now();
      const answered = new Promise<void>((resolve) => socket.once('data', () => resolve()));
      socket.write(Buffer.alloc(bytes, at));
      await answered;
      taken.push((performance.now() - start) / 1000);
    }
    return Math.min(...taken);
  }

  it.each([
    { name: 'slow', bitsPerSecond: 100e6, roundTripSeconds: 0.04, bytes: 4e6, within: 0.1 },
    { name: 'near', bitsPerSecond: 1e9, roundTripSeconds: 0.002, bytes: 8e6, within: 0.3 },
  ])('moves $bytes bytes over $name in a round trip and the bytes over the bandwidth', async ({ bytes, within, ...network }) => {
    const socket = await joined(network, bytes);
    await transfer(socket, bytes, 1);
    const declared = network.roundTripSeconds + (8 * (bytes + 1)) / network.bitsPerSecond;
    const taken = await transfer(socket, bytes, 8);
    socket.destroy();
    expect(taken).toBeGreaterThanOrEqual(declared * 0.99);
    expect(taken).toBeLessThan(declared * (1 + within) + 0.005);
  });

  it('takes a round trip for one byte', async () => {
    const socket = await joined({ name: 'lan', bitsPerSecond: 1e9, roundTripSeconds: 0.0003 }, 1);
    const taken = await transfer(socket, 1, 51);
    socket.destroy();
    expect(taken).toBeGreaterThanOrEqual(0.0003);
    expect(taken).toBeLessThan(0.003);
  });
});
