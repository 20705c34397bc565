import { performance } from 'node:perf_hooks';

/** One measured quantity over `count` repetitions; `max` is the best of them where more is better. */
export interface Measurement {
  readonly name: string;
  readonly unit: string;
  readonly count: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function summarise(name: string, unit: string, samples: readonly number[]): Measurement {
  const sorted = [...samples].sort((x, y) => x - y);
  const half = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
  return { name, unit, count: sorted.length, median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Milliseconds of one call. */
export function milliseconds(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}
