/** Newton's iterations for 1/x and 1/√x over a bounded range, started from a straight line. */

/** (factor · x + epsilon)^power, for power −1 or −1/2. */
export interface RowFunction {
  readonly power: -1 | -0.5;
  readonly factor: number;
  readonly epsilon: number;
}

export const rowValue = ({ power, factor, epsilon }: RowFunction, x: number): number => inversePower(power, factor * x + epsilon);

/** u^power, by operations that every engine rounds alike. */
export const inversePower = (power: RowFunction['power'], u: number): number => 1 / (power === -1 ? u : Math.sqrt(u));

/**
 * Where the residual 1 − t y₀ (or 1 − √t y₀) of a straight line is smallest at its worst over [least, 1]. For 1/t it
 * is Chebyshev's polynomial; for 1/√t the ends are equal and one step makes the middle equal to them.
 */
export function newtonLine(power: RowFunction['power'], least: number): [number, number] {
  if (power === -1) {
    const middle = (1 + least) / 2;
    const slope = 2 / (2 * middle ** 2 - ((1 - least) / 2) ** 2);
    return [2 * middle * slope, slope];
  }
  const ratio = 1 + Math.sqrt(least) + least;
  const end = 1 / ratio;
  const top = ((2 / 3) * Math.sqrt(ratio / 3)) / (1 - end);
  const a = Math.sqrt(3 / (top ** 2 + top + 1)) / (1 - end);
  return [a, a * end];
}

/** Largest |1 − result / function| after the iterations: the residual's extremes are at the ends and at its one turning point. */
export function newtonDistance(
  power: RowFunction['power'],
  [a, b]: readonly [number, number],
  least: number,
  iterations: number,
): number {
  const turning = power === -1 ? a / (2 * b) : a / (3 * b);
  const places = [least, 1, Math.min(1, Math.max(least, turning))];
  const residuals = places.map((t) => {
    let w = (a - b * t) / inversePower(power, t);
    for (let k = 0; k < iterations; k++) w = power === -1 ? w * (2 - w) : (w * (3 - w * w)) / 2;
    return Math.abs(1 - w);
  });
  return Math.max(...residuals);
}

/** The fewest iterations that come within `error` of the function over a range. */
export function newtonIterations(f: RowFunction, range: { low: number; high: number }, error: number): number {
  const least = (range.low + f.epsilon / f.factor) / 2 ** Math.ceil(Math.log2(range.high + f.epsilon / f.factor));
  const line = newtonLine(f.power, least);
  let iterations = 1;
  while (iterations < 24 && newtonDistance(f.power, line, least, iterations) > error) iterations++;
  return iterations;
}
