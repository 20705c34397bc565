import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, expect, it, vi } from 'vitest';
import { runClient, serveDealer, serveModel } from '../../src/party/index.ts';
import { temporary, writeLlama } from './models.ts';

/** Kernels that were made, and how many of them the collector has taken. */
const kernels = vi.hoisted(() => ({ made: 0, gone: 0 }));
vi.mock('../../src/party/platform.ts', async (original) => {
  const real = await original<typeof import('../../src/party/platform.ts')>();
  const registry = new FinalizationRegistry(() => void kernels.gone++);
  return {
    nodePlatform(ringBits: number) {
      const platform = real.nodePlatform(ringBits);
      kernels.made++;
      registry.register(platform.kernels, undefined);
      return platform;
    },
  };
});

const { path: root, remove } = temporary();
afterAll(remove);

it('a session that is over leaves no kernels behind, well or not', { timeout: 60_000 }, async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const model = join(root, 'model');
  mkdirSync(model);
  await writeLlama(model);
  const common = {
    limits: { maximumSessions: 8, maximumWaiting: 8, maximumPromptTokens: 8, maximumNewTokens: 8 },
    ...{ timeoutMilliseconds: 8000, handshakeMilliseconds: 4000, maximumSessionMilliseconds: 60_000 },
    setting: 'dealer',
    log: () => {},
  } as const;
  const [d, s] = [`unix:${root}/d`, `unix:${root}/s`];
  const dealing = { listen: [d], state: join(root, 'dealer'), maximumMaskedBytes: 2 ** 30, maximumBundles: 10 };
  const dealer = await serveDealer({ ...common, ...dealing });
  const serving = { listen: [s], dealer: d, model, state: join(root, 'server'), prepare: { count: 0, shapes: [] } };
  const server = await serveModel({ ...common, ...serving, policy: { reveal: ['logits', 'token'] } });
  const run = (onLogits: () => void) =>
    runClient({
      rangeFlags: false,
      ...{ server: s, dealer: d, state: join(root, 'client'), ring: { bits: 64, fraction: 16 }, timeoutMilliseconds: 8000 },
      task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 2 },
      onLogits,
    });
  for (let k = 0; k < 5; k++) await run(() => undefined);
  const broken = run(() => {
    throw new Error('enough');
  });
  await expect(broken).rejects.toThrow('enough');
  expect(kernels.made).toBeGreaterThanOrEqual(18);
  // A few turns of the loop: the collector tells of what it took when it likes, and frames on the stack may hold those of the last session.
  const left = () => kernels.made - kernels.gone;
  for (let tries = 0; left() > 4 && tries < 60; tries++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(left()).toBeLessThanOrEqual(4);
  await server.drain(0);
  await dealer.drain(0);
});
