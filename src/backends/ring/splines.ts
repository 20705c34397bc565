import type { Piecewise } from './types.ts';

/** Fits of real functions as the integers of a piecewise polynomial. */

/** A real function: a table on [low, high), a constant below it, a straight line above it. */
export interface BoundedShape {
  readonly f: (x: number) => number;
  readonly low: number;
  readonly high: number;
  /** log₂ of the distance of two nodes where pieces are quadratic; a quarter of it where they are linear. */
  readonly stepBits: number;
  readonly left: number;
  /** Value at zero and slope of the line; undefined where arguments never come there. */
  readonly right: readonly [offset: number, slope: number] | undefined;
}

/** Scales of a fit: fraction bits of the argument and of the result, and how many bits an argument has. */
export interface Scales {
  readonly bits: number;
  readonly argument: number;
  readonly result: number;
  readonly degree: 1 | 2;
}

const none = { knots: new Float64Array(0), offsets: new Float64Array(0), slopes: new Float64Array(0) };

/** The shape less its left value: what is added on the right is a knot, what lies between is the table. */
export function fitBounded(shape: BoundedShape, { bits, argument, result, degree }: Scales): Piecewise {
  const stepBits = degree === 2 ? shape.stepBits : shape.stepBits - 2;
  const drop = argument + stepBits;
  const step = 2 ** stepBits;
  const start = shape.low / step;
  const nodes = (shape.high - shape.low) / step;
  const coefficients = Array.from({ length: degree + 1 }, () => new Float64Array(nodes));
  for (let i = 0; i < nodes; i++) {
    const x = (start + i) * step;
    polynomial((r) => shape.f(x + r) - shape.left, 2 * step, degree).forEach((value, d) => {
      coefficients[d]![i] = Math.round(value * 2 ** (result - d * argument));
    });
  }
  if (shape.right === undefined) return { bits, drop, ...none, start, coefficients };
  const [offset, slope] = shape.right;
  return {
    bits,
    drop,
    knots: Float64Array.of(start + nodes),
    offsets: Float64Array.of(Math.round((offset - shape.left) * 2 ** result)),
    slopes: Float64Array.of(Math.round(slope * 2 ** (result - argument))),
    start,
    coefficients,
  };
}

/** The polynomial of a degree through f at the Chebyshev points of [0, width], by powers of its argument. */
function polynomial(f: (r: number) => number, width: number, degree: 1 | 2): number[] {
  const count = degree + 1;
  const at = Array.from({ length: count }, (_, j) => (width / 2) * (1 - Math.cos((Math.PI * (2 * j + 1)) / (2 * count))));
  const y = at.map(f);
  const [a, b] = [at[0]!, at[1]!];
  const first = (y[1]! - y[0]!) / (b - a);
  if (degree === 1) return [y[0]! - first * a, first];
  const c = at[2]!;
  const second = ((y[2]! - y[1]!) / (c - b) - first) / (c - a);
  return [y[0]! - first * a + second * a * b, first - second * (a + b), second];
}

/** Linear pieces an octave: 1/x is off by at most 1/(8 · 16²) of itself. */
const perOctave = 16;

/**
 * A smooth function of x > 0 over the octaves 2^low … 2^high: straight pieces whose lengths grow with x, one value below and one above.
 * `base` is the value below, to be added by the caller. Relative errors are about f''·x²/f / 16 / 16².
 */
export function fitOctaves(
  f: (x: number) => number,
  { low, high }: { readonly low: number; readonly high: number },
  { argument, result }: { readonly argument: number; readonly result: number },
): { readonly parameters: Piecewise; readonly base: number } {
  // Four indices a piece even in the lowest octave: the index may be one too small.
  const drop = Math.max(0, argument + low - Math.log2(perOctave) - 2);
  const unit = 2 ** (drop - argument);
  const knots: number[] = [];
  for (let octave = low; octave < high; octave++) {
    for (let piece = 0; piece < perOctave; piece++) knots.push(Math.round((2 ** octave * (1 + piece / perOctave)) / unit));
  }
  // An argument of 2^low may be read one index lower.
  knots[0]! -= 1;
  const ends = [...knots.slice(1), Math.round(2 ** high / unit)];
  const base = Math.round(f(2 ** low) * 2 ** result);
  const [values, slopes] = [[base], [0]];
  knots.forEach((knot, p) => {
    // The index may be one too small, so a piece reaches one unit further than its knots say.
    const [from, to] = [knot * unit, (ends[p]! + 1) * unit];
    const [constant, slope] = polynomial((r) => f(from + r), to - from, 1) as [number, number];
    const rounded = Math.round(slope * 2 ** (result - argument));
    const middle = (to - from) / 2;
    const x = from + middle;
    slopes.push(rounded);
    values.push(Math.round((constant + slope * middle) * 2 ** result - rounded * x * 2 ** argument));
  });
  knots.push(ends.at(-1)!);
  slopes.push(0);
  values.push(Math.round(f(2 ** high) * 2 ** result));
  const steps = (all: readonly number[]): Float64Array =>
    Float64Array.from({ length: all.length - 1 }, (_, p) => all[p + 1]! - all[p]!);
  const parameters: Piecewise = {
    bits: argument + high + 2,
    drop,
    knots: Float64Array.from(knots),
    offsets: steps(values),
    slopes: steps(slopes),
    start: 0,
    coefficients: [],
  };
  return { parameters, base };
}
