import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { writeAll } from './durable.ts';
import type { KnownManifests } from './known-manifests.ts';

const fileName = 'known-manifests';

/**
 * One line a server in a file of the client's state folder: its address as JSON, and its manifest's hash. Lines are appended whole and the
 * last one of an address counts, so that clients beside each other lose nothing. A damaged file is an `input` error, since an address that
 * is not found would be met as if for the first time.
 */
export function knownManifests(state: string): KnownManifests {
  const path = join(state, fileName);
  return {
    async find(server) {
      const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return '';
        throw error;
      });
      let found: string | undefined;
      for (const [at, line] of text.split('\n').slice(0, -1).entries()) {
        const [address, hash] = parsed(line) ?? damaged(path, at + 1);
        if (address === server) found = hash;
      }
      if (text !== '' && !text.endsWith('\n')) damaged(path, text.split('\n').length);
      return found;
    },
    async remember(server, hash) {
      await mkdir(state, { recursive: true, mode: 0o700 });
      const file: FileHandle = await open(
        path,
        constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW,
        0o600,
      );
      try {
        await writeAll(file, new TextEncoder().encode(`${JSON.stringify(server)} sha256:${hash}\n`));
        await file.sync();
      } finally {
        await file.close();
      }
    },
  };
}

function parsed(line: string): [string, string] | undefined {
  const [, quoted, hash] = /^("(?:[^"\\]|\\.)*") sha256:([0-9a-f]{64})$/.exec(line) ?? [];
  if (quoted === undefined || hash === undefined) return undefined;
  try {
    return [JSON.parse(quoted) as string, hash];
  } catch {
    return undefined;
  }
}

function damaged(path: string, line: number): never {
  throw new SottoError('input', `line ${line} is no address and hash`, {
    place: { file: path },
    remedy: 'remove the line, and check the hash of the server that it was about',
  });
}
