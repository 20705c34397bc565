import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openBundleStore } from '../../src/party/bundles.ts';
import { runClient } from '../../src/party/index.ts';
import { builtCommand } from '../built.ts';
import { type Expected, expected, farthest, temporary, writeLlama } from './models.ts';
import { startRole } from './relay.ts';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
const newTokens = 3;
const right = new Map<number, Expected>();

interface Line {
  readonly event: string;
  readonly reason?: string;
  readonly count?: number;
  readonly [name: string]: unknown;
}
interface Process {
  readonly child: ChildProcess;
  readonly lines: Line[];
  output: string;
}
const processes: Process[] = [];

function start(words: readonly string[]): Process {
  const flags = ['--log', 'json', '--timeout', '10', '--handshake-timeout', '3'];
  const child = spawn(process.execPath, [builtCommand(), ...words, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  const started: Process = { child, lines: [], output: '' };
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    const lines = (started.output + text).split('\n');
    started.output = lines.pop()!;
    for (const line of lines) started.lines.push(line.startsWith('{') ? (JSON.parse(line) as Line) : { event: line });
  });
  processes.push(started);
  return started;
}

async function until(ready: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await ready()); tries++) {
    if (tries > 1200)
      throw new Error(`it did not come to pass: ${JSON.stringify(processes.map(({ lines }) => lines.slice(-5)))}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
async function ended({ child }: Process): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}
const said = ({ lines }: Process, event: string): Line[] => lines.filter((line) => line.event === event);
const listening = (each: Process): Promise<void> => until(() => said(each, 'listening').length > 0);

const address = (name: string): string => `unix:${join(root, name)}`;
const startDealer = (): Process => start(['dealer', '--listen', address('d'), '--state', join(root, 'dealer')]);
const prepare = ['--prepare', '2', '--prepare-tokens', `1:${newTokens}:no-flags`];
const startServer = (): Process =>
  start([
    'serve',
    '--model',
    model,
    ...['--reveal', 'both'],
    '--listen',
    address('s'),
    '--dealer',
    address('d'),
    '--state',
    join(root, 'server'),
    ...prepare,
  ]);

let clients = 0;
async function client(prompt: number, onLogits?: () => void): Promise<void> {
  const logits: Float64Array[] = [];
  const report = await runClient({
    rangeFlags: false,
    ...{ server: address('s'), dealer: address('d'), state: join(root, `client${clients++}`), ring, timeoutMilliseconds: 10_000 },
    task: { kind: 'generate', prompt: { ids: [prompt] }, newTokens },
    onLogits: (values) => {
      logits.push(values);
      onLogits?.();
    },
  });
  expect(report.newIds).toEqual(right.get(prompt)!.ids);
  expect(farthest(logits, right.get(prompt)!.logits)).toBeLessThan(0.1);
}
/** Halves that were made ahead and nobody claimed yet, in that store. */
const available = async (party: 'client' | 'server', folder: string): Promise<number> =>
  (await list(party, folder)).filter(({ state }) => state === 'available').length;
const list = async (party: 'client' | 'server', folder: string) => (await openBundleStore(join(root, folder), party)).list();

let dealer: Process;
let server: Process;
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
  for (const prompt of [5, 9, 270, 271])
    right.set(prompt, await expected(model, { task: 'generate', newTokens, ring }, [prompt]));
  dealer = startDealer();
  server = startServer();
  await Promise.all([listening(dealer), listening(server)]);
});
afterAll(async () => {
  for (const { child } of processes) child.kill('SIGKILL');
  await Promise.all(processes.map(ended));
  remove();
});

describe('standing processes', () => {
  it('of four clients at once, of which one is killed in its run, give the other three exact answers', async () => {
    const victim = startRole({
      ...{ role: 'client', server: address('s'), dealer: address('d'), state: join(root, 'victim'), ring, sendLogits: false },
      task: { kind: 'generate', prompt: { ids: [271] }, newTokens: 40 },
      timeoutMilliseconds: 10_000,
    });
    let killed = false;
    let texts = 0;
    victim.child.on('message', (event: { type: string; text?: string }) => {
      // The prompt, then a token: the run is on.
      if (event.type !== 'text' || ++texts < 2 || killed) return;
      killed = victim.child.kill('SIGKILL');
    });
    await until(() => killed || said(server, 'session-began').length > 0);
    await Promise.all([5, 9, 270].map((prompt) => client(prompt)));
    await until(() => killed && said(server, 'session-failed').length === 1);
    expect(said(server, 'session-failed')[0]).toMatchObject({ kind: 'peer', party: 'client' });
    await until(() => said(server, 'session-ended').length === 3);
  });

  it('never use a bundle twice where the server is killed in the middle of a session and started again', async () => {
    await until(async () => (await available('server', 'server')) >= 2);
    const before = await list('server', 'server');
    let struck = false;
    const broken = client(5, () => {
      if (!struck) struck = server.child.kill('SIGKILL');
    });
    await expect(broken).rejects.toMatchObject({ kind: 'peer', place: { party: 'server' } });
    await ended(server);
    const left = await list('server', 'server');
    const claimed = left.filter(({ state }) => state === 'claimed').map(({ id }) => id);
    // The half that was made ahead; what came with the client was in no file that has a name.
    expect(claimed).toHaveLength(1);
    expect(before.filter(({ state }) => state === 'available').some(({ id }) => claimed.includes(id))).toBe(true);

    server = startServer();
    await listening(server);
    // What nobody claimed is still there: the restarted server takes it up with the seed of its own copy.
    expect(said(server, 'state')[0]!.count).toBeGreaterThanOrEqual(1);
    await client(9);
    const after = new Map((await list('server', 'server')).map(({ id, state }) => [id, state]));
    for (const id of claimed) expect(after.get(id)).toBe('burned');
    for (const { id, state } of left) if (state === 'burned') expect(after.get(id)).toBe('burned');
    // Every half is claimed by one session at most: as many markers as bundles, none made twice.
    const marks = readdirSync(join(root, 'server', 'claims'));
    expect(new Set(marks).size).toBe(marks.length);
    for (const name of readdirSync(join(root, 'server', 'copies'))) {
      expect(statSync(join(root, 'server', 'copies', name)).mode & 0o777).toBe(0o600);
      expect(JSON.stringify(server.lines)).not.toContain(
        JSON.parse(readFileSync(join(root, 'server', 'copies', name), 'utf8')).seed,
      );
    }
  });

  it('go on where the dealer is killed and started again, with what both had stored', async () => {
    await until(async () => (await available('server', 'server')) >= 2);
    dealer.child.kill('SIGKILL');
    await ended(dealer);
    dealer = startDealer();
    await listening(dealer);
    expect(said(dealer, 'state')[0]!.count).toBeGreaterThanOrEqual(1);
    await client(270);
    expect(said(dealer, 'session-ended').some(({ task }) => task === 'hand')).toBe(true);
    // The server finds it again by itself, and its masked weights go there anew.
    await until(() => said(server, 'link-opened').length >= 2);
    const made = said(server, 'prepared').length;
    await client(5);
    await until(() => said(server, 'prepared').length > made);
  });

  it('end with 0 at a signal, in the middle of a session too', async () => {
    let signalled = false;
    await client(9, () => {
      if (!signalled) signalled = server.child.kill('SIGTERM');
    });
    expect(await ended(server)).toBe(0);
    expect(said(server, 'draining')).toHaveLength(1);
    dealer.child.kill('SIGINT');
    expect(await ended(dealer)).toBe(0);
    // No claim is open: all that was used is burned, and the rest was never used.
    for (const [party, folder] of [
      ['server', 'server'],
      ['client', 'dealer'],
    ] as const)
      for (const { state } of await list(party, folder)) expect(['burned', 'available']).toContain(state);
  });
});
