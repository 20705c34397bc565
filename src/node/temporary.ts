import { lstatSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { type SocketPath, shortSocketPath } from './binding.ts';

/** A folder that goes with the process that made it, however that ends. */
export interface TemporaryFolder {
  readonly path: string;
  /** Runs first where a signal ends this process: for who must end what still writes there. */
  beforeSignal(end: () => void): void;
  remove(): Promise<void>;
}

const prefix = 'sotto-';
/** A socket in the folder that is listened on as long as its process lives: the system takes that away with the process, however it ends. */
const livelyName = 'alive';
/** The folder's random part, and before it what it is for. */
const ownName = /^sotto-(?:[a-z]+-)?[A-Za-z0-9]{6}$/;
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

interface Held {
  readonly path: string;
  readonly ends: (() => void)[];
}
/** What this process would leave behind: handlers of signals and of the exit have nothing but the process to look at. */
const held = new Set<Held>();

function removeAll(): void {
  for (const { path, ends } of held) {
    for (const end of ends) end();
    // A process that was ended a moment ago may still be writing its last file.
    rmSync(path, { recursive: true, force: true, maxRetries: 3 });
  }
  held.clear();
}

function onSignal(signal: NodeJS.Signals): void {
  // Somebody else has it too, and decides whether this process ends; folders are then removed when their users are done.
  if (process.listenerCount(signal) > 1) return;
  removeAll();
  watchSignals(false);
  process.kill(process.pid, signal);
}

function watchSignals(on: boolean): void {
  for (const signal of signals) {
    if (on) process.on(signal, onSignal);
    else process.off(signal, onSignal);
  }
  if (on) process.on('exit', removeAll);
  else process.off('exit', removeAll);
}

/**
 * Makes `sotto-PURPOSE-…` (mode 0700) in the system's temporary folder. It is removed by its user, at this process's end and on
 * SIGINT, SIGTERM and SIGHUP; what a killed process left is removed here first. Throws a `resource` error where no folder can be made.
 */
export async function temporaryFolder(purpose: string, root = tmpdir()): Promise<TemporaryFolder> {
  await sweepTemporary(root);
  let path: string;
  try {
    path = await mkdtemp(join(root, `${prefix}${purpose}-`));
  } catch (cause) {
    throw unusable(root, cause as NodeJS.ErrnoException);
  }
  const folder: Held = { path, ends: [] };
  if (held.size === 0) watchSignals(true);
  held.add(folder);
  const still = await stayAlive(path);
  return {
    path,
    beforeSignal: (end) => void folder.ends.push(end),
    async remove() {
      still();
      await rm(path, { recursive: true, force: true, maxRetries: 3 });
      held.delete(folder);
      if (held.size === 0) watchSignals(false);
    },
  };
}

/** A file that is being written under a passing name: where a signal ends this process before the result is called, it goes too. */
export function passingFile(path: string): () => void {
  const file: Held = { path, ends: [] };
  if (held.size === 0) watchSignals(true);
  held.add(file);
  return () => {
    held.delete(file);
    if (held.size === 0) watchSignals(false);
  };
}

function unusable(root: string, cause: NodeJS.ErrnoException): SottoError {
  const { code = 'unknown' } = cause;
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: 'does not exist',
    ENOTDIR: 'is no folder',
    EACCES: 'cannot be written by this user',
    EPERM: 'cannot be written by this user',
    EROFS: 'is on a read-only file system',
    ENOSPC: 'is on a full disk',
    EDQUOT: 'is over its quota',
    ENAMETOOLONG: 'has too long a name',
  };
  const reason = `the temporary folder ${reasons[code] ?? 'cannot be used'} (${code})`;
  const remedy = 'set TMPDIR to a folder that this user can write';
  return new SottoError('resource', reason, { place: { file: root }, remedy, cause });
}

/** Listens in the folder until the result is called. A file system without sockets has none: its folders are never swept. */
async function stayAlive(folder: string): Promise<() => void> {
  const server = createServer((socket) => socket.destroy());
  try {
    // Under its name only once it listens: a socket that is bound and not yet listened on looks like one that was left.
    const place = shortSocketPath(join(folder, `${livelyName}.new`));
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(place.path, resolve));
    renameSync(join(folder, `${livelyName}.new`), join(folder, livelyName));
    server.on('error', () => {}).unref();
    return () => void server.close(() => place.release());
  } catch {
    return () => {};
  }
}

/**
 * Removes the folders that processes left which did not live to do it: this user's, with a socket that nobody listens on any more.
 * Whatever cannot be read or removed stays.
 */
export async function sweepTemporary(root = tmpdir()): Promise<void> {
  let names: string[];
  try {
    names = readdirSync(root).filter((name) => ownName.test(name));
  } catch {
    return;
  }
  await Promise.all(
    names.map(async (name) => {
      const path = join(root, name);
      if (await abandoned(path)) await rm(path, { recursive: true, force: true }).catch(() => undefined);
    }),
  );
}

/** Only who is refused by the system itself meets a socket whose process has gone. */
function abandoned(folder: string): Promise<boolean> {
  return new Promise((resolve) => {
    let place: SocketPath;
    try {
      const found = lstatSync(folder);
      if (!found.isDirectory() || found.uid !== process.getuid?.()) return resolve(false);
      place = shortSocketPath(join(folder, livelyName));
    } catch {
      return resolve(false);
    }
    const socket = createConnection(place.path);
    const ended = (left: boolean): void => {
      socket.destroy();
      place.release();
      resolve(left);
    };
    socket.once('connect', () => ended(false));
    socket.once('error', (error: NodeJS.ErrnoException) => ended(error.code === 'ECONNREFUSED'));
  });
}
