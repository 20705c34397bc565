import { createServer, type Server } from 'node:http';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { SottoError } from '../errors/index.ts';
import { type BindingNames, bound } from '../node/binding.ts';
import { Strangers, sourceOf } from '../node/strangers.ts';
import { textFormat } from './metrics.ts';

/** What the party's own thread says of itself, whenever it comes to it. */
export interface Report {
  readonly metrics: string;
  /** Why it takes no session now; null where it does. */
  readonly unready: string | null;
}

export interface MonitorOrder {
  readonly host: string;
  readonly port: number;
  readonly names: BindingNames;
  readonly busyMilliseconds: number;
  readonly report: Report;
}

/** To the party's thread: it listens, it cannot, or somebody asks and a fresh report would be good. */
export type FromMonitor =
  | { readonly type: 'listening'; readonly address: string }
  | { readonly type: 'failed'; readonly reason: string; readonly remedy: string; readonly code: string }
  | { readonly type: 'wanted' };

/** How long somebody who asks waits for a fresh report before the last one is given. */
const freshMilliseconds = 250;

/**
 * The main module of the thread that answers for a party's health: whatever the party's own thread computes, this one answers, with what that one said last.
 */
class Monitor {
  readonly #port: MessagePort;
  readonly #order: MonitorOrder;
  #report: Report;
  #heardAt = performance.now();
  #wake: (() => void)[] = [];

  constructor(port: MessagePort, order: MonitorOrder) {
    this.#port = port;
    this.#order = order;
    this.#report = order.report;
    port.on('message', (report: Report) => {
      this.#report = report;
      this.#heardAt = performance.now();
      for (const wake of this.#wake.splice(0)) wake();
    });
  }

  async listen(): Promise<void> {
    const { host, port, names } = this.#order;
    const server = this.#server();
    try {
      await bound(server, { host, port }, names);
    } catch (error) {
      const { reason, remedy, cause } = error as SottoError;
      this.#tell({ type: 'failed', reason, remedy, code: String((cause as NodeJS.ErrnoException).code) });
      return;
    }
    const at = server.address() as { address: string; family: string; port: number };
    this.#tell({ type: 'listening', address: `${at.family === 'IPv6' ? `[${at.address}]` : at.address}:${at.port}` });
  }

  #tell(message: FromMonitor): void {
    this.#port.postMessage(message);
  }

  #server(): Server {
    const limits = { requestTimeout: 10_000, headersTimeout: 5000, maxHeaderSize: 8192, connectionsCheckingInterval: 1000 };
    const server = createServer(limits, async (request, response) => {
      const get = request.method === 'GET' || request.method === 'HEAD';
      const answer = get ? await this.#answer((request.url ?? '').split('?')[0]!) : ([405, 'text/plain', 'GET\n'] as const);
      const [status, type, body] = answer;
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', connection: 'close' });
      response.end(request.method === 'HEAD' ? '' : body);
      // Nothing is read from who asks.
      request.resume();
    });
    // Whoever asks is answered at once: who holds a connection open for longer goes for who comes.
    const strangers = new Strangers({ total: 64, perSource: 32 });
    server.on('connection', (socket) => {
      const { remoteAddress } = socket;
      const silent = (): boolean => socket.bytesRead === 0;
      const leave = strangers.admit({ source: sourceOf(remoteAddress), silent, evict: () => socket.destroy() });
      socket.once('close', leave);
    });
    server.on('clientError', (_, socket) => void socket.destroy());
    return server;
  }

  async #answer(path: string): Promise<readonly [status: number, type: string, body: string]> {
    if (!['/healthz', '/readyz', '/metrics'].includes(path)) return [404, 'text/plain', 'healthz, readyz, metrics\n'];
    await this.#fresh();
    const busy = performance.now() - this.#heardAt;
    const seconds = Math.floor(busy / 1000);
    if (path === '/metrics') return [200, textFormat, this.#report.metrics + busyGauge(busy)];
    const { busyMilliseconds } = this.#order;
    if (busy > busyMilliseconds) return [503, 'text/plain', `the party has not answered for ${seconds} s\n`];
    if (path === '/healthz') return [200, 'text/plain', seconds < 2 ? 'ok\n' : `ok, computing for ${seconds} s\n`];
    const { unready } = this.#report;
    return unready === null ? [200, 'text/plain', 'ready\n'] : [503, 'text/plain', `${unready}\n`];
  }

  /** Asks for a report, and waits a moment for it. */
  async #fresh(): Promise<void> {
    this.#tell({ type: 'wanted' });
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, freshMilliseconds);
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

function busyGauge(milliseconds: number): string {
  const name = 'sotto_unanswered_seconds';
  return `# HELP ${name} Since the party's own thread said anything.\n# TYPE ${name} gauge\n${name} ${(milliseconds / 1000).toFixed(3)}\n`;
}

if (parentPort !== null) void new Monitor(parentPort, workerData as MonitorOrder).listen();
