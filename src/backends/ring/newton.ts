import { inversePower, newtonDistance, newtonLine, type RowFunction, rowValue } from '../../math/index.ts';
import type { NewtonIteration, Shape } from '../../program/index.ts';
import type { Arithmetic } from './arithmetic.ts';
import type { Opened } from './builder.ts';
import type { Factor } from './factors.ts';
import type { RingParameters } from './types.ts';
import type { SharedValue, Site } from './value.ts';

/**
 * The iteration as integers. With t = x / 2^shift + floor in [least, 1]: y₀ = (line[0] − line[1] · t) / 2^guessBits; then y ← y (2 − t y), or
 * y ← y (3 − t y²) / 2; the function is gain · y. Every y has `fraction` bits where it enters a product.
 */
export interface NewtonSteps {
  readonly shift: number;
  readonly floor: number;
  readonly least: number;
  readonly fraction: number;
  readonly line: readonly [number, number];
  readonly gain: number;
  readonly gainBits: number;
  /** Largest relative distance to the function after the last iteration, before any rounding. */
  readonly distance: number;
  /** The same with the rounding of a run: what a result is off by at most. */
  readonly error: number;
}

/** Fraction bits of the line's slope: the guess reads t with so many bits less, as long as enough are left. */
const guessBits = 6;
const leastGuessFraction = 12;

/** The integers of an iteration over its range, and how far it comes. */
export function newtonSteps(
  { power, factor, epsilon }: RowFunction,
  { low, high, iterations }: NewtonIteration,
  ring: RingParameters,
): NewtonSteps {
  const added = epsilon / factor;
  const shift = Math.ceil(Math.log2(high + added));
  const least = (low + added) / 2 ** shift;
  // Room for the largest product: y for 1/t, y² for 1/√t.
  const head = Math.ceil(-Math.log2(least)) + 2;
  const fraction = Math.max(guessBits + 2, Math.min(24, Math.floor((ring.bits - 3 - head) / 2)));
  const exact = newtonLine(power, least);
  const slope = Math.round(exact[1] * 2 ** guessBits);
  const line = [Math.round(exact[0] * 2 ** fraction), slope] as const;
  const reached = newtonDistance(power, [line[0] / 2 ** fraction, slope / 2 ** guessBits], least, iterations);
  const gainBits = Math.min(14, ring.bits - 2 - head - fraction);
  // A unit of t counts most where t is least, and the gain is rounded.
  const unit = 2 ** -fraction;
  const rounding = (power === -1 ? 2 : 1) * (unit / least) + 4 * unit + 2 ** -gainBits;
  return {
    shift,
    floor: added / 2 ** shift,
    least,
    fraction,
    line,
    gain: inversePower(power, factor * 2 ** shift),
    gainBits,
    distance: reached,
    error: reached + rounding,
  };
}

/** A bounded function of a row scalar by Newton's iteration: four hops an iteration, and nothing but products and truncations. */
export function newton(on: Arithmetic, site: Site, x: SharedValue, method: NewtonIteration, f: RowFunction): SharedValue {
  if (!(method.low < method.high && method.low > 0))
    return on.fail(site, `has the empty range ${method.low} to ${method.high}`, 'give low below high, both positive');
  const steps = newtonSteps(f, method, on.ring);
  const { fraction, shift } = steps;
  const { shape } = x;
  const moved = { ...x, fraction: x.fraction + shift };
  const t = argument(on, moved, fraction, steps.floor);
  const [low, high] = [method.low, method.high].map((end) => Math.round((end / 2 ** shift + steps.floor) * 2 ** fraction));
  // One unit on either side: the argument is rounded.
  const opened = on.out.openNarrow(t.node, t.modulus, [low! - 1, high! + 1]);
  let y = firstGuess(on, shape, steps, moved, t, opened);
  let result = { node: y.node, fraction };
  for (let k = 0; k < method.iterations; k++) {
    result = f.power === -1 ? reciprocalStep(on, shape, t, y) : rootStep(on, shape, t, y);
    const drop = result.fraction - fraction;
    if (k + 1 < method.iterations) y = { node: on.out.narrow(result.node, drop), fraction, modulus: on.ring.bits - drop };
  }
  return finished(on, site, result, steps, rowValue(f, method.high));
}

/** The line at t: of a coarser narrow value where that ring holds the result, else of the widened one, which takes two hops more. */
function firstGuess(on: Arithmetic, shape: Shape, steps: NewtonSteps, x: SharedValue, t: Factor, opened: Opened): Factor {
  const { fraction, line, least } = steps;
  const coarseModulus = on.ring.bits - Math.max(0, x.fraction - fraction + guessBits);
  const needed = fraction + Math.ceil(-Math.log2(least)) + 3;
  const { bits } = on.ring;
  const precise = fraction - guessBits >= leastGuessFraction;
  if (precise && coarseModulus >= needed && coarseModulus + t.modulus >= bits && 2 * coarseModulus >= bits) {
    const coarse = argument(on, x, fraction - guessBits, steps.floor);
    const result = { shape, state: 'pinned', fraction } as const;
    const falling = on.out.push('multiplyInteger', [coarse.node], { by: -line[1] }, result);
    return { ...coarse, node: plus(on, falling, line[0]), fraction };
  }
  const fine = fraction + guessBits;
  const wide = on.out.push('widen', [opened.e, opened.rest], {}, { shape, state: 'floating', fraction });
  const falling = on.out.push('multiplyInteger', [wide], { by: -line[1] }, { shape, state: 'floating', fraction: fine });
  return { node: on.out.narrow(plus(on, falling, line[0] * 2 ** guessBits), guessBits), fraction, modulus: bits - guessBits };
}

/** t at a fraction: narrow where bits are dropped. */
function argument(on: Arithmetic, x: SharedValue, fraction: number, floor: number): Factor {
  const { shape, state } = on.out.node(x.node);
  const drop = x.fraction - fraction;
  // The same integer with the point moved.
  const renamed = on.out.push('reshape', [x.node], {}, { shape, state, fraction: x.fraction });
  const node = drop > 0 ? on.out.narrow(renamed, drop) : on.out.raise(on.out.pin(renamed), -drop);
  return { node: plus(on, node, Math.round(floor * 2 ** fraction)), fraction, modulus: on.ring.bits - Math.max(0, drop) };
}

function plus(on: Arithmetic, x: number, integer: number): number {
  if (integer === 0) return x;
  const { shape, state, fraction } = on.out.node(x);
  return on.out.push('addConstant', [x], { values: Float64Array.of(integer), constantShape: [] }, { shape, state, fraction });
}

interface Step {
  readonly node: number;
  readonly fraction: number;
}

/** y (2 − t y). */
function reciprocalStep(on: Arithmetic, shape: Shape, t: Factor, y: Factor): Step {
  const { fraction } = y;
  const product = on.factors.multiplied(shape, t, y);
  const negative = on.out.push('multiplyInteger', [product], { by: -1 }, { shape, state: 'floating', fraction: 2 * fraction });
  const rest = factor(on, plus(on, negative, 2 * 2 ** (2 * fraction)), fraction);
  return { node: on.factors.multiplied(shape, y, rest), fraction: 2 * fraction };
}

/** (3 y − (t y) y²) / 2: both brackets at once, then one product. */
function rootStep(on: Arithmetic, shape: Shape, t: Factor, y: Factor): Step {
  const { fraction } = y;
  const product = factor(on, on.factors.multiplied(shape, t, y), fraction);
  const square = factor(on, on.factors.multiplied(shape, y, y), fraction);
  const cube = on.factors.multiplied(shape, product, square);
  const opened: Opened = on.out.openNarrow(y.node, y.modulus);
  const wide = on.out.push('widen', [opened.e, opened.rest], {}, { shape, state: 'floating', fraction });
  const by = 3 * 2 ** fraction;
  const result = { shape, state: 'floating', fraction: 2 * fraction + 1 } as const;
  const thrice = on.out.push('multiplyInteger', [wide], { by }, result);
  return { node: on.out.push('subtract', [thrice, cube], {}, result), fraction: 2 * fraction + 1 };
}

/** A product narrowed to `fraction` bits. */
function factor(on: Arithmetic, node: number, fraction: number): Factor {
  return { node: on.out.narrow(node, fraction), fraction, modulus: on.ring.bits - fraction };
}

/** gain · y: a power of two moves the point, anything else is a public factor. */
function finished(on: Arithmetic, site: Site, { node, fraction }: Step, steps: NewtonSteps, smallest: number): SharedValue {
  const { gainBits } = steps;
  const exponent = Math.floor(Math.log2(steps.gain));
  const mantissa = steps.gain / 2 ** exponent;
  const head = Math.ceil(-Math.log2(steps.least)) + 2;
  const fits = fraction + gainBits + head <= on.ring.bits - 2;
  const short = mantissa === 1 || fits ? node : on.out.truncate(node, fraction - steps.fraction);
  const scaled = mantissa === 1 ? short : timesConstant(on, short, Math.round(mantissa * 2 ** gainBits), gainBits);
  const { shape, state, fraction: reached } = on.out.node(scaled);
  const made = on.out.push('reshape', [scaled], {}, { shape, state, fraction: reached - exponent });
  // Twelve bits of the smallest value, as far as its products have room.
  const wanted = Math.max(0, Math.ceil(12 - on.ring.fraction - Math.log2(smallest)));
  const room = Math.max(2, on.ring.bits - 2 - 2 * on.ring.fraction - on.options.integerBits);
  const precise = Math.min(reached - exponent, on.ring.fraction + Math.min(wanted, room));
  return { ...on.wire(made, on.options.integerBits, precise), shape: site.shape };
}

function timesConstant(on: Arithmetic, x: number, integer: number, bits: number): number {
  const { shape, state, fraction } = on.out.node(x);
  const parameters = { values: Float64Array.of(integer), constantShape: [] };
  return on.out.push('multiplyConstant', [x], parameters, { shape, state, fraction: fraction + bits });
}
