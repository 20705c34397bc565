import type { Shape } from '../../program/index.ts';

/** What the fixed-point lowering knows about a value of the source program. */
export type Value = ConstantValue | ServerValue | IndexValue | SharedValue | TokenValue;

/** Public real numbers, encoded where they are used, with as many bits as they need there. */
export interface ConstantValue {
  readonly kind: 'constant';
  readonly shape: Shape;
  readonly values: Float64Array;
}

/** The server's plaintext: encoded with the fraction bits that its use asks for. */
export interface ServerValue {
  readonly kind: 'server';
  readonly shape: Shape;
  readonly build: (fraction: number, factor: number, modulus?: number) => number;
  readonly factor: number;
  /** What bounds its numbers: they lie within ±2^weight; undefined where nobody measured. */
  readonly weight: number | undefined;
}

/** Token numbers, not yet embedded. */
export interface IndexValue {
  readonly kind: 'index';
  readonly shape: Shape;
  readonly owner: 'client' | 'public';
  readonly name: string;
}

/** A shared wire. `headBits`: integer bits that its size is assumed to need (checked at run time by the `fixed` backend). */
export interface SharedValue {
  readonly kind: 'shared';
  readonly shape: Shape;
  readonly node: number;
  readonly fraction: number;
  readonly headBits: number;
  /** Most fraction bits with which it enters a product: F, or more for row scalars. */
  readonly factorFraction: number;
}

/** A place among others, in the top bits of a word: revealed as it is, and good for nothing else. */
export interface TokenValue {
  readonly kind: 'token';
  readonly shape: Shape;
  readonly node: number;
  readonly fraction: number;
}

/** Where a value is made: for its shape, and for errors. */
export interface Site {
  readonly operation: string;
  readonly scope: string;
  readonly shape: Shape;
}
