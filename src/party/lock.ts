import { join, resolve } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { systemCode } from '../node/binding.ts';
import { listen } from '../node/sockets.ts';

/**
 * Makes a state folder this process's own until the result is called: what it finds claimed at its start is then nobody's. A Unix socket in
 * the folder, because the system takes that away with the process, however it ends. Throws a `resource` error where another one is at work.
 */
export async function lockState(state: string, party: string): Promise<() => Promise<void>> {
  const file = join(resolve(state), 'lock');
  try {
    const lock = await listen({ address: `unix:${file}`, peer: party, timeoutMilliseconds: 1000 });
    return () => lock.close();
  } catch (error) {
    if (systemCode(error) !== 'EADDRINUSE') throw error;
    throw new SottoError('resource', 'another process works with this state', {
      place: { party, file: state },
      remedy: 'end it first, or name another folder with --state',
      cause: error,
    });
  }
}
