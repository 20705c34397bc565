import type { FloatBackend, Program } from '../program/index.ts';
import { attentionNode, observe, type Subject, type Weights } from './observe.ts';
import { isCausal, type RowLayout, rowLayout } from './rows.ts';

/** The form that a power attention is fitted in. */
export interface AttentionFit {
  readonly exponent: number;
  /** `row`: x = 1 + (s − mean of the row) / c. `head`: x = 1 + (s − mean of the head) / c, a public number for the whole calibration. */
  readonly centre?: 'row' | 'head';
  readonly epsilon: number;
  /** Shifts that let a row's mean power exceed this on calibration are not taken, so that a table can span them; 200 by default. */
  readonly meanPowerLimit?: number;
}

/** What the fit of a layer's power attention found, and how good it is. */
export interface AttentionShift {
  /** c for every query head, in the order of the query matrix. */
  readonly shifts: Float64Array;
  /** The mean score of every head, where they are centred by it. */
  readonly means: Float64Array | undefined;
  /** Σ (power − softmax)² / Σ softmax² of the mixed values, at those c. */
  readonly relativeError: number;
}

/**
 * Per head, the c on a grid for which x^p with x = 1 + (s − mean s)/c mixes the values most like softmax does, on the scores that
 * calibration produces in this layer. 1/c is folded into the query matrix, so the converted model has no parameter for it.
 */
export async function fitAttention<P>(
  subject: Subject<P>,
  options: AttentionFit & {
    readonly program: Program;
    readonly layer: number;
    readonly heads: number;
    readonly weights: Weights;
    readonly backend: FloatBackend;
  },
): Promise<AttentionShift> {
  const { program, layer, heads, weights, backend, exponent, epsilon, centre = 'row', meanPowerLimit = 200 } = options;
  const { node, index, scores, values } = attentionNode(program, layer);
  const causal = isCausal(program, node);
  const grid = Array.from({ length: 29 }, (_, i) => exponent * 2 ** (-3 + i / 4));
  const errors = new Float64Array(heads * grid.length);
  const largest = new Float64Array(heads * grid.length);
  const smallest = new Float64Array(heads * grid.length).fill(Number.POSITIVE_INFINITY);
  let energy = 0;
  const nodes = new Map([
    ['scores', scores],
    ['values', values],
    ['mixed', index],
  ]);
  const watched = { program, nodes, weights, feeds: subject.feeds, backend };
  const means = centre === 'head' ? await headMeans(watched, heads, causal) : undefined;
  await observe(watched, (found) => {
    const shape = found.get('scores')!.shape;
    const mixed = found.get('mixed')!.values;
    for (let i = 0; i < mixed.length; i++) energy += mixed[i]! ** 2;
    const layout = rowLayout(shape, found.get('values')!.shape, heads, causal);
    const s = found.get('scores')!.values;
    const v = found.get('values')!.values;
    grid.forEach((c, at) => {
      addErrors(layout, { s, v, mixed }, { c, exponent, epsilon, means }, (head, error, meanPower) => {
        errors[head * grid.length + at]! += error;
        largest[head * grid.length + at] = Math.max(largest[head * grid.length + at]!, meanPower);
        smallest[head * grid.length + at] = Math.min(smallest[head * grid.length + at]!, meanPower);
      });
    });
  });
  const shifts = new Float64Array(heads);
  let error = 0;
  for (let head = 0; head < heads; head++) {
    const first = head * grid.length;
    // Where every shift exceeds the limit, the widest does so least.
    let best = grid.length - 1;
    for (let at = 0; at < grid.length; at++)
      if (
        largest[first + at]! <= meanPowerLimit &&
        smallest[first + at]! >= leastMeanPower &&
        errors[first + at]! < errors[first + best]!
      )
        best = at;
    shifts[head] = grid[best]!;
    error += errors[first + best]!;
  }
  return { shifts, means, relativeError: error / energy };
}

/** The mean of the unmasked scores of every head. */
async function headMeans(watched: Parameters<typeof observe>[0], heads: number, causal: boolean): Promise<Float64Array> {
  const [sums, counts] = [new Float64Array(heads), new Float64Array(heads)];
  await observe(watched, (found) => {
    const { shape, values: s } = found.get('scores')!;
    const layout = rowLayout(shape, found.get('values')!.shape, heads, causal);
    for (let row = 0; row < layout.rows; row++) {
      const [head, length, start] = [layout.head(row), layout.length(row), row * layout.keys];
      for (let k = 0; k < length; k++) sums[head]! += s[start + k]!;
      counts[head]! += length;
    }
  });
  return sums.map((sum, head) => sum / counts[head]!);
}

/** Where scores are not centred by their rows, a row's powers may all be small: no bounded reciprocal spans that. */
const leastMeanPower = 0.25;

/** The mixed values of every fourth row are compared: enough for one number a head. Mean powers are taken of all rows. */
const rowStride = 4;

function addErrors(
  layout: RowLayout,
  { s, v, mixed }: { s: ArrayLike<number>; v: ArrayLike<number>; mixed: ArrayLike<number> },
  { c, exponent, epsilon, means }: { c: number; exponent: number; epsilon: number; means: Float64Array | undefined },
  add: (head: number, error: number, meanPower: number) => void,
): void {
  const { rows, keys, width } = layout;
  const sums = new Float64Array(width);
  for (let row = 0; row < rows; row++) {
    const compared = row % rowStride === rowStride - 1;
    const length = layout.length(row);
    const start = row * keys;
    const values = layout.valueStart(row) * width;
    let mean = 0;
    for (let k = 0; k < length; k++) mean += s[start + k]!;
    mean = means === undefined ? mean / length : means[layout.head(row)]!;
    sums.fill(0);
    let total = 0;
    for (let k = 0; k < length; k++) {
      let power = 1 + (s[start + k]! - mean) / c;
      for (let p = exponent; p > 1; p /= 2) power *= power;
      total += power;
      if (compared) for (let j = 0; j < width; j++) sums[j]! += power * v[values + k * width + j]!;
    }
    const denominator = epsilon * length + total;
    let error = 0;
    if (compared) for (let j = 0; j < width; j++) error += (sums[j]! / denominator - mixed[row * width + j]!) ** 2;
    add(layout.head(row), error * rowStride, total / length);
  }
}

/** Divides each head's rows of a query matrix (heads·Dh, inputs) or bias (heads·Dh) by its shift. */
export function foldShifts(values: Float32Array, shifts: ArrayLike<number>): Float32Array {
  const perHead = values.length / shifts.length;
  return values.map((value, i) => value / shifts[Math.floor(i / perHead)]!);
}
