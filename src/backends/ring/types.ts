import type { Shape } from '../../program/index.ts';

/**
 * The ring program: what a real-valued program becomes when every value is an integer modulo 2^L with a known number of fraction
 * bits. Truncations, openings and pins are statements of their own, so that "sent once", merged truncations and the cost of a run
 * are visible in the text. `fixed`, `cost` and `mpc` interpret this list.
 */
export interface RingParameters {
  /** L: all arithmetic is modulo 2^bits. */
  readonly bits: number;
  /** F: fraction bits of an activation. */
  readonly fraction: number;
}

/**
 * What the parties hold of a value. `pinned`: shared, the client's share was fixed before the run. `floating`: shared, the client's
 * share depends on messages. `opening`: the masked value e = x_s − b, known to the client. `server`: the server's plaintext.
 */
export type State = 'pinned' | 'floating' | 'opening' | 'server';

/**
 * f(x) for x in [−2^(bits−1) + 2^drop, 2^(bits−1)), read by the index i = ⌊(x − ρ) / 2^drop⌋ with ρ = (the mask) mod 2^drop:
 * Σ over knots t ≤ i of offset + slope · x, plus, for start ≤ i < start + 2^m, the polynomial Σ coefficients[d][i − start] · r^d of
 * r = x − i · 2^drop in [0, 2^(drop+1)). All are ring integers; degree ≤ 2.
 */
export interface Piecewise {
  readonly bits: number;
  readonly drop: number;
  /** Signed indices, ascending, above −2^(bits−drop−1). */
  readonly knots: Float64Array;
  readonly offsets: Float64Array;
  readonly slopes: Float64Array;
  readonly start: number;
  /** 2^m numbers a degree; empty without a table. */
  readonly coefficients: readonly Float64Array[];
}

export interface RingOperations {
  /** The client's secret: real numbers with `fraction` bits, or a one-hot row of `depth` for every index. */
  clientInput: {
    readonly name: string;
    readonly encoding: 'real' | 'oneHot';
    readonly fraction: number;
    /** Shared modulo 2^modulus; the whole ring where absent. */
    readonly modulus?: number;
  };
  /** The server's tensor times `factor`, with `fraction` bits. */
  serverInput: { readonly name: string; readonly fraction: number; readonly factor: number };
  /** A server's plaintext as a shared value: the client's share is zero. */
  fromServer: object;

  reshape: object;
  /** Reads the input at Σ index·stride + start: transposes, slices, repeats. */
  move: { readonly strides: readonly number[]; readonly start: number };
  concat: { readonly axis: number };
  /** Zeros before and after along one axis. */
  pad: { readonly axis: number; readonly before: number };
  /** (outer, rows, width) → (outer, Σ lengths): the first lengths[r] elements of every row. */
  packRows: { readonly lengths: readonly number[]; readonly width: number };
  /** The converse, with zeros behind. */
  unpackRows: { readonly lengths: readonly number[]; readonly width: number };
  add: object;
  subtract: object;
  /** (shared, server's plaintext of the same shape): onto the server's share. */
  addServer: object;
  /** Integers of shape `constantShape`, broadcast: onto the server's share. */
  addConstant: { readonly values: Float64Array; readonly constantShape: Shape };
  multiplyConstant: { readonly values: Float64Array; readonly constantShape: Shape };
  /** With `wraps`, only the low bits of the product are meant. */
  multiplyInteger: { readonly by: number; readonly wraps?: boolean };
  /** (outer, axis, inner) → (outer, 1, inner). */
  sum: { readonly outer: number; readonly axis: number; readonly inner: number };

  /** (pinned (m, k), server (k, n)). */
  linear: { readonly m: number; readonly k: number; readonly n: number; readonly modulus?: number };
  /** (pinned, server) of one shape, elementwise. */
  diagonal: object;
  /** Masks a pinned value and gives it to the client. */
  open: object;
  /** (pinned, its opening). */
  square: object;
  /** (x, y, opening of x, opening of y), elementwise. */
  product: object;
  /** The same for batches of matrices. */
  matrixProduct: { readonly batch: number; readonly m: number; readonly k: number; readonly n: number };
  truncate: { readonly bits: number };
  /**
   * Truncation into the smaller ring Z_2^(L − bits): no wrap bit, and for a pinned input no message. Its result enters only what
   * accepts narrow values: subtract, move, lookup (which looks at low bits alone) and openNarrow.
   */
  narrow: { readonly bits: number };
  /**
   * Masks a pinned value of Z_2^modulus and gives it to the client: Ê = e − 2^modulus·[top bit of e] − 2^(modulus − 2). Where a `range` of
   * signed integers is given, `fixed` refuses values outside of it; a run sees none of it.
   */
  openNarrow: { readonly modulus: number; readonly range?: readonly [low: number, high: number] };
  /** Ê → 1 − [top bit of e], which both sides know. */
  openedSign: { readonly modulus: number };
  /** (x, Ê, sign) → A with x = Ê + A in the whole ring: the carry of the masks is a correlation, nothing is sent. */
  unmask: { readonly modulus: number };
  /** (Ê, A) → Ê + A, floating in the whole ring. */
  widen: object;
  /** (Ê, A, sign) → (Ê + A)². */
  narrowSquare: { readonly modulus: number };
  /** (Ê, A, sign) of x, then of y → (Ê + A)·(Ê + A), elementwise. */
  narrowProduct: { readonly moduli: readonly [number, number] };
  /** A floating value gets a client share that was fixed before; with `width`, only its low bits stay valid. */
  pin: { readonly width?: number };
  /** Public tables of 2^indexBits integers, read at a shared index; the result has a leading axis, one entry a table. */
  lookup: { readonly indexBits: number; readonly tables: readonly Float64Array[] };
  /** A piecewise polynomial of a pinned value, of which only the low `bits` bits count. */
  piecewise: Piecewise;
  /** To the client, with `fraction` bits. */
  reveal: { readonly name: string; readonly fraction: number };
}
export type RingOperation = keyof RingOperations;

export type RingNodeOf<P extends RingOperation> = {
  readonly operation: P;
  readonly inputs: readonly number[];
  readonly parameters: RingOperations[P];
  readonly shape: Shape;
  readonly state: State;
  /** Fraction bits of the result: for messages and checks, arithmetic does not need them. */
  readonly fraction: number;
  readonly scope: string;
};
export type RingNode = { [P in RingOperation]: RingNodeOf<P> }[RingOperation];

export interface RingProgram {
  readonly ring: RingParameters;
  readonly nodes: readonly RingNode[];
}

/** A total table of meanings over ring programs. */
export type RingInterpreter<V> = { [P in RingOperation]: (node: RingNodeOf<P>, ...inputs: V[]) => V };
