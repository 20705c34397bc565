import type { AttentionPlan, LayerPlan, NormPlan, Plan, ScopeRange } from '../models/plan.ts';
import type { FloatBackend, Program } from '../program/index.ts';
import { activationNodes, attentionNode, normArguments, observe, type Subject, type Weights } from './observe.ts';
import { type ArgumentRange, chooseTable } from './tables.ts';

export interface CalibrationOptions {
  readonly weights: Weights;
  readonly backend: FloatBackend;
  /** Factor by which tables' ranges exceed the largest argument met, at least 1; 2 by default. */
  readonly margin?: number;
  readonly ring?: { readonly bits: number; readonly fraction: number };
}

export const defaultRing = { bits: 64, fraction: 16 } as const;

/**
 * Measures a converted model on calibration data and gives the plan that fits it: a table for every norm and power attention (see
 * chooseTable), the ring, and under every scope the largest magnitudes met. Norms: the row's sum of squares; attention: the largest
 * |x| before the power and the row's mean power.
 */
export async function calibrate(subject: Subject<Plan>, plan: Plan, options: CalibrationOptions): Promise<Plan> {
  const { margin = 2, ring = defaultRing } = options;
  const { hiddenSize, normEpsilon } = subject;
  const ranges = await measure(subject, subject.trace(plan), plan, options);
  const normTable = (scopes: readonly string[]): NormPlan => {
    const met = scopes.flatMap((scope) => (ranges[scope] === undefined ? [] : [ranges[scope]]));
    const argument = { min: Math.min(...met.map((r) => r.minSquares!)), max: Math.max(...met.map((r) => r.maxSquares!)) };
    const f = (squares: number): number => 1 / Math.sqrt(squares / hiddenSize + normEpsilon);
    return { table: chooseTable(f, argument, { margin, fraction: ring.fraction, scope: scopes[0]! }) };
  };
  const attention = (layer: AttentionPlan, scope: string): AttentionPlan => {
    if (layer.kind !== 'power') return layer;
    const { minMean, maxMean } = ranges[scope] as ScopeRange;
    const f = (mean: number): number => 1 / (mean + layer.epsilon);
    const met: ArgumentRange = { min: minMean!, max: maxMean! };
    return { ...layer, table: chooseTable(f, met, { margin, fraction: ring.fraction, scope }) };
  };
  const layers = plan.layers.map(
    (layer, index): LayerPlan => ({
      ...layer,
      attention: attention(layer.attention, `layers.${index}.attention.weights`),
      norm: normTable([`layers.${index}.attention.norm`, `layers.${index}.mlp.norm`]),
    }),
  );
  return { ...plan, layers, finalNorm: normTable(['norm']), ring, ranges };
}

type Figures = Record<string, number>;

/** Ranges by scope, over all feeds. */
async function measure(
  subject: Subject<Plan>,
  program: Program,
  plan: Plan,
  { weights, backend }: CalibrationOptions,
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
    if (part.kind !== 'power') continue;
    const scope = `layers.${layer}.attention.weights`;
    const { node, scores } = attentionNode(program, layer);
    nodes.set(scope, scores);
    const mask = program.nodes[node.inputs[2]!]!;
    const keys = program.nodes[scores]!.shape.at(-1)!;
    const rows = mask.operation === 'constant' ? mask.parameters.values : undefined;
    visitors.push((values) => widen(scope, powerRows(values(scope), keys, part.exponent, rows)));
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

/** Smallest and largest Σ x² of a row, with its mean taken off where the norm does so. */
function rowSquares(values: ArrayLike<number>, width: number, centred: boolean): Figures {
  let [min, max] = [Number.POSITIVE_INFINITY, 0];
  for (let start = 0; start < values.length; start += width) {
    let mean = 0;
    if (centred) for (let i = 0; i < width; i++) mean += values[start + i]! / width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += (values[start + i]! - mean) ** 2;
    min = Math.min(min, squares);
    max = Math.max(max, squares);
  }
  return { maxAbs: maxAbs(values), minSquares: min, maxSquares: max };
}

/** Largest |x| and smallest and largest mean of x^p of a row; the mask (rows of `keys`, or undefined) repeats over the leading axes. */
function powerRows(scores: ArrayLike<number>, keys: number, exponent: number, mask: Float64Array | undefined): Figures {
  const masked = mask !== undefined && mask.length >= keys;
  let [largest, min, max] = [0, Number.POSITIVE_INFINITY, 0];
  for (let start = 0; start < scores.length; start += keys) {
    const at = masked ? start % mask.length : 0;
    let length = 0;
    let mean = 0;
    for (let k = 0; k < keys; k++) {
      if (masked && mask[at + k] === 0) continue;
      length++;
      mean += scores[start + k]!;
    }
    mean /= length;
    let total = 0;
    for (let k = 0; k < keys; k++) {
      if (masked && mask[at + k] === 0) continue;
      let x = 1 + scores[start + k]! - mean;
      largest = Math.max(largest, Math.abs(x));
      for (let p = exponent; p > 1; p /= 2) x *= x;
      total += x;
    }
    min = Math.min(min, total / length);
    max = Math.max(max, total / length);
  }
  return { maxAbs: largest, minMean: min, maxMean: max };
}
