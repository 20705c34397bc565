import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { RunRequest } from '../../src/party/control.ts';
import { traceRun } from '../../src/party/manifest.ts';
import { Tracing, tracingLimits } from '../../src/party/tracing.ts';
import { temporary, writeLlama } from './models.ts';

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
let config: Record<string, unknown>;
const run = (promptTokens: number, newTokens: number): RunRequest => ({
  ...{ task: 'generate', promptTokens, newTokens, ring: { bits: 64, fraction: 16 } },
});
beforeAll(async () => {
  mkdirSync(join(root, 'model'));
  await writeLlama(join(root, 'model'));
  config = JSON.parse(readFileSync(join(root, 'model/config.json'), 'utf8')) as Record<string, unknown>;
});
const open: Tracing[] = [];
const tracing = (limits: Partial<typeof tracingLimits> = {}): Tracing => {
  const made = new Tracing({ ...tracingLimits, ...limits });
  open.push(made);
  return made;
};
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});
afterAll(remove);

describe('a program that was traced in a thread', () => {
  it('is that of this thread, statement by statement, its tables shared as they were', async () => {
    const { ringProgram, hash } = traceRun(config, run(3, 4));
    const there = await tracing().trace(config, run(3, 4), { party: 'client', program: hash, who: 'a' });
    expect(there.hash).toBe(hash);
    expect(there.ringProgram).toEqual(ringProgram);
    const tables = (program: typeof ringProgram) =>
      new Set(program.nodes.flatMap((node) => (node.operation === 'lookup' ? node.parameters.tables : []))).size;
    expect(tables(there.ringProgram)).toBe(tables(ringProgram));
  });

  it('is kept by its bytes once its hash is what the peer said, and not where the peer said another', async () => {
    const here = traceRun(config, run(2, 2));
    const one = tracing();
    const wrong = one.trace(config, run(2, 2), { party: 'client', program: '0'.repeat(64), who: 'a' });
    await expect(wrong).rejects.toMatchObject({ kind: 'peer', place: { party: 'client' } });
    expect(one.keptBytes).toBe(0);
    const first = await one.trace(config, run(2, 2), { party: 'client', program: here.hash, who: 'a' });
    expect(one.keptBytes).toBeGreaterThan(0);
    expect(await one.trace(config, run(2, 2))).toBe(first);
    await expect(one.trace(config, run(2, 2), { party: 'client', program: '1'.repeat(64), who: 'a' })).rejects.toMatchObject({
      kind: 'peer',
    });
    const bytes = one.keptBytes;
    // Room for one such program: the next takes its place.
    const small = tracing({ keptBytes: Math.ceil(1.2 * bytes) });
    const kept = await small.trace(config, run(2, 2));
    await small.trace(config, run(3, 2));
    expect(small.keptBytes).toBeLessThanOrEqual(1.2 * bytes);
    expect(await small.trace(config, run(2, 2))).not.toBe(kept);
    small.clear();
    expect(small.keptBytes).toBe(0);
  });

  it.each([
    ['time', { milliseconds: 1 }],
    ['bytes', { programBytes: 10_000 }],
    ['memory', { heapBytes: 10 * 2 ** 20 }],
  ] as const)('beyond its %s is turned away, and the next one is traced', async (_, limits) => {
    const one = tracing(limits);
    await expect(one.trace(config, run(8, 40))).rejects.toMatchObject({ kind: 'resource', code: 'limit' });
    await expect(one.trace(config, run(8, 41))).rejects.toMatchObject({ kind: 'resource', code: 'limit' });
    expect(one.keptBytes).toBe(0);
    const whole = tracing();
    const [wrong, right] = await Promise.allSettled([
      whole.trace({ ...config, model_type: 'none' }, run(1, 1)),
      whole.trace(config, run(1, 1)),
    ]);
    expect([wrong.status, right.status]).toEqual(['rejected', 'fulfilled']);
  });

  it('leaves this thread free meanwhile', async () => {
    let turns = 0;
    const ticking = setInterval(() => turns++, 5);
    const hash = await tracing().trace(config, run(8, 50));
    clearInterval(ticking);
    expect(hash.ringProgram.nodes.length).toBeGreaterThan(5000);
    // Traced here there would be none.
    expect(turns).toBeGreaterThan(10);
  });
});
