import { createHash, randomBytes } from 'node:crypto';
import { closeSync, createReadStream, fsyncSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SottoError } from '../../errors/index.ts';
import { asError } from '../../node/files.ts';
import type { Document } from './alpaca.ts';

const magic = 0x31544f53; // SOT1
const headerBytes = 32;
/** Tokens that are written or read at once. */
const chunkTokens = 2 ** 18;

/** Documents as token ids on disk, read piece by piece. A masked id (one the loss leaves out) is stored as its complement. */
export interface TokenCache {
  readonly path: string;
  readonly documents: number;
  readonly tokens: number;
  /** Where document `index` begins among all tokens; `start(documents)` is their number. */
  start(index: number): number;
  /** Ids from `start` up to `end`; `masks`, where given, is set to 0 for masked ids and 1 for the others. */
  read(start: number, end: number, ids: Int32Array, masks?: Uint8Array): void;
  /** Closes the file; the cache stays on disk. */
  close(): void;
}

/** Where the documents of a cache come from, and everything that their ids depend on. */
export interface TokenSource {
  /** The file the documents come from; its bytes are part of the cache's key. */
  readonly file: string;
  /** What else the ids depend on: a hash of the tokenizer, the format, its version. */
  readonly recipe: string;
  readonly vocabularySize: number;
  /** All documents in order; called only where the cache is not on disk yet. */
  documents(): AsyncIterable<Document>;
}

/** SHA-256 of a file in hex, read once. */
export async function fileHash(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Uint8Array);
  } catch (cause) {
    throw asError('.', path, cause);
  }
  return hash.digest('hex');
}

/**
 * Opens the cache of a source in `folder`, made first where it is missing or damaged. It is written under another name, flushed and
 * renamed: it is there as a whole or not at all, and two processes may make it at the same time.
 */
export async function openTokenCache(folder: string, source: TokenSource): Promise<TokenCache> {
  const key = createHash('sha256')
    .update(JSON.stringify([1, await fileHash(source.file), source.recipe, source.vocabularySize]))
    .digest('hex');
  const path = join(folder, `${key.slice(0, 40)}.tokens`);
  const known = readCache(path, source.vocabularySize);
  if (known !== null) return known;
  await mkdir(folder, { recursive: true }).catch((cause) => Promise.reject(asError('.', folder, cause)));
  await writeCache(path, source);
  const made = readCache(path, source.vocabularySize);
  if (made !== null) return made;
  throw new SottoError('resource', 'the cache that was just written cannot be read', {
    place: { file: path },
    remedy: 'check the disk',
  });
}

async function writeCache(path: string, source: TokenSource): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  let file: number | undefined;
  try {
    file = openSync(temporary, 'wx');
    const starts = [0];
    const chunk = new Int32Array(chunkTokens);
    let [filled, at] = [0, headerBytes];
    const put = (bytes: Uint8Array): void => {
      for (let done = 0; done < bytes.length; ) done += writeSync(file!, bytes, done, bytes.length - done, at + done);
      at += bytes.length;
    };
    const flush = (): void => {
      put(new Uint8Array(chunk.buffer, 0, 4 * filled));
      filled = 0;
    };
    for await (const { ids, masked } of source.documents()) {
      for (let index = 0; index < ids.length; index++) {
        if (filled === chunkTokens) flush();
        chunk[filled++] = index < masked ? ~ids[index]! : ids[index]!;
      }
      starts.push(starts.at(-1)! + ids.length);
    }
    flush();
    put(new Uint8Array(Float64Array.from(starts).buffer));
    const header = new DataView(new ArrayBuffer(headerBytes));
    header.setUint32(0, magic, true);
    header.setFloat64(8, starts.length - 1, true);
    header.setFloat64(16, starts.at(-1)!, true);
    at = 0;
    put(new Uint8Array(header.buffer));
    fsyncSync(file);
    closeSync(file);
    file = undefined;
    renameSync(temporary, path);
  } catch (cause) {
    if (file !== undefined) closeSync(file);
    rmSync(temporary, { force: true });
    throw cause instanceof SottoError ? cause : asError('.', path, cause);
  }
}

/** null where the file is not there or is not a whole cache. */
function readCache(path: string, vocabularySize: number): TokenCache | null {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return null;
  }
  const starts = readStarts(file, statSync(path).size);
  if (starts === null) {
    closeSync(file);
    return null;
  }
  const documents = starts.length - 1;
  const tokens = starts[documents]!;
  return {
    path,
    documents,
    tokens,
    start: (index) => starts[index]!,
    read: (start, end, ids, masks) => {
      if (!(start >= 0 && start <= end && end <= tokens && end - start <= ids.length))
        throw new SottoError('usage', `tokens ${start} to ${end} of ${tokens}`, {
          place: { file: path },
          remedy: 'ask for tokens that are there',
        });
      readAt(file, new Uint8Array(ids.buffer, ids.byteOffset, 4 * (end - start)), headerBytes + 4 * start);
      for (let index = 0; index < end - start; index++) {
        const id = ids[index]!;
        if (masks !== undefined) masks[index] = id < 0 ? 0 : 1;
        if (id < 0) ids[index] = ~id;
        if (ids[index]! >= vocabularySize) throw damagedCache(path, start + index);
      }
    },
    close: () => closeSync(file),
  };
}

const damagedCache = (path: string, token: number): SottoError =>
  new SottoError('input', 'a token is outside the vocabulary', {
    place: { file: path, field: `token ${token}` },
    remedy: 'the cache is damaged: remove it, it is made again',
  });

function readStarts(file: number, sizeBytes: number): Float64Array | null {
  if (sizeBytes < headerBytes + 8) return null;
  const header = new Uint8Array(headerBytes);
  readAt(file, header, 0);
  const view = new DataView(header.buffer);
  const [documents, tokens] = [view.getFloat64(8, true), view.getFloat64(16, true)];
  const whole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
  if (view.getUint32(0, true) !== magic || !whole(documents) || !whole(tokens)) return null;
  if (sizeBytes !== headerBytes + 4 * tokens + 8 * (documents + 1)) return null;
  const starts = new Float64Array(documents + 1);
  readAt(file, new Uint8Array(starts.buffer), headerBytes + 4 * tokens);
  if (starts[0] !== 0 || starts[documents] !== tokens) return null;
  for (let index = 0; index < documents; index++)
    if (!(whole(starts[index]!) && starts[index]! <= starts[index + 1]!)) return null;
  return starts;
}

function readAt(file: number, bytes: Uint8Array, position: number): void {
  for (let filled = 0; filled < bytes.length; ) {
    const count = readSync(file, bytes, filled, bytes.length - filled, position + filled);
    if (count === 0)
      throw new SottoError('input', 'the cache ends early', {
        place: { field: `byte ${position + filled}` },
        remedy: 'remove it, it is made again',
      });
    filled += count;
  }
}
