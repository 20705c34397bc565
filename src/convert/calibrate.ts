import { type RingParameters, usualFraction, usualRing } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { newtonIterations, type RowFunction, rowValue } from '../math/index.ts';
import { perKey, powerOf } from '../models/block.ts';
import { rowsOfFirstNorm } from '../models/layout.ts';
import type { AttentionPlan, LayerPlan, NormPlan, Plan, ScopeRange } from '../models/plan.ts';
import { largestProduct, neededBits } from '../models/ranges.ts';
import { type Bounded, type FloatBackend, levelEpsilon, type Program, type Tensor } from '../program/index.ts';
import { domainsOf, tableSquares, windowedArguments } from './domains.ts';
import { activationNodes, attentionNode, normArguments, observe, type Subject, type Weights, weightsScope } from './observe.ts';
import { eachPowerRow, isCausal, type Raised, type RowLayout, rowLayout } from './rows.ts';
import { type ArgumentRange, chooseTable, findTable } from './tables.ts';

/** What the ranges of a plan are measured with. */
export interface CalibrationOptions {
  readonly weights: Weights;
  readonly backend: FloatBackend;
  /** Factor by which tables' ranges exceed the largest argument met, at least 1; 2 by default. */
  readonly margin?: number;
  /** What the plan is for. Without fraction bits, the most with which everything met fits, the margin included. */
  readonly ring?: { readonly bits: number; readonly fraction?: number | undefined };
  /**
   * How norms and denominators are evaluated in the ring; where absent, as the plan has it, and by tables where it has nothing. `own`: what
   * has neither table nor iteration keeps to comparisons.
   */
  readonly method?: 'table' | 'newton' | 'own' | undefined;
}

/** Of one over the mean of half powers. */
const levelError = 0.03;

/**
 * Whether half powers are divided by their mean before the last squaring: where that was so, and where mean powers span more than a table
 * does. It takes the bits of a wide ring.
 */
function isLevelled(
  { half, exponent, epsilon, form = 'centred', table }: AttentionPlan & { kind: 'power' },
  { minMean, maxMean }: ScopeRange,
  { margin, bits, method, scope }: { margin: number; bits: number; method: 'table' | 'newton' | undefined; scope: string },
): boolean {
  if (exponent < 4 || form !== 'centred' || bits < 60 || (method ?? table?.method ?? 'table') !== 'table') return false;
  if (half !== undefined) return true;
  const { fraction } = usualRing;
  return findTable((x) => 1 / (x + epsilon), { min: minMean!, max: maxMean! }, { margin, fraction, scope }) === undefined;
}

/** What a ring sees of a power attention: its powers as they are, or levelled. Other ranges stay. */
function seenRange(range: ScopeRange, levelled: boolean): ScopeRange {
  const {
    minHalf,
    maxHalf,
    maxHalfPower,
    minLevel,
    maxLevel,
    maxLevelPower,
    maxLevelSum,
    maxLevelAverage,
    maxHalfSum,
    ...direct
  } = range;
  if (!levelled) return direct;
  return {
    ...direct,
    maxPower: Math.max(maxLevelPower!, maxHalfPower!),
    minMean: minLevel!,
    maxMean: maxLevel!,
    maxSum: Math.max(maxLevelSum!, maxHalfSum!),
    maxAverage: Math.max(maxLevelAverage!, maxHalf!),
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
  const { margin = 2 } = options;
  const keeps = options.method === 'own';
  const method = options.method === 'own' ? undefined : options.method;
  const measured = await measure(subject, subject.trace(plan), plan, options);
  const wanted = options.ring ?? { bits: usualRing.bits };
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
  const usual = usualFraction(wanted.bits);
  // Of a model that is taken as it is, what its largest values leave must not cost the others their bits.
  const limits = keeps
    ? { most: usual, least: Math.max(leastFraction, usual - 2) }
    : { most: usualRing.fraction, least: leastFraction };
  const ring = ringFor(wanted, ranges, margin, limits);
  const choice: Choice = { margin, method, keeps, ring, ranges, levelled };
  const { layout, config } = subject;
  const norm = (scopes: readonly string[], own: NormPlan | undefined): NormPlan => chosenNorm(choice, layout, scopes, own);
  const layers = plan.layers.map(
    (layer, index): LayerPlan => ({
      ...layer,
      attention: chosenAttention(choice, layer.attention, index),
      norm: norm([...(index === 0 ? ['embed'] : []), `layers.${index}.attention.norm`, `layers.${index}.mlp.norm`], layer.norm),
    }),
  );
  const made = { ...plan, layers, finalNorm: norm(['norm'], plan.finalNorm), ring, ranges };
  return { ...made, domains: await domainsOf({ ranges, ring, config, plan: made, weights: options.weights }) };
}

/** What tables and iterations are chosen from. */
interface Choice {
  readonly margin: number;
  /** For all; what each has already where absent, tables where it has none. */
  readonly method: Exclude<CalibrationOptions['method'], 'own'>;
  /** What is exact stays so. */
  readonly keeps: boolean;
  readonly ring: RingParameters;
  readonly ranges: Readonly<Record<string, ScopeRange>>;
  /** The scopes of attentions whose powers are levelled. */
  readonly levelled: ReadonlySet<string>;
}

/** A bounded form of `f` over what its argument met; `product` is the largest magnitude that its result is multiplied with. */
function boundedBy(
  { margin, method, ring }: Choice,
  f: RowFunction,
  met: ArgumentRange,
  { scope, own, product, error }: { scope: string; own: Bounded | undefined; product: number; error?: number },
): Bounded {
  if ((method ?? own?.method ?? 'table') === 'table') {
    // What comes of the product with the result is truncated once: it must fit with the fraction bits of both, with a bit to spare.
    const fitting = ring.bits - 2 - 2 * ring.fraction - Math.ceil(Math.log2(2 * product * margin));
    const extraBitsLimit = Math.max(0, Math.min(24, fitting));
    return chooseTable((x) => rowValue(f, x), met, { margin, fraction: ring.fraction, scope, extraBitsLimit, error });
  }
  const range = { low: met.min / margin, high: met.max * margin };
  return { method: 'newton', ...range, iterations: newtonIterations(f, range, newtonError) };
}

/** One table or iteration for the norms of several scopes. */
function chosenNorm(
  choice: Choice,
  { hiddenSize, epsilon }: Subject<Plan>['layout'],
  scopes: readonly string[],
  own: NormPlan | undefined,
): NormPlan {
  const met = scopes.flatMap((scope) => (choice.ranges[scope] === undefined ? [] : [choice.ranges[scope]]));
  if (met.length === 0 || (choice.keeps && own?.table === undefined)) return {};
  const argument = { min: Math.min(...met.map((r) => r.minSquares!)), max: Math.max(...met.map((r) => r.maxSquares!)) };
  const f = { power: -0.5, factor: 1 / hiddenSize, epsilon } as const;
  const product = Math.max(...met.map((r) => r.maxNormal!));
  return { table: boundedBy(choice, f, argument, { scope: scopes[0]!, own: own?.table, product }) };
}

function chosenAttention(choice: Choice, layer: AttentionPlan, index: number): AttentionPlan {
  if (layer.kind === 'softmax') return layer;
  const scope = weightsScope(index);
  const { minMean, maxMean, maxMixed } = choice.ranges[scope] as ScopeRange;
  // Rectified scores may all be zero: no bounded method reaches there, but comparisons do.
  if (layer.kind === '2relu' && !(minMean! > layer.epsilon)) return { ...layer, table: undefined };
  if (choice.keeps && layer.table === undefined) return layer;
  const f = { power: -1, factor: 1, epsilon: layer.epsilon } as const;
  const own = { scope, own: layer.table, product: maxMixed! };
  const direct = (): Bounded => boundedBy(choice, f, { min: minMean!, max: maxMean! }, own);
  if (layer.kind !== 'power') return { ...layer, table: direct() };
  if (!choice.levelled.has(scope)) return { ...layer, half: undefined, table: direct() };
  const { minHalf, maxHalf, maxHalfPower } = choice.ranges[scope] as ScopeRange;
  const g = { power: -1, factor: 1, epsilon: levelEpsilon } as const;
  const half = { scope, own: layer.half, product: maxHalfPower!, error: levelError };
  // The coarse table's error is a common factor of a row, which the last table must span as well.
  const spread = (1 + levelError) ** 2;
  return {
    ...layer,
    half: boundedBy(choice, g, { min: minHalf!, max: maxHalf! }, half),
    table: boundedBy(choice, f, { min: minMean! / spread, max: maxMean! * spread }, own),
  };
}

/** The ring that was asked for; without fraction bits, the most with which products of what was met fit, times the margin. */
function ringFor(
  { bits, fraction }: { readonly bits: number; readonly fraction?: number | undefined },
  ranges: Readonly<Record<string, ScopeRange>>,
  margin: number,
  { most, least }: { readonly most: number; readonly least: number },
): { bits: number; fraction: number } {
  if (fraction !== undefined) return { bits, fraction };
  const scopes = Object.entries(ranges);
  for (let fitting = most; fitting >= least; fitting--)
    if (scopes.every(([, range]) => neededBits(range, { bits, fraction: fitting }, margin) <= bits))
      return { bits, fraction: fitting };
  const [scope, worst] = scopes.reduce((most, next) => (largestProduct(next[1]) > largestProduct(most[1]) ? next : most));
  const largest = largestProduct(worst).toPrecision(3);
  throw new SottoError('range', `products of up to ${largest} leave fewer than ${least} fraction bits in ${bits}`, {
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
  { weights, backend, ring, method }: CalibrationOptions,
): Promise<Record<string, ScopeRange>> {
  const nodes = new Map<string, number>();
  const visitors: ((get: (name: string) => Tensor) => void)[] = [];
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
    visitors.push((get) => widen(scope, rowSquares(get(scope).values, width, centred)));
  }
  for (const [scope, found] of windowedArguments(program)) {
    found.forEach((node, at) => {
      const name = `${scope} window ${at}`;
      nodes.set(name, node);
      visitors.push((get) => widen(scope, { maxArgument: maxAbs(get(name).values) }));
    });
  }
  const logits = program.outputs.get('logits');
  if (logits !== undefined) {
    nodes.set('head', logits);
    visitors.push((get) => widen('head', { maxArgument: maxAbs(get('head').values) }));
  }
  for (let layer = 0; layer < subject.layout.numHiddenLayers; layer++) {
    const act = `layers.${layer}.mlp.act`;
    nodes.set(act, activationNodes(program, layer).argument);
    visitors.push((get) => widen(act, { maxAbs: maxAbs(get(act).values) }));
    const part = plan.layers[layer]!.attention;
    if (part.kind === 'softmax') continue;
    const { nodes: own, causal, rows } = attentionRows(subject, program, layer);
    for (const [name, index] of own) nodes.set(name, index);
    const narrow = (ring?.bits ?? 64) < 60;
    const form = { ...powerOf(part), epsilon: part.epsilon, narrow, perKey: perKey(part) };
    visitors.push((get) => {
      const { layout, ...values } = rows(get);
      widen(weightsScope(layer), powerRows(layout, values, form, causal));
    });
  }
  await observe({ program, nodes, weights, feeds: subject.feeds, backend }, (found) => {
    for (const visit of visitors) visit((name) => found.get(name)!);
  });
  const words = rowsOfFirstNorm(subject.layout);
  const table = words === undefined ? undefined : weights.get(words);
  const squares = table === undefined ? undefined : tableSquares(table.values, subject.layout.hiddenSize);
  if (squares !== undefined && method === 'own') widen('layers.0.attention.norm', squares);
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

interface Form extends Raised {
  readonly epsilon: number;
  readonly narrow: boolean;
  /** Whether sums are divided by a row's length. */
  readonly perKey: boolean;
}

/**
 * What a power attention meets in its rows: the largest |x|, power, |Σ scores| and |Σ power · value|, the last also over what sums are
 * divided by; the smallest and largest mean power, the same of half powers, and of powers over the square of those. Where rows differ in
 * length, a `narrow` ring divides by powers of two next to their lengths.
 */
function powerRows(
  layout: RowLayout,
  found: Parameters<typeof eachPowerRow>[1],
  { epsilon, narrow, perKey: shared, ...raised }: Form,
  causal: boolean,
): Figures {
  const { argument, exponent } = raised;
  const met = { maxAbs: 0, maxPower: 0, minMean: Number.POSITIVE_INFINITY, maxMean: 0, maxSum: 0, maxAverage: 0, maxMixed: 0 };
  const half = { minHalf: Number.POSITIVE_INFINITY, maxHalf: 0, maxHalfPower: 0, maxHalfSum: 0 };
  const level = { minLevel: Number.POSITIVE_INFINITY, maxLevel: 0, maxLevelPower: 0, maxLevelSum: 0, maxLevelAverage: 0 };
  eachPowerRow(layout, found, raised, (row) => {
    const { length, powers, mixed } = row;
    const parts = shared ? length : 1;
    const meanHalf = row.halves / length;
    const levelled = powers / length / meanHalf ** 2;
    half.minHalf = Math.min(half.minHalf, meanHalf);
    half.maxHalf = Math.max(half.maxHalf, meanHalf);
    half.maxHalfPower = Math.max(half.maxHalfPower, row.half);
    half.maxHalfSum = Math.max(half.maxHalfSum, row.halves);
    level.minLevel = Math.min(level.minLevel, levelled);
    level.maxLevel = Math.max(level.maxLevel, levelled);
    level.maxLevelPower = Math.max(level.maxLevelPower, row.power / meanHalf ** 2);
    const weighted = Math.max(1, mixed);
    level.maxLevelAverage = Math.max(level.maxLevelAverage, weighted * (levelled + epsilon));
    level.maxLevelSum = Math.max(level.maxLevelSum, weighted * (levelled + epsilon) * length);
    met.maxAbs = Math.max(met.maxAbs, row.argument);
    met.maxPower = Math.max(met.maxPower, row.power);
    met.maxMixed = Math.max(met.maxMixed, mixed);
    const mean = powers / (causal && narrow ? 2 ** Math.round(Math.log2(parts)) : parts);
    met.minMean = Math.min(met.minMean, mean);
    met.maxMean = Math.max(met.maxMean, mean);
    met.maxAverage = Math.max(met.maxAverage, weighted * (powers / parts + epsilon));
    const centreSum = argument === 'centred' ? Math.abs(row.scores) : 0;
    met.maxSum = Math.max(met.maxSum, mixed * (powers + epsilon * parts), powers, centreSum);
  });
  return exponent >= 4 && argument === 'centred' ? { ...met, ...half, ...level } : met;
}

/** What a layer's power attention meets, head by head. */
export interface HeadRanges {
  /** The largest |x| that is raised. */
  readonly largest: Float64Array;
  /** The largest sum of a row's powers, or of powers times values where that is larger. */
  readonly sums: Float64Array;
}

export async function headRanges(
  subject: Subject<Plan>,
  {
    plan,
    layer,
    weights,
    backend,
  }: Pick<CalibrationOptions, 'weights' | 'backend'> & { readonly plan: Plan; readonly layer: number },
): Promise<HeadRanges> {
  const program = subject.trace(plan);
  const part = plan.layers[layer]!.attention as Exclude<AttentionPlan, { kind: 'softmax' }>;
  const { nodes, rows } = attentionRows(subject, program, layer);
  const [largest, sums] = [new Float64Array(subject.layout.heads), new Float64Array(subject.layout.heads)];
  await observe({ program, nodes, weights, feeds: subject.feeds, backend }, (found) => {
    const { layout, ...values } = rows((name) => found.get(name)!);
    eachPowerRow(layout, values, powerOf(part), ({ head, argument, powers, mixed }) => {
      largest[head] = Math.max(largest[head]!, argument);
      sums[head] = Math.max(sums[head]!, powers * Math.max(1, mixed));
    });
  });
  return { largest, sums };
}

/** The nodes to observe of a layer's attention, and how its rows are found in what is observed. */
function attentionRows(subject: Subject<Plan>, program: Program, layer: number) {
  const scope = weightsScope(layer);
  const { node, index, scores, values } = attentionNode(program, layer);
  const causal = isCausal(program, node);
  const nodes = new Map([
    [scope, scores],
    [`${scope}.mixed`, index],
  ]);
  const valueShape = program.nodes[values]!.shape;
  const rows = (get: (name: string) => Tensor) => {
    const [found, mixed] = [get(scope), get(`${scope}.mixed`)];
    return {
      layout: rowLayout(found.shape, valueShape, subject.layout.heads, causal),
      scores: found.values,
      mixed: mixed.values,
    };
  };
  return { nodes, causal, rows };
}
