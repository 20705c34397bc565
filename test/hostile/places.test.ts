import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { channelOverSocket } from '../../src/node/sockets.ts';
import { greet } from '../../src/party/control.ts';
import { runClient } from '../../src/party/index.ts';
import { expected, temporary, writeLlama } from '../party/models.ts';
import { sit } from './asker.ts';
import { honest, honestLimits } from './place.ts';

/** One visitor that asks for a run, does not go on with it, and comes again as soon as it is let go: as often as there are places, and more. */
vi.setConfig({ testTimeout: 120_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
});
afterAll(remove);

/** Takes a place from an address of its own until it is told to end. */
async function besiege(port: number, { ended }: { ended: boolean }, come: () => void): Promise<void> {
  const socket = createConnection({ host: '127.0.0.1', port, localAddress: '127.0.0.2' });
  await once(socket, 'connect');
  const channel = channelOverSocket(socket, { peer: 'server', timeoutMilliseconds: 60_000 });
  try {
    channel.allow?.(2 ** 25);
    await greet(channel, 'client', ['server']);
    await sit(channel);
    come();
    // What it is told is never answered.
    while (!ended) await channel.receive();
  } finally {
    await channel.close();
  }
}

it('a visitor that takes every place of a server holds up a client from elsewhere, and does not keep it out', async () => {
  const limits = { ...honestLimits, maximumSessions: 1, maximumWaiting: 2 };
  const at = await honest(join(root, 'place'), model, { server: { limits, timeoutMilliseconds: 5000 } });
  const siege = { ended: false };
  const port = Number(at.server.addresses[0]!.split(':').at(-1));
  let came = 0;
  const visitors = Array.from({ length: 5 }, async () => {
    while (!siege.ended) {
      await besiege(port, siege, () => came++).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
  try {
    await vi.waitFor(() => expect(at.lines.some(({ event }) => event === 'session-refused')).toBe(true), 10_000);
    const { ids } = await expected(model, { task: 'generate', newTokens: 2, ring }, [5]);
    const { newIds } = await runClient({
      rangeFlags: false,
      ...{ server: at.server.addresses[0]!, dealer: at.dealer.addresses[0]!, state: join(root, 'client') },
      ...{ ring, timeoutMilliseconds: 20_000, task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 2 } },
    });
    expect(newIds).toEqual(ids);
    expect(came).toBeGreaterThan(3);
  } finally {
    siege.ended = true;
    await at.end();
    await Promise.all(visitors);
  }
});
