import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SottoError } from '../errors/index.ts';
import { type Metrics, textFormat } from './metrics.ts';

export interface MonitorOptions {
  /** `host:port`; port 0 lets the system choose. */
  readonly address: string;
  readonly metrics: Metrics;
  /** Why the party cannot take a session now; null where it can. */
  readonly unready: () => string | null;
}

/** Health and metrics over HTTP, on an address of its own: `/healthz` (the process answers), `/readyz` (it takes sessions), `/metrics`. */
export async function openMonitor(options: MonitorOptions): Promise<{ address: string; close: () => Promise<void> }> {
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(options.address);
  const port = Number(parts?.[3]);
  if (!parts || port > 65535)
    throw new SottoError('usage', `${options.address} is no address for metrics`, {
      place: { field: '--metrics' },
      remedy: 'write host:port, such as 127.0.0.1:9100',
    });
  const answer = (path: string): readonly [status: number, type: string, body: string] => {
    if (path === '/healthz') return [200, 'text/plain', 'ok\n'];
    if (path === '/metrics') return [200, textFormat, options.metrics.render()];
    if (path !== '/readyz') return [404, 'text/plain', 'healthz, readyz, metrics\n'];
    const reason = options.unready();
    return reason === null ? [200, 'text/plain', 'ready\n'] : [503, 'text/plain', `${reason}\n`];
  };
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5000, maxHeaderSize: 8192 }, (request, response) => {
    const get = request.method === 'GET' || request.method === 'HEAD';
    const [status, type, body] = get ? answer((request.url ?? '').split('?')[0]!) : ([405, 'text/plain', 'GET\n'] as const);
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', connection: 'close' });
    response.end(request.method === 'HEAD' ? '' : body);
    // Nothing is read from who asks.
    request.resume();
  });
  server.maxConnections = 32;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new SottoError('resource', `cannot answer for metrics at ${options.address} (${cause.code})`, {
          place: { field: '--metrics' },
          remedy: 'choose another address',
          cause,
        }),
      ),
    );
    server.listen(port, parts[1] ?? parts[2], resolve);
  });
  server.on('error', () => undefined);
  const bound = server.address() as AddressInfo;
  return {
    address: `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
