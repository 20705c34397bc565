import { SottoError } from '../../errors/index.ts';
import type { BoundedTable } from '../../program/index.ts';
import type { RingParameters } from './types.ts';

/** Values and slopes of a function at 2^indexBits nodes, as ring integers with fraction + extraBits bits. */
export interface InterpolatedTable {
  readonly values: Float64Array;
  readonly slopes: Float64Array;
  /** Low bits of an argument with F fraction bits that the index drops: the argument is index·2^restBits + rest. */
  readonly restBits: number;
}

/** Which bounded function a table holds, of an argument ≥ 0. */
export type BoundedFunction = (argument: number) => number;

/**
 * f on [0, 2^rangeBits) by nodes and central slopes. The first node stands for its whole step: f may grow without bound at zero,
 * and a range that needs values below one step needs more index bits.
 */
export function interpolatedTable(
  f: BoundedFunction,
  table: BoundedTable,
  ring: RingParameters,
  scope: string,
): InterpolatedTable {
  const { rangeBits, indexBits, extraBits } = table;
  const restBits = ring.fraction + rangeBits - indexBits;
  if (restBits < 1 || indexBits < 1 || indexBits > 16)
    throw new SottoError(
      'range',
      `a table with ${indexBits} index bits over 2^${rangeBits} leaves ${restBits} bits to interpolate`,
      {
        place: { scope },
        remedy: `choose between 1 and ${Math.min(16, ring.fraction + rangeBits - 1)} index bits in the plan`,
      },
    );
  const step = 2 ** (restBits - ring.fraction);
  const scale = 2 ** (ring.fraction + extraBits);
  const nodes = 2 ** indexBits;
  const values = new Float64Array(nodes);
  const slopes = new Float64Array(nodes);
  for (let i = 0; i < nodes; i++) {
    const x = i * step;
    const low = f(Math.max(x - step / 2, step / 2));
    values[i] = Math.round(f(Math.max(x, step)) * scale);
    slopes[i] = Math.round(((f(Math.max(x + step / 2, step)) - low) / step) * scale);
  }
  return { values, slopes, restBits };
}
