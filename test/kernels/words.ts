import type { Block, RingKernels, WordBits } from '../../src/kernels/index.ts';

/** A block with these words, modulo 2^wordBits. */
export function put(kernels: RingKernels, words: readonly bigint[]): Block {
  const block = kernels.allocate(words.length);
  const bytes = kernels.bytes(block);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  words.forEach((word, i) => {
    if (kernels.wordBits === 64) view.setBigUint64(8 * i, BigInt.asUintN(64, word), true);
    else view.setUint32(4 * i, Number(BigInt.asUintN(32, word)), true);
  });
  return block;
}

export function take(kernels: RingKernels, block: Block): bigint[] {
  const bytes = kernels.bytes(block);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: block.length }, (_, i) =>
    kernels.wordBits === 64 ? view.getBigUint64(8 * i, true) : BigInt(view.getUint32(4 * i, true)),
  );
}

/** Words that look random but are the same in every run, with the extremes among them. */
export function someWords(length: number, wordBits: WordBits, seed = 1): bigint[] {
  let state = BigInt(seed) * 0x9e3779b97f4a7c15n + 1n;
  return Array.from({ length }, (_, i) => {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
    if (i % 11 === 3) return [0n, 1n, 2n ** BigInt(wordBits - 1), 2n ** BigInt(wordBits) - 1n][(i + seed) % 4]!;
    return state >> BigInt(64 - wordBits);
  });
}
