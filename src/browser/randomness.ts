import { ecb } from '@noble/ciphers/aes.js';
import { hkdf as hkdfOf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { concatBytes } from '@noble/hashes/utils.js';
import { SottoError } from '../errors/index.ts';
import type { EntropySource, KeyDerivation, PrgFactory } from '../math/random.ts';

/**
 * The generators of `node/randomness.ts` without Node: the same bytes, by noble's AES in JavaScript. WebCrypto's AES answers by promises,
 * which hot paths do not wait for. AES by tables takes time that depends on its key; who shares the cache may learn of it.
 */
const noSalt = new Uint8Array(0);
/** Counter blocks that are encrypted at once: enough for the key schedule not to matter, little enough to stay in the cache. */
const chunkBytes = 2 ** 14;
/** `getRandomValues` gives no more at once. */
const entropyBytes = 2 ** 16;

/** The browser's generator. */
export const pageEntropy: EntropySource = (bytes) => {
  for (let at = 0; at < bytes.length; at += entropyBytes) crypto.getRandomValues(bytes.subarray(at, at + entropyBytes));
};

/** AES-128 under one key on whole blocks, each by itself. The library makes a cipher for one call, so the key is scheduled anew each time, and the schedule cleared. */
export function blockCipher(key: Uint8Array): ((blocks: Uint8Array) => Uint8Array) & { close(): void } {
  if (key.length !== 16)
    throw new SottoError('usage', `an AES-128 key has 16 bytes, not ${key.length}`, { remedy: 'give 16 bytes' });
  const own = key.slice();
  const encrypt = (blocks: Uint8Array): Uint8Array => {
    if (blocks.length % 16 !== 0)
      throw new SottoError('usage', `${blocks.length} bytes are no whole blocks`, { remedy: 'give a multiple of 16 bytes' });
    return blocks.length === 0 ? new Uint8Array(0) : ecb(own, { disablePadding: true }).encrypt(blocks);
  };
  return Object.assign(encrypt, { close: () => void own.fill(0) });
}

/** `aes-128-ctr/v1` as Node's: the stream number in the high 64 bits of the counter block, the block's position in the low 64. */
export const pagePrg: PrgFactory = (seed) => {
  if (seed.length !== 32)
    throw new SottoError('usage', `a seed has 32 bytes, not ${seed.length}`, { remedy: 'derive it with hkdf' });
  const derived = hkdfOf(sha256, seed, noSalt, new TextEncoder().encode('sotto prg'), 32);
  const encrypt = blockCipher(derived.subarray(0, 16));
  derived.fill(0);
  let closed = false;
  return {
    algorithm: 'aes-128-ctr/v1',
    fill(stream, out) {
      if (!Number.isSafeInteger(stream) || stream < 0)
        throw new SottoError('usage', `${stream} is no stream number`, { remedy: 'use an integer in [0, 2^53)' });
      if (closed) throw new Error('a generator draws after its key was cleared');
      const counters = new Uint8Array(Math.min(chunkBytes, (out.length + 15) & ~15));
      const view = new DataView(counters.buffer);
      for (let at = 0; at < counters.length; at += 16) {
        view.setUint32(at, Math.floor(stream / 2 ** 32));
        view.setUint32(at + 4, stream >>> 0);
      }
      for (let from = 0; from < out.length; from += counters.length) {
        const bytes = Math.min(counters.length, out.length - from);
        const blocks = Math.ceil(bytes / 16);
        for (let block = 0; block < blocks; block++) {
          const position = from / 16 + block;
          view.setUint32(16 * block + 8, Math.floor(position / 2 ** 32));
          view.setUint32(16 * block + 12, position >>> 0);
        }
        out.set(encrypt(counters.subarray(0, 16 * blocks)).subarray(0, bytes), from);
      }
    },
    close() {
      closed = true;
      encrypt.close();
    },
  };
};

/** HKDF-SHA-256 of the same text as Node's: 32 bytes. */
export const pageHkdf: KeyDerivation = (secret, label, context) => {
  const parts = [new TextEncoder().encode(label)].flatMap(lengthPrefixed);
  const info = sha256(concatBytes(...parts, word(context.length), ...context.flatMap(lengthPrefixed)));
  return new Uint8Array(hkdfOf(sha256, secret, noSalt, info, 32));
};

const lengthPrefixed = (bytes: Uint8Array): Uint8Array[] => [word(bytes.length), bytes];

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
