import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Measurement, summarise } from './measure.ts';
import type { ServiceEvent, ServiceOrder } from './service-party.ts';

const model = fileURLToPath(new URL('../artefacts/stories-polynomial', import.meta.url));
const promptIds = [1, 403, 407, 261, 378, 315, 372, 268];
const newTokens = 8;
const sessionsEach = 3;

/** Sessions a minute of one standing server and dealer with 1, 2 and 4 clients side by side, each a process, on this machine. */
export async function service(): Promise<object> {
  const measurements: Measurement[] = [];
  const load = loadavg()[0]!;
  for (const ahead of [false, true])
    for (const clients of [1, 2, 4]) {
      const { wallSeconds, seconds } = await measured(clients, ahead);
      const material = ahead ? 'material made ahead' : 'material made in the session';
      const name = `${clients} client${clients === 1 ? '' : 's'}, ${material}`;
      measurements.push(
        summarise(`${name}: sessions a minute`, '1/min', [(60 * clients * sessionsEach) / wallSeconds]),
        summarise(`${name}: one session`, 's', seconds),
      );
    }
  return {
    measurements,
    model: 'artefacts/stories-polynomial',
    promptTokens: promptIds.length,
    newTokens,
    loadAverageBefore: load,
  };
}

async function measured(clients: number, ahead: boolean): Promise<{ wallSeconds: number; seconds: number[] }> {
  const directory = mkdtempSync(join(tmpdir(), 'sotto-bench-'));
  const children: ChildProcess[] = [];
  const start = (role: ServiceOrder['role'], count: number): ChildProcess => {
    const child = fork(fileURLToPath(new URL('./service-party.ts', import.meta.url)), []);
    child.send({ role, directory, model, promptIds, newTokens, count } satisfies ServiceOrder);
    children.push(child);
    return child;
  };
  try {
    await said(start('dealer', 0), 'ready');
    // One session more than is measured: the first one brings the masked weights to the dealer.
    await said(start('server', ahead ? clients * sessionsEach + 1 : 0), 'ready');
    const first = start('client', 1);
    await said(first, 'ready');
    first.send('go');
    await said(first, 'done');
    const asked = Array.from({ length: clients }, () => start('client', sessionsEach));
    await Promise.all(asked.map((client) => said(client, 'ready')));
    const begin = performance.now();
    for (const client of asked) client.send('go');
    const ends = await Promise.all(asked.map((client) => said(client, 'done')));
    const wallSeconds = (performance.now() - begin) / 1000;
    return { wallSeconds, seconds: ends.flatMap((end) => (end.type === 'done' ? end.seconds : [])) };
  } finally {
    for (const child of children) child.kill('SIGTERM');
    await Promise.all(children.map((child) => child.exitCode ?? child.signalCode ?? once(child, 'exit')));
    rmSync(directory, { recursive: true, force: true });
  }
}

function said(child: ChildProcess, type: ServiceEvent['type']): Promise<ServiceEvent> {
  return new Promise((resolve, reject) => {
    child.on('message', (event: ServiceEvent) => {
      if (event.type === type) resolve(event);
    });
    child.on('exit', (code) => reject(new Error(`a party ended with code ${code}`)));
  });
}
