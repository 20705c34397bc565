import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs';
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net';
import { resolve as absolute, dirname } from 'node:path';
import { TLSSocket } from 'node:tls';
import { crc32 } from 'node:zlib';
import { SottoError } from '../errors/index.ts';
import type { Channel, Pipe } from '../net/contract.ts';
import { framedChannel } from '../net/framed.ts';
import type { Address, Entrance, SocketOptions } from './address.ts';
import { type AcceptOptions, Arrivals, type Expected, type Visitor } from './arrivals.ts';
import { bound, shortSocketPath, systemCode } from './binding.ts';
import { systemAlarm, systemClock } from './clock.ts';
import { acceptedRole, beginsTls, secureAcceptor, secureConnector, securityOf, type TlsCredentials, tlsOnPlain } from './tls.ts';
import { listenWebSocket, parseWebAddress, type WebPlace, webSocketConnector } from './websocket.ts';

/** A place where connections are taken. */
export interface Listener {
  /** With the port that the system chose; of several, all. */
  readonly address: Address;
  /**
   * The next connection. Waits until `timeoutMilliseconds`, for ever where none is given; rejects once the listener is closed. Where several
   * `peers` may come, a certificate decides which this is, the channel's `peer`: the first one that it names, `client` without any. On a
   * plain connection it is `peer`, and only its hello tells.
   */
  accept(options?: AcceptOptions): Promise<Channel>;
  /** From now on gives every connection to `visit` as it comes, in place of `accept`. */
  receive(visit: (visitor: Visitor) => void): void;
  /** Accepts nothing more and removes a Unix socket's file; channels that were accepted stay open. */
  close(): Promise<void>;
}

/** How long a closed socket waits for the peer to close its side. */
const lingerMilliseconds = 1000;
/** Frames below this are copied behind their header and go out in one system call. */
const joinedBytes = 16_384;

/** The addresses of a word that names several, with commas between. */
export const severalAddresses = (word: string): Address[] => word.split(/,(?=[a-z]+:)/);

/**
 * Listens on an address. A Unix socket has mode 0600 and must lie in a directory that only this user can enter; the directory is made
 * where it is missing, and a socket file that nobody serves any more is replaced. Only `tls:` and `wss:` are encrypted; the handshake of
 * `tls:` is made when a connection is accepted, a WebSocket's before.
 */
export async function listen(options: SocketOptions): Promise<Listener> {
  const arrivals = new Arrivals();
  const entrances: Entrance[] = [];
  const close = async () => {
    arrivals.close();
    for (const entrance of entrances) entrance.close();
  };
  try {
    for (const address of severalAddresses(options.address)) entrances.push(await listenOnce({ ...options, address }, arrivals));
  } catch (error) {
    await close();
    throw error;
  }
  const address = entrances.map((entrance) => entrance.address).join(',');
  return {
    address,
    async accept({ peer = options.peer, peers = [peer], timeoutMilliseconds } = {}) {
      const visitor = await arrivals.next(address, peer, timeoutMilliseconds);
      visitor.known();
      return await visitor.open({ peer, peers });
    },
    receive: (visit) => arrivals.receive(visit),
    close,
  };
}

async function listenOnce(options: SocketOptions, arrivals: Arrivals): Promise<Entrance> {
  const place = parseAddress(options.address);
  const credentials = credentialsFor(options);
  if ('secure' in place) return await listenWebSocket(place, options, credentials, arrivals);
  const server = createServer({ pauseOnConnect: true, noDelay: true });
  const close = 'path' in place ? await listenOnPath(server, place.path, options) : await listenOnPort(server, place, options);
  server.on('connection', (socket: Socket) => {
    // A connection that breaks while it waits is found broken when it is accepted.
    socket.on('error', () => {});
    const known = arrivals.came(socket);
    arrivals.arrived(socket, {
      open: (expected) => openAccepted(socket, options, credentials, expected),
      known,
      discard: () => socket.destroy(),
    });
  });
  const at = server.address() as AddressInfo | string;
  const address =
    'path' in place || typeof at === 'string'
      ? `unix:${(place as { path: string }).path}`
      : `${credentials ? 'tls' : 'tcp'}:${at.family === 'IPv6' ? `[${at.address}]` : at.address}:${at.port}`;
  // `close` would wait for every open connection; the callers own those.
  return { address, close };
}

async function listenOnPort(server: Server, place: { host: string; port: number }, options: SocketOptions): Promise<() => void> {
  await bound(server, place, { address: options.address, place: { field: '--listen' } });
  return () => void server.close();
}

async function listenOnPath(server: Server, path: string, { address }: SocketOptions): Promise<() => void> {
  await prepareUnixPath(path);
  const short = shortSocketPath(path);
  try {
    await bound(server, { path: short.path }, { address, place: { file: path } });
    chmodSync(path, 0o600);
  } catch (error) {
    short.release();
    throw error;
  }
  return () => {
    server.close();
    // Closing removes the file by the path that it was bound by.
    short.release();
  };
}

async function openAccepted(
  socket: Socket,
  options: SocketOptions,
  credentials: TlsCredentials | null,
  { peer, peers }: Expected,
): Promise<Channel> {
  const limits = { ...options, peer };
  if (!credentials) return channelOverSocket(socket, limits);
  const timeoutMilliseconds = limits.handshakeMilliseconds ?? limits.timeoutMilliseconds;
  const secure = await secureAcceptor(socket, { peer, peers, timeoutMilliseconds, credentials });
  return channelOverSocket(secure, { ...limits, peer: acceptedRole(secure, peers) });
}

/**
 * Connects, trying again until `connectMilliseconds` (default: the timeout) have passed: the other side may not be up yet, or have closed a
 * stranger in the middle of its handshake because too many came at once.
 */
export async function connect(options: SocketOptions & { connectMilliseconds?: number }): Promise<Channel> {
  const place = parseAddress(options.address);
  const credentials = credentialsFor(options);
  const deadline = systemClock.now() + (options.connectMilliseconds ?? options.timeoutMilliseconds);
  for (let pause = 10; ; pause = Math.min(2 * pause, 250)) {
    try {
      const socket = await connectOnce(place, Math.max(deadline - systemClock.now(), 1));
      const stream = credentials ? await secureConnector(socket, { ...options, credentials }) : socket;
      return 'secure' in place ? await webSocketConnector(stream, place, options) : channelOverSocket(stream, options);
    } catch (error) {
      const remaining = deadline - systemClock.now();
      if (!passing(error) || remaining <= 0) throw error instanceof SottoError ? error : unreachable(options, error);
      await new Promise((resolve) => setTimeout(resolve, Math.min(pause, remaining)));
    }
  }
}

const passingCodes = ['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'EPIPE', 'EAGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN'];
/** Whether an error is of a side that is not up, or closed a connection before anything was said on it. */
const passing = (error: unknown): boolean =>
  passingCodes.includes((error as NodeJS.ErrnoException).code ?? systemCode(error) ?? '');

/** Whether an address is neither encrypted nor of this machine alone: who is on the way reads and changes what goes over it. */
export function plainBeyondThisMachine(address: Address): boolean {
  const host = /^(?:tcp|ws):(?:\/\/)?(?:\[([^\]]+)\]|([^:[\]/]+)):\d+/.exec(address);
  return host !== null && !/^(?:127(?:\.\d{1,3}){3}|::1|localhost)$/i.test((host[1] ?? host[2])!);
}

/** A channel over a connected socket or a TLS stream, which it takes over. */
export function channelOverSocket(socket: Socket, options: Omit<SocketOptions, 'address'>): Channel {
  return framedChannel(socketPipe(socket, options.peer), {
    peer: options.peer,
    ...(options.maximumPayloadBytes === undefined ? {} : { maximumPayloadBytes: options.maximumPayloadBytes }),
    timeout: { milliseconds: options.timeoutMilliseconds, alarm: systemAlarm },
    checksum: crc32,
    ...(socket instanceof TLSSocket ? { security: securityOf(socket) } : {}),
    source: socket.remoteAddress,
  });
}

function socketPipe(socket: Socket, peer: string): Pipe {
  const chunks: Uint8Array[] = [];
  let fresh = !('encrypted' in socket);
  let ended = false;
  let failure: Error | null = null;
  let wake: (() => void) | null = null;
  const awaken = () => {
    wake?.();
    wake = null;
  };
  socket.setNoDelay(true);
  socket.on('data', (chunk: Uint8Array) => {
    chunks.push(chunk);
    socket.pause();
    awaken();
  });
  socket.on('end', () => {
    ended = true;
    awaken();
  });
  socket.on('error', (error) => {
    failure = error;
    awaken();
  });
  socket.on('close', () => {
    ended = true;
    awaken();
  });
  return {
    write: (parts) => writeAll(socket, parts),
    async read() {
      for (;;) {
        const chunk = chunks.shift();
        if (chunk) {
          if (fresh && beginsTls(chunk)) throw tlsOnPlain(peer);
          fresh = false;
          return chunk;
        }
        if (failure) throw failure;
        if (ended || socket.destroyed) return null;
        socket.resume();
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    end: () => endSocket(socket),
    destroy: () => {
      socket.destroy();
    },
  };
}

function writeAll(socket: Socket, parts: readonly Uint8Array[]): Promise<void> {
  return new Promise((resolve, reject) => {
    // The callback comes when the kernel has the bytes: only then may the caller reuse them.
    const done = (error?: Error | null) => (error ? reject(error) : resolve());
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    if (parts.length === 1 || bytes <= joinedBytes) {
      socket.write(parts.length === 1 ? parts[0]! : Buffer.concat(parts, bytes), done);
      return;
    }
    socket.cork();
    for (const part of parts.slice(0, -1)) socket.write(part);
    socket.write(parts.at(-1)!, done);
    socket.uncork();
  });
}

/** Sends what is left and the end mark, then waits a moment for the peer's, so that it can read everything before the socket goes. */
function endSocket(socket: Socket): Promise<void> {
  if (socket.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.end(() => {
      timer = setTimeout(() => socket.destroy(), lingerMilliseconds);
      socket.resume();
    });
  });
}

function connectOnce(place: { path: string } | { host: string; port: number }, milliseconds: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    // A path of a URL is none of a socket.
    const { host, port } = place as { host: string; port: number };
    const short = 'host' in place ? undefined : shortSocketPath(place.path);
    const socket = createConnection({ ...(short === undefined ? { host, port } : { path: short.path }), noDelay: true });
    const timer = setTimeout(() => socket.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })), milliseconds);
    const settled = (): void => {
      clearTimeout(timer);
      short?.release();
    };
    socket.once('error', (error) => {
      settled();
      reject(error);
    });
    socket.once('connect', () => {
      settled();
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

function parseAddress(address: Address): { path: string } | { host: string; port: number } | WebPlace {
  const remedy = 'write unix:/path/to/socket, or tcp:, tls:, ws: or wss: before host:port';
  const web = parseWebAddress(address);
  if (web) return web;
  if (address.startsWith('unix:') && address.length > 5 && !address.includes('\0')) return { path: absolute(address.slice(5)) };
  const parts = /^(?:tcp|tls):(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(address);
  const port = Number(parts?.[3]);
  if (!parts || port > 65535) throw new SottoError('usage', `${address} is no address`, { remedy });
  return { host: (parts[1] ?? parts[2])!, port };
}

/** What an address needs beside itself; null for plain ones. */
function credentialsFor({ address, credentials }: SocketOptions): TlsCredentials | null {
  if (!/^(tls|wss):/.test(address)) return null;
  if (credentials) return credentials;
  throw new SottoError('usage', `${address} needs certificates`, {
    place: { field: '--authority' },
    remedy: 'name the authority and the own certificate and key, or use another address',
  });
}

async function prepareUnixPath(path: string): Promise<void> {
  const directory = dirname(path);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new SottoError('resource', `the folder cannot be made (${(cause as NodeJS.ErrnoException).code})`, {
      place: { file: directory },
      remedy: 'choose a folder that this user can write',
      cause,
    });
  }
  const found = lstatSync(directory);
  if (!found.isDirectory() || (found.mode & 0o077) !== 0 || found.uid !== process.getuid?.()) {
    throw new SottoError('usage', `${directory} can be entered by other users`, {
      place: { file: directory },
      remedy: 'give the socket a directory of its own (chmod 700)',
    });
  }
  const old = lstatSync(path, { throwIfNoEntry: false });
  if (!old) return;
  if (!old.isSocket())
    throw new SottoError('usage', `${path} exists and is no socket`, { place: { file: path }, remedy: 'choose another path' });
  const served = await connectOnce({ path }, 1000).then(
    (socket) => {
      socket.destroy();
      return true;
    },
    () => false,
  );
  if (served)
    throw new SottoError('resource', `${path} is in use`, {
      place: { file: path },
      remedy: 'stop the other process or choose another path',
      cause: Object.assign(new Error('another process listens'), { code: 'EADDRINUSE' }),
    });
  rmSync(path, { force: true });
}

function unreachable({ address, peer }: SocketOptions, cause: unknown): SottoError {
  const { code } = cause as NodeJS.ErrnoException;
  return new SottoError('peer', `the ${peer} cannot be reached at ${address}${code ? ` (${code})` : ''}`, {
    place: { party: peer },
    remedy: `start the ${peer}, and check address and firewall`,
    cause,
  });
}
