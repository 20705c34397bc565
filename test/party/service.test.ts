import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { SottoError } from '../../src/errors/index.ts';
import { openBundleStore } from '../../src/party/bundles.ts';
import {
  type DealServiceOptions,
  logger,
  runClient,
  type ServeOptions,
  type Service,
  serveDealer,
  serveModel,
} from '../../src/party/index.ts';
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
    ...{ model, listen: [`unix:${directory}/s`, 'tcp:127.0.0.1:0'], dealer: `unix:${directory}/d`, setting: 'dealer' },
    ...{ state: join(directory, 'server'), prepare: { count: 0, shapes: [] }, ...options },
  });

async function place(server: Partial<ServeOptions> = {}, dealer: Partial<DealServiceOptions> = {}): Promise<Place> {
  const directory = join(root, `place${places++}`);
  mkdirSync(directory, { mode: 0o700 });
  const lines: Record<string, unknown>[] = [];
  const made = {
    directory,
    lines,
    dealer: await dealerOf(directory, lines, dealer),
    server: await serverOf(directory, lines, server),
    client: async (prompt: readonly number[], options: object = {}) => {
      const logits: Float64Array[] = [];
      const report = await runClient({
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
      const ended = at.lines.filter(({ event, task }) => event === 'session-ended' && task === setting);
      expect(ended).toHaveLength(4);
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

export type { SottoError };
