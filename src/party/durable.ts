import { constants } from 'node:fs';
import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises';

/** Files that must survive a crash or must not survive a run. Paths are the caller's: validated before they come here. */

export const blockBytes = 2 ** 20;
export const readOnly = constants.O_RDONLY | constants.O_NOFOLLOW;
export const createOnly = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** The same, and its bytes can be read again. */
export const createToRead = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Overwrites a file with zeros as far as possible and deletes it; nothing happens where it is missing. */
export async function eraseFile(path: string): Promise<void> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_WRONLY | constants.O_NOFOLLOW);
  } catch {
    return rm(path, { force: true });
  }
  try {
    const { size } = await file.stat();
    const zeros = new Uint8Array(Math.min(blockBytes, size));
    for (let at = 0; at < size; at += zeros.length) await file.write(zeros, 0, Math.min(zeros.length, size - at), at);
    await file.sync();
  } catch {
    // Best effort: deleting is what counts.
  } finally {
    await file.close();
  }
  await rm(path, { force: true });
}

/** Makes a file that did not exist (EEXIST otherwise) and brings its bytes to the disk; its directory's entry is the caller's to sync. */
export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, createOnly, 0o600);
  try {
    await writeAll(file, bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

export async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at)).bytesWritten;
}

/** Fills `bytes` from `offset` on; false where the file ends before. */
export async function readFully(file: FileHandle, bytes: Uint8Array, offset: number): Promise<boolean> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, offset + at);
    if (bytesRead === 0) return false;
    at += bytesRead;
  }
  return true;
}

/** Puts a file in another one's place at once; the directory's entry is the caller's to sync. */
export const renameFile = (from: string, to: string): Promise<void> => rename(from, to);

/** Nothing happens where it is missing. */
export const removeFile = (path: string): Promise<void> => rm(path, { force: true });

/** Brings the entries of a directory (new, renamed and deleted files) to the disk. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

export async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );
}
