import { randomBytes } from 'node:crypto';
import { link, lstat, mkdir, readFile, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { severalAddresses } from '../node/sockets.ts';
import { writeDurably } from './durable.ts';

/**
 * What a dealer and its servers share where no certificate says who they are: on plain addresses (`unix:`, `tcp:`, `ws:`) each proves to the
 * other that it knows it. A file of one user, mode 0600; or the bytes themselves, from a launcher.
 */
export type LinkToken = string | Uint8Array;

/** Where parties of one user on one machine find it; who starts first makes it. */
export const usualTokenFile = (): string => join(homedir(), '.sotto', 'link-token');

export const isPlain = (address: string): boolean => !/^(tls|wss):/.test(address);

/** At least this many characters, so that nobody tries them all. */
const leastCharacters = 32;

/** The token for plain addresses, undefined where there is none of them. Without a name the usual file, which is made where it is missing. */
export async function linkTokenFor(addresses: readonly string[], token: LinkToken | undefined): Promise<Uint8Array | undefined> {
  if (!addresses.flatMap(severalAddresses).some(isPlain)) return undefined;
  if (token instanceof Uint8Array) return token;
  if (token !== undefined) return await readToken(token);
  const file = usualTokenFile();
  await makeToken(file);
  return await readToken(file);
}

async function makeToken(file: string): Promise<void> {
  const fresh = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    if (await lstat(file).catch(() => undefined)) return;
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await writeDurably(fresh, new TextEncoder().encode(`${randomBytes(32).toString('hex')}\n`));
    // A link never replaces: of two who make it at once, one is first.
    await link(fresh, file);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw unusable(file, `cannot be made (${codeOf(cause)})`, cause);
  } finally {
    await rm(fresh, { force: true });
  }
}

async function readToken(file: string): Promise<Uint8Array> {
  const found = await lstat(file).catch((cause: unknown) => {
    throw unusable(file, `cannot be read (${codeOf(cause)})`, cause);
  });
  if (!found.isFile() || (found.mode & 0o077) !== 0) throw unusable(file, 'is open to other users');
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw unusable(file, `cannot be read (${codeOf(cause)})`, cause);
  });
  const characters = text.trim();
  if (characters.length < leastCharacters) throw unusable(file, `has fewer than ${leastCharacters} characters`);
  return new TextEncoder().encode(characters);
}

const codeOf = (cause: unknown): string => (cause as NodeJS.ErrnoException).code ?? 'unknown';

const unusable = (file: string, reason: string, cause?: unknown): SottoError =>
  new SottoError('input', `the token that dealer and server share on plain addresses ${reason}`, {
    place: { field: '--link-token', file },
    remedy: 'make a file of 64 random hexadecimal digits with mode 0600 and name it to both, or use tls: addresses',
    cause,
  });
