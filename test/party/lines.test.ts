import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type FaultPlan, faults } from '../../src/net/faulty.ts';
import type { Role } from '../../src/party/index.ts';
import { type Expected, expected, farthest, temporary, writeLlama } from './models.ts';
import { type Crossing, type Outcomes, type PartiesOptions, runParties } from './relay.ts';

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
afterAll(remove);
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
const promptIds = [5];
const tolerance = 0.1;
let right: Expected;
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
  right = await expected(model, { task: 'generate', newTokens: 1, ring }, promptIds);
});

let runs = 0;
const run = (options: Partial<PartiesOptions>): Promise<Outcomes> =>
  runParties({
    directory: join(root, `run${runs++}`),
    model,
    promptIds,
    newTokens: 1,
    ring,
    timeoutMilliseconds: 2000,
    // A dealer whose visitor was no peer waits on for its server.
    startMilliseconds: 6000,
    ...options,
  });

describe('a client with a wrong input', () => {
  it.each([
    ['a prompt longer than the context', { promptIds: new Array(70).fill(5), newTokens: 4 }, 'prompt'],
    ['an empty prompt', { promptIds: [] }, 'prompt'],
    ['a token outside the vocabulary', { promptIds: [5, 8057] }, 'prompt'],
    ['half a token', { promptIds: [0.5] }, 'prompt'],
    ['no new tokens', { newTokens: 0 }, 'max_position_embeddings'],
  ])('as %s ends before any bundle is made, and tells the others nothing of it', async (_, options, field) => {
    const { client, server, dealer, stored } = await run(options);
    expect(client.error).toMatchObject({ name: 'SottoError', kind: 'input', place: { field } });
    expect(server.error).toMatchObject({
      kind: 'peer',
      place: { party: 'client' },
      reason: 'refused: it met an error of its own',
    });
    expect(dealer.error).toMatchObject({
      kind: 'peer',
      reason: 'refused: it was let down by party client',
    });
    expect(stored).toEqual({ client: [], server: [] });
  });
});

describe('the lines between three parties', () => {
  it('are closed to the dealer before the first byte of the run, and carry nothing of it there', async () => {
    const events: string[] = [];
    const frames: Crossing[] = [];
    const { client, server, dealer, logits } = await run({
      onFrame: (crossing) => {
        frames.push(crossing);
        events.push(`${crossing.from} says ${crossing.kind} to ${crossing.to}`);
      },
      onEnd: (from, to) => void events.push(`${from} ends to ${to}`),
      timeoutMilliseconds: 5000,
    });
    for (const { error } of [client, server, dealer]) expect(error).toBeUndefined();
    expect(client.report!.newIds).toEqual(right.ids);
    expect(farthest(logits, right.logits)).toBeLessThan(tolerance);
    const online = events.indexOf('client says 1 to server');
    expect(online).toBeGreaterThan(0);
    for (const party of ['client', 'server'])
      for (const end of [`${party} ends to dealer`, `dealer ends to ${party}`])
        expect(events.slice(0, online), `${end} before the run`).toContain(end);
    expect(events.slice(online).filter((event) => event.includes('dealer'))).toEqual([]);
    const toDealer = frames.filter(({ to }) => to === 'dealer');
    expect(new Set(toDealer.map(({ from, kind }) => `${from} ${kind}`))).toEqual(new Set(['server 0', 'server 2', 'client 0']));
  });

  it('send the same sizes for every prompt of a length', async () => {
    const sizes = async (ids: readonly number[]) => {
      const seen: string[] = [];
      const onFrame = ({ from, to, kind, payload }: Crossing) => void seen.push(`${from} ${to} ${kind} ${payload.length}`);
      const { client } = await run({ onFrame, promptIds: ids, timeoutMilliseconds: 5000 });
      expect(client.error).toBeUndefined();
      // Between two parties the order is fixed; between pairs it is the machine's.
      return [...seen].sort();
    };
    expect(await sizes([279])).toEqual(await sizes([5]));
  });

  it('give the right answer or a typed error, whatever befalls one frame', async () => {
    const directions: readonly (readonly [from: Role, to: Role, frames: number])[] = [
      ['client', 'server', 40],
      ['server', 'client', 40],
      ['client', 'server', 8],
      ['server', 'client', 8],
      ['server', 'dealer', 4],
      ['dealer', 'server', 4],
      ['dealer', 'client', 3],
      ['client', 'dealer', 3],
    ];
    // Multiplying by an odd number visits every pair of fault and direction.
    const plans = Array.from({ length: 64 }, (_, seed) => {
      const [from, to, frames] = directions[(seed >> 3) % directions.length]!;
      const plan: FaultPlan = { fault: faults[seed % faults.length]!, frame: (seed * 29 + 3) % frames, seed };
      return { from, to, plan };
    });
    const tally = { right: 0, refused: 0 };
    const next = plans.values();
    const worker = async (): Promise<void> => {
      for (const fault of next) {
        const what = JSON.stringify(fault);
        const { client, server, dealer, logits, stored } = await run({ fault });
        for (const { error } of [client, server, dealer])
          if (error !== undefined) expect(error.name, `${what} ${error}`).toBe('SottoError');
        // Logits that were opened are right even where the run failed later.
        expect(farthest(logits, right.logits.slice(0, logits.length)), what).toBeLessThan(tolerance);
        if (client.error === undefined) expect(client.report!.newIds, what).toEqual(right.ids);
        else expect(client.error, what).toMatchObject({ kind: 'peer' });
        tally[client.error === undefined ? 'right' : 'refused']++;
        for (const entry of [...stored.client, ...stored.server]) expect(entry.state, what).toBe('burned');
      }
    };
    // Most of a run is the wait of who is left for its peer.
    await Promise.all(Array.from({ length: 32 }, worker));
    expect(tally.right + tally.refused).toBe(plans.length);
    expect(tally.right).toBeGreaterThan(3);
    expect(tally.refused).toBeGreaterThan(40);
  });
});
