// A network between processes: forwards bytes between socket addresses with the bandwidth and latency of a declared shape.
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { setPriority } from 'node:os';
import { performance } from 'node:perf_hooks';
import process from 'node:process';
import type { Network } from '../src/net/shaped.ts';

/** Unix sockets by path. What comes to `listen` goes on to `target`, and back. */
export interface RelayLine {
  readonly listen: string;
  readonly target: string;
}
export interface RelayOrder {
  readonly lines: readonly RelayLine[];
  readonly network: Network;
}

/** As much as is under way in one direction before its sender is no longer read: the buffers of a link. */
const bufferBytes = 8 * 2 ** 20;
/** Timers of the event loop are coarser than a local network: the last milliseconds before an arrival are waited for in short naps. */
const napMilliseconds = 1;
const nap = new Int32Array(new SharedArrayBuffer(4));

/**
 * One direction of one connection: a chunk leaves when those before it have (bytes · 8 / bandwidth) and arrives half a round trip later.
 * Naps block this process, whose only work is to wait.
 */
function forward(from: Socket, to: Socket, network: Network): void {
  const queue: { at: number; chunk: Buffer | null }[] = [];
  let free = 0;
  let queued = 0;
  let running = false;
  const push = (chunk: Buffer | null): void => {
    const now = performance.now();
    if (chunk !== null) {
      free = Math.max(now, free) + (chunk.length * 8000) / network.bitsPerSecond;
      queued += chunk.length;
      if (queued > bufferBytes) from.pause();
    }
    queue.push({ at: Math.max(now, free) + network.roundTripSeconds * 500, chunk });
    if (!running) {
      running = true;
      next();
    }
  };
  const next = (): void => {
    for (let first = queue[0]; first !== undefined; first = queue[0]) {
      const wait = first.at - performance.now();
      if (wait > napMilliseconds + 1) {
        setTimeout(next, wait - napMilliseconds);
        return;
      }
      if (wait > 0.3) {
        Atomics.wait(nap, 0, 0, Math.min(wait - 0.2, 0.25));
        setImmediate(next);
        return;
      }
      // The last moments are shorter than a nap's own delay.
      while (performance.now() < first.at);
      queue.shift();
      if (first.chunk === null) to.end();
      else {
        queued -= first.chunk.length;
        if (!to.destroyed) to.write(first.chunk);
        if (from.isPaused() && queued <= bufferBytes / 2) from.resume();
      }
    }
    running = false;
  };
  from.on('data', (chunk) => push(chunk as Buffer));
  from.on('end', () => push(null));
  from.on('error', () => to.destroy());
  from.on('close', () => push(null));
}

/** How long a party may take to listen after another has connected. */
const patienceMilliseconds = 120_000;

function reach(target: string, patience: number, reached: (far: Socket) => void): void {
  const far = createConnection({ path: target, allowHalfOpen: true });
  const again = (error: Error): void => {
    if (patience <= 0) throw error;
    setTimeout(() => reach(target, patience - 20, reached), 20);
  };
  far.once('error', again);
  far.once('connect', () => {
    far.off('error', again);
    reached(far);
  });
}

/** Listens for every line. Both sides of a connection may send before the other does. */
export async function startRelay({ lines, network }: RelayOrder): Promise<() => void> {
  const servers: Server[] = [];
  const sockets: Socket[] = [];
  for (const { listen, target } of lines) {
    const server = createServer({ allowHalfOpen: true }, (near) => {
      near.pause();
      sockets.push(near);
      reach(target, patienceMilliseconds, (far) => {
        sockets.push(far);
        forward(near, far, network);
        forward(far, near, network);
        near.resume();
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(listen, resolve);
    });
    servers.push(server);
  }
  return () => {
    for (const server of servers) server.close();
    for (const socket of sockets) socket.destroy();
  };
}

if (process.send !== undefined && process.argv[2] === 'relay')
  process.once('message', (order: RelayOrder) => {
    startRelay(order).then(
      () => process.send!('ready'),
      (error) => {
        console.error(error);
        process.exit(1);
      },
    );
    process.once('disconnect', () => process.exit(0));
    // A link has no queue for a processor: where it may, the relay comes before the parties.
    try {
      setPriority(-20);
    } catch {}
  });
