import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { RelayOrder } from './relay.ts';

/** A relay in a process of its own, listening. Ended by the function that it gives. */
export async function relayProcess(order: RelayOrder): Promise<() => void> {
  const child: ChildProcess = fork(fileURLToPath(new URL('./relay.ts', import.meta.url)), ['relay'], {
    execArgv: ['--import', 'tsx'],
  });
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('exit', (code) => reject(new Error(`the relay ended with code ${code}`)));
    child.send(order);
  });
  return () => void child.kill();
}
