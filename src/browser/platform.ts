import { hexToBytes } from '@noble/hashes/utils.js';
import { fixedKeysHex, type Platform } from '../backends/mpc/index.ts';
import { wordBitsOf } from '../backends/ring/index.ts';
import { createWasmKernels } from '../kernels/index.ts';
import { blockCipher, pageEntropy, pageHkdf, pagePrg } from './randomness.ts';

/** What a client needs of a page. `breathe` lets the page's events happen. */
export function pagePlatform(ringBits: number, breathe: () => Promise<void>): Platform {
  const ciphers = fixedKeysHex.map((hex) => blockCipher(hexToBytes(hex)));
  return {
    kernels: createWasmKernels(wordBitsOf(ringBits)),
    entropy: pageEntropy,
    derive: pageHkdf,
    prg: pagePrg,
    cipher: (key, blocks) => ciphers[key]!(blocks),
    now: () => performance.now(),
    breathe,
  };
}
