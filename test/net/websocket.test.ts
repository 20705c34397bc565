import { createConnection, type Socket } from 'node:net';
import * as fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { encodeFrameHeader } from '../../src/net/frame.ts';
import type { SocketOptions } from '../../src/node/address.ts';
import { connect, type Listener, listen } from '../../src/node/sockets.ts';
import { strangerLimits } from '../../src/node/strangers.ts';
import { parseWebAddress } from '../../src/node/websocket.ts';

const limits = { timeoutMilliseconds: 2000 };
const opened: Listener[] = [];
afterEach(async () => {
  for (const listener of opened.splice(0)) await listener.close();
});

async function listening(options: Partial<SocketOptions> = {}): Promise<Listener> {
  const listener = await listen({ address: 'ws:127.0.0.1:0', peer: 'client', ...limits, ...options });
  opened.push(listener);
  return listener;
}
const portOf = ({ address }: Listener): number => Number(/:(\d+)(\/|$)/.exec(address)![1]);
const urlOf = ({ address }: Listener): string => address.replace('ws:', 'ws://');

/** A connection that speaks bytes of its own. */
async function raw(port: number, bytes: Uint8Array | string): Promise<Socket> {
  const socket = createConnection(port, '127.0.0.1').on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  socket.write(bytes);
  return socket;
}
const answer = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk) => void (text += chunk.toString('latin1')));
    socket.once('close', () => resolve(text));
  });
const request = (fields: Record<string, string> = {}, path = '/', method = 'GET'): string => {
  const headers = {
    Host: 'x',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    ...fields,
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
};

describe('an address of a WebSocket', () => {
  it('names host, port and path', () => {
    const place = { secure: false, host: '127.0.0.1', port: 80, path: '/' };
    expect(parseWebAddress('ws:127.0.0.1:80')).toEqual(place);
    expect(parseWebAddress('ws://127.0.0.1:80/')).toEqual(place);
    expect(parseWebAddress('wss:[::1]:443/a/b')).toEqual({ secure: true, host: '::1', port: 443, path: '/a/b' });
    for (const wrong of ['ws:', 'ws:host', 'ws:h:70000', 'ws:a b:1', 'ws:h:1?q', 'ws:h:1/a b', 'ws:u@h:1', 'http:h:1', 'tcp:h:1'])
      expect(parseWebAddress(wrong), wrong).toBeNull();
  });
});

describe('who asks a listener for something else than its WebSocket', () => {
  it.each([
    ['without an upgrade', request({ Connection: 'close', Upgrade: '' }), 426],
    ['at another path', request({}, '/other'), 404],
    ['from a page of another origin', request({ Origin: 'https://evil.example' }), 403],
    ['with an old version', request({ 'Sec-WebSocket-Version': '7' }), 400],
    ['with no key', request({ 'Sec-WebSocket-Key': 'x' }), 400],
    ['with another method', request({}, '/', 'POST'), 405],
  ])('%s gets a status', async (_, text, status) => {
    const listener = await listening({ origins: ['https://good.example'] });
    const socket = await raw(portOf(listener), text);
    expect(await answer(socket)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  it('does not keep those out who ask well: pages of a listed origin, and programs, which have none', async () => {
    const listener = await listening({ origins: ['https://good.example'] });
    for (const origin of ['https://good.example', undefined]) {
      const socket = new WebSocket(urlOf(listener), { ...(origin === undefined ? {} : { origin }) });
      const channel = await listener.accept();
      await channel.send(1, new Uint8Array(3));
      expect(await new Promise((resolve) => socket.once('message', (data: Buffer) => resolve(data.length)))).toBe(19);
      await Promise.all([channel.close(), new Promise((resolve) => socket.once('close', resolve))]);
    }
  });

  it('lets no page in where no origin is named, and any where it is told to', async () => {
    for (const [origins, status] of [
      [undefined, 403],
      [[], 403],
      [['*'], 101],
    ] as const) {
      const listener = await listening({ origins });
      const socket = await raw(portOf(listener), request({ Origin: 'https://page.example' }));
      expect(await first(socket)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
      socket.destroy();
    }
  });

  it('has to go for a newcomer where too many of one address never ask, or are never accepted', async () => {
    const listener = await listening();
    const port = portOf(listener);
    const idle = await Promise.all(Array.from({ length: 80 }, () => raw(port, 'GET / HT')));
    const gone = (): number => idle.filter((socket) => socket.destroyed || socket.readableEnded).length;
    for (const socket of idle) socket.resume();
    while (gone() < 80 - strangerLimits.perSource) await new Promise((resolve) => setTimeout(resolve, 10));
    const asked = await Promise.all(Array.from({ length: 30 }, () => raw(port, request())));
    const statuses = await Promise.all(asked.map(async (socket) => (await first(socket)).slice(9, 12)));
    expect(new Set(statuses)).toEqual(new Set(['101']));
    while (gone() < 80 - strangerLimits.perSource + asked.length) await new Promise((resolve) => setTimeout(resolve, 10));
    for (const socket of asked) socket.destroy();
  });

  it('cannot take the place of a role that shows a certificate', async () => {
    const { makeCertificates } = await import('../../src/node/certificates.ts');
    const { authority, dealer } = await makeCertificates({ now: new Date(), days: 2 });
    const credentials = { authority: authority.certificate, own: dealer };
    const listener = await listening({ address: 'wss:127.0.0.1:0', credentials });
    const come = () => connect({ address: listener.address, peer: 'dealer', ...limits, credentials });
    const refused = expect(listener.accept({ peer: 'server' })).rejects.toMatchObject({
      kind: 'peer',
      place: { party: 'server' },
    });
    const one = await come();
    await refused;
    await expect(one.receive()).rejects.toMatchObject({ kind: 'peer' });
    const [channel, other] = await Promise.all([listener.accept({ peer: 'server', peers: ['server', 'client'] }), come()]);
    expect(channel.peer).toBe('client');
    await Promise.all([one.close(), channel.close(), other.close()]);
  });
});

describe('a listener on several addresses', () => {
  it('accepts what comes to any of them, in the order of coming, and leaves none open', async () => {
    const listener = await listening({ address: 'ws:127.0.0.1:0/a,tcp:127.0.0.1:0' });
    const [web, tcp] = listener.address.split(',') as [string, string];
    for (const [address, byte] of [
      [tcp, 1],
      [web, 2],
      [tcp, 3],
    ] as const) {
      const [there, here] = await Promise.all([connect({ address, peer: 'server', ...limits }), listener.accept()]);
      await there.send(byte, new Uint8Array(byte));
      expect((await here.receive()).kind).toBe(byte);
      await Promise.all([there.close(), here.close()]);
    }
    await listener.close();
    for (const address of [web, tcp])
      await expect(connect({ address, peer: 'server', ...limits, connectMilliseconds: 50 })).rejects.toMatchObject({
        kind: 'peer',
      });
    await expect(listen({ address: 'tcp:127.0.0.1:0,ws:nonsense', peer: 'client', ...limits })).rejects.toMatchObject({
      kind: 'usage',
    });
  });
});

const first = (socket: Socket): Promise<string> =>
  new Promise((resolve) => socket.once('data', (chunk) => resolve(chunk.toString('latin1'))));

/** A WebSocket frame as RFC 6455 has it, with anything in its fields. */
const webFrame = (opcode: number, payload: Uint8Array, { fin = true, length = payload.length, masked = true } = {}): Buffer => {
  const header = [opcode | (fin ? 0x80 : 0)];
  const mask = masked ? 0x80 : 0;
  if (length < 126) header.push(mask | length);
  else if (length < 65_536) header.push(mask | 126, length >> 8, length & 255);
  else header.push(mask | 127, 0, 0, 0, 0, (length >>> 24) & 255, (length >>> 16) & 255, (length >>> 8) & 255, length & 255);
  return Buffer.concat([Buffer.from([...header, ...(masked ? [0, 0, 0, 0] : [])]), payload]);
};

/** What a channel says of bytes that come behind a good request. */
async function outcomeOf(bytes: Uint8Array): Promise<unknown> {
  const listener = await listening({ maximumPayloadBytes: 4096 });
  const socket = await raw(portOf(listener), Buffer.concat([Buffer.from(request()), bytes]));
  const channel = await listener.accept({ timeoutMilliseconds: 1000 });
  socket.end();
  const received: unknown[] = [];
  try {
    for (;;) received.push(await channel.receive());
  } catch (error) {
    return { error, received };
  } finally {
    await channel.close();
    socket.destroy();
    await listener.close();
  }
}
const peerError = (reason: string) => ({
  error: {
    name: 'SottoError',
    kind: 'peer',
    place: { party: 'client' },
    ...(reason ? { reason: expect.stringContaining(reason) } : {}),
  },
});

describe('bytes on a WebSocket', () => {
  const payload = Uint8Array.of(1, 2, 3);
  const good = Buffer.concat([encodeFrameHeader(7, payload, 0), payload]);

  it('make frames however messages and fragments cut them', async () => {
    const cuts = [
      [webFrame(2, good)],
      [webFrame(2, good.subarray(0, 5)), webFrame(2, new Uint8Array(0)), webFrame(2, good.subarray(5))],
      [webFrame(2, good.subarray(0, 9), { fin: false }), webFrame(9, Uint8Array.of(1)), webFrame(0, good.subarray(9))],
    ];
    for (const messages of cuts)
      expect(await outcomeOf(Buffer.concat(messages))).toMatchObject({
        received: [{ kind: 7, payload }],
        ...peerError('closed'),
      });
  });

  it.each([
    ['a text message', webFrame(1, Buffer.from('hello')), 'text message'],
    ['a frame without mask', webFrame(2, good, { masked: false }), ''],
    ['a message longer than the bound', webFrame(2, new Uint8Array(10), { length: 2 ** 21 }), ''],
    ['a continuation of nothing', webFrame(0, good), ''],
    ['an unknown opcode', webFrame(3, good), ''],
    ['a compressed message', webFrame(0x42, good), ''],
    ['a frame of another protocol inside', webFrame(2, Buffer.from('GET / HTTP/1.1\r\n\r\n')), '0x47'],
    ['half a frame', webFrame(2, good.subarray(0, 10)), 'middle of a frame'],
    ['a close', webFrame(8, Buffer.from([3, 232])), 'closed'],
  ])('are refused where they hold %s, and the peer is named', async (_, bytes, reason) => {
    expect(await outcomeOf(bytes)).toMatchObject({ received: [], ...peerError(reason) });
  });

  it('end in frames that were sent or in a typed error, whatever they are', async () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc
        .record({ opcode: fc.integer({ min: 0, max: 127 }), data: fc.uint8Array({ maxLength: 40 }), fin: fc.boolean() })
        .map(({ opcode, data, fin }) => webFrame(opcode, data, { fin })),
      fc.constant(webFrame(2, good)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 6 }), async (pieces) => {
        const { error, received } = (await outcomeOf(Buffer.concat(pieces))) as { error: unknown; received: unknown[] };
        expect(error).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'client' } });
        for (const frame of received) expect(frame).toEqual({ kind: 7, payload });
      }),
      { numRuns: 80 },
    );
  });

  it('that ping without end and read nothing do not fill memory', async () => {
    const listener = await listening();
    const socket = await raw(portOf(listener), request());
    const channel = await listener.accept();
    socket.pause();
    const receiving = channel.receive().catch((error: Error) => error);
    const pings = Buffer.concat(Array.from({ length: 1000 }, () => webFrame(9, new Uint8Array(125))));
    const before = process.memoryUsage().rss;
    for (let round = 0; round < 400 && !socket.destroyed; round++) {
      if (!socket.write(pings))
        await Promise.race([new Promise((r) => socket.once('drain', r)), new Promise((r) => setTimeout(r, 20))]);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(150 * 2 ** 20);
    socket.destroy();
    await channel.close();
    await receiving;
  });
});

describe('a peer on a WebSocket', () => {
  it('that answers no ping is named while a send or a receive of it is awaited', async () => {
    const listener = await listening({ timeoutMilliseconds: 200 });
    const socket = await raw(portOf(listener), request());
    const channel = await listener.accept();
    let error: { reason?: string } = {};
    for (let tries = 0; tries < 5 && !error.reason?.includes('ping'); tries++)
      error = await channel.receive().then(
        () => ({}),
        (thrown: Error) => thrown as { reason?: string },
      );
    expect(error).toMatchObject({
      kind: 'peer',
      place: { party: 'client' },
      reason: expect.stringContaining('answered no ping'),
    });
    socket.destroy();
    await channel.close();
  });

  it('that speaks frames without a WebSocket, or a WebSocket without frames, is named on both sides', async () => {
    const listener = await listening();
    const plain = await connect({ address: `tcp:127.0.0.1:${portOf(listener)}`, peer: 'server', ...limits });
    await plain.send(0, new Uint8Array(4));
    await expect(plain.receive()).rejects.toMatchObject({ kind: 'peer', place: { party: 'server' } });
    await plain.close();
    const tcp = await listen({ address: 'tcp:127.0.0.1:0', peer: 'client', ...limits });
    const address = `ws:127.0.0.1:${portOf(tcp)}`;
    const connecting = connect({ address, peer: 'server', ...limits, connectMilliseconds: 100 }).catch((e: Error) => e);
    const accepted = await tcp.accept();
    await expect(accepted.receive()).rejects.toMatchObject({ kind: 'peer', reason: expect.stringContaining('0x47') });
    await accepted.close();
    expect(await connecting).toMatchObject({
      kind: 'peer',
      place: { party: 'server' },
      reason: expect.stringContaining('WebSocket'),
    });
    await tcp.close();
  });

  it('that goes while it waits is not accepted', async () => {
    const listener = await listening();
    const socket = await raw(portOf(listener), request());
    await first(socket);
    socket.resetAndDestroy();
    await new Promise((resolve) => setTimeout(resolve, 30));
    await expect(listener.accept({ timeoutMilliseconds: 200 })).rejects.toMatchObject({
      kind: 'peer',
      reason: expect.stringContaining('did not connect'),
    });
  });
});
