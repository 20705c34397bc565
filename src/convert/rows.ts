import type { Node, PowerArgument, Program } from '../program/index.ts';

/** Scores (…, groups of heads, heads of a group × tokens, keys) row by row. */
export interface RowLayout {
  readonly rows: number;
  readonly keys: number;
  readonly width: number;
  readonly head: (row: number) => number;
  /** How many keys the row sees, from the first on. */
  readonly length: (row: number) => number;
  /** Where the row's values start, as a row of the values. */
  readonly valueStart: (row: number) => number;
}

export function rowLayout(scores: readonly number[], values: readonly number[], heads: number, causal: boolean): RowLayout {
  const keys = scores.at(-1)!;
  const perGroup = scores.at(-2)!;
  const groups = scores.at(-3) ?? 1;
  const queries = (perGroup * groups) / heads;
  const rows = scores.reduce((product, extent) => product * extent, 1) / keys;
  return {
    rows,
    keys,
    width: values.at(-1)!,
    head: (row) => Math.floor(row / queries) % heads,
    length: (row) => (causal ? keys - queries + (row % queries) + 1 : keys),
    valueStart: (row) => Math.floor(row / perGroup) * keys,
  };
}

/** Whether an attention's mask lets every row see a prefix of the keys, instead of all. */
export const isCausal = (program: Program, { inputs }: Node): boolean =>
  inputs[2] !== undefined && program.nodes[inputs[2]]!.shape.length > 1;

/** What a power attention raises, and how. */
export interface Raised {
  readonly argument: PowerArgument;
  readonly exponent: number;
  /** What a head's centred scores are raised beside, 1 where absent. */
  readonly offsets?: readonly number[] | undefined;
}

/** One row of a power attention over the keys that it sees. */
export interface PowerRow {
  readonly head: number;
  /** How many keys. */
  readonly length: number;
  /** The sum of the scores as they are. */
  readonly scores: number;
  /** The largest |x| that is raised. */
  readonly argument: number;
  /** The largest half power x^(p/2), and the sum of all. */
  readonly half: number;
  readonly halves: number;
  /** The largest power, and the sum of all. */
  readonly power: number;
  readonly powers: number;
  /** The largest |value| that the attention gives the row. */
  readonly mixed: number;
}

/** Visits the rows of scores (…, keys) with their results (…, width), in order. */
export function eachPowerRow(
  layout: RowLayout,
  { scores, mixed }: { readonly scores: ArrayLike<number>; readonly mixed: ArrayLike<number> },
  { argument, exponent, offsets }: Raised,
  visit: (row: PowerRow) => void,
): void {
  const { rows, keys, width } = layout;
  for (let row = 0; row < rows; row++) {
    const [head, length, start] = [layout.head(row), layout.length(row), row * keys];
    let sum = 0;
    for (let k = 0; k < length; k++) sum += scores[start + k]!;
    const centre = argument === 'centred' ? sum / length - (offsets?.[head] ?? 1) : 0;
    let [largest, half, halves, power, powers, value] = [0, 0, 0, 0, 0, 0];
    for (let k = 0; k < length; k++) {
      let x = scores[start + k]! - centre;
      largest = Math.max(largest, Math.abs(x));
      if (argument === 'rectified') x = Math.max(0, x);
      for (let p = exponent; p > 2; p /= 2) x *= x;
      half = Math.max(half, x);
      halves += x;
      if (exponent > 1) x *= x;
      power = Math.max(power, x);
      powers += x;
    }
    for (let j = 0; j < width; j++) value = Math.max(value, Math.abs(mixed[row * width + j]!));
    visit({ head, length, scores: sum, argument: largest, half, halves, power, powers, mixed: value });
  }
}
