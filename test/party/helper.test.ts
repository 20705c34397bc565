import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memoryPair } from '../../src/net/memory.ts';
import { sendControl } from '../../src/party/control.ts';
import { type LaunchOptions, type LaunchResult, launchLocal, type Role } from '../../src/party/index.ts';
import { untilStopped } from '../../src/party/live.ts';
import { type Expected, expected, farthest, temporary, writeLlama } from './models.ts';
import { type Crossing, runParties } from './relay.ts';

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
    rangeFlags: false,
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
    const task = { kind: 'generate', prompt: { ids: promptIds }, newTokens, earlyStop: true } as const;
    const result = await launch({ model: ending, task });
    expect(result.client.stopped).toBe('eos');
    expect(result.client.newIds).toEqual(right.ids.slice(0, 2));
    expect(result.server.sentBytes.online).toBeLessThan(result.client.forecast.online.serverToClientBytes);
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

/** Runs over connections that this process sees; at the first frame that fits, the role that runs apart gets a signal. */
async function signalled(apart: Role, moment: (crossing: Crossing) => boolean, signal: 'SIGKILL' | 'SIGSTOP', patience: number) {
  let struck = false;
  let strike = (): void => {};
  const outcomes = await runParties({
    ...{
      directory: join(root, `run-${apart}-${signal}`),
      model,
      promptIds: [5, 9],
      newTokens: 2,
      ring,
      setting: 'helper',
      apart,
    },
    timeoutMilliseconds: patience,
    onApart: (child) => {
      strike = () => void child.kill(signal);
    },
    onFrame: (crossing) => {
      if (struck || !moment(crossing)) return;
      struck = true;
      strike();
    },
  });
  expect(struck, 'the moment came').toBe(true);
  return outcomes;
}

describe.concurrent('a run with a helper of which one process', { timeout: 60_000 }, () => {
  const setup = ({ from, to, kind }: Crossing) => from === 'server' && to === 'client' && kind === 2;
  const online = ({ from, kind, frame }: Crossing) => from === 'client' && kind === 1 && frame > 6;

  it.each(['SIGKILL', 'SIGSTOP'] as const)('the helper, gets %s: both parties end, and its name is said', async (signal) => {
    const { client, server } = await signalled('helper', setup, signal, 2500);
    expect([client, server].map(({ error }) => error?.kind)).toEqual(['peer', 'peer']);
    const said = [client, server].map(({ error }) => `${error!.place.party} ${error!.reason}`);
    // Who waits for a party that waits for the stopped helper may give up at the same moment.
    expect(signal === 'SIGKILL' ? said : [said.join()]).toSatisfy((all: string[]) =>
      all.every((each) => each.includes('helper')),
    );
  });

  it.each([
    ['close', 'client'],
    ['close', 'server'],
    ['stall', 'client'],
    ['stall', 'server'],
    ['corrupt', 'server'],
  ] as const)(
    'the helper, meets a %s between it and the %s while it sends: no result, and its name is said',
    async (fault, to) => {
      const { client, server } = await runParties({
        ...{ directory: join(root, `${fault}-${to}`), model, promptIds: [5, 9], newTokens: 2, ring, setting: 'helper' },
        // Behind the greeting and the words of the session: the frame after the seed.
        fault: { from: 'helper', to, plan: { fault, frame: to === 'server' ? 3 : 2, seed: 1 } },
        timeoutMilliseconds: 2500,
      });
      expect([client, server].map(({ error }) => error?.kind)).toEqual(['peer', 'peer']);
      const { error } = to === 'client' ? client : server;
      expect(`${error!.place.party} ${error!.reason}`).toContain('helper');
    },
  );

  it.each(['client', 'server'] as const)(
    'the %s, is killed in the run: the others end, and nothing is stored',
    async (victim) => {
      const { stored, ...ends } = await signalled(victim, online, 'SIGKILL', 8000);
      const other = victim === 'client' ? ends.server : ends.client;
      expect(other.error).toMatchObject({ kind: 'peer' });
      expect(`${other.error!.place.party} ${other.error!.reason}`).toContain(victim);
      expect(stored).toEqual({ client: [], server: [] });
    },
  );
});

describe('what crosses the connections of a run with a helper', { timeout: 60_000 }, () => {
  it('is, for the helper, masked weights and words of the session alone, and online frames for nobody else', async () => {
    const seen = new Set<string>();
    const outcomes = await runParties({
      ...{ directory: join(root, 'seen'), model, promptIds: [5, 9], newTokens: 2, ring, setting: 'helper' },
      timeoutMilliseconds: 8000,
      onFrame: ({ from, to, kind }) => void seen.add(`${from} → ${to}: ${kind}`),
    });
    expect([outcomes.client.error, outcomes.server.error, outcomes.dealer.error]).toEqual([undefined, undefined, undefined]);
    // Kinds: 0 control, 1 online, 2 setup, 3 correlations.
    expect([...seen].sort()).toEqual([
      ...['client → helper: 0', 'client → server: 0', 'client → server: 1', 'client → server: 3'],
      ...['helper → client: 0', 'helper → client: 3', 'helper → server: 0', 'helper → server: 3'],
      ...['server → client: 0', 'server → client: 1', 'server → client: 2', 'server → helper: 0', 'server → helper: 2'],
    ]);
  });
});
