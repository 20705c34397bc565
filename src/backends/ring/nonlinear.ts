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
        return this.#bounded(this.#low(on.shared(node, x!)), shapes[node.operation]);
      case 'exp':
        return this.#exponential(this.#low(on.shared(node, x!)), on.options.argumentBits);
      case 'relu':
        return this.rectified(on.shared(node, x!));
      case 'step':
        return this.#step(this.#low(on.shared(node, x!)));
      case 'maximum': {
        if (x!.kind === 'constant') return this.convert(node, [y!, x!]);
        return on.add(node, this.rectified(on.subtract(node, x!, y!) as SharedValue), y!);
      }
      case 'max':
        return this.#max(node, on.shared(node, x!), node.parameters.axis);
      case 'softmax': {
        const [weights, total] = this.#exponentials(node, on.shared(node, x!), undefined);
        return on.multiply(node, weights, total);
      }
      case 'softmaxAttention': {
        const [weights, total] = this.#exponentials(node, on.shared(node, x!), inputs[2]);
        return on.multiply(node, on.matmul(node, weights, y!), total);
      }
      case 'argmax':
        return this.#argmax(node, on.shared(node, x!));
      default:
        return undefined;
    }
  }

  /** 1 / √(factor·x + epsilon) without a table of a plan: over all means of squares that the ring can tell apart. */
  #inverseSquareRoot(x: SharedValue, factor: number, epsilon: number): SharedValue {
    // x / 2^shift is about the mean: the same integer with the point moved.
    const shift = Math.ceil(-Math.log2(factor));
    const scaled = { ...x, fraction: x.fraction + shift };
    const high = this.#on.ring.bits >= 48 ? 14 : this.#on.options.argumentBits;
    return this.#octaves(scaled, (u) => 1 / Math.sqrt(factor * 2 ** shift * u + epsilon), { ...this.#octavesOf(scaled), high });
  }

  /** A function of a row scalar: by the table or the iteration that a plan names, else over all arguments that the ring can tell apart. */
  rowFunction(site: Site, x: Value, method: Bounded | undefined, f: RowFunction): Value {
    const shared = this.#on.shared(site, x);
    if (method?.method === 'newton') return newton(this.#on, site, shared, method, f);
    if (method !== undefined) return this.#on.factors.rowFunction(site, shared, method, (t) => rowValue(f, t));
    if (f.power === -0.5) return this.#inverseSquareRoot(shared, f.factor, f.epsilon);
    return this.#octaves(shared, (t) => 1 / (t + f.epsilon), this.#octavesOf(shared));
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

  #bounded(x: Low, shape: BoundedShape): SharedValue {
    const { argumentBits } = this.#on.options;
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

  rectified(x: SharedValue): SharedValue {
    const low = this.#low(x);
    const argumentBits = this.#on.options.argumentBits;
    return this.#on.wire(this.#linearAbove(low, low.fraction + argumentBits + 2, 0), argumentBits + 1);
  }

  #step(x: Low): SharedValue {
    const parameters: Piecewise = {
      bits: x.fraction + this.#on.options.argumentBits + 2,
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
    const argumentBits = this.#on.options.argumentBits;
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
    const argumentBits = this.#on.options.argumentBits;
    const { shape } = scores;
    const s = this.#masked(node, this.#low(scores), mask);
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

  #masked(node: Node, s: Low, mask: Value | undefined): Low {
    if (mask === undefined) return s;
    const { out } = this.#on;
    const argumentBits = this.#on.options.argumentBits;
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
    const argumentBits = this.#on.options.argumentBits;
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
