/**
 * THE language: every value-level operation a model may use, with its static parameters. Models have no data-dependent control
 * flow, so a program is a list of single-assignment statements and everything else is an interpreter of that list.
 */
export type Shape = readonly number[];
/** Who may know a value: everybody, one side, or (computed by the owner analysis) neither. */
export type Owner = 'public' | 'client' | 'server' | 'shared';
/** Bytes are packed codes, which only `nf4` and `gather` read. */
export type Element = 'float' | 'index' | 'byte';

/** The closed list of primitives. Elementwise operations broadcast as NumPy does; reductions keep their axes with size one. */
export interface Primitives {
  input: { readonly name: string; readonly shape: Shape; readonly owner: Exclude<Owner, 'shared'>; readonly element: Element };
  /** Public, known when the program is traced. */
  constant: { readonly shape: Shape; readonly values: Float64Array; readonly element: Element };

  reshape: { readonly shape: Shape };
  transpose: { readonly permutation: readonly number[] };
  slice: { readonly axis: number; readonly start: number; readonly end: number };
  /** Zeros before and after along one axis. */
  pad: { readonly axis: number; readonly before: number; readonly after: number };
  concat: { readonly axis: number };
  broadcast: { readonly shape: Shape };

  add: object;
  subtract: object;
  multiply: object;
  divide: object;
  maximum: object;
  scale: { readonly by: number };
  offset: { readonly by: number };
  square: object;
  exp: object;
  log: object;
  sqrt: object;
  tanh: object;
  erf: object;
  /** 1 where x > 0, else 0; its gradient is zero. */
  step: object;
  /** To the nearest integer, halves to even; its gradient is zero. */
  round: object;
  stopGradient: object;

  /** (…, m, k) · (…, k, n): leading axes equal, or the right operand has rank two. */
  matmul: object;
  sum: { readonly axes: readonly number[] };
  max: { readonly axis: number };

  /** (table (V, …), indices (…)) → (…indices, …row). */
  gather: object;
  /** (indices (…), rows (…indices, …row)) → (rows, …row): the sum of the rows that name each index. */
  scatterAdd: { readonly rows: number };
  /** indices (…) → (…, depth), float. */
  oneHot: { readonly depth: number };
  /** The first index of the largest value along the last axis, which disappears. */
  argmax: object;
}

/**
 * A table over [0, 2^rangeBits) with 2^indexBits nodes; results have extraBits more fraction bits. Linear interpolation (the default)
 * costs two more hops and a row's product; without it the error is that of half a step or less than one.
 */
export interface BoundedTable {
  readonly method?: 'table' | undefined;
  readonly rangeBits: number;
  readonly indexBits: number;
  readonly extraBits: number;
  readonly interpolation?: 'linear' | 'none' | undefined;
}

/**
 * Newton's iteration from a straight line over arguments in [low, high]: products and truncations alone, two hops an iteration.
 * Outside of the range it diverges; `fixed` refuses what it meets there.
 */
export interface NewtonIteration {
  readonly method: 'newton';
  readonly low: number;
  readonly high: number;
  readonly iterations: number;
}

/** How a ring evaluates a function of a row scalar in a bounded range. Float backends compute it exactly, whatever stands here. */
export type Bounded = BoundedTable | NewtonIteration;

/** What a power attention raises: the centred scores 1 + s − mean(s), the scores as they are, or their positive part. */
export type PowerArgument = 'centred' | 'plain' | 'rectified';

/** Which power of which argument. */
export interface Powers {
  readonly argument: PowerArgument;
  /**
   * Of centred scores that were scaled head by head: what stands for 1 in each head, in the order of the axes before the keys. Epsilon is
   * taken times its power, so that the result is that of unscaled scores.
   */
  readonly offsets: readonly number[] | undefined;
  readonly exponent: number;
}

/** Operations with a default lowering (composites.ts): a backend takes them whole or gets them lowered. */
export interface Composites {
  relu: object;
  sigmoid: object;
  silu: object;
  /** x · Φ(x), with the error function. */
  gelu: object;
  /** (x, a, b, c) → a·x² + b·x + c; coefficients broadcast. */
  quadratic: object;
  /** Along the last axis. */
  softmax: object;
  logSoftmax: object;
  /** 1 / (x + epsilon) for x ≥ 0. */
  reciprocal: { readonly epsilon: number; readonly table: Bounded | undefined };
  /** 1 / √(factor·x + epsilon) for x ≥ 0. */
  inverseSquareRoot: { readonly factor: number; readonly epsilon: number; readonly table: Bounded | undefined };
  /** (x) or (x, gain), over the last axis. */
  rmsNorm: { readonly epsilon: number; readonly table: Bounded | undefined };
  /** (x), or (x, gain, bias), over the last axis. */
  layerNorm: { readonly epsilon: number; readonly table: Bounded | undefined };
  /** (x (…, T, D), cos (T, D), sin (T, D)): the two halves of D rotate into each other. */
  rotary: object;
  /** (scores (…, Q, K), values (…, K, D), mask) → softmax over the unmasked keys, times the values. The mask is 0/1 and broadcasts. */
  softmaxAttention: object;
  /**
   * (scores (…, Q, K), mask, inverseLengths): the masked argument of a power attention raised to its exponent, zero where masked; see
   * `powerAttention`.
   */
  powers: Powers;
  /**
   * (scores (…, Q, K), values (…, K, D), mask, inverseLengths): with n the row's number of unmasked keys (inverseLengths = 1/n,
   * shape (…, Q, 1)) and x the masked argument (1 + s − mean(mask·s) where centred), the weights are x^exponent and the result is
   * (Σ x^p v / n) / (epsilon + Σ x^p / n). With `half`, how one over a row's mean of x^(p/2) is found: those powers are divided by their
   * mean before they are squared, after which a row's mean lies between 1 and n however large its scores (for p ≥ 4). An error of that
   * division is none of the result, a common factor of numerator and denominator; but epsilon is one of the levelled powers then.
   * Centred powers of a row whose keys are told by a party's secret take two inputs more: `keep`, 0/1, which broadcasts to the scores, and
   * `shares`, keep · 1/n. Both, and the scores, are zero where a key does not count; x = s + keep − shares · Σ s then.
   */
  powerAttention: Powers & { readonly epsilon: number; readonly table: Bounded | undefined; readonly half: Bounded | undefined };
  /** (table (V, d), indices (…)): a gather whose indices may be a party's secret. */
  embedding: object;
  /** (logits (…, V), labels (…), weights (…)): Σ weights · −log softmax[label], a scalar of shape []. */
  crossEntropy: object;
  /**
   * (codes, scales) → a matrix from 4-bit codes: its elements in order, two a byte, the first in the high half, each the level of its
   * code (nf4.ts) times the scale of its block of `block` elements; the last block may be short.
   */
  nf4: { readonly shape: Shape; readonly block: number };
}

/** The name of a primitive, which every backend computes. */
export type Primitive = keyof Primitives;
/** The name of a composite, which is lowered for backends that do not take it whole. */
export type Composite = keyof Composites;
/** The name of any operation of the language. */
export type Operation = Primitive | Composite;
/** The static parameters of every operation, by its name. */
export type Parameters = Primitives & Composites;

/** One statement. `inputs` are indices of earlier nodes. */
export type NodeOf<P extends Operation> = {
  readonly operation: P;
  readonly inputs: readonly number[];
  readonly parameters: Parameters[P];
  readonly shape: Shape;
  readonly element: Element;
  /** Where in the model: `layers.3.mlp.act`. */
  readonly scope: string;
};
/** A statement of any operation; `operation` tells which. */
export type Node = { [P in Operation]: NodeOf<P> }[Operation];

/**
 * Powers of two that bound what calibration met under a scope, its margin included. They are coarse on purpose: whoever derives a private
 * program knows them.
 */
export interface Domain {
  /** Arguments of the scope's non-linear functions lie within ±2^argument. */
  readonly argument?: number | undefined;
  /** Mean squares of the scope's norm, or mean powers of its attention, lie in [2^low, 2^high). */
  readonly low?: number | undefined;
  readonly high?: number | undefined;
  /** The server's numbers lie within ±2^weight. */
  readonly weight?: number | undefined;
}
/** By scope, and for the server's tensors by name. */
export type Domains = Readonly<Record<string, Domain>>;

/** A straight-line program. Outputs keep the order in which the model gave them. */
export interface Program {
  readonly nodes: readonly Node[];
  readonly outputs: ReadonlyMap<string, number>;
  /** Where a ring looks for how far its values reach. */
  readonly domains?: Domains | undefined;
}

/**
 * What a model is written against. `T` is a reference into a trace. Every operation is a method of the same name, plus the
 * conveniences at the end.
 */
export interface Ops<T> {
  /** A value that is fed by its name: `shape` its extents, `owner` who knows it; numbers unless `element` says otherwise. */
  input(name: string, shape: Shape, owner: Exclude<Owner, 'shared'>, element?: Element): T;
  /** A public value that is part of the program; `values` in row-major order, as many as `shape` says, else a `model` error. */
  constant(values: ArrayLike<number>, shape: Shape, element?: Element): T;
  /** The same values in row-major order under another shape of as many elements, else a `model` error. */
  reshape(x: T, shape: Shape): T;
  /** Axis i of the result is axis permutation[i] of x. */
  transpose(x: T, permutation: readonly number[]): T;
  /** Elements `start` up to, not including, `end` along one axis; a `model` error where they are none or not all there. */
  slice(x: T, axis: number, start: number, end: number): T;
  /** Zeros before and after along one axis, whose extent grows by both numbers. */
  pad(x: T, axis: number, before: number, after: number): T;
  /** Parts of the same rank one after the other along an axis; all other extents are equal, else a `model` error. */
  concat(parts: readonly T[], axis: number): T;
  /** x repeated along axes of extent one, or missing in front, until it has `shape`. */
  broadcast(x: T, shape: Shape): T;
  /** x + y. Shapes broadcast as in NumPy, else a `model` error. */
  add(x: T, y: T): T;
  /** x − y; shapes broadcast. */
  subtract(x: T, y: T): T;
  /** x · y, elementwise; shapes broadcast. */
  multiply(x: T, y: T): T;
  /** x / y, elementwise; shapes broadcast. In a ring a divisor that is not public costs comparisons; `reciprocal` with a table is cheaper. */
  divide(x: T, y: T): T;
  /** The larger of x and y, elementwise; shapes broadcast. */
  maximum(x: T, y: T): T;
  /** x times a public number. */
  scale(x: T, by: number): T;
  /** x plus a public number. */
  offset(x: T, by: number): T;
  /** x². */
  square(x: T): T;
  /** e^x. */
  exp(x: T): T;
  /** The natural logarithm. */
  log(x: T): T;
  /** The square root; not a number below zero. */
  sqrt(x: T): T;
  /** The hyperbolic tangent. */
  tanh(x: T): T;
  /** The error function, to float64 in the reference backend. */
  erf(x: T): T;
  /** 1 where x > 0, else 0; its gradient is zero. */
  step(x: T): T;
  /** To the nearest integer, halves to even; its gradient is zero. */
  round(x: T): T;
  /** x, behind which no gradient goes. */
  stopGradient(x: T): T;
  /** (…, m, k) · (…, k, n) → (…, m, n): leading axes equal, or y has rank two. Other shapes are a `model` error. */
  matmul(x: T, y: T): T;
  /** Sums along axes, which stay with extent one. */
  sum(x: T, axes: readonly number[]): T;
  /** The largest value along an axis, which stays with extent one. */
  max(x: T, axis: number): T;
  /** (table (V, …), indices (…)) → (…indices, …row). Reference backend: a `range` error for an index outside of [0, V). */
  gather(table: T, indices: T): T;
  /** (indices (…), values (…indices, …row)) → (rows, …row): the sum of the values whose index names each row. */
  scatterAdd(indices: T, values: T, rows: number): T;
  /** indices (…) → (…, depth): 1 at the index, else 0. */
  oneHot(indices: T, depth: number): T;
  /** x (…, n) → (…) of indices: the first of the largest values along the last axis. */
  argmax(x: T): T;

  /** max(x, 0). */
  relu(x: T): T;
  /** 1 / (1 + e^−x). */
  sigmoid(x: T): T;
  /** x · sigmoid(x). */
  silu(x: T): T;
  /** x · Φ(x) with the error function, not the approximation by tanh. */
  gelu(x: T): T;
  /** a·x² + b·x + c; the coefficients broadcast to x, else a `model` error. What stands for an activation in private runs. */
  quadratic(x: T, a: T, b: T, c: T): T;
  /** e^x over its sum along the last axis, without overflow. */
  softmax(x: T): T;
  /** The natural logarithm of `softmax`, without overflow. */
  logSoftmax(x: T): T;
  /** 1 / (x + epsilon) for x ≥ 0. A ring reads it from `table`, and compares and normalises where there is none. */
  reciprocal(x: T, options: { epsilon: number; table?: Bounded | undefined }): T;
  /** 1 / √(factor·x + epsilon) for x ≥ 0; `table` as of `reciprocal`. */
  inverseSquareRoot(x: T, options: { factor: number; epsilon: number; table?: Bounded | undefined }): T;
  /** x (…, d) / √(mean x² + epsilon) along the last axis, times `gain` (d) where given. */
  rmsNorm(x: T, options: { gain?: T | undefined; epsilon: number; table?: Bounded | undefined }): T;
  /**
   * (x − mean) / √(variance + epsilon) along the last axis of x (…, d), times `gain` (d), plus `bias` (d) where both are
   * given.
   */
  layerNorm(x: T, options: { gain?: T | undefined; bias?: T | undefined; epsilon: number; table?: Bounded | undefined }): T;
  /** x (…, T, D) with cos and sin (T, D): the two halves of D rotate into each other. D is even, else a `model` error. */
  rotary(x: T, cos: T, sin: T): T;
  /**
   * scores (…, Q, K), values (…, K, D) → (…, Q, D): softmax over the keys whose mask, 0 or 1, is 1; the mask broadcasts to the
   * scores.
   */
  softmaxAttention(scores: T, values: T, mask: T): T;
  /** The powers of `powerAttention` before they are divided by their sum, (…, Q, K), zero where masked. */
  powers(scores: T, mask: T, inverseLengths: T, options: Powers): T;
  /**
   * scores (…, Q, K), values (…, K, D) → (…, Q, D): the attention whose weights are powers of the scores.
   * `Composites.powerAttention` says all.
   */
  powerAttention(
    scores: T,
    values: T,
    mask: T,
    inverseLengths: T,
    options: {
      argument?: PowerArgument | undefined;
      offsets?: readonly number[] | undefined;
      exponent: number;
      epsilon: number;
      table?: Bounded | undefined;
      half?: Bounded | undefined;
    },
    secret?: { readonly keep: T; readonly shares: T } | undefined,
  ): T;
  /** A `gather` whose indices may be the secret of a party: (table (V, d), indices (…)) → (…, d). */
  embedding(table: T, indices: T): T;
  /** (logits (…, V), labels (…), weights (…)) → []: Σ weights · −log softmax[label], in nats. */
  crossEntropy(logits: T, labels: T, weights: T): T;
  /** A matrix of `shape` from packed 4-bit codes and a scale a block of `block` elements, which is even. */
  nf4(codes: T, scales: T, options: { shape: Shape; block: number }): T;

  /** The extents of a value; known while the program is traced. */
  shape(x: T): Shape;
  /** Whether a value is numbers, indices or packed bytes. */
  element(x: T): Element;
  /** Swaps the last two axes. */
  transposed(x: T): T;
  /** Runs `body` with `label` appended to the scope of every node it makes. */
  scope<R>(label: string, body: () => R): R;
}

/** A reference to a node of the program under construction. */
export type Ref = number & { readonly brand: 'node' };
/** A total table of meanings: leaving out a primitive is a type error; composites left out are lowered. */
export type Interpreter<V> = { [P in Primitive]: (node: NodeOf<P>, ...inputs: V[]) => V } & {
  [C in Composite]?: (node: NodeOf<C>, ...inputs: V[]) => V;
};
