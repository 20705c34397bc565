import { SottoError } from '../../errors/index.ts';
import { type Bounded, type Domain, type Domains, size } from '../../program/index.ts';
import type { QuantiseOptions } from './budget.ts';
import type { RingBuilder } from './builder.ts';
import { exactBits, foldConstants, maxAbs, uniformPowerOfTwo } from './constants.ts';
import { Factors } from './factors.ts';
import type { RingParameters } from './types.ts';
import type { Use } from './uses.ts';
import type { ConstantValue, ServerValue, SharedValue, Site, Value } from './value.ts';

/**
 * Real arithmetic on ring values: what every operation of a program does to scales. Truncations are lazy: a value keeps its extra
 * fraction bits until a product, an output or the ring's width asks for fewer.
 */
export class Arithmetic {
  readonly out: RingBuilder;
  readonly ring: RingParameters;
  readonly options: QuantiseOptions;
  readonly factors: Factors;
  readonly #domains: Domains;

  constructor(out: RingBuilder, options: QuantiseOptions, domains: Domains = {}) {
    this.#domains = domains;
    this.out = out;
    this.ring = out.ring;
    this.options = options;
    this.factors = new Factors(this);
  }

  fail(
    node: { operation: string; scope: string },
    reason: string,
    remedy = 'convert the model with a polynomial plan (sotto convert)',
  ): never {
    throw new SottoError('model', `${node.operation} ${reason}`, { place: { scope: node.scope }, remedy });
  }

  /** What is known of a scope, or of a tensor of the server. */
  domain(name: string): Domain {
    return Object.hasOwn(this.#domains, name) ? this.#domains[name]! : {};
  }

  /** A program whose values were measured, and do not fit. */
  lacksRoom(node: { operation: string; scope: string }, reason: string): never {
    const { bits, fraction } = this.ring;
    throw new SottoError(
      'range',
      `${node.operation}: ${reason}, which a ring of ${bits} bits with ${fraction} of fraction lacks`,
      {
        place: { scope: node.scope },
        remedy: 'use a wider ring',
      },
    );
  }

  /** How many fraction bits more than F the rows of a table take whose numbers lie within ±2^weight. */
  fineBits(weight: number | undefined): number {
    return weight === undefined ? 0 : Math.min(this.ring.fraction, Math.max(0, 1 - weight));
  }

  /** More fraction bits than F for numbers of the server that are all small: their largest keeps F − 2 bits. */
  weightFraction({ weight = 0 }: ServerValue): number {
    const { fraction } = this.ring;
    return fraction + Math.min(fraction, Math.max(0, -2 - weight));
  }

  /**
   * Weights of a map whose result is dropped into smaller rings, where its last bits cost nothing: their rounding is most of an error in rings of few bits,
   * so they have up to four fraction bits more, as far as the ring has room beside the operand's and the result's integers.
   */
  finerFraction(own: number, operand: number, headBits: number): number {
    return Math.max(own, Math.min(own + 4, this.ring.bits - 2 - headBits - operand));
  }

  /**
   * Fraction bits of what a norm squares and multiplies, rows of `width`: F, or so many more that the smallest row keeps ten bits, and no more than
   * the largest row's sum of squares has room for. Where F less a few buys a smaller ring (`rowFraction`), so many that 13 bits are left of the
   * smallest row, or of rows of a quarter of the mean square that the norm's table spans.
   */
  normFraction(scope: string, width: number, table: Bounded | undefined): number {
    const { low, high } = this.domain(scope);
    const { bits, fraction } = this.ring;
    const spared = (small: number): number => Math.max(this.rowFraction, Math.min(fraction, Math.ceil(13 - small / 2)));
    if (low === undefined || high === undefined) {
      if (table === undefined || table.method === 'newton') return fraction;
      return spared(table.rangeBits - 2 - Math.round(Math.log2(width)));
    }
    const most = Math.floor((bits - 2 - high - Math.ceil(Math.log2(width))) / 2);
    return Math.min(most, Math.max(spared(low), Math.ceil(10 - low / 2)));
  }

  /** Fewest fraction bits of what is multiplied by a number of its row: three less than F where they buy a smaller ring for the map behind. */
  get rowFraction(): number {
    return this.options.smallerRings === true ? this.ring.fraction - 3 : this.ring.fraction;
  }

  /** Whether so many bits have room in the ring of a value, the whole one unless told. */
  fits(fraction: number, headBits: number, modulus = this.ring.bits): boolean {
    return fraction + headBits <= modulus - 2;
  }

  wire(node: number, headBits: number, factorFraction = this.ring.fraction): SharedValue {
    const { shape, fraction } = this.out.node(node);
    return { kind: 'shared', shape, node, fraction, headBits, factorFraction };
  }

  memo(build: ServerValue['build']): ServerValue['build'] {
    const known = new Map<string, number>();
    return (fraction, factor, modulus) => {
      const key = `${fraction} ${factor} ${modulus}`;
      const made = known.get(key) ?? build(fraction, factor, modulus);
      known.set(key, made);
      return made;
    };
  }

  /** Any value as a shared wire: the server's plaintext becomes one whose client share is zero. */
  shared(node: Site, x: Value): SharedValue {
    if (x.kind === 'shared') return x;
    if (x.kind !== 'server')
      return this.fail(node, `needs a shared value, not a public one`, 'trace the program with the constant on the other side');
    const plain = x.build(this.weightFraction(x), x.factor);
    const { shape, fraction } = this.out.node(plain);
    const wire = this.out.once(`share ${plain}`, () =>
      this.out.push('fromServer', [plain], {}, { shape, state: 'pinned', fraction }),
    );
    return this.wire(wire, this.options.integerBits);
  }

  add(node: Site, x: Value, y: Value): Value {
    if (x.kind === 'constant' && y.kind === 'constant') return foldConstants(node, x, y, (a, b) => a + b);
    if (x.kind === 'constant' || (x.kind === 'server' && y.kind === 'shared')) return this.add(node, y, x);
    const left = this.shared(node, x);
    const wide = this.out.broadcast(left.node, node.shape);
    if (y.kind === 'constant') return this.addConstant(node, { ...left, node: wide, shape: node.shape }, y);
    if (y.kind === 'server') {
      const plain = this.out.broadcast(y.build(left.fraction, y.factor), node.shape);
      const { state, fraction } = this.out.node(wide);
      return this.wire(this.out.push('addServer', [wide, plain], {}, { shape: node.shape, state, fraction }), left.headBits);
    }
    return this.addShared(node, left, this.shared(node, y));
  }

  subtract(node: Site, x: Value, y: Value): Value {
    if (x.kind === 'shared' && y.kind === 'shared') return this.addShared(node, x, y, 'subtract');
    return this.add(node, x, this.scaled({ ...node, shape: y.shape }, y, -1));
  }

  addConstant(node: Site, x: SharedValue, y: ConstantValue): Value {
    const values = y.values.map((value) => Math.round(value * 2 ** x.fraction));
    const { state, fraction } = this.out.node(x.node);
    const result = { shape: node.shape, state, fraction };
    return this.wire(this.out.push('addConstant', [x.node], { values, constantShape: y.shape }, result), x.headBits);
  }

  /** Aligns upwards where the ring has room (a shift is free), else truncates the longer operand. */
  addShared(node: Site, x: SharedValue, y: SharedValue, operation: 'add' | 'subtract' = 'add'): Value {
    const headBits = Math.max(x.headBits, y.headBits);
    const most = Math.max(x.fraction, y.fraction);
    const modulus = Math.min(this.out.modulusOf(x.node), this.out.modulusOf(y.node));
    const fraction = this.fits(most, headBits, modulus) ? most : Math.min(x.fraction, y.fraction);
    const [a, b] = [x, y].map((value) => this.out.broadcast(this.at(value, fraction), node.shape)) as [number, number];
    const state = this.out.node(a).state === 'pinned' && this.out.node(b).state === 'pinned' ? 'pinned' : 'floating';
    return this.wire(this.out.push(operation, [a, b], {}, { shape: node.shape, state, fraction }), headBits);
  }

  at(x: SharedValue, fraction: number): number {
    if (x.fraction < fraction) return this.out.raise(x.node, fraction - x.fraction);
    return x.fraction > fraction ? this.out.truncate(this.out.widened(x.node), x.fraction - fraction) : x.node;
  }

  /** The same value in the whole ring. */
  whole(x: SharedValue): SharedValue {
    return { ...x, node: this.out.widened(x.node) };
  }

  /** A factor of a matrix product or linear map: pinned in the whole ring, with at most F fraction bits unless it is a row scalar. */
  operand(x: SharedValue): SharedValue {
    const least = Math.min(x.fraction, x.factorFraction);
    return { ...x, node: this.out.pin(this.at(this.whole(x), least)), fraction: least };
  }

  /**
   * What a map by weights of `fine` fraction bits reads where its result may live in a smaller ring: the bits that are dropped are dropped into one,
   * which costs no truncation. In the whole ring where the smaller one has no room for the result.
   */
  smallOperand(x: SharedValue, fine: number, headBits: number): SharedValue {
    const least = Math.min(x.fraction, x.factorFraction);
    const drop = x.fraction - least;
    const modulus = this.out.modulusOf(x.node) - drop;
    if (modulus === this.ring.bits || !this.fits(least + fine, headBits, modulus)) return this.operand(x);
    return { ...x, node: drop > 0 ? this.out.narrow(x.node, drop) : this.out.pin(x.node), fraction: least };
  }

  scaled(node: Site, x: Value, by: number): Value {
    if (x.kind === 'constant') return { ...x, values: x.values.map((value) => value * by) };
    if (x.kind === 'server') return { ...x, factor: x.factor * by };
    return this.multiply(node, x, { kind: 'constant', shape: [], values: Float64Array.of(by) });
  }

  /** `small`: as in `matmul`, of the map that reads the product. */
  multiply(node: Site, x: Value, y: Value, small = false): Value {
    if (x.kind === 'constant' && y.kind === 'constant') return foldConstants(node, x, y, (a, b) => a * b);
    if (x.kind === 'constant' || (x.kind === 'server' && y.kind === 'shared')) return this.multiply(node, y, x, small);
    if (x.kind !== 'shared')
      return this.fail(node, 'of two values of the server', 'fold the two into one weight when the model is loaded');
    if (y.kind === 'constant') return this.multiplyConstant(node, x, y);
    if (y.kind === 'index' || y.kind === 'token') return this.fail(node, 'by token numbers');
    if (y.kind === 'server') {
      const left = this.operand(x);
      const fine = this.weightFraction(y);
      const plain = this.out.broadcast(y.build(fine, y.factor), node.shape);
      const wide = this.out.broadcast(left.node, node.shape);
      const result = { shape: node.shape, state: 'pinned', fraction: left.fraction + fine } as const;
      return this.wire(this.out.push('diagonal', [wide, plain], {}, result), left.headBits);
    }
    if (y.node === x.node) return this.factors.square(node, x);
    return this.factors.product(node, x, y, small);
  }

  multiplyConstant(node: Site, x: SharedValue, y: ConstantValue): Value {
    const most = maxAbs(y.values);
    const head = Math.max(0, x.headBits + (most > 1 ? Math.ceil(Math.log2(most)) : 0));
    const exponent = uniformPowerOfTwo(y.values);
    if (exponent !== undefined && exponent <= 0) {
      // The same integer with the point moved; negation is one multiplication.
      const wide = this.out.broadcast(x.node, node.shape);
      const { state } = this.out.node(wide);
      const by = y.values[0]! < 0 ? -1 : 1;
      const fraction = x.fraction - exponent;
      if (by === 1 && exponent === 0) return { ...x, node: wide, shape: node.shape };
      const result = { shape: node.shape, state, fraction };
      const made =
        by === 1 ? this.out.push('reshape', [wide], {}, result) : this.out.push('multiplyInteger', [wide], { by }, result);
      return this.wire(made, x.headBits + exponent);
    }
    const exact = exactBits(y.values, Math.max(12, this.options.factorBits));
    if (exact === 0) return this.multiplyEncoded(node, x, y, 0, head);
    if (this.#averages(x, most)) return this.average(node, x, y);
    const modulus = this.out.modulusOf(x.node);
    const room = this.fits(x.fraction + (exact ?? this.options.factorBits), x.headBits, modulus);
    // A product that fits exactly has not half a bit to spare.
    const bits = exact ?? this.options.factorBits - (room ? Math.ceil(Math.log2(most)) : Math.floor(Math.log2(most)));
    const fitting = room ? x : { ...x, ...this.shortened(x, x.fraction - bits) };
    return this.multiplyEncoded(node, fitting, y, bits, Math.max(0, x.headBits + Math.ceil(Math.log2(most))));
  }

  /** A row's sum by at most one over its length. */
  #averages(x: SharedValue, most: number): boolean {
    const made = this.out.node(x.node);
    return made.operation === 'sum' && most * made.parameters.axis < 1.001;
  }

  /**
   * A row's sum by one over its length: no larger than what was summed, so that it has the scale of its terms. Where the factor's bits do not
   * fit, the sum drops as many before: of one number a row, and what it loses is divided by the length.
   */
  average(node: Site, x: SharedValue, y: ConstantValue): Value {
    if (uniformPowerOfTwo(y.values) !== undefined) return this.multiplyConstant(node, x, y);
    const [most, least] = [
      maxAbs(y.values),
      y.values.reduce((low, value) => Math.min(low, Math.abs(value)), Number.POSITIVE_INFINITY),
    ];
    const { factorBits } = this.options;
    // Between the longest and the shortest row, half of the bits go to either.
    const bits = factorBits - Math.floor(Math.log2(most)) + Math.ceil(Math.log2(most / least) / 2);
    const direct = [bits, ...(most / least > 1 && factorBits >= 14 ? [factorBits] : [])];
    for (const fitting of direct)
      if (this.fits(x.fraction + fitting, x.headBits, this.out.modulusOf(x.node)))
        return this.multiplyEncoded(node, x, y, fitting, x.headBits);
    return this.multiplyEncoded(node, { ...x, ...this.shortened(x, x.fraction - bits) }, y, bits, x.headBits);
  }

  /** Before a public factor: a small one makes what is lost small too, so that the product may keep the scale that x had. */
  shortened(x: SharedValue, most: number): { node: number; fraction: number } {
    const fraction = Math.min(x.fraction, this.ring.fraction, Math.max(2, most));
    return { node: this.at(x, fraction), fraction };
  }

  multiplyEncoded(node: Site, x: SharedValue, y: ConstantValue, bits: number, headBits: number): Value {
    const wide = this.out.broadcast(x.node, node.shape);
    const values = y.values.map((value) => Math.round(value * 2 ** bits));
    const { state } = this.out.node(wide);
    const result = { shape: node.shape, state, fraction: x.fraction + bits };
    return this.wire(this.out.push('multiplyConstant', [wide], { values, constantShape: y.shape }, result), headBits);
  }

  /** `use`: what reads the result. */
  matmul(node: Site, x: Value, y: Value, use: Use = 'whole'): Value {
    if (x.kind === 'constant' || y.kind === 'constant') this.fail(node, 'with a public matrix', 'make it a weight of the server');
    if (x.kind === 'server' && y.kind === 'shared') this.fail(node, 'with the server on the left', 'transpose both operands');
    if (y.kind === 'server') return this.linear(node, this.shared(node, x), y, use);
    const left = this.operand(this.shared(node, x));
    const right = this.operand(this.shared(node, y));
    const [m, k] = left.shape.slice(-2) as [number, number];
    const n = right.shape.at(-1)!;
    if (right.shape.length !== left.shape.length)
      this.fail(node, 'of different ranks of shared values', 'broadcast the right operand');
    const batch = size(left.shape) / (m * k);
    const openings = [this.out.open(left.node), this.out.open(right.node)];
    const result = { shape: node.shape, state: 'floating', fraction: left.fraction + right.fraction } as const;
    const made = this.out.push('matrixProduct', [left.node, right.node, ...openings], { batch, m, k, n }, result);
    return this.wire(made, this.options.integerBits);
  }

  linear(node: Site, x: SharedValue, weights: ServerValue, use: Use): Value {
    if (weights.shape.length !== 2) this.fail(node, 'with a batch of server matrices', 'use one matrix a product');
    const [k, n] = weights.shape as [number, number];
    const own = this.weightFraction(weights);
    // Small weights make small values: what the fraction gains, the head does not need.
    const headBits = this.options.integerBits - (own - this.ring.fraction);
    const small = use !== 'whole' && this.options.smallerRings === true;
    const fine = small || use !== 'taken' ? own : this.finerFraction(own, Math.min(x.fraction, x.factorFraction), headBits);
    const left = small ? this.smallOperand(x, fine, headBits) : this.operand(x);
    const m = size(left.shape) / k;
    const flat = this.out.reshape(left.node, [m, k]);
    const fraction = left.fraction + fine;
    const plain = weights.build(fine, weights.factor);
    const modulus = this.out.modulusOf(flat);
    const smaller = modulus < this.ring.bits ? { modulus } : {};
    const result = { shape: [m, n], state: 'pinned', fraction, modulus } as const;
    const made = this.out.push('linear', [flat, plain], { m, k, n, ...smaller }, result);
    return this.wire(this.out.reshape(made, node.shape), headBits);
  }

  sum(node: Site, x: Value, axes: readonly number[]): Value {
    const shared = this.shared(node, x);
    const sorted = [...axes].sort((a, b) => a - b);
    const { state, fraction } = this.out.node(shared.node);
    let at = shared.node;
    for (const axis of sorted) {
      const shape = this.out.node(at).shape;
      const outer = size(shape.slice(0, axis));
      const inner = size(shape.slice(axis + 1));
      const result = { shape: shape.map((extent, i) => (i === axis ? 1 : extent)), state, fraction };
      at = this.out.push('sum', [at], { outer, axis: shape[axis]!, inner }, result);
    }
    return this.wire(at, shared.headBits);
  }
}
