import { randomBytes } from 'node:crypto';
import { mkdir, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { checkPath, checkRange, type Files, fileLabel, missingFile, pathProblem } from '../models/files.ts';
import { passingFile } from './temporary.ts';

/**
 * A folder on disk. No path leaves it; a link that its owner put there is followed when reading, as the caches of published
 * checkpoints are made of links. A write goes to a temporary name inside the folder, is flushed and renamed.
 */
export function folderFiles(directory: string): Required<Files> {
  const files = { name: directory };
  const root = resolve(directory);
  return {
    name: directory,
    exists: async (path) => {
      if (pathProblem(path) !== null) return false;
      return (await stat(join(root, path)).catch(() => null))?.isFile() ?? false;
    },
    size: async (path) => {
      checkPath(files, path);
      const found = await stat(join(root, path)).catch((cause) => Promise.reject(asError(directory, path, cause)));
      if (!found.isFile()) throw missingFile(files, path);
      return found.size;
    },
    read: async (path, range) => {
      checkPath(files, path);
      return readInside(directory, root, path, range);
    },
    write: async (path, bytes) => {
      checkPath(files, path);
      await writeWhole(directory, root, path, bytes);
    },
  };
}

async function readInside(name: string, root: string, path: string, range?: { start: number; end: number }): Promise<Uint8Array> {
  const file = await open(join(root, path)).catch((cause) => Promise.reject(asError(name, path, cause)));
  try {
    const found = await file.stat();
    if (!found.isFile()) throw missingFile({ name }, path);
    const { start, end } = range ?? { start: 0, end: found.size };
    checkRange({ name }, path, { start, end }, found.size);
    const bytes = new Uint8Array(end - start);
    let filled = 0;
    while (filled < bytes.length) {
      // One read call takes at most 2 GiB.
      const { bytesRead } = await file.read(bytes, filled, Math.min(bytes.length - filled, 2 ** 30), start + filled);
      if (bytesRead === 0) checkRange({ name }, path, { start, end }, start + filled);
      filled += bytesRead;
    }
    return bytes;
  } catch (cause) {
    throw asError(name, path, cause);
  } finally {
    await file.close();
  }
}

async function writeWhole(name: string, root: string, path: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(root, `${path}.${randomBytes(6).toString('hex')}.tmp`);
  const written = passingFile(temporary);
  try {
    await mkdir(dirname(temporary), { recursive: true });
    await checkInside(name, root, dirname(path) === '.' ? '' : dirname(path));
    const file = await open(temporary, 'wx');
    try {
      let done = 0;
      while (done < bytes.length) {
        done += (await file.write(bytes, done, Math.min(bytes.length - done, 2 ** 30))).bytesWritten;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, join(root, path));
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw asError(name, path, cause);
  } finally {
    written();
  }
}

/** Refuses an existing folder below the root that a link leads outside. */
async function checkInside(name: string, root: string, path: string): Promise<void> {
  const [trueRoot, truePath] = await Promise.all([realpath(root), realpath(join(root, path))]).catch((cause) =>
    Promise.reject(asError(name, path, cause)),
  );
  if (truePath === trueRoot || truePath.startsWith(trueRoot.endsWith(sep) ? trueRoot : trueRoot + sep)) return;
  throw new SottoError('input', 'a link leads outside the folder', {
    place: { file: fileLabel({ name }, path) },
    remedy: 'replace the link by the file itself',
  });
}

/** A file system failure as a typed error; typed ones pass. */
export function asError(name: string, path: string, cause: unknown): SottoError {
  if (cause instanceof SottoError) return cause;
  const code = (cause as { code?: string } | null)?.code ?? 'unknown';
  if (code === 'ENOENT' || code === 'ENOTDIR') return missingFile({ name }, path, cause);
  const place = { file: fileLabel({ name }, path) };
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EMFILE') {
    return new SottoError('resource', `the file system refused the operation (${code})`, {
      place,
      remedy: 'free some space',
      cause,
    });
  }
  return new SottoError('input', `the file system refused the operation (${code})`, {
    place,
    remedy: 'check the path and its permissions',
    cause,
  });
}
