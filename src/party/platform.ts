import { performance } from 'node:perf_hooks';
import type { Platform } from '../backends/mpc/index.ts';
import { fixedKeysHex } from '../backends/mpc/index.ts';
import { wordBitsOf } from '../backends/ring/index.ts';
import { createWasmKernels } from '../kernels/index.ts';
import { aesPrg, fixedKeyAes, hkdf, systemEntropy } from '../node/randomness.ts';

/** What a role needs of Node: kernels for its ring, the system's randomness, AES. */
export function nodePlatform(ringBits: number): Platform {
  const ciphers = fixedKeysHex.map((hex) => fixedKeyAes(Uint8Array.from(Buffer.from(hex, 'hex'))));
  return {
    kernels: createWasmKernels(wordBitsOf(ringBits)),
    entropy: systemEntropy,
    derive: hkdf,
    prg: aesPrg,
    cipher: (key, blocks) => ciphers[key]!(blocks),
    now: () => performance.now(),
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
  };
}
