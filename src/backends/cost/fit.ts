/** One measurement: how much of everything, and the seconds it took. */
export interface Sample {
  readonly amounts: Readonly<Record<string, number>>;
  readonly seconds: number;
}

/** Errors below this much are noise, however short the sample. */
const noiseSeconds = 2e-5;
const sweeps = 400;

/**
 * Seconds a unit, none below zero, so that sums of amounts times them are near the samples: least squares of relative errors by coordinate
 * descent. Units that no sample has are left out.
 */
export function fitRates(samples: readonly Sample[], units: readonly string[]): Record<string, number> {
  const used = units.filter((unit) => samples.some(({ amounts }) => (amounts[unit] ?? 0) > 0));
  const rows = samples.map(({ amounts, seconds }) => {
    const weight = 1 / (seconds + noiseSeconds);
    return { factors: used.map((unit) => (amounts[unit] ?? 0) * weight), right: seconds * weight };
  });
  const rates = used.map(() => 0);
  const left = rows.map(({ right }) => right);
  const squares = used.map((_, unit) => rows.reduce((sum, { factors }) => sum + factors[unit]! ** 2, 0));
  for (let sweep = 0; sweep < sweeps; sweep++)
    for (let unit = 0; unit < used.length; unit++) {
      const step = rows.reduce((sum, { factors }, row) => sum + factors[unit]! * left[row]!, 0) / squares[unit]!;
      const next = Math.max(0, rates[unit]! + step);
      const change = next - rates[unit]!;
      if (change === 0) continue;
      rates[unit] = next;
      rows.forEach(({ factors }, row) => {
        left[row]! -= change * factors[unit]!;
      });
    }
  return Object.fromEntries(used.map((unit, at) => [unit, Number(rates[at]!.toPrecision(4))]));
}
