import { createServer as createHttp, type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { crc32 } from 'node:zlib';
import { type ClientOptions, WebSocket, WebSocketServer } from 'ws';
import { SottoError } from '../errors/index.ts';
import type { Channel, Pipe } from '../net/contract.ts';
import { framedChannel } from '../net/framed.ts';
import type { Entrance, SocketOptions } from './address.ts';
import type { Arrivals, Expected } from './arrivals.ts';
import { bound } from './binding.ts';
import { systemAlarm } from './clock.ts';
import type { TlsCredentials } from './tls.ts';

/**
 * Channels over WebSockets (RFC 6455), for browsers. The frames of `net/frame.ts` travel as one stream of bytes in binary messages, whose
 * borders mean nothing. Nothing is compressed: the bytes are masked words. `wss:` is TLS 1.3; it asks for no certificate of who connects,
 * since a browser has none, so only a client can come in by it.
 */
export interface WebPlace {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** What the request must name. */
  readonly path: string;
}

/** Messages have at most so many bytes, so that a receiver never holds more of one than this, whatever its frames may have. */
const messageBytes = 2 ** 18;
const limits = { maxPayload: messageBytes, maxFragments: 1024, maxBufferedChunks: 4096, perMessageDeflate: false } as const;
/** A frame below this is copied behind its header and goes out as one message. */
const joinedBytes = 16_384;
/** In a list of origins: every page may come. */
export const anyOrigin = '*';
/** How long a connection may take to ask for one. */
const requestMilliseconds = 10_000;
/** How long a closed WebSocket waits for the peer's close. */
const lingerMilliseconds = 1000;
const pingMilliseconds = 30_000;

/** `ws:host:port[/path]` or `wss:host:port[/path]`, also written with `//` behind the colon; null where it is none of them. */
export function parseWebAddress(address: string): WebPlace | null {
  const parts = /^(wss?):(?:\/\/)?(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/?#@]+)):(\d{1,5})(\/[\x21-\x7e]*)?$/.exec(address);
  const port = Number(parts?.[4]);
  if (!parts || port > 65535 || /[?#]/.test(parts[5] ?? '')) return null;
  return { secure: parts[1] === 'wss', host: (parts[2] ?? parts[3])!, port, path: parts[5] ?? '/' };
}

/** Makes a WebSocket of a connected stream, which it takes over. */
export function webSocketConnector(stream: Socket, place: WebPlace, options: SocketOptions): Promise<Channel> {
  const { peer, timeoutMilliseconds } = options;
  return new Promise((resolve, reject) => {
    // The stream is encrypted already where the address says so.
    const host = place.host.includes(':') ? `[${place.host}]` : place.host;
    const socket = new WebSocket(`ws://${host}:${place.port}${place.path}`, {
      ...limits,
      createConnection: () => stream,
      followRedirects: false,
      // The mask keeps pages from writing what a proxy takes for a request. This is no page, and masks cost nine tenths of the speed.
      generateMask: (mask: Buffer) => void mask.fill(0),
    } as ClientOptions);
    // Once it is a channel, the channel tells of errors.
    // The library's limit is not kept on a stream that is connected already.
    const cancel = systemAlarm(timeoutMilliseconds, () => socket.emit('error', new Error('it did not answer in time')));
    socket.on('error', (cause: Error) => {
      cancel();
      stream.destroy();
      const reason = `does not answer as a WebSocket: ${cause.message}`;
      const remedy = 'use ws: or wss: with the same path on both sides of a connection, or on neither';
      reject(new SottoError('peer', reason, { place: { party: peer }, remedy, cause }));
    });
    socket.once('open', () => {
      cancel();
      resolve(channelOverWebSocket(socket, options));
    });
  });
}

/** A channel over an open WebSocket, which it takes over. */
function channelOverWebSocket(socket: WebSocket, options: Omit<SocketOptions, 'address'>, source?: string): Channel {
  return framedChannel(webSocketPipe(socket, options), {
    peer: options.peer,
    ...(options.maximumPayloadBytes === undefined ? {} : { maximumPayloadBytes: options.maximumPayloadBytes }),
    timeout: { milliseconds: options.timeoutMilliseconds, alarm: systemAlarm },
    checksum: crc32,
    source,
  });
}

function webSocketPipe(socket: WebSocket, { peer, timeoutMilliseconds }: Omit<SocketOptions, 'address'>): Pipe {
  const chunks: Uint8Array[] = [];
  let ended = socket.readyState === WebSocket.CLOSED;
  let failure: Error | null = null;
  let wake: (() => void) | null = null;
  const awaken = () => {
    wake?.();
    wake = null;
  };
  const fail = (error: Error) => {
    failure ??= error;
    socket.terminate();
    awaken();
  };
  const stopPings = keepAlive(socket, timeoutMilliseconds, () =>
    fail(peerError(peer, `answered no ping for ${timeoutMilliseconds} ms`, 'check its host and the network')),
  );
  socket.on('message', (data, binary) => {
    if (!binary) return fail(peerError(peer, 'sent a text message', 'connect to no other program'));
    chunks.push(data as Buffer);
    socket.pause();
    awaken();
  });
  socket.on('error', fail);
  socket.on('close', () => {
    stopPings();
    ended = true;
    awaken();
  });
  return {
    write: (parts) => writeMessages(socket, parts),
    async read() {
      for (;;) {
        const chunk = chunks.shift();
        if (chunk) {
          if (chunk.length > 0) return chunk;
          continue;
        }
        if (failure) throw failure;
        if (ended) return null;
        socket.resume();
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    end: () => endWebSocket(socket),
    destroy: () => socket.terminate(),
  };
}

/** Pings a peer that is listened to; `silent` once nothing came of it for the timeout. Keeps idle connections open in what lies between. */
function keepAlive(socket: WebSocket, timeoutMilliseconds: number, silent: () => void): () => void {
  let heard = performance.now();
  const alive = () => {
    heard = performance.now();
  };
  for (const event of ['message', 'ping', 'pong'] as const) socket.on(event, alive);
  const interval = Math.min(pingMilliseconds, timeoutMilliseconds / 2);
  const timer = setInterval(() => {
    // What is not read cannot be heard.
    if (socket.isPaused) alive();
    else if (performance.now() - heard > timeoutMilliseconds + interval) silent();
    else if (socket.readyState === WebSocket.OPEN) socket.ping();
  }, interval);
  timer.unref();
  return () => clearInterval(timer);
}

function writeMessages(socket: WebSocket, parts: readonly Uint8Array[]): Promise<void> {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  const messages = bytes <= joinedBytes && parts.length > 1 ? [Buffer.concat(parts, bytes)] : parts.flatMap(pieces);
  return new Promise((resolve, reject) => {
    // The callback comes when the kernel has the bytes: only then may the caller reuse them.
    const done = (error?: Error | null) => (error ? reject(error) : resolve());
    const sent = (error?: Error | null) => void (error && reject(error));
    messages.forEach((message, at) => {
      socket.send(message, { binary: true, compress: false }, at === messages.length - 1 ? done : sent);
    });
  });
}

function pieces(part: Uint8Array): Uint8Array[] {
  if (part.length <= messageBytes) return [part];
  return Array.from({ length: Math.ceil(part.length / messageBytes) }, (_, at) =>
    part.subarray(at * messageBytes, (at + 1) * messageBytes),
  );
}

function endWebSocket(socket: WebSocket): Promise<void> {
  if (socket.readyState === WebSocket.CLOSED) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.terminate(), lingerMilliseconds);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.close(1000);
    socket.resume();
  });
}

/**
 * Listens for WebSockets at one path. Whatever else asks gets a status and no more: 426 without an upgrade, 404 at another path, 403 from
 * a page of an origin that is not listed: none is unless it is named, since any page that a user opens can reach what his machine can.
 */
export async function listenWebSocket(
  place: WebPlace,
  options: SocketOptions,
  credentials: TlsCredentials | null,
  arrivals: Arrivals,
): Promise<Entrance> {
  const server = webServer(place, options, credentials);
  await bound(server, { host: place.host, port: place.port }, { address: options.address, place: { field: '--listen' } });
  return new WebEntrance(server, place, options, arrivals);
}

function webServer({ secure }: WebPlace, options: SocketOptions, credentials: TlsCredentials | null): Server {
  const patience = Math.min(requestMilliseconds, options.handshakeMilliseconds ?? options.timeoutMilliseconds);
  const http = {
    maxHeaderSize: 8192,
    headersTimeout: patience,
    requestTimeout: patience,
    connectionsCheckingInterval: 1000,
    noDelay: true,
  };
  const own = credentials?.own;
  if (!secure) return createHttp(http);
  if (own === undefined)
    throw new SottoError('usage', 'a wss: address to listen on needs a certificate', {
      place: { field: '--certificate' },
      remedy: 'name certificate and key of this party',
    });
  return createHttps({ ...http, cert: own.certificate, key: own.key, minVersion: 'TLSv1.3', handshakeTimeout: patience });
}

class WebEntrance implements Entrance {
  readonly address: string;
  readonly #server: Server;
  readonly #options: SocketOptions;
  readonly #place: WebPlace;
  readonly #sockets = new WebSocketServer({ ...limits, noServer: true, clientTracking: false });
  readonly #arrivals: Arrivals;
  /** By where they come from: TLS lies between a request's stream and the connection that was counted. */
  readonly #strangers = new Map<string, { readonly socket: Socket; readonly known: () => void }>();

  constructor(server: Server, place: WebPlace, options: SocketOptions, arrivals: Arrivals) {
    this.#server = server;
    this.#arrivals = arrivals;
    this.#place = place;
    this.#options = options;
    const at = server.address() as { address: string; family: string; port: number };
    const host = at.family === 'IPv6' ? `[${at.address}]` : at.address;
    this.address = `${place.secure ? 'wss' : 'ws'}:${host}:${at.port}${place.path === '/' ? '' : place.path}`;
    server.on('clientError', (_, socket) => void socket.destroy());
    // Of raw connections, so that those that never finish TLS are counted too.
    server.on('connection', (socket: Socket) => this.#strange(socket));
    server.on('request', (_, response) => {
      response.writeHead(426, { Connection: 'close', Upgrade: 'websocket', 'Content-Type': 'text/plain' });
      response.end('This is a party of sotto: it speaks WebSocket.\n');
    });
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => this.#upgrade(request, socket, head));
  }

  #strange(socket: Socket): void {
    const place = placeOf(socket);
    const stranger = { socket, known: this.#arrivals.came(socket) };
    this.#strangers.set(place, stranger);
    socket.once('close', () => {
      if (this.#strangers.get(place) === stranger) this.#strangers.delete(place);
    });
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    const status = this.#refusal(request);
    if (status !== null) {
      socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const stranger = this.#strangers.get(placeOf(request.socket));
      if (stranger === undefined) return webSocket.terminate();
      // What comes before it is accepted waits in the kernel; a break is found when it is accepted.
      webSocket.pause();
      webSocket.on('error', () => {});
      const source = request.socket.remoteAddress;
      this.#arrivals.arrived(stranger.socket, {
        open: (expected) => this.#open(webSocket, expected, source),
        known: stranger.known,
        discard: () => webSocket.terminate(),
      });
    });
  }

  #refusal({ url, headers }: IncomingMessage): number | null {
    if ((url ?? '').split('?')[0] !== this.#place.path) return 404;
    const { origins = [] } = this.#options;
    // Only pages have an origin. Another program can claim any: this keeps foreign pages out, and nobody else.
    const { origin } = headers;
    return origin === undefined || origins.includes(origin) || origins.includes(anyOrigin) ? null : 403;
  }

  async #open(socket: WebSocket, expected: Expected, source: string | undefined): Promise<Channel> {
    const peer = this.#place.secure ? 'client' : expected.peer;
    if (!this.#place.secure || expected.peers.includes(peer))
      return channelOverWebSocket(socket, { ...this.#options, peer }, source);
    socket.terminate();
    const reason = `somebody came to ${this.address}, who can be a client alone: there, nobody shows a certificate`;
    throw new SottoError('peer', reason, { place: { party: expected.peer }, remedy: `let the ${expected.peer} come by tls:` });
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** Where a connection comes from: the same for a TLS stream and the socket below it. */
const placeOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

function peerError(party: string, reason: string, remedy: string): SottoError {
  return new SottoError('peer', `the ${party} ${reason}`, { place: { party }, remedy });
}
