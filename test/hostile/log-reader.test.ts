import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { temporary } from '../party/models.ts';
import { leave, processorSeconds, provoke, stall } from './log-reader.ts';
import { health, type StandingParty, startStanding } from './standing.ts';

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
const parties: StandingParty[] = [];
afterAll(async () => {
  for (const { child } of parties) child.kill('SIGKILL');
  remove();
});

for (const [name, act, strangers] of [
  ['goes away', leave, 20],
  // Some 300 bytes a line: more than a pipe holds.
  ['stops reading', stall, 900],
] as const)
  it.skipIf(!existsSync('/proc/self/stat'))(
    `a party whose log reader ${name} serves on, idles and ends when it is told to`,
    async () => {
      const party = await startStanding(['dealer', '--listen', 'tcp:127.0.0.1:0', '--state', join(root, strangers.toString())]);
      parties.push(party);
      act(party.child);
      await provoke(party.addresses[0]!, strangers);
      expect(await health(party, '/healthz')).toMatchObject({ status: 200 });
      const before = processorSeconds(party.child);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      // A party that has nothing to do, against one that spins: far from either.
      expect(processorSeconds(party.child) - before).toBeLessThan(0.5);
      await provoke(party.addresses[0]!, 5);
      const metrics = (await health(party, '/metrics')).text;
      expect(metrics).toMatch(/sotto_log_lines_lost_total [1-9]/);
      expect(await party.end()).toBe(0);
    },
  );
