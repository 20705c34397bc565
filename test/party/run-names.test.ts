import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { report } from '../../src/cli/exit.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import { SottoError } from '../../src/errors/index.ts';
import { type ClientOptions, type ClientReport, runClient } from '../../src/party/index.ts';
import { runName } from '../../src/party/session.ts';
import { type Honest, honest } from '../hostile/place.ts';
import { temporary, writeLlama } from './models.ts';

/** One name of a run in the logs of all its parties, and at its client. */
vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
const ring = { bits: 64, fraction: 16 };
const model = join(root, 'model');
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
});
afterAll(remove);

let clients = 0;
const ask = ({ server, dealer }: Honest, more: Partial<ClientOptions> = {}): Promise<ClientReport> =>
  runClient({
    rangeFlags: false,
    ...{ server: server.addresses[0]!, dealer: dealer.addresses[0]!, state: join(root, `c${clients++}`), ring },
    ...{ timeoutMilliseconds: 20_000, task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 1 }, ...more },
  });

/** Of the lines that end a session: its task, and the run. */
const named = ({ lines }: Honest): [unknown, unknown][] =>
  lines
    .filter(({ event }) => String(event).startsWith('session-') && event !== 'session-began')
    .map(({ task, run }) => [task, run]);

describe('the name of a run', () => {
  it('is the bundle’s by a hash, which shows none of it', () => {
    const [name, other] = [runName('00'.repeat(16)), runName(`${'00'.repeat(15)}01`)];
    expect(name).toMatch(/^[0-9a-f]{12}$/);
    // SHA-256 of the label and 16 zeros, by Python's hashlib.
    expect(name).toBe('7fe71161a61e');
    expect(other).not.toBe(name);
  });

  for (const setting of ['dealer', 'helper'] as const)
    it(`is one at client, server and ${setting}, another for the next run, and in the error of a run that fails`, async () => {
      const at = await honest(join(root, setting), model, { server: { setting }, dealer: { setting } });
      const first = (await ask(at, { setting })).run;
      const second = (await ask(at, { setting })).run;
      const thrown: unknown = await ask(at, {
        setting,
        onLogits: () => {
          throw new SottoError('input', 'no', { remedy: 'none' });
        },
      }).catch((error: unknown) => error);
      const third = (thrown as SottoError).run;
      expect(new Set([first, second, third]).size).toBe(3);
      await vi.waitFor(() => expect(named(at)).toHaveLength(6), { timeout: 20_000 });
      const expected = [first, second, third].flatMap((run) => [
        [setting, run],
        ['deal', run],
      ]);
      expect(named(at).map(String).sort()).toEqual(expected.map(String).sort());
      await at.end();
      const said = { out: '', error: '' };
      const terminal = { out: (text: string) => (said.out += text), error: (text: string) => (said.error += text) };
      expect(report(thrown, terminal as unknown as Terminal, true)).toBe(3);
      expect(JSON.parse(said.out)).toMatchObject({ error: { kind: 'input', run: third } });
      expect(said.error).toContain(`(run ${third})`);
    });

  it('is that of the material where it was made ahead', async () => {
    const shape = { task: 'generate', promptTokens: 1, newTokens: 1, ring } as const;
    const at = await honest(join(root, 'ahead'), model, { server: { prepare: { count: 1, shapes: [shape] } } });
    await vi.waitFor(() => expect(named(at)).toHaveLength(1), { timeout: 30_000 });
    const { run } = await ask(at);
    await vi.waitFor(() => expect(named(at).length).toBeGreaterThanOrEqual(3), { timeout: 20_000 });
    for (const task of ['ahead', 'hand', 'dealer']) expect(named(at).map(String)).toContain(`${task},${run}`);
    await at.end();
  });
});
