/** A word as the signed number that it stands for in the ring of 2^L. */
export const signed = (word: number, L: number): number => {
  const low = ((word % 2 ** L) + 2 ** L) % 2 ** L;
  return low >= 2 ** (L - 1) ? low - 2 ** L : low;
};

/** −2^{L−1} … 2^{L−1} − 1. */
export const ringValues = (L: number): number[] => Array.from({ length: 2 ** L }, (_, i) => i - 2 ** (L - 1));
