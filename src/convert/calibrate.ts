import { SottoError } from '../errors/index.ts';
import { newtonIterations, type RowFunction, rowValue } from '../math/index.ts';
import { perKey, powerOf } from '../models/block.ts';
import type { AttentionPlan, LayerPlan, NormPlan, Plan, ScopeRange } from '../models/plan.ts';
import { largestProduct, neededBits } from '../models/ranges.ts';
import { type Bounded, type FloatBackend, levelEpsilon, type PowerArgument, type Program } from '../program/index.ts';
import { activationNodes, attentionNode, normArguments, observe, type Subject, type Weights, weightsScope } from './observe.ts';
import { type ArgumentRange, chooseTable, findTable } from './tables.ts';

export interface CalibrationOptions {
  readonly weights: Weights;
  readonly backend: FloatBackend;
  /** Factor by which tables' ranges exceed the largest argument met, at least 1; 2 by default. */
  readonly margin?: number;
  /** What the plan is for. Without fraction bits, the most with which everything met fits, the margin included. */
  readonly ring?: { readonly bits: number; readonly fraction?: number | undefined };
  /** How norms and denominators are evaluated in the ring; where absent, as the plan has it, and by tables where it has nothing. */
  readonly method?: 'table' | 'newton' | undefined;
}

export const defaultRing = { bits: 64, fraction: 16 } as const;

/** Of one over the mean of half powers. */
const levelError = 0.03;

/**
 * Whether half powers are divided by their mean before the last squaring: where that was so, and where mean powers span more than a table
 * does. It takes the bits of a wide ring.
 */
function isLevelled(
  { half, exponent, epsilon, form = 'centred', table }: AttentionPlan & { kind: 'power' },
  { minMean, maxMean }: ScopeRange,
  { margin, bits, method, scope }: { margin: number; bits: number; method: CalibrationOptions['method']; scope: string },
): boolean {
  if (exponent < 4 || form !== 'centred' || bits < 60 || (method ?? table?.method ?? 'table') !== 'table') return false;
  if (half !== undefined) return true;
  const { fraction } = defaultRing;
  return findTable((x) => 1 / (x + epsilon), { min: minMean!, max: maxMean! }, { margin, fraction, scope }) === undefined;
}

/** What a ring sees of a power attention: its powers as they are, or levelled. Other ranges stay. */
function seenRange(range: ScopeRange, levelled: boolean): ScopeRange {
  const { minHalf, maxHalf, maxHalfPower, minLevel, maxLevel, maxLevelPower, maxLevelSum, maxHalfSum, ...direct } = range;
  if (!levelled) return direct;
  return {
    ...direct,
    maxPower: Math.max(maxLevelPower!, maxHalfPower!),
    minMean: minLevel!,
    maxMean: maxLevel!,
    maxSum: Math.max(maxLevelSum!, maxHalfSum!),
    minHalf: minHalf!,
    maxHalf: maxHalf!,
    maxHalfPower: maxHalfPower!,
  };
}

/** Of Newton's iteration, before any rounding. */
const newtonError = 1e-3;

/**
 * Measures a converted model on calibration data and gives the plan that fits it: a table (see chooseTable) or an iteration for every norm
 * and denominator, the ring, and under every scope the largest magnitudes met. Norms: the row's sum of squares; attention: the largest
 * |x| before the power, the largest power, the row's mean power and the largest sum of weighted values.
 */
export async function calibrate(subject: Subject<Plan>, plan: Plan, options: CalibrationOptions): Promise<Plan> {
  const { margin = 2, method } = options;
  const { hiddenSize, normEpsilon } = subject;
  const measured = await measure(subject, subject.trace(plan), plan, options);
  const wanted = options.ring ?? { bits: defaultRing.bits };
  const levelled = new Set(
    plan.layers.flatMap(({ attention: layer }, index) => {
      const scope = weightsScope(index);
      return layer.kind === 'power' && isLevelled(layer, measured[scope]!, { margin, bits: wanted.bits, method, scope })
        ? [scope]
        : [];
    }),
  );
  const ranges = Object.fromEntries(
    Object.entries(measured).map(([scope, range]) => [scope, seenRange(range, levelled.has(scope))]),
  );
  const ring = ringFor(wanted, ranges, margin);
  const bounded = (
    f: RowFunction,
    met: ArgumentRange,
    scope: string,
    own: Bounded | undefined,
    product: number,
    error?: number,
  ): Bounded => {
    if ((method ?? own?.method ?? 'table') === 'table') {
      // What comes of the product with the result is truncated once: it must fit with the fraction bits of both, with a bit to spare.
      const extraBitsLimit = Math.max(
        0,
        Math.min(24, ring.bits - 2 - 2 * ring.fraction - Math.ceil(Math.log2(2 * product * margin))),
      );
      return chooseTable((x) => rowValue(f, x), met, {
        margin,
        fraction: ring.fraction,
        scope,
        extraBitsLimit,
        error,
      });
    }
    const range = { low: met.min / margin, high: met.max * margin };
    return { method: 'newton', ...range, iterations: newtonIterations(f, range, newtonError) };
  };
  const norm = (scopes: readonly string[], own: NormPlan | undefined): NormPlan => {
    const met = scopes.flatMap((scope) => (ranges[scope] === undefined ? [] : [ranges[scope]]));
    const argument = { min: Math.min(...met.map((r) => r.minSquares!)), max: Math.max(...met.map((r) => r.maxSquares!)) };
    const f = { power: -0.5, factor: 1 / hiddenSize, epsilon: normEpsilon } as const;
    return { table: bounded(f, argument, scopes[0]!, own?.table, Math.max(...met.map((r) => r.maxNormal!))) };
  };
  const attention = (layer: AttentionPlan, index: number): AttentionPlan => {
    if (layer.kind === 'softmax') return layer;
    const scope = weightsScope(index);
    const { minMean, maxMean, maxMixed } = ranges[scope] as ScopeRange;
    // Rectified scores may all be zero: no bounded method reaches there, but comparisons do.
    if (layer.kind === '2relu' && !(minMean! > layer.epsilon)) return { ...layer, table: undefined };
    const f = { power: -1, factor: 1, epsilon: layer.epsilon } as const;
    const direct = (): Bounded => bounded(f, { min: minMean!, max: maxMean! }, scope, layer.table, maxMixed!);
    if (layer.kind !== 'power') return { ...layer, table: direct() };
    if (!levelled.has(scope)) return { ...layer, half: undefined, table: direct() };
    const { minHalf, maxHalf, maxHalfPower } = ranges[scope] as ScopeRange;
    const g = { power: -1, factor: 1, epsilon: levelEpsilon } as const;
    // The coarse table's error is a common factor of a row, which the last table must span as well.
    const spread = (1 + levelError) ** 2;
    return {
      ...layer,
      half: bounded(g, { min: minHalf!, max: maxHalf! }, scope, layer.half, maxHalfPower!, levelError),
      table: bounded(f, { min: minMean! / spread, max: maxMean! * spread }, scope, layer.table, maxMixed!),
    };
  };
  const layers = plan.layers.map(
    (layer, index): LayerPlan => ({
      ...layer,
      attention: attention(layer.attention, index),
      norm: norm([`layers.${index}.attention.norm`, `layers.${index}.mlp.norm`], layer.norm),
    }),
  );
  return { ...plan, layers, finalNorm: norm(['norm'], plan.finalNorm), ring, ranges };
}

/** The ring that was asked for; without fraction bits, the most with which products of what was met fit, times the margin. */
function ringFor(
  { bits, fraction }: { readonly bits: number; readonly fraction?: number | undefined },
  ranges: Readonly<Record<string, ScopeRange>>,
  margin: number,
): { bits: number; fraction: number } {
  if (fraction !== undefined) return { bits, fraction };
  const scopes = Object.entries(ranges);
  for (let fitting = defaultRing.fraction as number; fitting >= leastFraction; fitting--)
    if (scopes.every(([, range]) => neededBits(range, { bits, fraction: fitting }, margin) <= bits))
      return { bits, fraction: fitting };
  const [scope, worst] = scopes.reduce((most, next) => (largestProduct(next[1]) > largestProduct(most[1]) ? next : most));
  const largest = largestProduct(worst).toPrecision(3);
  throw new SottoError('range', `products of up to ${largest} leave fewer than ${leastFraction} fraction bits in ${bits}`, {
    place: { scope },
    remedy: 'use a wider ring, a smaller exponent, or train with a range penalty',
  });
}

/** With fewer, nothing that a model computes is left. */
const leastFraction = 5;

type Figures = Record<string, number>;

/** Ranges by scope, over all feeds. */
async function measure(
  subject: Subject<Plan>,
  program: Program,
  plan: Plan,
  { weights, backend, ring }: CalibrationOptions,
): Promise<Record<string, ScopeRange>> {
  const nodes = new Map<string, number>();
  const visitors: ((values: (name: string) => ArrayLike<number>) => void)[] = [];
  const ranges: Record<string, Figures> = {};
  const widen = (scope: string, figures: Figures): void => {
    const known = (ranges[scope] ??= {});
    for (const [name, value] of Object.entries(figures)) {
      const pick = name.startsWith('min') ? Math.min : Math.max;
      known[name] = known[name] === undefined ? value : pick(known[name], value);
    }
  };
  for (const [scope, { argument, centred }] of normArguments(program)) {
    nodes.set(scope, argument);
    const width = program.nodes[argument]!.shape.at(-1)!;
    visitors.push((values) => widen(scope, rowSquares(values(scope), width, centred)));
  }
  for (let layer = 0; layer < subject.layers; layer++) {
    const act = `layers.${layer}.mlp.act`;
    nodes.set(act, activationNodes(program, layer).argument);
    visitors.push((values) => widen(act, { maxAbs: maxAbs(values(act)) }));
    const part = plan.layers[layer]!.attention;
    if (part.kind === 'softmax') continue;
    const scope = weightsScope(layer);
    const { node, index, scores } = attentionNode(program, layer);
    nodes.set(scope, scores);
    nodes.set(`${scope}.mixed`, index);
    const mask = program.nodes[node.inputs[2]!]!;
    const keys = program.nodes[scores]!.shape.at(-1)!;
    const rows = mask.operation === 'constant' ? mask.parameters.values : undefined;
    const queries = program.nodes[scores]!.shape.at(-2)! * (program.nodes[scores]!.shape.at(-3) ?? 1);
    const form = { ...powerOf(part), epsilon: part.epsilon, narrow: (ring?.bits ?? 64) < 60, queries, perKey: perKey(part) };
    visitors.push((values) => widen(scope, powerRows(values(scope), values(`${scope}.mixed`), keys, form, rows)));
  }
  await observe({ program, nodes, weights, feeds: subject.feeds, backend }, (found) => {
    for (const visit of visitors) visit((name) => found.get(name)!.values);
  });
  return ranges as Record<string, ScopeRange>;
}

function maxAbs(values: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return largest;
}

/** Of rows: smallest and largest Σ x² and largest |x| over its root mean square, the mean taken off where the norm does so; largest |Σ x|. */
function rowSquares(values: ArrayLike<number>, width: number, centred: boolean): Figures {
  let [min, max, sum, normal] = [Number.POSITIVE_INFINITY, 0, 0, 0];
  for (let start = 0; start < values.length; start += width) {
    let mean = 0;
    if (centred) for (let i = 0; i < width; i++) mean += values[start + i]! / width;
    sum = Math.max(sum, Math.abs(mean) * width);
    let squares = 0;
    let most = 0;
    for (let i = 0; i < width; i++) {
      squares += (values[start + i]! - mean) ** 2;
      most = Math.max(most, Math.abs(values[start + i]! - mean));
    }
    if (squares > 0) normal = Math.max(normal, most / Math.sqrt(squares / width));
    min = Math.min(min, squares);
    max = Math.max(max, squares);
  }
  return { maxAbs: maxAbs(values), minSquares: min, maxSquares: max, maxSum: sum, maxNormal: normal };
}

interface Form {
  readonly argument: PowerArgument;
  readonly exponent: number;
  readonly epsilon: number;
  readonly narrow: boolean;
  readonly offsets?: readonly number[] | undefined;
  /** Rows of all heads of one text or picture. */
  readonly queries: number;
  /** Whether sums are divided by a row's length. */
  readonly perKey: boolean;
}

/**
 * What a power attention meets in its rows, of scores (…, keys) and results (…, width): the largest |x|, power, |Σ scores| and |Σ power ·
 * value|, the smallest and largest mean power, the same of half powers, and of powers over the square of those. The mask (rows of `keys`,
 * or undefined) repeats over the leading axes. Under one, a `narrow` ring divides by powers of two next to the rows' lengths.
 */
function powerRows(
  scores: ArrayLike<number>,
  mixed: ArrayLike<number>,
  keys: number,
  { argument, exponent, epsilon, narrow, offsets = [1], queries, perKey: shared }: Form,
  mask: Float64Array | undefined,
): Figures {
  const masked = mask !== undefined && mask.length >= keys;
  const width = (mixed.length / scores.length) * keys;
  const met = { maxAbs: 0, maxPower: 0, minMean: Number.POSITIVE_INFINITY, maxMean: 0, maxSum: 0, maxMixed: 0 };
  const half = { minHalf: Number.POSITIVE_INFINITY, maxHalf: 0, maxHalfPower: 0, maxHalfSum: 0 };
  const level = { minLevel: Number.POSITIVE_INFINITY, maxLevel: 0, maxLevelPower: 0, maxLevelSum: 0 };
  for (let start = 0; start < scores.length; start += keys) {
    const at = masked ? start % mask.length : 0;
    let length = 0;
    let sum = 0;
    for (let k = 0; k < keys; k++) {
      if (masked && mask[at + k] === 0) continue;
      length++;
      sum += scores[start + k]!;
    }
    const head = Math.floor((((start / keys) % queries) * offsets.length) / queries);
    const centre = argument === 'centred' ? sum / length - offsets[head]! : 0;
    let [total, halves, largest] = [0, 0, 0];
    for (let k = 0; k < keys; k++) {
      if (masked && mask[at + k] === 0) continue;
      let x = scores[start + k]! - centre;
      met.maxAbs = Math.max(met.maxAbs, Math.abs(x));
      if (argument === 'rectified') x = Math.max(0, x);
      for (let p = exponent; p > 2; p /= 2) x *= x;
      half.maxHalfPower = Math.max(half.maxHalfPower, x);
      halves += x;
      if (exponent > 1) x *= x;
      largest = Math.max(largest, x);
      total += x;
    }
    const row = (start / keys) * width;
    let value = 0;
    for (let j = 0; j < width; j++) value = Math.max(value, Math.abs(mixed[row + j]!));
    met.maxMixed = Math.max(met.maxMixed, value);
    const parts = shared ? length : 1;
    const meanHalf = halves / length;
    const levelled = total / length / meanHalf ** 2;
    half.minHalf = Math.min(half.minHalf, meanHalf);
    half.maxHalf = Math.max(half.maxHalf, meanHalf);
    half.maxHalfSum = Math.max(half.maxHalfSum, halves);
    level.minLevel = Math.min(level.minLevel, levelled);
    level.maxLevel = Math.max(level.maxLevel, levelled);
    level.maxLevelPower = Math.max(level.maxLevelPower, largest / meanHalf ** 2);
    level.maxLevelSum = Math.max(level.maxLevelSum, Math.max(1, value) * (levelled + epsilon) * length);
    met.maxPower = Math.max(met.maxPower, largest);
    const mean = total / (masked && narrow ? 2 ** Math.round(Math.log2(parts)) : parts);
    met.minMean = Math.min(met.minMean, mean);
    met.maxMean = Math.max(met.maxMean, mean);
    const centreSum = argument === 'centred' ? Math.abs(sum) : 0;
    met.maxSum = Math.max(met.maxSum, value * (total + epsilon * parts), total, centreSum);
  }
  return exponent >= 4 && argument === 'centred' ? { ...met, ...half, ...level } : met;
}
