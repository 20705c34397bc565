import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Headers, Response } from 'undici';
import { SottoError } from '../errors/index.ts';
import { asError } from './files.ts';
import { causeOf, type Routes } from './proxy.ts';

/** How patient a transfer is. Every wait is bounded. */
export interface Patience {
  /** Tries in a row without a mebibyte of progress before giving up. */
  readonly attempts: number;
  /** Wait before the second try; it doubles with every further one, up to half a minute. */
  readonly firstDelayMilliseconds: number;
  /** A server that says nothing for this long is given up for this try. */
  readonly silenceMilliseconds: number;
}
export const usualPatience: Patience = { attempts: 6, firstDelayMilliseconds: 500, silenceMilliseconds: 30_000 };

const longestDelayMilliseconds = 30_000;
const redirectLimit = 8;
const progressBytes = 2 ** 20;

/** Failures that another try may mend. */
class Passing extends Error {
  readonly waitMilliseconds: number | null;
  readonly remedy: string;
  /** Where nothing has come yet, one more try is enough. */
  readonly lasting: boolean;
  constructor(message: string, options: Partial<Pick<Passing, 'cause' | 'waitMilliseconds' | 'remedy' | 'lasting'>> = {}) {
    super(message, { cause: options.cause });
    this.waitMilliseconds = options.waitMilliseconds ?? null;
    this.remedy = options.remedy ?? 'check the network and start again: what has arrived is kept';
    this.lasting = options.lasting ?? false;
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Headers of the first answer, before redirects: the hub names checksum and size of a large file there. */
  readonly firstHeaders: Headers;
  readonly body: AsyncIterable<Uint8Array>;
}

export interface Target {
  readonly url: URL;
  /** Sent to the origin of `url` alone, never to where a redirect leads. */
  readonly token?: string | undefined;
  readonly patience: Patience;
  readonly routes: Routes;
}

/** A URL as errors may print it: signed links carry secrets in their query. */
const printable = (url: URL) => `${url.origin}${url.pathname}`;

/** Runs one exchange: `use` sees the answer while the connection is open, and any silence beyond the limit ends it. */
async function exchange<T>(
  target: Target,
  init: { method?: string; range?: string },
  use: (answer: Answer) => Promise<T>,
): Promise<T> {
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), target.patience.silenceMilliseconds);
  };
  heard();
  try {
    const { response, firstHeaders } = await follow(target, init, abort.signal, heard);
    checkStatus(response, target);
    return await use({ status: response.status, headers: response.headers, firstHeaders, body: chunks(response, heard) });
  } catch (cause) {
    if (cause instanceof SottoError || cause instanceof Passing) throw cause;
    if (abort.signal.aborted) throw new Passing('the server fell silent', { cause });
    const { reason, ...rest } = causeOf(cause, target.url, target.routes.through(target.url));
    throw new Passing(reason, { cause, ...rest });
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}

async function* chunks(response: Response, heard: () => void): AsyncIterable<Uint8Array> {
  if (response.body === null) return;
  for await (const chunk of response.body) {
    heard();
    yield chunk as Uint8Array;
  }
}

async function follow(target: Target, init: { method?: string; range?: string }, signal: AbortSignal, heard: () => void) {
  let url = target.url;
  let firstHeaders: Headers | null = null;
  for (let hop = 0; hop <= redirectLimit; hop++) {
    // Compressed answers would hide how many bytes of the file have arrived.
    const headers: Record<string, string> = { 'accept-encoding': 'identity', 'user-agent': 'sotto' };
    if (init.range !== undefined) headers.range = init.range;
    if (target.token && url.origin === target.url.origin) headers.authorization = `Bearer ${target.token}`;
    const response = await target.routes.fetch(url, { method: init.method ?? 'GET', headers, signal }).catch((cause: unknown) => {
      if (signal.aborted || cause instanceof SottoError) throw cause;
      // Of this address, which a redirect may have named.
      const { reason, ...rest } = causeOf(cause, url, target.routes.through(url));
      throw new Passing(reason, { cause, ...rest });
    });
    heard();
    firstHeaders ??= response.headers;
    const location = response.headers.get('location');
    if (response.status < 300 || response.status >= 400 || location === null) return { response, firstHeaders };
    await response.body?.cancel();
    const next = URL.canParse(location, url.href) ? new URL(location, url) : null;
    const safe = next !== null && (next.protocol === 'https:' || (next.protocol === 'http:' && url.protocol === 'http:'));
    if (!safe) throw refused(target.url, 'the server redirects to an address that is not taken', 'check the endpoint');
    url = next;
  }
  throw refused(target.url, `the server redirects more than ${redirectLimit} times`, 'check the endpoint');
}

const refused = (url: URL, reason: string, remedy: string, kind: 'peer' | 'usage' = 'peer') =>
  new SottoError(kind, reason, { place: { file: printable(url) }, remedy });

function checkStatus(response: Response, target: Target): void {
  const { status, headers } = response;
  if (status === 200 || status === 206 || status === 416) return;
  const code = headers.get('x-error-code');
  if (code === 'GatedRepo') {
    throw refused(
      target.url,
      'access to this repository must be granted first',
      'accept its terms on the hub and give a token',
      'usage',
    );
  }
  if (status === 404 || code === 'RepoNotFound' || code === 'RevisionNotFound' || code === 'EntryNotFound') {
    throw refused(
      target.url,
      'the hub has no such repository, revision or file',
      'check the names; a private one needs a token',
      'usage',
    );
  }
  if (status === 401 || status === 403) {
    const remedy = target.token
      ? 'the token given is not valid for this repository'
      : 'give a token, or check the name of the repository';
    throw refused(target.url, `the hub refuses access (status ${status})`, remedy, 'usage');
  }
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    const seconds = Number(headers.get('retry-after') ?? Number.NaN);
    const waitMilliseconds = Number.isFinite(seconds) ? seconds * 1000 : null;
    throw new Passing(`the server answered with status ${status}`, { waitMilliseconds });
  }
  throw refused(target.url, `the server answered with status ${status}`, 'check the endpoint');
}

/** Tries again after passing failures; `progress` tells how many bytes have arrived so far. */
async function persist<T>(target: Target, work: () => Promise<T>, progress: () => number = () => 0): Promise<T> {
  let failures = 0;
  let arrived = progress();
  for (;;) {
    try {
      return await work();
    } catch (cause) {
      if (!(cause instanceof Passing)) throw cause;
      if (progress() >= arrived + progressBytes) failures = 0;
      arrived = progress();
      failures++;
      const attempts = cause.lasting && arrived === 0 ? Math.min(2, target.patience.attempts) : target.patience.attempts;
      if (failures >= attempts) {
        throw new SottoError('peer', `${cause.message}, ${failures} times in a row`, {
          place: { file: printable(target.url) },
          remedy: cause.remedy,
          cause,
        });
      }
      const usual = target.patience.firstDelayMilliseconds * 2 ** (failures - 1);
      await sleep(Math.min(longestDelayMilliseconds, Math.max(usual, cause.waitMilliseconds ?? 0)));
    }
  }
}

/** Fetches a small answer whole, of at most `limitBytes`. */
export function fetchBytes(target: Target, limitBytes: number): Promise<Uint8Array> {
  return persist(target, () =>
    exchange(target, {}, async (answer) => {
      const parts: Uint8Array[] = [];
      let bytes = 0;
      for await (const part of answer.body) {
        bytes += part.length;
        if (bytes > limitBytes) throw refused(target.url, `the answer is longer than ${limitBytes} bytes`, 'check the endpoint');
        parts.push(part);
      }
      return Buffer.concat(parts);
    }),
  );
}

/** The headers of a file: those of the answer, with those before redirects winning. */
export function fetchHeaders(target: Target): Promise<(name: string) => string | null> {
  return persist(target, () =>
    exchange(
      target,
      { method: 'HEAD' },
      async ({ headers, firstHeaders }) =>
        (name) =>
          firstHeaders.get(name) ?? headers.get(name),
    ),
  );
}

/**
 * Downloads a file of known size to `path`, going on where an earlier, broken transfer stopped. The bytes are flushed, not yet
 * verified. Returns whether bytes of an earlier run were kept.
 */
export async function download(
  target: Target,
  path: string,
  sizeBytes: number,
  progress: (bytes: number) => void,
): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true });
  let received = await keptBytes(path);
  // Truncated when the first bytes come.
  if (received > sizeBytes) received = 0;
  const kept = received > 0;
  progress(received);
  await persist(
    target,
    async () => {
      const file = await openPart(path);
      try {
        while (received < sizeBytes) {
          const range = received === 0 ? {} : { range: `bytes=${received}-` };
          await exchange(target, range, async (answer) => {
            received = startOf(answer, received);
            await onDisk(path, () => file.truncate(received));
            if (answer.status === 416) throw new Passing('the server does not have the range asked for');
            for await (const part of answer.body) {
              if (received + part.length > sizeBytes) {
                throw refused(target.url, `the server sends more than the ${sizeBytes} bytes it announced`, 'check the endpoint');
              }
              await onDisk(path, () => writeAll(file, part, received));
              received += part.length;
              progress(received);
            }
          });
          if (received < sizeBytes) throw new Passing('the connection ended early');
        }
        await file.sync();
      } finally {
        await file.close();
      }
    },
    () => received,
  );
  return kept;
}

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

/** What an earlier transfer left. Throws where something else than a file of its own stands there, such as a link. */
async function keptBytes(path: string): Promise<number> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return 0;
  if (!found.isFile() || found.nlink > 1) throw planted(path);
  return found.size;
}

/** Opens the file of a transfer, or makes it; never through a link, which would have the bytes written elsewhere. */
async function openPart(path: string): Promise<FileHandle> {
  const fresh = (await lstat(path).catch(() => null)) === null;
  const flags = fresh ? O_RDWR | O_CREAT | O_EXCL : O_RDWR;
  const file = await open(path, flags | (O_NOFOLLOW ?? 0)).catch((cause: NodeJS.ErrnoException) => {
    throw cause.code === 'ELOOP' || cause.code === 'EEXIST'
      ? planted(path, cause)
      : asError(dirname(path), basename(path), cause);
  });
  const found = await file.stat();
  if (found.isFile() && found.nlink === 1) return file;
  await file.close();
  throw planted(path);
}

const planted = (path: string, cause?: unknown): SottoError =>
  new SottoError('input', 'a link or folder stands where the download goes', {
    place: { file: path },
    remedy: 'remove it, or choose a folder that nobody else writes to',
    cause,
  });

/** Keeps failures of the disk apart from those of the network: they are not tried again. */
const onDisk = (path: string, work: () => Promise<void>) =>
  work().catch((cause) => Promise.reject(asError(dirname(path), basename(path), cause)));

async function writeAll(file: Awaited<ReturnType<typeof open>>, part: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < part.length) {
    written += (await file.write(part, written, part.length - written, position + written)).bytesWritten;
  }
}

/** Where in the file the body of an answer starts: a server may ignore the range and send everything. */
function startOf(answer: Answer, asked: number): number {
  if (answer.status === 200 || answer.status === 416) return 0;
  const start = /^bytes (\d+)-/.exec(answer.headers.get('content-range') ?? '')?.[1];
  if (Number(start) === asked) return asked;
  throw new Passing('the server answered with another range than asked');
}
