import { type FoldedTensor, foldWeights, layoutOf, type ModelConfig, type Plan } from '../models/index.ts';
import { type Layout, rowsOfFirstNorm } from '../models/layout.ts';
import type { ScopeRange } from '../models/plan.ts';
import type { Domain, Node, Program } from '../program/index.ts';
import type { Weights } from './observe.ts';

/** Operations that a ring evaluates in a window of arguments. */
const windowed = new Set<Node['operation']>([
  ...(['sigmoid', 'silu', 'gelu', 'relu', 'tanh', 'erf', 'exp', 'step', 'max', 'maximum'] as const),
  ...(['softmax', 'softmaxAttention'] as const),
]);

const looksAt = (node: Node): boolean =>
  windowed.has(node.operation) || (node.operation === 'powerAttention' && node.parameters.argument === 'rectified');

/** The arguments of every scope's windowed operations. */
export function windowedArguments(program: Program): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const node of program.nodes) {
    if (!looksAt(node)) continue;
    const inputs = node.operation === 'maximum' ? node.inputs : node.inputs.slice(0, 1);
    found.set(node.scope, [...(found.get(node.scope) ?? []), ...inputs]);
  }
  return found;
}

/** Bits by which windows exceed what was met. */
interface Margins {
  readonly argument: number;
  readonly below: number;
  readonly above: number;
}

/** A ring of few bits has few for what nobody met. */
const marginsOf = (bits: number): Margins =>
  bits >= 48 ? { argument: 3, below: 6, above: 8 } : { argument: 2, below: 2, above: 3 };

/** Octaves over which 1/√ keeps its slopes in a ring: ring/nonlinear.ts derives them. */
const mostOctaves = (bits: number): number => Math.floor((bits - 15) / 1.5);

interface Measured {
  readonly ranges: Readonly<Record<string, ScopeRange>>;
  readonly ring: { readonly bits: number; readonly fraction: number };
  readonly config: ModelConfig;
  readonly plan: Plan;
  readonly weights: Weights;
}

/**
 * What a ring program needs of the ranges: windows of arguments, octaves of row means, the size of the server's tensors. Scopes are those of
 * the private programs.
 */
export async function domainsOf(measured: Measured): Promise<Record<string, Domain>> {
  const { ranges, ring, config, plan } = measured;
  const layout = layoutOf(config);
  const margins = marginsOf(ring.bits);
  const domains: Record<string, Domain> = await weightDomains(measured);
  const merge = (scope: string, domain: Domain): void => {
    domains[scope] = { ...domains[scope], ...domain };
  };
  for (const [scope, range] of Object.entries(ranges)) {
    const { maxArgument, minSquares, maxSquares } = range;
    // A hidden score must lie below every other: attention needs two bits more.
    const hidden = scope.endsWith('attention.weights') ? 2 : 0;
    const places = privateScopes(layout, scope);
    if (maxArgument !== undefined)
      for (const place of places) merge(place, { argument: upper(maxArgument) + margins.argument + hidden });
    if (minSquares !== undefined && maxSquares !== undefined && !hasTable(plan, scope)) {
      const width = layout.hiddenSize;
      const met = { low: lower(minSquares / width), high: upper(maxSquares / width) };
      for (const place of places) merge(place, octaves(met, layout.epsilon, ring.bits, margins));
    }
  }
  for (const [index, { attention }] of plan.layers.entries()) {
    const scope = `layers.${index}.attention.weights`;
    const { minMean = 0, maxMean } = ranges[scope] ?? {};
    if (attention.kind === 'softmax' || attention.table !== undefined || maxMean === undefined) continue;
    merge(scope, octaves({ low: lower(minMean), high: upper(maxMean) }, attention.epsilon, ring.bits, margins));
  }
  return domains;
}

/** A table has a range of its own. */
function hasTable(plan: Plan, scope: string): boolean {
  const layer = /^layers\.(\d+)\./.exec(scope)?.[1];
  const norm =
    layer === undefined ? (scope === 'embed' ? plan.layers[0]?.norm : plan.finalNorm) : plan.layers[Number(layer)]?.norm;
  return norm?.table !== undefined;
}

const lower = (value: number): number => clamp(Math.floor(Math.log2(value)));
const upper = (value: number): number => clamp(Math.ceil(Math.log2(value)));
/** Within what a plan may say; no negative zero, which JSON does not keep. */
const clamp = (exponent: number): number => Math.max(-40, Math.min(40, exponent)) + 0;

/** Margins on both sides, as far as the ring tells so many octaves apart. Far below epsilon there is nothing to tell. */
function octaves({ low, high }: { low: number; high: number }, epsilon: number, bits: number, { below, above }: Margins): Domain {
  const flat = epsilon > 0 ? Math.floor(Math.log2(epsilon)) - 8 : low;
  const [from, to] = [Math.max(low, Math.min(flat, high - 1)), Math.max(high, low + 1)];
  const spare = Math.max(0, mostOctaves(bits) - (to - from));
  const share = Math.min(1, spare / (below + above));
  return { low: Math.max(from - Math.floor(below * share), flat), high: to + Math.floor(above * share) };
}

/** Where a published scope's numbers come in a private program. */
function privateScopes({ embedding, pooler, finalNorm }: Layout, scope: string): string[] {
  const words = embedding.kind === 'tokens';
  if (scope === 'embed') return [words && embedding.norm !== undefined ? 'embed.norm' : scope];
  if (scope === 'pooler') return pooler === undefined ? [scope] : ['head'];
  // A model that writes looks for the largest of its logits.
  if (scope === 'head') return words && finalNorm !== undefined ? ['choice'] : [];
  return [scope];
}

/** The size of every folded tensor. */
async function weightDomains({ config, plan, weights }: Measured): Promise<Record<string, Domain>> {
  const domains: Record<string, Domain> = {};
  const read = async (name: string): Promise<Float32Array> => weights.get(name)?.values as Float32Array;
  for await (const [name, tensor] of foldWeights(config, plan, read)) domains[name] = { weight: upper(largest(tensor)) };
  const rows = rowsOfFirstNorm(layoutOf(config));
  const table = rows === undefined ? undefined : weights.get(rows);
  // The client's rows of a public table.
  if (table !== undefined) domains.embed = { weight: upper(largest(table)) };
  return domains;
}

function largest({ values }: Pick<FoldedTensor, 'values'> | { values: ArrayLike<number> }): number {
  let most = 0;
  for (let at = 0; at < values.length; at++) most = Math.max(most, Math.abs(values[at]!));
  return Math.max(most, 2 ** -40);
}

/**
 * Sums of squares of the rows of a table, smallest and largest: what its first norm sees of any token. Rows that are next to nothing
 * beside the others are those of tokens that no text has.
 */
export function tableSquares(values: ArrayLike<number>, width: number): { minSquares: number; maxSquares: number } | undefined {
  const sums = Float64Array.from({ length: values.length / width }, (_, row) => {
    let squares = 0;
    for (let at = row * width; at < (row + 1) * width; at++) squares += values[at]! ** 2;
    return squares;
  }).sort();
  const middle = sums[sums.length >> 1]!;
  const real = sums.filter((squares) => squares > middle * 2 ** -16);
  return real.length === 0 ? undefined : { minSquares: real[0]!, maxSquares: real.at(-1)! };
}
