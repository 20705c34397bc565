import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Channel } from '../../src/net/contract.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { folderFiles } from '../../src/node/files.ts';
import { listen } from '../../src/node/sockets.ts';
import { type Control, greet, receiveControl, sendControl } from '../../src/party/control.ts';
import { runClient } from '../../src/party/index.ts';
import { admitted } from '../../src/party/knock.ts';
import { readManifest } from '../../src/party/manifest.ts';
import { llamaFields, temporary, writeLlama } from '../party/models.ts';

/** Servers that say that others come first, again and again, and begin no session. */
vi.setConfig({ testTimeout: 20_000 });
const { path: root, remove } = temporary();
afterAll(remove);
let manifest: Control<'manifest'>;
beforeAll(async () => {
  const folder = join(root, 'model');
  mkdirSync(folder);
  await writeLlama(folder);
  manifest = await readManifest(folderFiles(folder), llamaFields);
});

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));
const paces: readonly [string, (at: number) => number, () => Promise<void>][] = [
  ['the same number in front, now and then', () => 3, () => pause(100)],
  ['a number that falls, and begins again', (at) => 1_000_000 - (at % 1000), () => pause(1)],
  ['nobody in front, as fast as it is read', () => 0, async () => undefined],
];

describe('a client that is told to wait without an end', () => {
  it.each(paces)('goes when its own time is over: %s', async (name, ahead, next) => {
    const place = join(root, `pace-${paces.findIndex(([each]) => each === name)}`);
    mkdirSync(place, { mode: 0o700 });
    const address = `unix:${place}/server`;
    const listener = await listen({ address, peer: 'client', timeoutMilliseconds: 15_000 });
    let notes = 0;
    const serving = (async () => {
      const channel = await listener.accept();
      await greet(channel, 'server', ['client']);
      await sendControl(channel, manifest);
      await receiveControl(channel, 'request');
      let gone = false;
      void channel.gone?.then(() => {
        gone = true;
      });
      for (; !gone; await next()) {
        if ((await waiting(channel, ahead(notes))) !== undefined) break;
        notes++;
      }
      await channel.close();
    })();
    // Another wait is longer than this test's: only the bound on the whole of it ends it.
    const client = runClient({
      ...{ server: address, dealer: `unix:${place}/dealer`, state: join(place, 'state'), rangeFlags: false },
      ...{ timeoutMilliseconds: 60_000, waitMilliseconds: 600, ring: { bits: 64, fraction: 16 } },
      task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 1 },
    });
    await expect(client).rejects.toMatchObject({
      name: 'SottoError',
      kind: 'peer',
      place: { party: 'server' },
      reason: `began no session at ${address} within the 0.6 s of --wait`,
      remedy: expect.stringContaining('--wait'),
    });
    await serving;
    expect(notes).toBeGreaterThan(1);
    await listener.close();
  });
});

const waiting = (channel: Channel, ahead: number): Promise<unknown> =>
  sendControl(channel, { type: 'waiting', ahead }).catch((error: unknown) => error);

it('takes the session that comes after notes within its time, and a bound longer than a timer can be', async () => {
  const [server, client] = memoryPair({ names: ['server', 'client'] });
  const nonce = '0'.repeat(32);
  const session: Control<'session'> = {
    ...({ type: 'session', ahead: false, bundle: nonce, program: '0'.repeat(64) } as const),
    nonces: { client: nonce, server: nonce, dealer: nonce },
  };
  const came = admitted(client, { address: 'here', milliseconds: Number.POSITIVE_INFINITY });
  for (const ahead of [2, 1, 0]) await sendControl(server, { type: 'waiting', ahead });
  await pause(5);
  await sendControl(server, session);
  expect(await came).toEqual(session);
});
