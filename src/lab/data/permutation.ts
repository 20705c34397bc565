/**
 * The place of `index` (below `count` ≤ 2^31) in an order of 0 … count − 1 that depends on the words alone, without a table: a balanced
 * Feistel network of six rounds over the next even number of bits, walked until it falls below `count` again.
 */
export function permuted(index: number, count: number, ...words: number[]): number {
  let half = 1;
  while (2 ** (2 * half) < count) half++;
  const mask = 2 ** half - 1;
  let key = 0x2545f491;
  for (const word of words)
    key = mix(Math.imul(key, 0x9e3779b1) ^ (word | 0) ^ Math.imul(Math.floor(word / 2 ** 32), 0x85ebca6b));
  let at = index;
  do {
    let left = Math.floor(at / (mask + 1));
    let right = at & mask;
    for (let round = 0; round < 6; round++) {
      const next = left ^ (mix(right ^ Math.imul(key, 2 * round + 1) ^ round) & mask);
      left = right;
      right = next;
    }
    at = left * (mask + 1) + right;
  } while (at >= count);
  return at;
}

function mix(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return h ^ (h >>> 16);
}
