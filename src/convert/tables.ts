import { SottoError } from '../errors/index.ts';
import type { BoundedTable } from '../program/index.ts';

/** The arguments that a bounded function met: smallest and largest. */
export interface ArgumentRange {
  readonly min: number;
  readonly max: number;
}

/** Largest relative error of the interpolation at or above the smallest argument met: no finer than the numbers themselves. */
const errorLimit = (fraction: number): number => Math.max(1e-3, 2 ** -(fraction + 1));
const indexBitsLimit = 14;
/** What must do where so many nodes cannot keep that: an error of a row's common factor, at its smallest arguments alone. */
const coarseErrorLimit = 5e-3;

/** What a table has to span and how exact it has to be: its margin a factor, its fraction in bits. */
export interface TableOptions {
  readonly margin: number;
  readonly fraction: number;
  readonly scope: string;
  readonly extraBitsLimit?: number | undefined;
  /** Where a larger relative error does no harm. */
  readonly error?: number | undefined;
}

/**
 * The cheapest table for f on arguments like those met: its range covers `margin` times the largest, its nodes (whose number costs)
 * are as few as keep the relative error under 1e-3 (or half a unit) from the smallest on, and its results keep 12 significant bits, as
 * far as the limit lets them. Where 2^14 nodes, or as many as the ring's fraction bits tell apart, cannot, they may err by 5e-3; where they
 * do by more, throws a `range` error that names the scope.
 */
export function chooseTable(f: (argument: number) => number, range: ArgumentRange, options: TableOptions): BoundedTable {
  const table = findTable(f, range, options);
  if (table !== undefined) return table;
  const { margin, fraction, scope } = options;
  const met = `arguments from ${range.min.toPrecision(3)} to ${range.max.toPrecision(3)}`;
  const place = { scope };
  throw finestIndex(range, { margin, fraction }) < indexBitsLimit
    ? new SottoError('range', `${met} need more than ${fraction} fraction bits`, {
        place,
        remedy: 'scale heads to a larger range, use a wider ring, or train with a range penalty',
      })
    : new SottoError('range', `${met} need a table of more than 2^${indexBitsLimit} nodes`, {
        place,
        remedy: 'train with a range penalty, or lower the margin',
      });
}

const rangeBitsOf = (max: number, margin: number): number => Math.ceil(Math.log2(max * margin));

/** A table has a bit to interpolate with: its nodes are two units apart at least. */
const finestIndex = ({ max }: ArgumentRange, { margin, fraction }: Pick<TableOptions, 'margin' | 'fraction'>): number =>
  Math.min(indexBitsLimit, fraction + rangeBitsOf(max, margin) - 1);

/** The table that `chooseTable` takes; undefined where none is close enough. */
export function findTable(
  f: (argument: number) => number,
  { min, max }: ArgumentRange,
  options: TableOptions,
): BoundedTable | undefined {
  const { margin, fraction, scope, extraBitsLimit = 24, error = 0 } = options;
  if (!(min > 0 && max >= min && Number.isFinite(max)))
    throw new SottoError('range', `calibration met arguments from ${min} to ${max}`, {
      place: { scope },
      remedy: 'calibrate on texts that the model was made for',
    });
  const rangeBits = rangeBitsOf(max, margin);
  const smallest = Math.min(f(max), f(2 ** rangeBits));
  const extraBits = Math.min(extraBitsLimit, Math.max(0, Math.ceil(12 - fraction - Math.log2(smallest))));
  const finest = finestIndex({ min, max }, { margin, fraction });
  const least = Math.max(error, errorLimit(fraction));
  for (let indexBits = Math.max(1, Math.min(4, finest)); indexBits <= finest; indexBits++) {
    const table = { rangeBits, indexBits, extraBits };
    const limit = indexBits < finest ? least : Math.max(least, coarseErrorLimit);
    if (interpolationError(f, table, { min, max }) < limit) return table;
  }
  return undefined;
}

/**
 * Largest relative error of reading f between nodes by central slopes (the rule of the ring's tables), on a fine grid over the range.
 * The index of an argument is rounded up or down at random, so both neighbours count.
 */
export function interpolationError(f: (argument: number) => number, table: BoundedTable, { min, max }: ArgumentRange): number {
  const step = 2 ** (table.rangeBits - table.indexBits);
  const nodes = 2 ** table.indexBits;
  let worst = 0;
  const points = 4000;
  for (let i = 0; i <= points; i++) {
    const x = min * (max / min) ** (i / points);
    for (const index of [Math.floor(x / step), Math.ceil(x / step)]) {
      // Beyond the last node there is none: the ring wraps, which the margin keeps away.
      const at = Math.min(index, nodes - 1) * step;
      const value = f(Math.max(at, step));
      const slope = (f(Math.max(at + step / 2, step)) - f(Math.max(at - step / 2, step / 2))) / step;
      worst = Math.max(worst, Math.abs(value + slope * (x - at) - f(x)) / Math.abs(f(x)));
    }
  }
  return worst;
}
