import { closeSync, existsSync, openSync, statSync } from 'node:fs';
import type { ListenOptions, Server } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { type Place, SottoError } from '../errors/index.ts';

/** What an error says of an address that cannot be listened on: the address as it was written, and the option that named it. */
export interface BindingNames {
  readonly address: string;
  readonly place?: Place;
}

/**
 * Binds a server to an address and waits until it listens. Every failure is a `resource` error about the address: whoever has it
 * already, or whatever the system lacks, nothing is said of a peer, who has no part in it.
 */
export function bound(server: Server, where: ListenOptions, names: BindingNames): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException): void => reject(bindingError(names, cause));
    server.once('error', failed);
    server.listen(where, () => {
      server.off('error', failed);
      // An error of one accepted connection (a full file table) must not end the process; that connection is lost, its peer sees it.
      server.on('error', () => {});
      resolve();
    });
  });
}

const remedies: Readonly<Record<string, readonly [reason: string, remedy: string]>> = {
  EADDRINUSE: ['it is in use', 'end the process that has it, or choose another address'],
  EACCES: ['this user may not', 'choose a port above 1023, or a folder that this user can write'],
  EPERM: ['this user may not', 'choose a port above 1023, or a folder whose file system takes sockets'],
  EADDRNOTAVAIL: ['this host has no such address', 'listen on an address of this host, or on 0.0.0.0 or [::] for all'],
  ENOTFOUND: ['no such host name is known', 'write an address of this host'],
  EROFS: ['the file system is read-only', 'choose a folder that this user can write'],
  ENOSPC: ['the disk is full', 'free disk space, or choose another folder'],
  EMFILE: ['this process has too many open files', 'raise the limit of open files (ulimit -n)'],
  EOPNOTSUPP: ['the file system takes no sockets', 'choose a folder on a local disk'],
};

/** The code of the system's error that a `resource` error was made of. */
export const systemCode = (error: unknown): string | undefined =>
  error instanceof SottoError ? (error.cause as NodeJS.ErrnoException | undefined)?.code : undefined;

function bindingError({ address, place = {} }: BindingNames, cause: NodeJS.ErrnoException): SottoError {
  const { code = 'unknown' } = cause;
  const [reason, remedy] = remedies[code] ?? ['the system refuses', 'choose another address'];
  return new SottoError('resource', `cannot listen on ${address}: ${reason} (${code})`, { place, remedy, cause });
}

/** The kernel's limit on the path that a Unix socket is bound or connected by; the shortest of the systems that Node runs on. */
const socketPathBytes = 103;
const throughDescriptors = '/proc/self/fd';

/** A path by which a socket can be reached until `release`. */
export interface SocketPath {
  readonly path: string;
  release(): void;
}

/**
 * A path of any length, as short as the kernel wants it: where it is too long, through a descriptor of its folder, which stays open
 * until `release`. Throws a `usage` error on systems without such paths.
 */
export function shortSocketPath(path: string): SocketPath {
  if (Buffer.byteLength(path) <= socketPathBytes) return { path, release: () => {} };
  const folder = dirname(path);
  if (!existsSync(throughDescriptors) || Buffer.byteLength(basename(path)) > socketPathBytes - 32)
    throw new SottoError('usage', `the socket path ${path} is longer than ${socketPathBytes} bytes`, {
      place: { file: path },
      remedy: 'choose a shorter folder',
    });
  if (!statSync(folder).isDirectory()) throw Object.assign(new Error('no folder'), { code: 'ENOTDIR' });
  const descriptor = openSync(folder, 'r');
  return { path: join(throughDescriptors, String(descriptor), basename(path)), release: () => closeSync(descriptor) };
}
