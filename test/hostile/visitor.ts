// A visitor at a door: connections that say nothing, and requests that are none.
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';

const place = (address: string): { host: string; port: number } => {
  const [host, port] = address.replace(/^[a-z]+:(\/\/)?/, '').split(/[:/]/) as [string, string];
  return { host, port: Number(port) };
};

/** Connections that are opened and say nothing, until they are closed. */
export async function idle(address: string, count: number): Promise<{ sockets: Socket[]; close: () => void }> {
  const sockets = Array.from({ length: count }, () => createConnection(place(address)));
  for (const socket of sockets) socket.on('error', () => {}).resume();
  await Promise.all(sockets.map((socket) => once(socket, 'connect').catch(() => undefined)));
  return { sockets, close: () => sockets.forEach((socket) => void socket.destroy()) };
}

/** Says one thing, and gives what comes back until the other side closes or a moment has passed. */
export async function say(address: string, words: string | Uint8Array, patience = 2000): Promise<string> {
  const socket = createConnection(place(address));
  const parts: Buffer[] = [];
  socket.on('error', () => {}).on('data', (part: Buffer) => void parts.push(part));
  socket.setTimeout(patience, () => socket.destroy());
  socket.end(words);
  if (!socket.destroyed) await once(socket, 'close');
  return Buffer.concat(parts).toString('latin1');
}

/** Request lines that a parser of addresses, paths or headers may choke on, then seeded ones. */
export function requests(seed: number, count: number): string[] {
  const targets = [
    '//',
    '///',
    '*',
    '',
    '/%',
    '/%zz',
    '/%00',
    '//@',
    'http://',
    'http://[',
    'a:b',
    '/..',
    '/\\',
    '/?',
    '/#',
    '/settings.json?//',
  ];
  const methods = ['GET', 'HEAD', 'OPTIONS', 'CONNECT', 'POST', 'M-SEARCH', 'get', ''];
  const heads = [
    '',
    'Host: a\r\n',
    'Host: \r\n',
    'Upgrade: websocket\r\nConnection: Upgrade\r\n',
    'Content-Length: -1\r\n',
    'Expect: 100-continue\r\n',
  ];
  const fixed = targets.map((target) => `GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`);
  let state = seed;
  const draw = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const one = <T>(list: readonly T[]): T => list[draw(list.length)]!;
  const noise = (): string => String.fromCharCode(...Array.from({ length: draw(12) }, () => draw(256)));
  const version = ['HTTP/1.1', 'HTTP/1.0', 'HTTP/9.9', ''];
  return [
    ...fixed,
    ...Array.from(
      { length: count },
      () => `${one(methods)} ${one(targets)}${noise()} ${one(version)}\r\n${one(heads)}\r\n${noise()}`,
    ),
  ];
}
