import type { Block } from './block.ts';

/** The platform's cipher under one of its public keys: an answer, which is copied at once, or the copy itself. */
export interface WalkCipher {
  (keyIndex: 0 | 1, blocks: Uint8Array<ArrayBuffer>): Uint8Array;
  into?(keyIndex: 0 | 1, blocks: Uint8Array<ArrayBuffer>, out: Uint8Array<ArrayBuffer>): void;
}

/**
 * Walks of the trees of point and comparison functions on ring words. The protocol, its bytes and the slow twins belong to whoever makes
 * the keys; here is only what a walk needs to know of their layout. Keys lie one behind the other, `keyBytes` each.
 */
export interface Walk {
  readonly party: 0 | 1;
  /** 16 bytes a key. */
  readonly seeds: Uint8Array;
  readonly corrections: Uint8Array;
  readonly keyBytes: number;
  readonly encrypt: WalkCipher;
}

/** A key: `levels` seed corrections of 16 bytes, the right control bits in whole bytes at `bitsAt`, one block of words at `leafAt`. */
export interface PointWalk extends Walk {
  readonly levels: number;
  readonly bitsAt: number;
  readonly leafAt: number;
}

/** A key: k levels of `levelBytes` (a seed correction and the value's), then the last value's words and the point's own. */
export interface ComparisonWalk extends Walk {
  readonly k: number;
  readonly levelBytes: number;
  /** 1 or 2. */
  readonly valueWords: number;
  readonly points: Block;
  readonly pointsPerKey: number;
}

export interface WindowWalk extends Walk {
  readonly k: number;
  readonly levelBytes: number;
  /** Where a key's leaf words are. */
  readonly leafAt: number;
  readonly windowBits: number;
  /** The first of every key's two neighbouring windows. */
  readonly windows: Block;
}

/** Sizes that do not fit together throw a `usage` error; the words are written to `out` key after key. */
export interface TreeKernels {
  /** Whole vectors of point functions: keys × 2^levels blocks of 16 bytes. */
  expandPoints(out: Block, walk: PointWalk): void;
  /** Comparisons at public points: keys × pointsPerKey × valueWords words. */
  compare(out: Block, walk: ComparisonWalk): void;
  /** Two windows of every key for each word of the point: keys × 2 · 2^windowBits words in every block. */
  expandWindows(outs: readonly Block[], walk: WindowWalk): void;
}
