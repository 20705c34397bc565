import { performance } from 'node:perf_hooks';
import type { Platform } from '../backends/mpc/index.ts';
import { fixedKeysHex } from '../backends/mpc/index.ts';
import { wordBitsOf } from '../backends/ring/index.ts';
import { createWasmKernels } from '../kernels/index.ts';
import { aesPrg, fixedKeysAes, hkdf, systemEntropy } from '../node/randomness.ts';

/** What a role needs of Node: kernels for its ring, the system's randomness, AES. */
export function nodePlatform(ringBits: number): Platform {
  return {
    kernels: createWasmKernels(wordBitsOf(ringBits)),
    entropy: systemEntropy,
    derive: hkdf,
    prg: aesPrg,
    cipher: fixedKeysAes(fixedKeysHex.map((hex) => Uint8Array.from(Buffer.from(hex, 'hex')))),
    now: () => performance.now(),
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
  };
}
