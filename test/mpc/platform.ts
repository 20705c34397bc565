import { performance } from 'node:perf_hooks';
import { fixedKeysHex } from '../../src/backends/mpc/correlations/dpf.ts';
import type { Platform } from '../../src/backends/mpc/index.ts';
import { wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { aesPrg, fixedKeysAes, hkdf } from '../../src/node/randomness.ts';

export const fixedKeyCipher: Platform['cipher'] = fixedKeysAes(
  fixedKeysHex.map((hex) => Uint8Array.from(Buffer.from(hex, 'hex'))),
);

/** A role's platform with entropy from a seed, so that a test's run can be made again. */
export function platform(ringBits: number, seed: number): Platform {
  let draws = 0;
  return {
    kernels: createWasmKernels(wordBitsOf(ringBits)),
    entropy: (bytes) => {
      draws += 1;
      const prg = aesPrg(new Uint8Array(32).fill(seed));
      prg.fill(draws, bytes);
    },
    derive: hkdf,
    prg: aesPrg,
    cipher: fixedKeyCipher,
    now: () => performance.now(),
  };
}

export const platforms = (ringBits: number, seed = 1) => ({
  client: platform(ringBits, seed),
  server: platform(ringBits, seed + 1),
  dealer: platform(ringBits, seed + 2),
});
