import { join } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { runClient } from '../../src/party/index.ts';
import { temporary } from '../party/models.ts';
import { ask } from './asker.ts';
import { health, type StandingParty, startStanding } from './standing.ts';

vi.setConfig({ testTimeout: 240_000 });
const { path: root, remove } = temporary();
const model = join(import.meta.dirname, '../../artefacts/stories-polynomial');
const parties: StandingParty[] = [];
afterAll(async () => {
  for (const party of parties.reverse()) await party.end();
  remove();
});

it('requests of 330 bytes for any run leave health, memory and other clients alone', async () => {
  const sockets = { dealer: `unix:${join(root, 'sockets/d')}`, server: `unix:${join(root, 'sockets/s')}` };
  parties.push(await startStanding(['dealer', '--listen', sockets.dealer, '--state', join(root, 'd')]));
  const server = await startStanding([
    ...['serve', '--model', model, '--listen', sockets.server, '--dealer', sockets.dealer, '--state', join(root, 's')],
    ...['--max-memory', '700', '--reveal', 'both'],
  ]);
  parties.push(server);
  const ring = { bits: 64, fraction: 16 };
  let answers = 0;
  let attacked = true;
  const watching = (async () => {
    while (attacked) {
      const { status, text } = await health(server, '/metrics');
      expect(status).toBe(200);
      // The party's own thread answers too.
      if (Number(/^sotto_unanswered_seconds (\S+)$/m.exec(text)?.[1] ?? 60) < 2) answers++;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  // Each another program.
  const asked = Array.from({ length: 3 }, (_, at) => ({ task: 'generate', promptTokens: 2 + at, newTokens: 100, ring }) as const);
  const said = await Promise.all(asked.map((run) => ask(sockets.server, run, 120_000)));
  attacked = false;
  await watching;
  for (const error of said) expect(error).toMatchObject({ name: 'SottoError' });
  expect(answers).toBeGreaterThan(5);
  expect((await ask(sockets.server, { ...asked[0]!, ring: { bits: 48, fraction: 13 } }, 60_000)).message).toContain(
    'more was asked for',
  );
  // It takes sessions again, by its own account and in fact.
  while ((await health(server, '/readyz')).status !== 200) await new Promise((resolve) => setTimeout(resolve, 200));
  const { newIds } = await runClient({
    rangeFlags: false,
    ...{ server: sockets.server, dealer: sockets.dealer, state: join(root, 'c'), ring, timeoutMilliseconds: 60_000 },
    task: { kind: 'generate', prompt: { text: 'Once upon' }, newTokens: 2 },
  });
  expect(newIds).toEqual([261, 416]);
});
