import { lstat, mkdir } from 'node:fs/promises';
import { SottoError } from '../errors/index.ts';

/**
 * Makes a folder of a party's state with mode 0700 where it is missing. Throws a `resource` error where it cannot be made, and a `usage` error
 * where other users can enter it.
 */
export async function stateFolder(path: string, party: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const found = await lstat(path);
    if (found.isDirectory() && (found.mode & 0o077) === 0) return;
  } catch (cause) {
    throw new SottoError('resource', `the folder cannot be made (${(cause as NodeJS.ErrnoException).code})`, {
      place: { party, file: path },
      remedy: 'name a folder that this user can write with --state',
      cause,
    });
  }
  throw new SottoError('usage', `${path} is open to other users`, {
    place: { party, file: path },
    remedy: 'chmod 700 it, or choose another directory',
  });
}
