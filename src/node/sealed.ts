import { createCipheriv, createDecipheriv } from 'node:crypto';
import { SottoError } from '../errors/index.ts';

/**
 * Bytes on a disk that only the holder of a key can read: AES-256-GCM in chunks of 256 KiB, each with its tag behind it. A chunk's place is
 * its nonce, so that chunks cannot change places, and a key seals one file, once.
 */
export const sealedChunkBytes = 2 ** 18;
export const sealTagBytes = 16;

function nonceOf(index: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, BigInt(index));
  return nonce;
}

/** The chunk of this place, at most `sealedChunkBytes`, with its tag. `key` has 32 bytes. */
export function sealChunk(key: Uint8Array, index: number, chunk: Uint8Array): Uint8Array<ArrayBuffer> {
  const cipher = createCipheriv('aes-256-gcm', key, nonceOf(index));
  const sealed = new Uint8Array(chunk.length + sealTagBytes);
  sealed.set(cipher.update(chunk));
  cipher.final();
  sealed.set(cipher.getAuthTag(), chunk.length);
  return sealed;
}

/** The converse. Throws a `material` error where one bit, the place or the key is another. */
export function openChunk(key: Uint8Array, index: number, sealed: Uint8Array): Uint8Array<ArrayBuffer> {
  const decipher = createDecipheriv('aes-256-gcm', key, nonceOf(index));
  const end = sealed.length - sealTagBytes;
  try {
    decipher.setAuthTag(sealed.subarray(end));
    const chunk = new Uint8Array(end);
    chunk.set(decipher.update(sealed.subarray(0, end)));
    decipher.final();
    return chunk;
  } catch {
    throw new SottoError('material', 'sealed material is damaged, or was sealed under another key', {
      remedy: 'burn it and make new correlations',
    });
  }
}

/** Cuts a stream into chunks and seals each. The bytes are the caller's again at once. */
export class ChunkSealer {
  readonly #key: Uint8Array;
  readonly #write: (sealed: Uint8Array) => Promise<void>;
  readonly #chunk = new Uint8Array(sealedChunkBytes);
  #filled = 0;
  #index = 0;

  constructor(key: Uint8Array, write: (sealed: Uint8Array) => Promise<void>) {
    this.#key = key;
    this.#write = write;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + sealedChunkBytes - this.#filled);
      this.#chunk.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === sealedChunkBytes) await this.#flush();
    }
  }

  /** Seals what is left. */
  async finish(): Promise<void> {
    if (this.#filled > 0) await this.#flush();
    this.clear();
  }

  clear(): void {
    this.#chunk.fill(0);
    this.#filled = 0;
  }

  async #flush(): Promise<void> {
    const sealed = sealChunk(this.#key, this.#index++, this.#chunk.subarray(0, this.#filled));
    this.#filled = 0;
    await this.#write(sealed);
  }
}
