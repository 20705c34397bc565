import { exponential as exp, hyperbolicTangent } from '../../math/elementary.ts';
import { erf, type RowFunction, rowValue } from '../../math/index.ts';
import type { Bounded, Composite, Node, Shape } from '../../program/index.ts';
import type { Arithmetic } from './arithmetic.ts';
import { newton } from './newton.ts';
import { type BoundedShape, fitBounded, fitOctaves } from './splines.ts';
import type { Piecewise } from './types.ts';
import type { ConstantValue, SharedValue, Site, TokenValue, Value } from './value.ts';

/** A wire of which only the low bits are used from here on: as narrow as its scale allows, pinned. */
interface Low {
  readonly node: number;
  readonly shape: Shape;
  readonly fraction: number;
}

const shapes = {
  sigmoid: { f: (x: number) => 1 / (1 + exp(-x)), low: -16, high: 16, stepBits: -2, left: 0, right: [1, 0] },
  tanh: { f: hyperbolicTangent, low: -8, high: 8, stepBits: -3, left: -1, right: [1, 0] },
  erf: { f: erf, low: -4, high: 4, stepBits: -3, left: -1, right: [1, 0] },
  silu: { f: (x: number) => x / (1 + exp(-x)), low: -16, high: 16, stepBits: -2, left: 0, right: [0, 1] },
  gelu: { f: (x: number) => (x / 2) * (1 + erf(x * Math.SQRT1_2)), low: -4, high: 4, stepBits: -2, left: 0, right: [0, 1] },
} as const satisfies Record<string, BoundedShape>;

/** Composites that are taken whole. */
export const exactComposites: readonly Composite[] = ['relu', 'sigmoid', 'silu', 'gelu', 'softmax', 'softmaxAttention'];

/** e^x on [−14, 2) and zero below; what is larger is out of range. */
const exponential: BoundedShape = { f: exp, low: -14, high: 2, stepBits: -2, left: 0, right: undefined };

/** The maximum of a softmax row may be this much too small at every level of its tree: the exponential's table has room for it. */
const maximumStepBits = -3;

/** Of a row function's smallest value in a product. */
const leastRowBits = 6;

/** How many bits a slope of the last octave must have beyond the argument's so that rounding it moves a value by less than 2^−9 of itself. */
const sloped = (f: (t: number) => number, high: number): number => Math.ceil(high - 6 - Math.log2(f(2 ** high)) + 9);

/**
 * Exact non-linear functions: every one of them is a `piecewise` operation or a few, so each costs one hop, and one more where its result
 * must be pinned. Arguments enter as narrow values, because only their low bits are looked at.
 */
export class Nonlinear {
  readonly #on: Arithmetic;

  constructor(on: Arithmetic) {
    this.#on = on;
  }

  /** The value of a node of a non-linear operation; undefined for all others. */
  convert(node: Node, inputs: readonly Value[]): Value | undefined {
    const on = this.#on;
    const [x, y] = inputs;
    switch (node.operation) {
      case 'sigmoid':
      case 'tanh':
      case 'erf':
      case 'silu':
      case 'gelu':
        return this.#bounded(node, on.whole(on.shared(node, x!)), shapes[node.operation]);
      case 'exp': {
        const reach = this.#argumentBits(node, 4);
        return this.#exponential(this.#low(on.whole(on.shared(node, x!)), reach + 2), reach);
      }
      case 'relu':
        return this.rectified(node, on.whole(on.shared(node, x!)));
      case 'step':
        return this.#step(node, on.whole(on.shared(node, x!)));
      case 'maximum': {
        if (x!.kind === 'constant') return this.convert(node, [y!, x!]);
        return on.add(node, this.rectified(node, on.subtract(node, x!, y!) as SharedValue), y!);
      }
      case 'max':
        return this.#max(node, on.whole(on.shared(node, x!)), node.parameters.axis);
      case 'softmax': {
        const [weights, total] = this.#exponentials(node, on.whole(on.shared(node, x!)), undefined);
        return on.multiply(node, weights, total);
      }
      case 'softmaxAttention': {
        const [weights, total] = this.#exponentials(node, on.whole(on.shared(node, x!)), inputs[2]);
        return on.multiply(node, on.matmul(node, weights, y!), total);
      }
      case 'argmax':
        return this.#argmax(node, on.whole(on.shared(node, x!)));
      default:
        return undefined;
    }
  }

  /**
   * Bits of the arguments of a scope's functions, which lie within ±2^bits: what was measured, at least what the function itself needs.
   * A ring has room for them beside F fraction bits and two more.
   */
  #argumentBits(node: Site, least: number): number {
    const { ring, options } = this.#on;
    const { argument } = this.#on.domain(node.scope);
    const { guardBits = 0 } = options;
    if (argument === undefined)
      return Math.min(options.argumentBits + guardBits, Math.max(options.argumentBits, ring.bits - 2 * ring.fraction - 4));
    const bits = Math.max(argument, least) + guardBits;
    if (ring.fraction + bits + 4 > ring.bits)
      this.#on.lacksRoom(node, `arguments of up to 2^${bits} need ${ring.fraction + bits + 4} bits`);
    return bits;
  }

  /**
   * 1 / √(factor·x + epsilon) by straight pieces over the octaves of mean squares that were measured; where nobody did, over those that the
   * ring can tell apart.
   */
  #inverseSquareRoot(site: Site, x: SharedValue, factor: number, epsilon: number): SharedValue {
    // x / 2^shift is about the mean, up to twice smaller: the same integer with the point moved.
    const shift = Math.ceil(-Math.log2(factor));
    const scaled = { ...x, fraction: x.fraction + shift };
    const f = (u: number): number => 1 / Math.sqrt(factor * 2 ** shift * u + epsilon);
    const { low, high } = this.#on.domain(site.scope);
    if (low === undefined || high === undefined) {
      const most = this.#on.ring.bits >= 48 ? 14 : this.#on.options.argumentBits;
      return this.#octaves(scaled, f, { ...this.#octavesOf(scaled), high: most });
    }
    const width = 2 ** shift;
    // The row times this is at most √width.
    const factorBits = this.#on.normFraction(site.scope, width, undefined);
    return this.#measuredOctaves(site, scaled, f, {
      low: low - 1,
      high,
      epsilon,
      partner: factorBits + Math.ceil(shift / 2) + 1,
    });
  }

  /** A function of a row scalar: by the table or the iteration that a plan names, else by straight pieces over its octaves. */
  rowFunction(site: Site, x: Value, method: Bounded | undefined, f: RowFunction): Value {
    const shared = this.#on.whole(this.#on.shared(site, x));
    if (method?.method === 'newton') return newton(this.#on, site, shared, method, f);
    if (method !== undefined) return this.#on.factors.rowFunction(site, shared, method, (t) => rowValue(f, t));
    if (f.power === -0.5) return this.#inverseSquareRoot(site, shared, f.factor, f.epsilon);
    const inverse = (t: number): number => 1 / (t + f.epsilon);
    const { low, high } = this.#on.domain(site.scope);
    if (low === undefined || high === undefined) return this.#octaves(shared, inverse, this.#octavesOf(shared));
    const { ring, options } = this.#on;
    return this.#measuredOctaves(site, shared, inverse, {
      ...{ low, high, epsilon: f.epsilon },
      partner: ring.fraction + options.integerBits,
    });
  }

  /** x / y for y > 0. */
  quotient(node: Node, x: Value, y: SharedValue): Value {
    return this.#on.multiply(
      node,
      x,
      this.#octaves(y, (t) => 1 / t, this.#octavesOf(y)),
    );
  }

  /**
   * Arguments with up to 16 fraction bits, where they have them and the ring has room: fewer leave nothing of small row means. Of the smallest
   * six bits are left.
   */
  #octavesOf(x: SharedValue): { low: number; high: number; fraction: number } {
    const { ring, options } = this.#on;
    const high = options.argumentBits;
    const fraction = Math.max(ring.fraction, Math.min(16, x.fraction, ring.bits - 4 - high));
    return { low: 6 - fraction, high, fraction };
  }

  /**
   * A function that falls over measured octaves. Far below epsilon it is flat, and needs no pieces. `partner`: the bits, point and head, of
   * what the result is multiplied by; the result keeps twelve of its smallest value beside them.
   */
  #measuredOctaves(
    site: Site,
    x: SharedValue,
    f: (t: number) => number,
    { low: met, high, epsilon, partner }: { low: number; high: number; epsilon: number; partner: number },
  ): SharedValue {
    const { ring, out } = this.#on;
    const low = Math.min(high - 1, Math.max(met, epsilon > 0 ? Math.floor(Math.log2(epsilon)) - 8 : met));
    const fraction = 6 - low;
    if (fraction + high + 4 > ring.bits)
      this.#on.lacksRoom(site, `arguments of 2^${low} to 2^${high} need ${fraction + high + 4} bits`);
    const argument = this.#low(x, high + 2, fraction);
    const head = Math.max(1, Math.ceil(Math.log2(f(2 ** low))) + 1);
    const result = ring.bits - 2 - head;
    const smallest = Math.floor(Math.log2(f(2 ** high)));
    const precise = Math.min(result, ring.bits - 2 - partner, Math.max(ring.fraction + 8, 12 - smallest));
    if (precise + smallest < leastRowBits || result - fraction < sloped(f, high))
      this.#on.lacksRoom(site, `arguments of 2^${low} to 2^${high} leave no bits of a function of them`);
    const { parameters, base } = fitOctaves(f, { low, high }, { argument: argument.fraction, result });
    const whole = this.#addConstant(this.#piecewise(argument, parameters, result), base);
    return this.#on.wire(whole, head, Math.min(out.node(whole).fraction, precise));
  }

  #octaves(x: SharedValue, f: (t: number) => number, range: { low: number; high: number; fraction?: number }): SharedValue {
    const { ring, out, options } = this.#on;
    const argument = this.#low(x, range.high + 2, range.fraction);
    const head = Math.max(1, Math.ceil(Math.log2(f(2 ** range.low))) + 1);
    const result = ring.fraction + Math.min(30, ring.bits - 2 - head - ring.fraction);
    const { parameters, base } = fitOctaves(f, range, { argument: argument.fraction, result });
    const made = this.#piecewise(argument, parameters, result);
    const whole = this.#addConstant(made, base);
    // A row scalar may be small: it enters products with as many bits again as its largest value leaves.
    const precise = Math.min(
      result,
      ring.fraction + Math.max(2, Math.min(8, ring.bits - 2 - 2 * ring.fraction - options.integerBits)),
    );
    return this.#on.wire(whole, head, Math.min(out.node(whole).fraction, precise));
  }

  /** Pinned, at F fraction bits unless told, and with so many head bits valid: in the smaller ring where that suffices. */
  #low(x: SharedValue, headBits = this.#on.options.argumentBits + 2, fraction = this.#on.ring.fraction): Low {
    const { out, ring } = this.#on;
    const drop = x.fraction - fraction;
    const narrow = fraction + headBits <= ring.bits - drop;
    const node =
      drop > 0 && !narrow ? out.truncate(x.node, drop) : drop > 0 ? out.narrow(x.node, drop) : out.raise(out.pin(x.node), -drop);
    return { node, shape: x.shape, fraction };
  }

  #piecewise(x: Low, parameters: Piecewise, fraction: number): number {
    return this.#on.out.push('piecewise', [x.node], parameters, { shape: x.shape, state: 'floating', fraction });
  }

  #addConstant(x: number, value: number): number {
    if (value === 0) return x;
    const { out } = this.#on;
    const { shape, state, fraction } = out.node(x);
    return out.push('addConstant', [x], { values: Float64Array.of(value), constantShape: [] }, { shape, state, fraction });
  }

  /** Quadratic pieces where the ring has room for their products, straight ones else. */
  #scales(bits: number, headBits: number): { bits: number; argument: number; result: number; degree: 1 | 2 } {
    const { ring } = this.#on;
    const room = ring.bits - 2 - headBits;
    const argument = ring.fraction;
    return room >= 2 * argument + 6
      ? { bits, argument, result: Math.min(2 * argument + 16, room), degree: 2 }
      : { bits, argument, result: Math.min(2 * argument, room), degree: 1 };
  }

  #bounded(node: Site, argument: SharedValue, shape: BoundedShape): SharedValue {
    // The table lies within the arguments.
    const argumentBits = this.#argumentBits(node, Math.log2(shape.high) + 1);
    const x = this.#low(argument, argumentBits + 2);
    const headBits = shape.right?.[1] === 0 ? 1 : argumentBits;
    const scales = this.#scales(x.fraction + argumentBits + 1, headBits + 1);
    const made = this.#piecewise(x, fitBounded(shape, scales), scales.result);
    return this.#on.wire(this.#addConstant(made, shape.left * 2 ** scales.result), headBits);
  }

  /** Arguments from −2^(reach + 1) + 2 to 2: moved so that the number of bits ends where the table does. */
  #exponential(x: Low, reach: number): SharedValue {
    const { high, low } = exponential;
    const scales = this.#scales(x.fraction + reach + 1, 4);
    const shift = 2 ** reach - high;
    const moved = { ...x, node: this.#addConstant(x.node, shift * 2 ** x.fraction) };
    const shape = { ...exponential, f: (t: number) => exp(t - shift), low: low + shift, high: high + shift };
    return this.#on.wire(this.#piecewise(moved, fitBounded(shape, scales), scales.result), 4);
  }

  /** x where it is at least `from` (an index of 2^drop integers), zero else. */
  #linearAbove(x: Low, bits: number, drop: number): number {
    const parameters: Piecewise = {
      bits,
      drop,
      knots: Float64Array.of(0),
      offsets: Float64Array.of(0),
      slopes: Float64Array.of(1),
      start: 0,
      coefficients: [],
    };
    return this.#piecewise(x, parameters, x.fraction);
  }

  rectified(site: Site, x: SharedValue): SharedValue {
    const argumentBits = this.#argumentBits(site, 2);
    const low = this.#low(x, argumentBits + 2);
    return this.#on.wire(this.#linearAbove(low, low.fraction + argumentBits + 2, 0), argumentBits + 1);
  }

  #step(node: Site, argument: SharedValue): SharedValue {
    const argumentBits = this.#argumentBits(node, 2);
    const x = this.#low(argument, argumentBits + 2);
    const parameters: Piecewise = {
      bits: x.fraction + argumentBits + 2,
      drop: 0,
      knots: Float64Array.of(1),
      offsets: Float64Array.of(2 ** x.fraction),
      slopes: Float64Array.of(0),
      start: 0,
      coefficients: [],
    };
    return this.#on.wire(this.#piecewise(x, parameters, x.fraction), 1);
  }

  /** The largest along one axis, exactly, in the whole ring. */
  #max(node: Node, x: SharedValue, axis: number): SharedValue {
    const { out, ring } = this.#on;
    const argumentBits = this.#argumentBits(node, 2);
    const last = x.shape.length - 1;
    const order = x.shape.map((_, i) => (i === axis ? last : i === last ? axis : i));
    const whole = out.pin(this.#on.at(x, Math.min(x.fraction, ring.fraction)));
    const { fraction } = out.node(whole);
    const turned = axis === last ? whole : out.transpose(whole, order);
    const best = this.#tournament(turned, { bits: fraction + argumentBits + 2, drop: 0, width: ring.bits });
    const back = axis === last ? best : out.transpose(best, order);
    return this.#on.wire(out.reshape(back, node.shape), argumentBits);
  }

  /** A tree of b + max(a − b, 0) along the last axis: two hops a level; only the low `width` bits stay valid. */
  #tournament(x: number, { bits, drop, width }: { bits: number; drop: number; width: number }): number {
    const { out, ring } = this.#on;
    let best = x;
    for (;;) {
      const { shape, fraction } = out.node(best);
      const [axis, extent] = [shape.length - 1, shape.at(-1)!];
      if (extent === 1) return best;
      const half = extent >> 1;
      const [a, b] = [out.slice(best, axis, 0, half), out.slice(best, axis, half, 2 * half)];
      const halves = [...shape.slice(0, -1), half];
      const difference = out.push('subtract', [a, b], {}, { shape: halves, state: 'pinned', fraction });
      const above = this.#linearAbove({ node: difference, shape: halves, fraction }, bits, drop);
      const larger = out.push('add', [b, above], {}, { shape: halves, state: 'floating', fraction });
      const parameters = width < ring.bits ? { width } : {};
      const pinned = out.push('pin', [larger], parameters, { shape: halves, state: 'pinned', fraction });
      const rest = out.slice(best, axis, 2 * half, extent);
      best = extent % 2 === 0 ? pinned : out.concat([pinned, rest], axis, [...shape.slice(0, -1), half + 1]);
    }
  }

  /** e^(x − maximum) of a row and one over its sum. Masked places are far below every other. */
  #exponentials(node: Node, scores: SharedValue, mask: Value | undefined): [SharedValue, SharedValue] {
    const { out, ring } = this.#on;
    // A hidden score is half as far below zero as arguments reach; every other lies within a quarter, at least 16 above it.
    const argumentBits = this.#argumentBits(node, 6);
    const { shape } = scores;
    const s = this.#masked(node, this.#low(scores, argumentBits + 2), mask, argumentBits);
    const levels = Math.ceil(Math.log2(shape.at(-1)!));
    if (levels * 2 ** maximumStepBits > exponential.high)
      this.#on.fail(node, `over ${shape.at(-1)} places`, 'shorten the sequence');
    // Scores and the masked value lie within ±2^argumentBits, their differences within twice that.
    const bits = ring.fraction + argumentBits + 2;
    const best = this.#tournament(s.node, { bits, drop: ring.fraction + maximumStepBits, width: bits });
    const wide = out.broadcast(best, shape);
    const below = out.push('subtract', [s.node, wide], {}, { shape, state: 'pinned', fraction: ring.fraction });
    let weights = this.#exponential({ ...s, node: below }, argumentBits + 1);
    const rowBits = levels + 3;
    if (weights.fraction + rowBits > ring.bits - 2) {
      weights = this.#on.wire(this.#on.at(weights, ring.fraction), weights.headBits);
    }
    const rows = [...shape.slice(0, -1), 1];
    const total = this.#on.sum({ ...node, shape: rows }, weights, [shape.length - 1]) as SharedValue;
    return [weights, this.#octaves(total, (t) => 1 / t, { low: 0, high: rowBits })];
  }

  #masked(node: Node, s: Low, mask: Value | undefined, argumentBits: number): Low {
    if (mask === undefined) return s;
    const { out } = this.#on;
    const result = { shape: s.shape, state: 'pinned', fraction: s.fraction } as const;
    if (mask.kind === 'shared') return { ...s, node: this.#hidden(s, mask) };
    if (mask.kind !== 'constant') return this.#on.fail(node, 'with a mask of the server', 'make the mask a public constant');
    const { values, shape: constantShape } = mask as ConstantValue;
    if (values.every((value) => value === 1)) return s;
    const kept = out.push('multiplyConstant', [s.node], { values, constantShape }, result);
    const hidden = values.map((value) => (value - 1) * 2 ** (s.fraction + argumentBits - 1));
    return { ...s, node: out.push('addConstant', [kept], { values: hidden, constantShape }, result) };
  }

  /** Scores that are zero where a secret 0/1 mask is, moved there to where a public mask would put them: nothing is multiplied. */
  #hidden(s: Low, mask: SharedValue): number {
    const { out, options } = this.#on;
    const bits = s.fraction + options.argumentBits - 1;
    const wide = out.broadcast(out.pin(mask.node), s.shape);
    const result = { shape: s.shape, state: 'pinned', fraction: s.fraction } as const;
    const lifted = out.push('multiplyInteger', [wide], { by: 2 ** (bits - mask.fraction) }, result);
    const kept = out.push('add', [s.node, lifted], {}, result);
    return out.push('addConstant', [kept], { values: Float64Array.of(-(2 ** bits)), constantShape: [] }, result);
  }

  /**
   * The place of the largest of a row: the tree runs on x · 2^b − place, so that the earlier of two equal ones wins, and all that can be
   * revealed of its result are the b lowest bits, moved to the top of a word.
   */
  #argmax(node: Node, x: SharedValue): TokenValue {
    const { out, ring } = this.#on;
    const argumentBits = this.#argumentBits(node, 2);
    const extent = x.shape.at(-1)!;
    const placeBits = Math.ceil(Math.log2(extent)) + 1;
    const fraction = Math.min(ring.fraction, ring.bits - placeBits - argumentBits - 2);
    if (fraction < 0) this.#on.fail(node, `over ${extent} places does not fit ${ring.bits} bits`, 'use a wider ring');
    const drop = x.fraction - fraction;
    const narrow = fraction + argumentBits + 2 <= ring.bits - drop;
    const s = drop <= 0 ? out.raise(out.pin(x.node), -drop) : narrow ? out.narrow(x.node, drop) : out.truncate(x.node, drop);
    const lifted = out.push(
      'multiplyInteger',
      [s],
      { by: 2 ** placeBits, wraps: true },
      { shape: x.shape, state: 'pinned', fraction },
    );
    const places = { values: Float64Array.from({ length: extent }, (_, place) => -place), constantShape: [extent] };
    const marked = out.push('addConstant', [lifted], places, { shape: x.shape, state: 'pinned', fraction });
    const bits = fraction + placeBits + argumentBits + 2;
    const best = this.#tournament(marked, { bits, drop: 0, width: bits });
    const top = ring.bits - placeBits;
    const result = { shape: node.shape, state: 'pinned', fraction: top } as const;
    const place = out.push('multiplyInteger', [out.reshape(best, node.shape)], { by: -(2 ** top), wraps: true }, result);
    return { kind: 'token', shape: node.shape, node: place, fraction: top };
  }
}
