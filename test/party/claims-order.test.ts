import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { runClient, runDealer, runServer, serveDealer, serveModel } from '../../src/party/index.ts';
import { temporary, writeLlama } from './models.ts';
import { type Crossing, line } from './relay.ts';

/**
 * The order of claims and bytes, by what reached the disk and what went over the wire: every party's marker is written and its directory synced
 * before that party says so, and before the first byte of the run or of a half made ahead. Both doors alike.
 */
const events = vi.hoisted(() => [] as string[]);
vi.mock('../../src/party/durable.ts', async (original) => {
  const real = await original<typeof import('../../src/party/durable.ts')>();
  return {
    ...real,
    async writeDurably(path: string, bytes: Uint8Array) {
      await real.writeDurably(path, bytes);
      events.push(`file ${path}`);
    },
    async syncDirectory(path: string) {
      await real.syncDirectory(path);
      events.push(`sync ${path}`);
    },
  };
});

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
});
afterAll(remove);

/** Lines to both parties that write down what goes over them. */
async function relayed(directory: string) {
  const onFrame = ({ from, to, kind, payload }: Crossing): undefined => {
    const type = kind === 0 ? ` ${(JSON.parse(new TextDecoder().decode(payload)) as { type: string }).type}` : '';
    events.push(`${from} says ${kind}${type} to ${to}`);
  };
  const lines = [
    await line(`unix:${directory}/cs`, `unix:${directory}/s`, 'client', 'server', { onFrame }),
    await line(`unix:${directory}/cd`, `unix:${directory}/d`, 'client', 'dealer', { onFrame }),
  ];
  return () => lines.forEach((each) => void each.close());
}

const client = (directory: string) =>
  runClient({
    rangeFlags: false,
    ...{ server: `unix:${directory}/cs`, dealer: `unix:${directory}/cd`, state: join(directory, 'client'), ring },
    ...{ timeoutMilliseconds: 8000, task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 1 } as const },
  });

/** Where it stands that a party's marker is on the disk for good. */
function claimedAt(state: string): number {
  const folder = join(state, 'claims');
  const file = events.findIndex((event) => event.startsWith(`file ${folder}/`));
  expect(file, `a marker in ${basename(state)}`).toBeGreaterThanOrEqual(0);
  return events.indexOf(`sync ${folder}`, file);
}
const first = (event: string): number => {
  const found = events.indexOf(event);
  expect(found, event).toBeGreaterThanOrEqual(0);
  return found;
};

function expectOrder(directory: string): void {
  const states = { client: join(directory, 'client'), server: join(directory, 'server') };
  const said = { client: first('client says 0 claimed to server'), server: first('server says 0 claimed to client') };
  const run = first('client says 1 to server');
  for (const party of ['client', 'server'] as const) {
    const claimed = claimedAt(states[party]);
    expect(claimed, party).toBeGreaterThanOrEqual(0);
    expect(claimed, `${party} claims before it says so`).toBeLessThan(said[party]);
    expect(said[party], `${party} says so before the run`).toBeLessThan(run);
  }
  expect(run).toBeLessThan(first('server says 1 to client'));
}

const common = (directory: string) => ({
  ...{ timeoutMilliseconds: 8000, handshakeMilliseconds: 2000, maximumSessionMilliseconds: 60_000, log: () => {} },
  limits: { maximumSessions: 4, maximumWaiting: 4, maximumPromptTokens: 8, maximumNewTokens: 4 },
  linkToken: new TextEncoder().encode(directory),
});

it('claims come before the first byte at parties of one run', async () => {
  const directory = join(root, 'once');
  mkdirSync(directory, { mode: 0o700 });
  events.length = 0;
  const { timeoutMilliseconds, linkToken } = common(directory);
  const waiting = <T>(start: (onListening: () => void) => Promise<T>): Promise<{ end: Promise<T> }> =>
    new Promise((resolve) => {
      const end: Promise<T> = start(() => resolve({ end }));
    });
  const dealer = await waiting((onListening) =>
    runDealer({ listen: `unix:${directory}/d`, timeoutMilliseconds, linkToken, onListening }),
  );
  const own = { model, state: join(directory, 'server'), timeoutMilliseconds, linkToken };
  const server = await waiting((onListening) =>
    runServer({ ...own, listen: `unix:${directory}/s`, dealer: `unix:${directory}/d`, onListening }),
  );
  const close = await relayed(directory);
  await client(directory);
  await Promise.all([server.end, dealer.end]);
  expectOrder(directory);
  close();
});

it.each([0, 1])(
  'and at standing parties, with %i halves made ahead: the dealer claims before the first byte of one',
  async (count) => {
    const directory = join(root, `standing${count}`);
    mkdirSync(directory, { mode: 0o700 });
    events.length = 0;
    const shapes = count === 0 ? [] : [{ task: 'generate', promptTokens: 1, newTokens: 1, ring } as const];
    const dealing = {
      setting: 'dealer',
      state: join(directory, 'dealer'),
      maximumMaskedBytes: 2 ** 30,
      maximumBundles: 8,
    } as const;
    const dealer = await serveDealer({ ...common(directory), ...dealing, listen: [`unix:${directory}/d`] });
    const own = {
      model,
      state: join(directory, 'server'),
      setting: 'dealer',
      prepare: { count, shapes },
      policy: { reveal: ['logits', 'token'] },
    } as const;
    const listening = { listen: [`unix:${directory}/s`], dealer: `unix:${directory}/d` };
    const prepared = vi.fn<(event: string) => void>();
    const log = (_: unknown, event: string): void => prepared(event);
    const server = await serveModel({ ...common(directory), ...own, ...listening, log });
    try {
      if (count > 0) await vi.waitFor(() => expect(prepared).toHaveBeenCalledWith('prepared'), 20_000);
      events.length = 0;
      const close = await relayed(directory);
      await client(directory);
      expectOrder(directory);
      if (count > 0) {
        const claimed = claimedAt(join(directory, 'dealer'));
        expect(claimed).toBeGreaterThanOrEqual(0);
        expect(claimed).toBeLessThan(first('dealer says 3 to client'));
        // The server's half is claimed before a client hears of it.
        expect(claimedAt(join(directory, 'server'))).toBeLessThan(first('server says 0 session to client'));
      }
      close();
    } finally {
      await server.drain(0);
      await dealer.drain(0);
    }
  },
);
