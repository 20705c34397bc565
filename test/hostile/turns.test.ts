import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RunRequest } from '../../src/party/control.ts';
import { traceRun } from '../../src/party/manifest.ts';
import { Tracing, tracingLimits } from '../../src/party/tracing.ts';
import { temporary, writeLlama } from '../party/models.ts';

/** A visitor that asks for one program after another, each of which has to be traced before a session can begin, and goes. */
const { path: root, remove } = temporary();
afterAll(remove);
let config: Record<string, unknown>;
const run = (promptTokens: number): RunRequest => ({
  ...{ task: 'generate', promptTokens, newTokens: 1, ring: { bits: 64, fraction: 16 } },
});
beforeAll(async () => {
  mkdirSync(join(root, 'model'));
  await writeLlama(join(root, 'model'));
  config = JSON.parse(readFileSync(join(root, 'model/config.json'), 'utf8')) as Record<string, unknown>;
});

/** Who was answered, in that order, where those named asked in this one, each for another program. */
async function answered(names: readonly string[], mostWaiting: number): Promise<string[]> {
  const tracing = new Tracing({ ...tracingLimits, smallRun: 1000 }, mostWaiting);
  const order: string[] = [];
  const asked = names.map(async (who, at) => {
    const program = traceRun(config, run(1 + at)).hash;
    const said = await tracing.trace(config, run(1 + at), { party: 'client', program, who }).then(
      ({ hash }) => (hash === program ? who : 'another program'),
      ({ code }: { code?: string }) => `${who} ${code}`,
    );
    order.push(said);
  });
  await Promise.all(asked);
  await tracing.close();
  return order;
}

it('holds others up for one program each, however many it asks for first', async () => {
  expect(await answered([...Array<string>(6).fill('a'), 'b', 'c', 'b'], 8)).toEqual([...'aabcabaaa']);
});

it('is turned away where many of its own wait already, and nobody else is', async () => {
  const said = await answered([...Array<string>(6).fill('a'), 'b', 'b'], 2);
  expect(said.slice(0, 3)).toEqual(['a full', 'a full', 'a full']);
  expect(said.slice(3)).toEqual([...'aabab']);
});

it('is answered after an error of another one as before', async () => {
  const tracing = new Tracing({ ...tracingLimits, smallRun: 1000 }, 2);
  const ask = (who: string, program: string, at: number) => tracing.trace(config, run(at), { party: 'client', program, who });
  const right = traceRun(config, run(2)).hash;
  const said = await Promise.allSettled([ask('a', '0'.repeat(64), 1), ask('a', '0'.repeat(64), 3), ask('b', right, 2)]);
  expect(said.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled']);
  expect((await ask('a', traceRun(config, run(4)).hash, 4)).hash).toBe(traceRun(config, run(4)).hash);
  await tracing.close();
});
