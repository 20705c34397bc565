import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { SottoError } from '../../errors/index.ts';
import { refusePointer } from '../../models/files.ts';
import { asError } from '../../node/files.ts';

/** A row, record or entry that does not hold what its format says. `field` names the place: `line 17`, `row 4, text`. */
export const brokenRow = (file: string, field: string, reason: string, cause?: unknown): SottoError =>
  new SottoError('input', reason, {
    place: { file, field },
    remedy: 'correct or remove this row, or fetch the file again',
    cause,
  });

export const truncated = (file: string, field: string, cause?: unknown): SottoError =>
  new SottoError('input', 'the file ends in the middle', {
    place: { file, field },
    remedy: 'the file is truncated or damaged: fetch it again',
    cause,
  });

/** Chunks of a file on disk, unpacked where it begins as gzip does; at most a few chunks are in memory. Typed errors. */
export async function* fileBytes(path: string): AsyncGenerator<Uint8Array> {
  const raw = createReadStream(path, { highWaterMark: 2 ** 18 });
  const chunks = raw[Symbol.asyncIterator]();
  try {
    const first = await chunks.next();
    if (first.done) return;
    refusePointer(first.value, path);
    const packed = first.value[0] === 0x1f && first.value[1] === 0x8b;
    if (!packed) {
      yield first.value;
      for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
      return;
    }
    yield* unpacked(first.value, chunks);
  } catch (cause) {
    const code = (cause as { code?: string } | null)?.code ?? '';
    if (code === 'Z_BUF_ERROR') throw truncated(path, 'gzip', cause);
    if (code.startsWith('Z_')) throw brokenRow(path, 'gzip', `the gzip data cannot be unpacked (${code})`, cause);
    throw asError('.', path, cause);
  } finally {
    raw.destroy();
  }
}

async function* unpacked(first: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: 2 ** 18 });
  const feed = async () => {
    const write = (chunk: Uint8Array) =>
      new Promise<void>((resolve, reject) => gunzip.write(chunk, (error) => (error ? reject(error) : resolve())));
    await write(first);
    for (let next = await rest.next(); !next.done; next = await rest.next()) await write(next.value);
    gunzip.end();
  };
  // A failure reaches the reader through the stream itself.
  feed().catch((error: Error) => gunzip.destroy(error));
  try {
    for await (const chunk of gunzip) yield chunk as Uint8Array;
  } finally {
    gunzip.destroy();
  }
}

/** Takes exact numbers of bytes out of chunks. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #file: string;
  #held: Uint8Array = new Uint8Array(0);
  #taken = 0;
  constructor(chunks: AsyncIterable<Uint8Array>, file: string) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#file = file;
  }
  /** Bytes taken so far. */
  get position(): number {
    return this.#taken;
  }
  /** The next `count` bytes in memory of their own; null where nothing is left, an `input` error where fewer are. */
  async take(count: number, what: string): Promise<Uint8Array | null> {
    const bytes = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      const part = await this.#next(count - filled);
      if (part === null) {
        if (filled === 0) return null;
        throw truncated(this.#file, what);
      }
      bytes.set(part, filled);
      filled += part.length;
    }
    return bytes;
  }
  /** The next `count` bytes, which must be there. */
  async need(count: number, what: string): Promise<Uint8Array> {
    if (count === 0) return new Uint8Array(0);
    const bytes = await this.take(count, what);
    if (bytes === null) throw truncated(this.#file, what);
    return bytes;
  }
  async skip(count: number, what: string): Promise<void> {
    for (let left = count; left > 0; ) {
      const part = await this.#next(left);
      if (part === null) throw truncated(this.#file, what);
      left -= part.length;
    }
  }
  /** Closes the file; reading is over. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
  async #next(most: number): Promise<Uint8Array | null> {
    while (this.#held.length === 0) {
      const next = await this.#chunks.next();
      if (next.done) return null;
      this.#held = next.value;
    }
    const part = this.#held.subarray(0, most);
    this.#held = this.#held.subarray(part.length);
    this.#taken += part.length;
    return part;
  }
}
