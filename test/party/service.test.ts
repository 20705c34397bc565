import { mkdirSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import type { Channel } from '../../src/net/contract.ts';
import { frameHeaderBytes } from '../../src/net/frame.ts';
import { makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import { connect } from '../../src/node/sockets.ts';
import { loadCredentials } from '../../src/node/tls.ts';
import { openBundleStore } from '../../src/party/bundles.ts';
import { greet, parseControl, receiveControl, sendControl } from '../../src/party/control.ts';
import {
  type DealServiceOptions,
  runClient,
  type ServeOptions,
  type Service,
  serveDealer,
  serveModel,
} from '../../src/party/index.ts';
import { logger } from '../../src/party/log.ts';
import { traceRun } from '../../src/party/manifest.ts';
import { Metrics } from '../../src/party/metrics.ts';
import { sit } from '../hostile/asker.ts';
import { type Expected, expected, farthest, temporary, writeLlama } from './models.ts';

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
const prompts = [[5], [9], [270], [271]] as const;
const newTokens = 2;
const right = new Map<number, Expected>();
const limits = { maximumSessions: 8, maximumWaiting: 4, maximumPromptTokens: 8, maximumNewTokens: 4 };

beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
  for (const prompt of prompts) right.set(prompt[0], await expected(model, { task: 'generate', newTokens, ring }, prompt));
});
const standing: Service[] = [];
afterEach(async () => {
  // The server first: it lets its dealer go.
  for (const service of standing.splice(0).reverse()) await service.drain(0);
});
afterAll(remove);

let places = 0;
interface Place {
  readonly directory: string;
  readonly lines: Record<string, unknown>[];
  dealer: Service;
  server: Service;
  readonly client: (
    prompt: readonly number[],
    options?: object,
  ) => Promise<{ newIds: readonly number[]; logits: Float64Array[] }>;
}
const common = (lines: Record<string, unknown>[]) => ({
  limits,
  timeoutMilliseconds: 8000,
  handshakeMilliseconds: 2000,
  maximumSessionMilliseconds: 60_000,
  metrics: '127.0.0.1:0',
  log: logger(
    'json',
    (line) => void lines.push(JSON.parse(line) as Record<string, unknown>),
    () => new Date(),
  ),
});
const dealerOf = (directory: string, lines: Record<string, unknown>[], options: Partial<DealServiceOptions> = {}) =>
  serveDealer({
    ...common(lines),
    ...{ listen: [`unix:${directory}/d`], setting: 'dealer', state: join(directory, 'dealer') },
    ...{ maximumMaskedBytes: 2 ** 30, maximumBundles: 100, ...options },
  });
const serverOf = (directory: string, lines: Record<string, unknown>[], options: Partial<ServeOptions> = {}) =>
  serveModel({
    ...common(lines),
    ...{
      model,
      listen: [`unix:${directory}/s`, 'tcp:127.0.0.1:0', 'ws:127.0.0.1:0'],
      dealer: `unix:${directory}/d`,
      setting: 'dealer',
    },
    ...{ state: join(directory, 'server'), prepare: { count: 0, shapes: [] } },
    ...{ policy: { reveal: ['logits', 'token'] }, ...options },
  });

async function place(
  server: Partial<ServeOptions> = {},
  dealer: Partial<DealServiceOptions> = {},
  follow = false,
): Promise<Place> {
  const directory = join(root, `place${places++}`);
  mkdirSync(directory, { mode: 0o700 });
  const lines: Record<string, unknown>[] = [];
  const standingDealer = await dealerOf(directory, lines, dealer);
  const made = {
    directory,
    lines,
    dealer: standingDealer,
    server: await serverOf(directory, lines, { ...server, ...(follow ? { dealer: standingDealer.addresses[0]! } : {}) }),
    client: async (prompt: readonly number[], options: object = {}) => {
      const logits: Float64Array[] = [];
      const report = await runClient({
        rangeFlags: false,
        ...{ server: `unix:${directory}/s`, dealer: `unix:${directory}/d`, state: join(directory, `client${places++}`), ring },
        ...{ timeoutMilliseconds: 8000, setting: dealer.setting },
        task: { kind: 'generate', prompt: { ids: prompt }, newTokens },
        onLogits: (values) => void logits.push(values),
        ...options,
      });
      return { newIds: report.newIds, logits };
    },
  };
  standing.push(made.dealer, made.server);
  return made;
}

function exact({ newIds, logits }: Awaited<ReturnType<Place['client']>>, prompt: readonly number[]): void {
  const wanted = right.get(prompt[0]!)!;
  expect(newIds).toEqual(wanted.ids);
  expect(farthest(logits, wanted.logits)).toBeLessThan(0.1);
}

const until = async (ready: () => boolean | Promise<boolean>): Promise<void> => {
  for (let tries = 0; !(await ready()); tries++) {
    if (tries > 400) throw new Error('it did not come to pass');
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
};

describe('a standing server and dealer', () => {
  it.each(['dealer', 'helper'] as const)(
    'in the %s setting serve clients side by side, each with its own answer',
    async (setting) => {
      const at = await place({ setting }, { setting });
      const results = await Promise.all(prompts.map((prompt) => at.client(prompt)));
      for (const [k, prompt] of prompts.entries()) exact(results[k]!, prompt);
      // A client has its answer before the server has said that the session ended.
      const ended = () => at.lines.filter(({ event, task }) => event === 'session-ended' && task === setting);
      await until(() => ended().length >= 4);
      expect(ended()).toHaveLength(4);
      // One copy of the weights for all of them.
      expect(at.lines.filter(({ event }) => event === 'link-opened')).toHaveLength(2);
    },
  );

  it('use material that was made before the client came, once', async () => {
    const shape = { task: 'generate', promptTokens: 1, newTokens, ring } as const;
    const at = await place({ prepare: { count: 2, shapes: [shape] } });
    const prepared = () => at.lines.filter(({ event }) => event === 'prepared').length;
    await until(() => prepared() >= 2);
    exact(await at.client([5]), [5]);
    exact(await at.client([9]), [9]);
    await until(() => prepared() >= 4);
    const states = await (await openBundleStore(join(at.directory, 'server'), 'server')).list();
    expect(states.filter(({ state }) => state === 'available')).toHaveLength(2);
    expect(states.filter(({ state }) => state === 'burned').length).toBeGreaterThanOrEqual(2);
  });
});

const failure = (
  work: Promise<unknown>,
): Promise<{ code?: string; retrySeconds?: number; kind: string; reason: string; place: object }> =>
  work.then(
    () => expect.unreachable(),
    (error) => error,
  );

/** A client that asks for a run, and nothing more. */
async function idler(address: string): Promise<Channel> {
  const channel = await connect({ address, peer: 'server', timeoutMilliseconds: 5000 });
  await greet(channel, 'client', ['server']);
  await sit(channel);
  return channel;
}
/** One seat and one place to wait, and time for who sits there. */
const crowded = { limits: { ...limits, maximumSessions: 1, maximumWaiting: 1 }, handshakeMilliseconds: 20_000 };

describe('a server with as many clients as it takes', () => {
  it('lets one wait and turns the next away, and says when to come again', async () => {
    const at = await place(crowded);
    const first = await idler(at.server.addresses[0]!);
    const waiting = at.client([5]);
    await until(async () => /sotto_sessions_waiting 1/.test(await page(at.server, '/metrics')));
    const refused = await failure(at.client([9]));
    expect(refused).toMatchObject({ name: 'SottoError', kind: 'resource', code: 'full', place: { party: 'server' } });
    expect(refused.retrySeconds).toBeGreaterThan(0);
    expect(refused.reason).toBe('refused: as many sessions are served, and wait, as may');
    await first.close();
    exact(await waiting, [5]);
    expect(await page(at.server, '/metrics')).toContain('sotto_refusals_total{code="full"} 1');
  });

  it('forgets who goes while waiting', async () => {
    const at = await place(crowded);
    const first = await idler(at.server.addresses[0]!);
    const impatient = await connect({ address: at.server.addresses[1]!, peer: 'server', timeoutMilliseconds: 5000 });
    await greet(impatient, 'client', ['server']);
    await sit(impatient);
    expect(await receiveControl(impatient, 'waiting')).toEqual({ type: 'waiting', ahead: 0 });
    await impatient.close();
    await until(async () => /sotto_sessions_waiting 0/.test(await page(at.server, '/metrics')));
    await first.close();
    exact(await at.client([5]), [5]);
  });

  it('takes no run that is longer than its limits, on either side of it', async () => {
    const at = await place();
    const long = { task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 5 } };
    expect(await failure(at.client([5], long))).toMatchObject({ code: 'limit', limit: { of: 'newTokens', most: 4 } as unknown });
    const narrow = await place({}, { limits: { ...limits, maximumNewTokens: 1 } });
    const refused = await failure(narrow.client([5]));
    expect(refused).toMatchObject({ code: 'limit', kind: 'resource', place: { party: 'server' } });
    expect(refused.reason).toMatch(/party dealer: .*at most 1 new tokens are served/);
  });

  it('begins nothing above its memory', async () => {
    const at = await place({ limits: { ...limits, maximumResidentBytes: 1 } });
    expect(await failure(at.client([5]))).toMatchObject({ code: 'full' });
    expect(at.lines.some(({ reason }) => /memory set aside/.test(String(reason)))).toBe(true);
  });
});

describe('strangers', () => {
  it('that stall, flood, lie or speak HTTP end alone while a client is served', async () => {
    const at = await place({ handshakeMilliseconds: 400 });
    const [, tcp] = at.server.addresses;
    const port = Number(tcp!.split(':').at(-1));
    const raw = (bytes: Uint8Array): Promise<void> =>
      new Promise((resolve) => {
        const socket = createConnection(port, '127.0.0.1', () => socket.write(bytes));
        socket.on('error', () => {}).on('close', () => resolve());
        socket.resume();
      });
    const huge = new Uint8Array(frameHeaderBytes);
    huge.set([0x51, 0, 0, 0, 0x01, 0x10, 0, 0]);
    const strangers = [
      ...Array.from({ length: 40 }, () => raw(new Uint8Array(0))),
      raw(new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n')),
      raw(huge),
    ];
    const dealerToo = connect({ address: at.dealer.addresses[0]!, peer: 'dealer', timeoutMilliseconds: 3000 }).then(
      async (channel) => {
        await greet(channel, 'client', ['dealer']);
        await sendControl(channel, { type: 'join', bundle: '00'.repeat(16), program: '00'.repeat(32), ticket: '00'.repeat(32) });
        await expect(channel.receive().then(({ payload }) => parseControl(payload, 'dealer', 'session'))).rejects.toThrow(
          /refused: the session that was joined is not known there/,
        );
      },
    );
    exact(await at.client([5]), [5]);
    await Promise.all([...strangers, dealerToo]);
    const reasons = at.lines.filter(({ event }) => event === 'connection-failed').map(({ reason }) => String(reason));
    expect(reasons.filter((reason) => /handshake within 400 ms/.test(reason)).length).toBeGreaterThanOrEqual(30);
    expect(reasons.join()).toMatch(/starts with byte 0x47/);
    // 4097 bytes are more than a stranger may send.
    expect(reasons.join()).toMatch(/announces 4097 bytes, more than the 4096/);
  });

  it('whose TLS handshake fails end alone; a client without a certificate cannot come as a server', async () => {
    const files = join(root, 'certificates');
    writeCertificates(files, await makeCertificates({ now: new Date(), days: 1 }));
    const tls = (role: string) => ({
      authority: join(files, 'authority.pem'),
      certificate: join(files, `${role}.pem`),
      key: join(files, `${role}-key.pem`),
    });
    const at = await place(
      { tls: tls('server'), listen: ['tls:127.0.0.1:0'] },
      { tls: tls('dealer'), listen: ['tls:127.0.0.1:0'] },
      true,
    );
    const credentials = loadCredentials({ authority: tls('client').authority }, 'client', new Date());
    const plain = createConnection(Number(at.server.addresses[0]!.split(':').at(-1)), '127.0.0.1');
    plain.on('error', () => {}).write('no TLS at all\r\n');
    const patience = { timeoutMilliseconds: 3000, credentials };
    const liar = await connect({ address: at.dealer.addresses[0]!, peer: 'dealer', ...patience });
    await expect(greet(liar, 'server', ['dealer']).then(() => receiveControl(liar, 'session'))).rejects.toThrow(
      /this role has no business there/,
    );
    const addresses = { server: at.server.addresses[0], dealer: at.dealer.addresses[0] };
    exact(await at.client([5], { ...addresses, tls: { authority: tls('client').authority } }), [5]);
    await until(() => at.lines.some(({ reason }) => /speaks no TLS|TLS handshake/.test(String(reason))));
    await liar.close();
  });
});

describe('a state folder', () => {
  it('has one process at a time', async () => {
    const at = await place();
    const again = serverOf(at.directory, [], { listen: ['tcp:127.0.0.1:0'] });
    await expect(again).rejects.toMatchObject({ kind: 'resource', reason: 'another process works with this state' });
    const second = dealerOf(at.directory, [], { listen: ['tcp:127.0.0.1:0'] });
    await expect(second).rejects.toMatchObject({ kind: 'resource', place: { party: 'dealer' } });
    exact(await at.client([5]), [5]);
  });
});

describe('a party that is drained', () => {
  it('lets sessions end, refuses who comes, and is gone then', async () => {
    const at = await place();
    let drained: Promise<void> | undefined;
    let refused: Promise<{ code?: string }> | undefined;
    const onLogits = (): void => {
      if (drained !== undefined) return;
      drained = at.server.drain(10_000);
      refused = failure(at.client([9]));
    };
    const { newIds } = await at.client([5], { onLogits });
    expect(newIds).toEqual(right.get(5)!.ids);
    expect(await refused).toMatchObject({ code: 'draining', retrySeconds: 30 });
    await drained;
    const late = connect({ address: at.server.addresses[0]!, peer: 'server', timeoutMilliseconds: 100 });
    await expect(late).rejects.toMatchObject({ kind: 'peer' });
  });

  it('ends what is left with a reason, and burns its material', async () => {
    const at = await place();
    let drained: Promise<void> | undefined;
    const onLogits = (): void => {
      drained ??= at.server.drain(0);
    };
    expect(await failure(at.client([5], { onLogits }))).toMatchObject({ code: 'draining', place: { party: 'server' } });
    await drained;
    for (const { state } of await (await openBundleStore(join(at.directory, 'server'), 'server')).list())
      expect(state).toBe('burned');
  });
});

describe('what a standing party tells', () => {
  it('is metrics that a scraper reads, health, and readiness that follows the dealer', async () => {
    const at = await place();
    exact(await at.client([5]), [5]);
    expect(await page(at.server, '/healthz')).toBe('ok\n');
    expect(await page(at.server, '/readyz')).toBe('ready\n');
    for (const service of [at.server, at.dealer]) {
      await until(async () => /sotto_sessions_active 0/.test(await page(service, '/metrics')));
      const samples = parseMetrics(await page(service, '/metrics'));
      expect(samples.get('sotto_sessions_active')).toBe(0);
      expect([...samples.keys()].some((key) => key.startsWith('sotto_bytes_total{phase="offline",peer="client"'))).toBe(true);
    }
    const server = parseMetrics(await page(at.server, '/metrics'));
    expect(server.get('sotto_sessions_total{kind="dealer",outcome="done"}')).toBe(1);
    expect(server.get('sotto_session_seconds_bucket{kind="dealer",le="+Inf"}')).toBe(1);
    expect(server.get('sotto_session_seconds_count{kind="dealer"}')).toBe(1);
    const { total } = forecast(traceRun(manifestOf(model), { task: 'generate', promptTokens: 1, newTokens, ring }).ringProgram);
    const sent = server.get('sotto_bytes_total{phase="online",peer="client",direction="sent"}')!;
    // The run's own frames, and the word of the claim before them.
    expect(sent).toBe(total.online.serverToClientBytes);
    await at.dealer.drain(0);
    await until(async () => (await page(at.server, '/readyz')) === 'no dealer\n');
  });

  it('never holds a token, a text, a seed or a weight', async () => {
    const marked = [277, 277, 277, 277];
    const at = await place();
    await at.client(marked);
    const wrong = { task: { kind: 'generate', prompt: { ids: [8057] }, newTokens } };
    await failure(at.client([5], wrong));
    // The manifest's hash is public: said at the start so that clients can be given it.
    const lines = at.lines.map(({ manifest: _, ...line }) => line);
    const told = [JSON.stringify(lines), await page(at.server, '/metrics'), await page(at.dealer, '/metrics')].join();
    expect(told).not.toMatch(/277,277|8057|token 8/);
    const known = new Set(
      ...[['time', 'level', 'event', 'session', 'peer', 'task', 'address', 'promptTokens', 'newTokens', 'sentBytes']],
    );
    for (const name of ['run', 'reveal', 'clientCertificates', 'offlineBytes', 'bitsPerToken', 'tokensToRead', 'manifest'])
      known.add(name);
    for (const name of ['receivedBytes', 'seconds', 'count', 'kind', 'party', 'reason', 'place']) known.add(name);
    for (const line of at.lines) for (const name of Object.keys(line)) expect(known, name).toContain(name);
    // Nothing as long as a seed, a key or a bundle's name.
    expect(told).not.toMatch(/[0-9a-f]{32}/);
  });
});

describe('metrics', () => {
  it('escape what labels hold', () => {
    const metrics = new Metrics();
    metrics.counter('c', 'A count.').add({ a: 'x"\\\n' }, 2);
    expect(metrics.render()).toBe('# HELP c A count.\n# TYPE c counter\nc{a="x\\"\\\\\\n"} 2\n');
  });
});

const manifestOf = (folder: string) => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;

async function page(service: Service, path: string): Promise<string> {
  return await (await fetch(`http://${service.metricsAddress}${path}`)).text();
}

/** Every line is a comment or a sample, and every sample is of a family that was announced. */
function parseMetrics(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  const types = new Map<string, string>();
  for (const line of text.trimEnd().split('\n')) {
    const type = /^# TYPE (\w+) (counter|gauge|histogram)$/.exec(line);
    if (type) types.set(type[1]!, type[2]!);
    if (line.startsWith('#')) continue;
    const sample = /^(\w+?)(_bucket|_sum|_count)?(\{(?:\w+="(?:[^"\\\n]|\\.)*",?)*\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/.exec(
      line,
    );
    expect(sample, line).not.toBeNull();
    expect(types.has(sample![1]!) || types.has(`${sample![1]}${sample![2] ?? ''}`), line).toBe(true);
    samples.set(line.slice(0, line.lastIndexOf(' ')), Number(sample![4]));
  }
  return samples;
}
