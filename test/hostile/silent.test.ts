import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Setting } from '../../src/backends/cost/index.ts';
import type { Channel } from '../../src/net/contract.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { connect } from '../../src/node/sockets.ts';
import { type Control, greet, receiveControl, receiveSession, sendControl } from '../../src/party/control.ts';
import { dismiss } from '../../src/party/doors.ts';
import { runClient } from '../../src/party/index.ts';
import { tracingLimits } from '../../src/party/tracing.ts';
import { expected, temporary, writeLlama } from '../party/models.ts';
import { sit } from './asker.ts';
import { type Honest, honest } from './place.ts';

/** Clients that come as they should and then say nothing: at a server before their request, at a dealer before they join, at a helper before they go on. */
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });
const { path: root, remove } = temporary();
const ring = { bits: 64, fraction: 16 };
const model = join(root, 'model');
let right: readonly number[];
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
  right = (await expected(model, { task: 'generate', newTokens: 2, ring }, [5])).ids;
});
afterAll(remove);

/** Two seats. A party that is known may be silent for longer than these tests last, so that only the bound on first words gives them back. */
const limits = { maximumSessions: 2, maximumWaiting: 6, maximumPromptTokens: 16, maximumNewTokens: 16 };
const patient = { limits, timeoutMilliseconds: 600_000, maximumSessionMilliseconds: 3_600_000, handshakeMilliseconds: 2000 };
const place = (name: string, setting: Setting): Promise<Honest> =>
  honest(join(root, name), model, {
    server: { ...patient, setting, tracing: { ...tracingLimits, milliseconds: 6000 } },
    dealer: { ...patient, setting },
  });

async function served({ server, dealer }: Honest, name: string, setting: Setting): Promise<void> {
  const places = { server: server.addresses[0]!, dealer: dealer.addresses[0]!, setting, state: join(root, name) };
  const task = { kind: 'generate', prompt: { ids: [5] }, newTokens: 2 } as const;
  expect((await runClient({ ...places, ring, rangeFlags: false, timeoutMilliseconds: 50_000, task })).newIds).toEqual(right);
}

async function came(address: string, peer: string): Promise<Channel> {
  const channel = await connect({ address, peer, timeoutMilliseconds: 50_000 });
  channel.allow?.(2 ** 25);
  await greet(channel, 'client', [peer]);
  return channel;
}

/** What is read until the peer lets this client go, and by which code. */
async function fate(channel: Channel): Promise<string> {
  for (;;) {
    const said = await receiveControl(channel, 'manifest').catch((error: { code?: string; reason: string }) => error);
    if (!('type' in said)) return said.code ?? said.reason;
  }
}

/** A client that asks, as it should, and does not come to the dealer. */
async function asks(address: string): Promise<{ channel: Channel; ticket: string; program: string }> {
  const channel = await came(address, 'server');
  return { channel, ...(await sit(channel)) };
}

/** The same, past the words of the session. */
async function fateOf(channel: Channel): Promise<string> {
  for (;;) {
    const error = await receiveControl(channel, 'stop').then(
      () => undefined,
      (thrown: { code?: string; reason: string }) => thrown,
    );
    if (error !== undefined && !error.reason.includes('where stop was due')) return error.code ?? error.reason;
  }
}

describe('a client that says no more', () => {
  it('keeps no seat at the server before it has asked, and is told why it goes', async () => {
    const at = await place('silent', 'dealer');
    const silent = await Promise.all(Array.from({ length: 2 }, () => came(at.server.addresses[0]!, 'server')));
    const fates = Promise.all(silent.map(fate));
    await served(at, 'client-1', 'dealer');
    expect(await fates).toEqual(['late', 'late']);
    await at.end();
  });

  it('keeps one at the dealer, and the server’s, no longer where it asks and does not join', async () => {
    const at = await place('absent', 'dealer');
    const absent = await Promise.all([asks(at.server.addresses[0]!), asks(at.server.addresses[0]!)]);
    const fates = Promise.all(absent.map(({ channel }) => fateOf(channel)));
    await served(at, 'client-2', 'dealer');
    expect(await fates).toEqual(['late', 'late']);
    const failed = at.lines.filter(({ event, task }) => event === 'session-failed' && task === 'deal');
    expect(failed.map(({ party, kind }) => [party, kind])).toEqual([
      ['client', 'peer'],
      ['client', 'peer'],
    ]);
    await at.end();
  });

  it('keeps none of a helper and its server where it joins and opens no second connection', async () => {
    const at = await place('helped', 'helper');
    const joined = await Promise.all(
      [0, 1].map(async () => {
        const { channel, ticket, program } = await asks(at.server.addresses[0]!);
        const { bundle }: Control<'session'> = await receiveSession(channel);
        const helper = await came(at.dealer.addresses[0]!, 'helper');
        await sendControl(helper, { type: 'join', bundle, program, ticket });
        return channel;
      }),
    );
    const fates = Promise.all(joined.map(fateOf));
    await served(at, 'client-3', 'helper');
    expect(await fates).toEqual(['late', 'late']);
    await at.end();
  });

  it('is let go though it reads nothing', async () => {
    const [channel] = memoryPair({ names: ['client', 'server'] });
    const stuck = {
      ...channel,
      peer: channel.peer,
      send: () => new Promise<void>(() => {}),
      close: () => new Promise<void>(() => {}),
    };
    await dismiss(stuck as Channel, new Error('any'));
  });
});
