/** Repeatable numbers for initial weights, shuffles and samples. Not for secrets: those take a `Prg`. */
export interface Pseudorandom {
  /** In [0, 1), with 32 random bits. */
  uniform(): number;
  /** A whole number in [0, below). */
  integer(below: number): number;
  /** Standard normal. */
  normal(): number;
  /** Shuffles in place. */
  shuffle<T>(items: T[]): T[];
}

/** The sfc32 generator (Doty-Humphrey), its state from the words by 32-bit mixing: the same words give the same numbers everywhere. */
export function pseudorandom(...words: number[]): Pseudorandom {
  let [a, b, c, counter] = [0x9e3779b9 | 0, 0x243f6a88 | 0, 0xb7e15162 | 0, 1];
  const next = (): number => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  for (const word of words) {
    a ^= mix(word | 0);
    b ^= mix(Math.floor(word / 2 ** 32) | 0);
    for (let i = 0; i < 12; i++) next();
  }
  let spare: number | undefined;
  const uniform = (): number => next() / 2 ** 32;
  const integer = (below: number): number => Math.floor(uniform() * below);
  return {
    uniform,
    integer,
    normal() {
      if (spare !== undefined) {
        const value = spare;
        spare = undefined;
        return value;
      }
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      const angle = 2 * Math.PI * uniform();
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    },
    shuffle(items) {
      for (let i = items.length - 1; i > 0; i--) {
        const j = integer(i + 1);
        [items[i], items[j]] = [items[j]!, items[i]!];
      }
      return items;
    },
  };
}

/** MurmurHash3's final mixing of 32 bits. */
function mix(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
