import type { RingParameters } from './node.ts';

/** What a ring is taken to have room for where nothing was measured: the one place that says so. */

/**
 * Integer bits of a value and bits of a public factor in wide rings: they fit rotary constants, and a row's mean beside one over its length,
 * on an untruncated product of 64 bits. Where both fit, sums are divided before they are truncated.
 */
export const wide = { integerBits: 14, factorBits: 16 } as const;

/** Fraction bits where nobody says, as far as they leave room. */
export function usualFraction(bits: number): number {
  if (bits >= 48) return bits >= 60 ? 16 : 14;
  return bits >= 32 ? 9 : Math.max(1, Math.floor((bits - 2) / 3));
}

/** The ring where neither a plan nor a caller names one. */
export const usualRing: RingParameters = { bits: 64, fraction: usualFraction(64) };

/** What is assumed of values that calibration says nothing about, in bits. */
export interface QuantiseOptions {
  /** Integer bits that every value is assumed to need before calibration says better. */
  readonly integerBits: number;
  /** Bits of a public factor that is not an integer. */
  readonly factorBits: number;
  /** Arguments of exact non-linear functions lie within ±2^argumentBits: a range condition, checked by the `fixed` backend. */
  readonly argumentBits: number;
  /** How many bits wider the windows of functions are: room for values that range flags then tell from what lies beyond. None where absent. */
  readonly guardBits?: number | undefined;
  /** Whether maps by weights may have smaller rings: see `hasSmallerRings`. */
  readonly smallerRings?: boolean | undefined;
}

/** Whether a map by weights has room for its result beside 2F fraction bits in the ring that a product's last F bits leave. */
export const hasSmallerRings = ({ bits, fraction }: RingParameters, { integerBits }: QuantiseOptions): boolean =>
  3 * fraction + integerBits + 2 <= bits;

export const defaultQuantisation = (ring: RingParameters): QuantiseOptions =>
  ring.bits >= 48
    ? {
        integerBits: wide.integerBits,
        // What fits beside F fraction bits: a factor that does not fit beside 2F has its other operand truncated first.
        factorBits: Math.min(wide.factorBits, ring.bits - 2 - wide.integerBits - ring.fraction),
        argumentBits: ring.bits >= 60 ? 10 : 8,
      }
    : {
        integerBits: Math.max(2, Math.min(8, ring.bits - 4 - 2 * ring.fraction)),
        factorBits: ring.fraction,
        argumentBits: Math.max(2, Math.min(7, ring.bits - 5 - 2 * ring.fraction)),
      };
