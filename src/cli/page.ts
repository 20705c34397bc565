import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { bound } from '../node/binding.ts';

export interface Page {
  /** `http://127.0.0.1:port`: what a browser opens, and the origin that the page has. */
  readonly origin: string;
  close(): void;
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
};

/**
 * Serves the example page to browsers of this machine. `settings` says where its parties wait. Nothing else is served: the names of the
 * files are fixed here.
 */
export async function servePage(
  packageFolder: string,
  port: number,
  settings: () => { readonly server?: string; readonly dealer?: string; readonly manifestHash?: string },
): Promise<Page> {
  const example = (name: string) => () => readFile(join(packageFolder, 'examples/browser', name));
  const files = new Map<string, () => Promise<Uint8Array | string>>([
    ['/', example('index.html')],
    ['/page.css', example('page.css')],
    ['/page.js', example('page.js')],
    ['/sotto-client.js', () => readFile(join(packageFolder, 'dist/browser/sotto-client.js'))],
    ['/settings.json', async () => JSON.stringify(settings())],
  ]);
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    // The request line is a stranger's: it is looked up as it stands, and never parsed as an address.
    const path = (request.url ?? '').split(/[?#]/, 1)[0]!;
    const read = request.method === 'GET' ? files.get(path) : undefined;
    const content = await read?.().catch(() => undefined);
    const type = types[extname(path)] ?? types['.html']!;
    const headers = { 'Content-Type': type, 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store' };
    if (content === undefined) response.writeHead(404).end();
    else response.writeHead(200, headers).end(content);
  };
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5000, maxHeaderSize: 8192 }, (request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  server.on('clientError', (_, socket) => void socket.destroy());
  await bound(server, { port, host: '127.0.0.1' }, { address: `127.0.0.1:${port}`, place: { field: '--port' } });
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
