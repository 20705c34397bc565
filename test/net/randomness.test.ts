import { createCipheriv, createHash } from 'node:crypto';
import { hkdf as nobleHkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { aesPrg, fixedKeyAes, hkdf, systemEntropy } from '../../src/node/randomness.ts';

const seed = Uint8Array.from({ length: 32 }, (_, i) => i);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('the AES generator', () => {
  it('is AES-128 in counter mode on (stream, block), under the key derived from the seed', () => {
    const key = nobleHkdf(sha256, seed, new Uint8Array(0), new TextEncoder().encode('sotto prg'), 32).subarray(0, 16);
    for (const stream of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
      const length = 70_003;
      const plain = Buffer.alloc(Math.ceil(length / 16) * 16);
      for (let block = 0; block * 16 < plain.length; block++) {
        plain.writeBigUInt64BE(BigInt(stream), block * 16);
        plain.writeBigUInt64BE(BigInt(block), block * 16 + 8);
      }
      const expected = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false).update(plain);
      for (const bytes of [1, 16, 17, 4096, 4097, length]) {
        const out = new Uint8Array(bytes).fill(255);
        aesPrg(seed).fill(stream, out);
        expect(hex(out), `stream ${stream}, ${bytes} bytes`).toBe(hex(expected.subarray(0, bytes)));
      }
    }
  });

  it('keeps its golden vectors', () => {
    const out = new Uint8Array(32);
    aesPrg(seed).fill(5, out);
    expect(hex(out)).toBe('9c1277c0f4baa8fe5bcf5c57b4f747889679cd071ae987ab6ae7fd889f80e594');
    const large = new Uint8Array(2 ** 20 + 3);
    aesPrg(seed).fill(6, large);
    expect(createHash('sha256').update(large).digest('hex')).toBe(
      'ff08ab02f74c8020ced6d3e59262c792f2521b9e05bee5d68a1c7000621f50ae',
    );
    expect(hex(hkdf(seed, 'label', [new Uint8Array([1, 2]), new Uint8Array(0)]))).toBe(
      '0e68736d823d0a7ca855fd8ac4407f626de62f4bf13a6e5c4d09ef0c11e12c7f',
    );
  });

  it('fills a view in the middle of a buffer and nothing beside it', () => {
    for (const length of [40, 300_000]) {
      const buffer = new Uint8Array(length + 10);
      aesPrg(seed).fill(1, buffer.subarray(5, 5 + length));
      const alone = new Uint8Array(length);
      aesPrg(seed).fill(1, alone);
      expect(Buffer.compare(buffer.subarray(5, 5 + length), alone)).toBe(0);
      expect([...buffer.subarray(0, 5), ...buffer.subarray(5 + length)]).toEqual(Array(10).fill(0));
    }
  });

  it('refuses seeds and stream numbers that do not exist', () => {
    expect(() => aesPrg(new Uint8Array(31))).toThrow(SottoError);
    for (const stream of [-1, 0.5, 2 ** 53, Number.NaN])
      expect(() => aesPrg(seed).fill(stream, new Uint8Array(1))).toThrow(SottoError);
  });
});

describe('key derivation', () => {
  it('is HKDF-SHA-256 on the hash of the labelled context', () => {
    const info = createHash('sha256').update('05000000', 'hex').update('label').update('02000000', 'hex');
    info.update('020000000102', 'hex').update('00000000', 'hex');
    const expected = nobleHkdf(sha256, seed, new Uint8Array(0), new Uint8Array(info.digest()), 32);
    expect(hex(hkdf(seed, 'label', [new Uint8Array([1, 2]), new Uint8Array(0)]))).toBe(hex(expected));
  });

  it('separates labels, and contexts that concatenate to the same bytes', () => {
    const part = (...values: number[]) => new Uint8Array(values);
    const all = [
      hkdf(seed, 'a', []),
      hkdf(seed, 'b', []),
      hkdf(seed, 'a', [part(1, 2)]),
      hkdf(seed, 'a', [part(1), part(2)]),
      hkdf(seed, 'a', [part(1, 2), part()]),
    ];
    expect(new Set(all.map(hex)).size).toBe(5);
  });
});

describe('AES under a fixed key', () => {
  it('agrees with the published vector of FIPS 197 and works on many blocks', () => {
    const encrypt = fixedKeyAes(Uint8Array.from({ length: 16 }, (_, i) => i));
    const block = Uint8Array.from({ length: 16 }, (_, i) => i * 17);
    expect(hex(encrypt(block))).toBe('69c4e0d86a7b0430d8cdb78070b4c55a');
    expect(hex(encrypt(new Uint8Array([...block, ...block])))).toBe('69c4e0d86a7b0430d8cdb78070b4c55a'.repeat(2));
    expect(() => encrypt(new Uint8Array(17))).toThrow(SottoError);
  });
});

describe('the system entropy', () => {
  it('fills all bytes', () => {
    const bytes = new Uint8Array(4096);
    systemEntropy(bytes);
    expect(new Set(bytes).size).toBeGreaterThan(240);
  });
});
