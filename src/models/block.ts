import { SottoError } from '../errors/index.ts';
import type { Ops, PowerArgument, Ref, Shape } from '../program/index.ts';
import type { ActivationName } from './configuration.ts';
import type { Padding } from './padding.ts';
import { type ActivationPlan, type AttentionPlan, type Coefficient, fixedQuad, reachOf } from './plan.ts';

/** What one transformer block is made of. Models supply it in two forms: as published, and folded for private runs. */
export interface Layer {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  readonly attention: AttentionPlan;
  /** What an attention with learnt numbers does to its scores (…, Hkv, G·Q, K) before they are squared, where `keep` (all if absent) is 1. */
  adjustScores(scores: Ref, keep?: Ref): Ref;
  /** (…, T, d) → (…, T, d): before the attention, or behind its sum where there is a `past`. */
  attentionNorm(x: Ref): Ref;
  /** (…, T, d) → (…, T, H·Dh), (…, T, Hkv·Dh), (…, T, Hkv·Dh); 1/√Dh already in the first. */
  queryKeyValue(x: Ref): readonly [Ref, Ref, Ref];
  /** (…, T, H·Dh) → (…, T, d). */
  attentionOut(x: Ref): Ref;
  mlpNorm(x: Ref): Ref;
  mlp(x: Ref): Ref;
  /** Where norms stand behind sums: what goes past a branch. */
  readonly past?: { attention(x: Ref): Ref; mlp(x: Ref): Ref } | undefined;
}

/** Where a block stands in its text or picture: positions, what came before, who may look at whom. */
export interface Context {
  /** Turns queries or keys (…, heads, T, Dh) by their positions. */
  rotate(x: Ref): Ref;
  /** Takes the new keys and values (…, Hkv, T, Dh) of a layer; gives all that its queries look at (…, Hkv, K, Dh). */
  remember(layer: number, keys: Ref, values: Ref): readonly [Ref, Ref];
  /** 0/1, broadcasts to (…, Hkv, G·T, K) with G = H / Hkv. */
  readonly mask: Ref;
  /** One over the number of unmasked keys, broadcasts to (…, Hkv, G·T, 1). */
  readonly inverseLengths: Ref;
  /** Which of the keys that `mask` leaves the client's secret mask counts; all where undefined. Keys come multiplied by it. */
  readonly padding?: Padding | undefined;
  /** The positions whose results are wanted; all where undefined. */
  readonly queries?: { readonly start: number; readonly end: number } | undefined;
  /**
   * The positions in blocks, in order, each with the mask over the keys up to its end: what a causal text cannot see is not computed.
   * All at once where undefined.
   */
  readonly blocks?: readonly CausalBlock[] | undefined;
}

/** Queries from `start` to `end` over the keys before `end`. */
export interface CausalBlock extends Pick<Context, 'mask' | 'inverseLengths'> {
  readonly start: number;
  readonly end: number;
}

/** One block: x (…, T, d) → hidden (…, Q, d) and the attention's own contribution to it. */
export function block(ops: Ops<Ref>, layer: Layer, index: number, x: Ref, context: Context): { hidden: Ref; attention: Ref } {
  const { past } = layer;
  return ops.scope(`layers.${index}`, () => {
    const attention = ops.scope('attention', () => attend(ops, layer, index, x, context));
    const { start, end } = context.queries ?? { start: 0, end: ops.shape(x).at(-2)! };
    const around = ops.slice(x, ops.shape(x).length - 2, start, end);
    if (past === undefined) {
      const middle = ops.add(around, attention);
      const mlp = ops.scope('mlp', () => layer.mlp(ops.scope('norm', () => layer.mlpNorm(middle))));
      return { hidden: ops.add(middle, mlp), attention };
    }
    const sum = ops.scope('attention.past', () => ops.add(past.attention(around), attention));
    const middle = ops.scope('attention.norm', () => layer.attentionNorm(sum));
    const mlp = ops.scope('mlp', () => layer.mlp(middle));
    const whole = ops.scope('mlp.past', () => ops.add(past.mlp(middle), mlp));
    return { hidden: ops.scope('mlp.norm', () => layer.mlpNorm(whole)), attention };
  });
}

/** The attention of a block, behind its norm where that comes first: x (…, T, d) → (…, Q, d). */
function attend(ops: Ops<Ref>, layer: Layer, index: number, x: Ref, context: Context): Ref {
  const { heads, keyValueHeads, headDim } = layer;
  const normal = layer.past === undefined ? ops.scope('norm', () => layer.attentionNorm(x)) : x;
  const [q, keys, values] = ops.scope('qkv', () => {
    const [query, key, value] = layer.queryKeyValue(normal);
    const turned = wanted(ops, context.rotate(splitHeads(ops, query, heads)), context); // (…, H, Q, Dh)
    const now = context.rotate(splitHeads(ops, key, keyValueHeads)); // (…, Hkv, T, Dh)
    return [turned, ...context.remember(index, now, splitHeads(ops, value, keyValueHeads))] as const;
  });
  const mixed =
    context.blocks === undefined
      ? mix(ops, layer, [q, keys, values], context)
      : mixBlocks(ops, layer, [q, keys, values], context.blocks);
  return ops.scope('out', () => layer.attentionOut(mergeHeads(ops, mixed, heads, headDim))); // (…, Q, d)
}

/** What says how much a key counts. */
type Seen = Pick<Context, 'mask' | 'inverseLengths' | 'padding'>;

/** Queries (…, H, Q, Dh) over keys and values (…, Hkv, K, Dh) → (…, Hkv, G·Q, Dh). */
function mix(ops: Ops<Ref>, layer: Layer, [q, keys, values]: readonly [Ref, Ref, Ref], seen: Seen): Ref {
  const grouped = ops.scope('qkv', () => regroup(ops, q, layer.keyValueHeads)); // (…, Hkv, G·Q, Dh)
  const scores = ops.scope('scores', () => ops.matmul(grouped, ops.transposed(keys))); // (…, Hkv, G·Q, K)
  return ops.scope('weights', () => weigh(ops, layer, scores, values, seen));
}

/** The same, block by block of the queries → (…, H, Q, Dh). */
function mixBlocks(
  ops: Ops<Ref>,
  layer: Layer,
  [q, keys, values]: readonly [Ref, Ref, Ref],
  blocks: readonly CausalBlock[],
): Ref {
  const axis = ops.shape(q).length - 2;
  const parts = blocks.map(({ start, end, ...seen }) => {
    const own = ops.slice(q, axis, start, end);
    const mixed = mix(ops, layer, [own, ops.slice(keys, axis, 0, end), ops.slice(values, axis, 0, end)], seen);
    return ops.reshape(mixed, [...ops.shape(own).slice(0, -1), ops.shape(values).at(-1)!]);
  });
  return ops.concat(parts, axis);
}

function weigh(ops: Ops<Ref>, layer: Layer, scores: Ref, values: Ref, { mask, inverseLengths, padding }: Seen): Ref {
  const { attention: plan } = layer;
  if (plan.kind === 'softmax') {
    if (padding === undefined) return ops.softmaxAttention(scores, values, mask);
    return ops.softmaxAttention(ops.multiply(scores, mask), values, padding.keep);
  }
  const { epsilon, table } = plan;
  const half = plan.kind === 'power' ? plan.half : undefined;
  if (plan.kind === 'power' && plan.offsets !== undefined && plan.offsets.length !== layer.heads)
    throw new SottoError('model', `the plan has ${plan.offsets.length} offsets, the layer ${layer.heads} heads`, {
      place: { field: 'attention.offsets' },
      remedy: 'give one number a head, or convert the model again',
    });
  const adjusted =
    plan.kind === '2quad'
      ? shifted(ops, scores, plan.shift, padding)
      : inhabited(ops, plan, layer.adjustScores(scores, padding?.keep), padding);
  const raised = plan.kind === 'power' && plan.form === 'stable' ? overLargest(ops, ops.multiply(adjusted, mask)) : adjusted;
  const lengths = perKey(plan) ? (padding?.inverseLengths() ?? inverseLengths) : ops.constant([1], [1]);
  const powers = powerOf(plan);
  const centred = padding !== undefined && powers.argument === 'centred';
  const counted = centred ? { keep: padding.keep, shares: padding.shares() } : undefined;
  return ops.powerAttention(raised, values, mask, lengths, { ...powers, epsilon, table, half }, counted);
}

/** Scores plus a number, where a key counts. */
const shifted = (ops: Ops<Ref>, scores: Ref, shift: number, padding: Padding | undefined): Ref =>
  padding === undefined ? ops.offset(scores, shift) : ops.add(scores, ops.scale(padding.keep, shift));

/**
 * A place before a padded text has a score of zero with itself. Where that is raised as it is, its row would be empty, and its sum outside of
 * what a table or an iteration reaches: it gets a score from the middle of that range instead. No row of the text sees it.
 */
function inhabited(
  ops: Ops<Ref>,
  plan: Exclude<AttentionPlan, { kind: 'softmax' }>,
  scores: Ref,
  padding: Padding | undefined,
): Ref {
  const raw = plan.kind === '2relu' || (plan.kind === 'power' && powerOf(plan).argument === 'plain');
  if (!raw || padding?.alone === undefined) return scores;
  const { table } = plan;
  const middle =
    table === undefined ? 1 : table.method === 'newton' ? Math.sqrt(table.low * table.high) : 2 ** (table.rangeBits - 2);
  return ops.add(scores, ops.scale(padding.alone(), middle ** (1 / powerOf(plan).exponent)));
}

/** Whether sums over a row are divided by its length. */
export const perKey = (plan: AttentionPlan): boolean =>
  plan.kind !== 'power' || (plan.form !== 'plain' && plan.form !== 'stable');

/** Keeps the quotient of scores that are all zero. */
const leastScore = 1e-6;

/** Scores divided by the largest magnitude in their row. */
function overLargest(ops: Ops<Ref>, scores: Ref): Ref {
  const largest = ops.max(ops.maximum(scores, ops.scale(scores, -1)), ops.shape(scores).length - 1);
  return ops.divide(scores, ops.offset(largest, leastScore));
}

/** What the attention of a plan raises, and to which power. */
export function powerOf(plan: Exclude<AttentionPlan, { kind: 'softmax' }>): {
  argument: PowerArgument;
  exponent: number;
  offsets?: readonly number[] | undefined;
} {
  if (plan.kind === 'power') {
    const { form = 'centred', exponent, offsets } = plan;
    return form === 'centred' ? { argument: form, exponent, offsets } : { argument: 'plain', exponent };
  }
  return plan.kind === '2relu' ? { argument: 'rectified', exponent: 1 } : { argument: 'plain', exponent: 2 };
}

/**
 * The scores (…, Hkv, G·Q, K) of an `l2quad` times `scale` plus `shift`, one number a head (H) each; other plans have none. The private
 * programs have the scale in their query matrices.
 */
export function learntScores(
  ops: Ops<Ref>,
  { attention, heads, keyValueHeads }: Pick<Layer, 'attention' | 'heads' | 'keyValueHeads'>,
  scores: Ref,
  number: { scale?: () => Ref; shift: () => Ref; keep?: Ref | undefined },
): Ref {
  if (attention.kind !== 'l2quad') return scores;
  const groups = heads / keyValueHeads;
  const rows = ops.shape(scores).at(-2)!;
  const spread = (perHead: Ref): Ref => {
    const apart = ops.reshape(perHead, [keyValueHeads, groups, 1]);
    return ops.reshape(ops.broadcast(apart, [keyValueHeads, groups, rows / groups]), [keyValueHeads, rows, 1]);
  };
  const scaled = number.scale === undefined ? scores : ops.multiply(scores, spread(number.scale()));
  const shift = spread(number.shift());
  return ops.add(scaled, number.keep === undefined ? shift : ops.multiply(number.keep, shift));
}

function wanted(ops: Ops<Ref>, x: Ref, { queries }: Context): Ref {
  return queries === undefined ? x : ops.slice(x, ops.shape(x).length - 2, queries.start, queries.end);
}

/** (…, T, heads·Dh) → (…, heads, T, Dh). */
function splitHeads(ops: Ops<Ref>, x: Ref, heads: number): Ref {
  const shape = ops.shape(x);
  const apart = ops.reshape(x, [...shape.slice(0, -1), heads, shape.at(-1)! / heads]);
  return swapped(ops, apart);
}

/** (…, H, T, Dh) → (…, Hkv, G·T, Dh): the queries of a group stand below one another and meet their keys in one product. */
function regroup(ops: Ops<Ref>, x: Ref, keyValueHeads: number): Ref {
  const shape = ops.shape(x);
  const [heads, tokens, headDim] = shape.slice(-3) as [number, number, number];
  return ops.reshape(x, [...shape.slice(0, -3), keyValueHeads, (heads / keyValueHeads) * tokens, headDim]);
}

/** (…, Hkv, G·T, Dh) → (…, T, H·Dh). */
function mergeHeads(ops: Ops<Ref>, x: Ref, heads: number, headDim: number): Ref {
  const shape = ops.shape(x);
  const tokens = (shape.at(-3)! * shape.at(-2)!) / heads;
  const lead = shape.slice(0, -3);
  const together = swapped(ops, ops.reshape(x, [...lead, heads, tokens, headDim]));
  return ops.reshape(together, [...lead, tokens, heads * headDim]);
}

/** Swaps the third last and the second last axis. */
function swapped(ops: Ops<Ref>, x: Ref): Ref {
  const rank = ops.shape(x).length;
  return ops.transpose(x, [...Array(rank - 3).keys(), rank - 2, rank - 3, rank - 1]);
}

/** The activation of a plan; `coefficient` gives its coefficients (see coefficientsOf), (1) or (width). */
export function activate(
  ops: Ops<Ref>,
  plan: ActivationPlan,
  exact: ActivationName,
  x: Ref,
  coefficient: (name: Coefficient, shape: Shape) => Ref,
): Ref {
  if (plan.kind === 'relu') return ops.relu(x);
  if (plan.kind === 'exact') return exactActivations[exact](ops, x);
  if (plan.kind === 'quad')
    return ops.offset(ops.add(ops.scale(ops.square(x), fixedQuad.a), ops.scale(x, fixedQuad.b)), fixedQuad.c);
  const shape = [plan.per === 'layer' ? 1 : ops.shape(x).at(-1)!];
  if (plan.kind === 'bilinear') return ops.multiply(x, coefficient('a', shape));
  const [a, b, c] = [coefficient('a', shape), coefficient('b', shape), coefficient('c', shape)];
  if (plan.kind === 'quadratic') return ops.quadratic(x, a, b, c);
  // (e·t² + d·t + a)·t² + b·t + c: two products deep.
  const reach = reachOf(plan);
  const t = reach === 1 ? x : ops.scale(x, 1 / reach);
  const square = ops.square(t);
  const inner = ops.add(ops.multiply(square, coefficient('e', shape)), ops.multiply(t, coefficient('d', shape)));
  return ops.add(ops.multiply(ops.add(inner, a), square), ops.add(ops.multiply(t, b), c));
}

const tanhGelu = (ops: Ops<Ref>, x: Ref): Ref => {
  const cubic = ops.multiply(x, ops.offset(ops.scale(ops.square(x), 0.044715), 1));
  return ops.multiply(x, ops.scale(ops.offset(ops.tanh(ops.scale(cubic, Math.sqrt(2 / Math.PI))), 1), 0.5));
};

const exactActivations: Record<ActivationName, (ops: Ops<Ref>, x: Ref) => Ref> = {
  silu: (ops, x) => ops.silu(x),
  relu: (ops, x) => ops.relu(x),
  gelu: (ops, x) => ops.gelu(x),
  gelu_new: tanhGelu,
  gelu_pytorch_tanh: tanhGelu,
  gelu_fast: tanhGelu,
  quick_gelu: (ops, x) => ops.multiply(x, ops.sigmoid(ops.scale(x, 1.702))),
};

/** Gives the server's tensors by name, each declared once however often it is used. */
export function serverWeights(ops: Ops<Ref>): (name: string, shape: Shape) => Ref {
  const declared = new Map<string, Ref>();
  return (name, shape) => {
    const known = declared.get(name) ?? ops.input(name, shape, 'server');
    declared.set(name, known);
    return known;
  };
}
export type WeightSource = ReturnType<typeof serverWeights>;

/** Everybody looks at everybody: the context of an encoder over `tokens` positions. */
export function encoderContext(ops: Ops<Ref>, tokens: number): Context {
  return {
    rotate: (x) => x,
    remember: (_, keys, values) => [keys, values],
    mask: ops.constant([1], [1]),
    inverseLengths: ops.constant([1 / tokens], [1]),
  };
}

/** A causal mask (groups·queries, tokens) and one over each row's length, for the last `queries` of `tokens` positions. */
export function causalMask(ops: Ops<Ref>, tokens: number, queries: number, groups: number): { mask: Ref; inverseLengths: Ref } {
  const rows = groups * queries;
  const mask = new Float64Array(rows * tokens);
  const inverse = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const length = tokens - queries + (row % queries) + 1;
    mask.fill(1, row * tokens, row * tokens + length);
    inverse[row] = 1 / length;
  }
  // One row that masks nothing is all the same as no mask.
  if (queries === 1) return { mask: ops.constant([1], [1]), inverseLengths: ops.constant([1 / tokens], [1]) };
  return { mask: ops.constant(mask, [rows, tokens]), inverseLengths: ops.constant(inverse, [rows, 1]) };
}

/** `tokens` positions from the first on in `count` equal blocks. */
export function causalBlocks(ops: Ops<Ref>, tokens: number, count: number, groups: number): CausalBlock[] {
  const width = tokens / count;
  return Array.from({ length: count }, (_, at) => {
    const [start, end] = [at * width, (at + 1) * width];
    return { start, end, ...causalMask(ops, end, width, groups) };
  });
}
