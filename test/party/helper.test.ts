import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memoryPair } from '../../src/net/memory.ts';
import { greet, sendControl } from '../../src/party/control.ts';
import { type LaunchOptions, type LaunchResult, launchLocal } from '../../src/party/index.ts';
import { acceptBeside, openBeside, untilStopped } from '../../src/party/live.ts';
import { type Expected, expected, farthest, temporary, writeLlama } from './models.ts';

const { path: root, remove } = temporary();
const [model, ending] = ['llama', 'ending'].map((name) => join(root, name)) as [string, string];
const ring = { bits: 64, fraction: 16 } as const;
const promptIds = [1, 5, 270, 271, 272];
const newTokens = 4;
let right: Expected;

beforeAll(async () => {
  for (const each of [model, ending]) mkdirSync(each, { recursive: true });
  await writeLlama(model);
  right = await expected(model, { task: 'generate', newTokens, ring }, promptIds);
  await writeLlama(ending, { eos_token_id: right.ids[1] });
});
afterAll(remove);

const launch = (options: Partial<LaunchOptions> = {}): Promise<LaunchResult> =>
  launchLocal({
    model,
    task: { kind: 'generate', prompt: { ids: promptIds }, newTokens },
    ring,
    setting: 'helper',
    transport: 'unix',
    keepLogits: true,
    timeoutMilliseconds: 20_000,
    ...options,
  });

function measured({ client, server, dealer }: LaunchResult) {
  const phase = (name: 'setup' | 'offline') => ({
    clientSentBytes: client.sentBytes[name],
    serverSentBytes: server.sentBytes[name],
    dealerSentBytes: dealer.sentBytes[name],
  });
  const [clientToServerBytes, serverToClientBytes] = [client.sentBytes.online, server.sentBytes.online];
  return {
    setup: phase('setup'),
    offline: phase('offline'),
    online: { clientToServerBytes, serverToClientBytes, hops: client.hops },
  };
}

describe.concurrent('client, server and helper as processes', { timeout: 60_000 }, () => {
  it("give the simulation's text and send what the forecast says", async () => {
    const result = await launch();
    expect(farthest(result.logits, right.logits)).toBeLessThan(0.1);
    expect(result.client.newIds).toEqual(right.ids);
    expect(measured(result)).toEqual(result.client.forecast);
    expect(result.dealer).toMatchObject({ role: 'helper', sentBytes: { setup: 0, online: 0 } });
    // There is no phase before the run.
    expect([result.client.seconds.offline, result.server.seconds.offline]).toEqual([0, 0]);
  });

  it('end cleanly where the text ends early', async () => {
    const result = await launch({ model: ending });
    expect(result.client.stopped).toBe('eos');
    expect(result.client.newIds).toEqual(right.ids.slice(0, 2));
    expect(result.server.sentBytes.online).toBeLessThan(result.client.forecast.online.serverToClientBytes);
  });
});

describe('the second connection of client and server', () => {
  it('is told by a token from a stranger’s', async () => {
    const [client, server] = memoryPair({ names: ['client', 'server'] });
    const [stranger, strangersServer] = memoryPair({ names: ['client', 'server'] });
    const accepting = acceptBeside(server, async () => strangersServer);
    await sendControl(client, { type: 'beside', token: '00'.repeat(16) });
    const intruding = greet(stranger, 'client', ['server']).then(() =>
      sendControl(stranger, { type: 'beside', token: '11'.repeat(16) }),
    );
    await expect(accepting).rejects.toMatchObject({ kind: 'peer', place: { party: 'client' } });
    await intruding;
  });

  it('is the client’s own where the token is right', async () => {
    const [client, server] = memoryPair({ names: ['client', 'server'] });
    const [second, secondServer] = memoryPair({ names: ['client', 'server'] });
    const [opened, accepted] = await Promise.all([
      openBeside(client, async () => second),
      acceptBeside(server, async () => secondServer),
    ]);
    expect([opened, accepted]).toEqual([second, secondServer]);
  });
});

describe('a helper at work', () => {
  const patience = { timeoutMilliseconds: 40, now: () => performance.now() };
  const atWork = () => {
    const timeout = {
      milliseconds: 40,
      alarm: (milliseconds: number, expired: () => void) => {
        const timer = setTimeout(expired, milliseconds);
        return () => clearTimeout(timer);
      },
    };
    const [client, helperClient] = memoryPair({ names: ['client', 'helper'], timeout });
    const [server, helperServer] = memoryPair({ names: ['server', 'helper'], timeout });
    const channels = { client: helperClient, server: helperServer };
    return { client, server, run: (work: Promise<void>) => untilStopped(channels, patience, work) };
  };
  const never = new Promise<void>(() => {});

  it('takes no silence for a fault, and is done when its work is', async () => {
    await expect(atWork().run(new Promise((resolve) => setTimeout(resolve, 150)))).resolves.toBeUndefined();
  });

  it('stops when the server says that the text has ended', async () => {
    const { server, run } = atWork();
    await sendControl(server, { type: 'stop', tokens: 3 });
    await expect(run(never)).resolves.toBeUndefined();
  });

  it.each(['client', 'server'] as const)(
    'ends with the name of a %s that goes, and of one that sends it anything else',
    async (party) => {
      const gone = atWork();
      await gone[party].close();
      await expect(gone.run(never)).rejects.toMatchObject({ kind: 'peer', place: { party } });
      const talking = atWork();
      await talking[party].send(1, Uint8Array.of(1));
      await expect(talking.run(never)).rejects.toMatchObject({ kind: 'peer', place: { party } });
    },
  );
});
