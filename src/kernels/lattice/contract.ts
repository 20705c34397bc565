import type { Block } from '../contract.ts';

/**
 * Polynomials modulo X^n + 1 and a prime, one vector of n doubles each, behind one contract: `js/` is the slow twin in BigInt that states what each
 * operation means, `wasm/` the fast one. A residue may be any integer x with |x| ≤ 2p (lazy); operations take and leave lazy residues,
 * whichever an implementation finds, so that only `canonical` and `pack` have one answer to the bit. The forms: coefficients in natural order, or
 * values at the odd powers of the ring's root in bit-reversed order.
 */
export interface PrimeRing {
  readonly n: number;
  readonly prime: number;
  /** The smallest primitive 2n-th root of unity. */
  readonly root: bigint;
  /** Bits of a canonical residue. */
  readonly bits: number;
}

/** n^−1 times another factor, ready for the inverse transform. */
export interface InverseFactor {
  readonly ring: PrimeRing;
  readonly factor: number;
  readonly factorTimesLast: number;
}

/** A term of a basis extension: residues x_i, nearest to zero, of one prime, and a constant that goes with them. */
export interface ExtensionSource {
  readonly residues: Block;
  readonly constant: number;
}

/** Every operation writes `out`, which may be one of its inputs unless told otherwise. Blocks of another length throw a `usage` error before anything is written. */
export interface LatticeKernels {
  /** `fused`: the machine's multiply-add rounds once; `split`: products are made exact without one; `exact`: the twin. */
  readonly arithmetic: 'fused' | 'split' | 'exact';
  readonly allocatedBytes: number;
  readonly peakBytes: number;
  /** Doubles, not cleared. Throws a `resource` error where the memory cannot grow. */
  allocate(length: number): Block;
  /** Clears the block and gives it back. */
  free(block: Block): void;
  /** The block in place; the view is invalid after the next `allocate`. */
  values(block: Block): Float64Array<ArrayBuffer>;

  /** The ring of a prime with its tables, made once. Throws a `usage` error where the prime or the dimension is none of the kernels'. */
  ring(n: number, prime: number): PrimeRing;
  inverseFactor(ring: PrimeRing, factor: bigint): InverseFactor;

  /** Coefficients to values, in place. */
  forward(ring: PrimeRing, a: Block): void;
  /** The same where all coefficients behind the first `length` (a power of 4, at least 4) are zero; they are not read. */
  forwardShort(ring: PrimeRing, a: Block, length: number): void;
  /** Values to coefficients, in place, times what the factor holds beside n^−1. */
  inverse(ring: PrimeRing, a: Block, factor?: InverseFactor): void;

  add(ring: PrimeRing, out: Block, a: Block, b: Block): void;
  subtract(ring: PrimeRing, out: Block, a: Block, b: Block): void;
  multiply(ring: PrimeRing, out: Block, a: Block, b: Block): void;
  /** out += a · b. */
  multiplyAdd(ring: PrimeRing, out: Block, a: Block, b: Block): void;
  multiplyScalar(ring: PrimeRing, out: Block, a: Block, factor: bigint): void;
  addScalar(ring: PrimeRing, out: Block, a: Block, value: bigint): void;
  /** out = (a − b) · factor. */
  differenceTimes(ring: PrimeRing, out: Block, a: Block, b: Block, factor: bigint): void;
  /** The representatives nearest to zero, of integers up to 2^52: also what another ring's balanced residues are here, up to 16p. */
  balance(ring: PrimeRing, out: Block, a: Block): void;
  /** The representatives in [0, p). */
  canonical(ring: PrimeRing, out: Block, a: Block): void;

  /**
   * What X → X^g does, g odd: to values a permutation (`values`: out[i] = a[…]), to coefficients a permutation with signs. `out` overlaps no input.
   */
  automorphismOnValues(ring: PrimeRing, out: Block, a: Block, element: number): void;
  automorphismOnCoefficients(ring: PrimeRing, out: Block, a: Block, element: number): void;

  /** (out0, out1) = Σ_k a_k · (b_k, c_k), with the automorphism of `element` on a_k where it is given. Outputs overlap no input. */
  innerProducts(
    ring: PrimeRing,
    out0: Block,
    out1: Block,
    terms: readonly { readonly a: Block; readonly b: Block; readonly c: Block }[],
    element?: number,
  ): void;
  /** out = Σ_k a_k · b_k; `out` overlaps no input. */
  dot(ring: PrimeRing, out: Block, terms: readonly { readonly a: Block; readonly b: Block }[]): void;
  /** (a0 + a1 s)(b0 + b1 s) = d0 + d1 s + d2 s²; outputs overlap no input. */
  tensor(ring: PrimeRing, d: readonly [Block, Block, Block], a: readonly [Block, Block], b: readonly [Block, Block]): void;

  /**
   * −round(Σ x_i · constant_i), constant_i = 1/q_i, x_i nearest to zero: right unless the sum comes within count · 2^−52 of a half. At most 32 sources.
   */
  overflow(out: Block, sources: readonly ExtensionSource[]): void;
  /** Σ x_i · constant_i + v · product, constant_i = Q/q_i and product = Q modulo this ring's prime. `out` overlaps no input. */
  extend(ring: PrimeRing, out: Block, sources: readonly ExtensionSource[], v: Block, product: number): void;

  /**
   * Residues uniform modulo p from the 64-bit words of `bytes`, each cut to the ring's bits and left out where it is not below p. Gives how many words of
   * `out` were filled: all of them unless the bytes ran out.
   */
  sampleUniform(ring: PrimeRing, out: Block, bytes: Uint8Array): number;
  /** −1, 0, 1 from one 64-bit word each. */
  sampleTernary(out: Block, bytes: Uint8Array): void;
  /** A discrete Gaussian from one 64-bit word each, by the thresholds of `gaussianTable`. */
  sampleGaussian(out: Block, bytes: Uint8Array, table: BigUint64Array<ArrayBuffer>): void;

  /** Canonical residues at `ring.bits` each, little endian and without gaps: n · bits / 8 bytes. */
  pack(ring: PrimeRing, a: Block): Uint8Array<ArrayBuffer>;
  /** The converse. Throws an `input` error at another number of bytes or a residue that is not below p. */
  unpack(ring: PrimeRing, out: Block, bytes: Uint8Array): void;
}
