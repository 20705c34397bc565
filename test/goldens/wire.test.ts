import { expect, it } from 'vitest';
import { sectionsOf, seedBytes, streamChunkBytes, tagBytes } from '../../src/backends/cost/index.ts';
import { generateComparisonKeys } from '../../src/backends/mpc/correlations/dcf.ts';
import { generateKeys } from '../../src/backends/mpc/correlations/dpf.ts';
import { offlineFrame, setupFrame } from '../../src/backends/mpc/roles.ts';
import { onlineFrame } from '../../src/backends/mpc/runner.ts';
import { mostFrameBytes, quantise, schedule, wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { encodeFrameHeader } from '../../src/net/frame.ts';
import { aesPrg, hkdf } from '../../src/node/randomness.ts';
import { fixedKeyCipher } from '../mpc/platform.ts';
import { toyProgram } from '../ring/toy.ts';
import { digest, golden } from './golden.ts';

const bytes = (count: number, seed: number): Uint8Array<ArrayBuffer> => {
  const out = new Uint8Array(count);
  aesPrg(new Uint8Array(32).fill(seed)).fill(1, out);
  return out;
};

/** Words of both sizes, packed in every width. */
function packed(): string {
  const parts = [32, 64].flatMap((bits) => {
    const kernels = createWasmKernels(wordBitsOf(bits));
    const block = kernels.allocate(13);
    kernels.bytes(block).set(bytes(13 * (bits / 8), 2));
    return Array.from({ length: bits }, (_, width) => kernels.pack(block, width + 1));
  });
  return digest(...parts);
}

/** Everything that two versions of a party must agree on below the handshake, in one hash. */
const frozen = 'f4777229feb5319a';

it('the wire format is the one that it was', async () => {
  const program = quantise(toyProgram({ tokens: 3, width: 8, exponent: 4, steps: 2 }), { bits: 64, fraction: 16 });
  const payload = Uint8Array.of(1, 2, 3, 4, 5);
  const format = {
    frame: Buffer.from(encodeFrameHeader(1, payload, 7)).toString('hex'),
    kinds: { setupFrame, offlineFrame, onlineFrame },
    limits: { mostFrameBytes, streamChunkBytes, seedBytes, tagBytes },
    words: packed(),
    pointFunctions: [32, 64].map((wordBits) =>
      digest(
        generateKeys({
          ...{ seeds0: bytes(80, 3), seeds1: bytes(80, 4), alpha: Uint32Array.of(0, 1, 77, 300, 511), k: 9 },
          ...{ wordBits: wordBits as 32 | 64, encryptBlocks: fixedKeyCipher },
        }),
      ),
    ),
    comparisons: [32, 64].map((wordBits) =>
      digest(
        generateComparisonKeys({
          ...{ seeds0: bytes(48, 5), seeds1: bytes(48, 6), k: 11, valueWords: 2, leafWords: 3 },
          alpha: new Uint8Array(wordBits === 64 ? BigUint64Array.of(0n, 5n, 2047n).buffer : Uint32Array.of(0, 5, 2047).buffer),
          ...{ beta: bytes((6 * wordBits) / 8, 7), gamma: bytes((9 * wordBits) / 8, 8) },
          ...{ wordBits: wordBits as 32 | 64, encryptBlocks: fixedKeyCipher },
        }),
      ),
    ),
    derivation: Buffer.from(hkdf(bytes(32, 9), 'sotto golden/v1', [payload, bytes(3, 1)])).toString('hex'),
    generator: Buffer.from(bytes(16, 9)).toString('hex'),
    hops: digest(JSON.stringify(schedule(program))),
    sections: digest(JSON.stringify(sectionsOf(program))),
  };
  await golden('wire', format);
  expect(digest(JSON.stringify(format))).toBe(frozen);
});
