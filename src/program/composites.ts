import { nf4Pairs } from './nf4.ts';
import { size } from './shapes.ts';
import type { Bounded, Composite, NodeOf, Ops, Ref, Shape } from './types.ts';

type Lowering = { [C in Composite]: (ops: Ops<Ref>, node: NodeOf<C>, ...inputs: Ref[]) => Ref };

const last = (ops: Ops<Ref>, x: Ref): number => ops.shape(x).length - 1;
const meanOverLast = (ops: Ops<Ref>, x: Ref): Ref => ops.scale(ops.sum(x, [last(ops, x)]), 1 / ops.shape(x).at(-1)!);

/** Large and finite: adding it to a masked score makes its exponential vanish in float32 as in float64. */
export const maskedScore = 1e9;

/** Beside the mean of half powers, which is at least one (or an offset's power): it keeps rows that see nothing finite. */
export const levelEpsilon = 2 ** -12;

/** One number a head, in the shape that broadcasts to scores (…, groups, heads of a group · queries, keys). */
export function perHead(numbers: readonly number[], scores: Shape): { values: Float64Array; shape: Shape } {
  const [groups, rows] = [scores.at(-3) ?? 1, scores.at(-2)!];
  const queries = (groups * rows) / numbers.length;
  const values = Float64Array.from({ length: groups * rows }, (_, row) => numbers[Math.floor(row / queries)]!);
  return { values, shape: scores.length < 3 ? [rows, 1] : [groups, rows, 1] };
}

/** What a power attention raises, zero where masked. */
export function powerArgument(
  ops: Ops<Ref>,
  { argument, offsets }: Pick<NodeOf<'powerAttention'>['parameters'], 'argument' | 'offsets'>,
  scores: Ref,
  mask: Ref,
  inverseLengths: Ref,
): Ref {
  const masked = ops.multiply(scores, mask);
  if (argument === 'plain') return masked;
  if (argument === 'rectified') return ops.relu(masked);
  const mean = ops.multiply(ops.sum(masked, [last(ops, scores)]), inverseLengths);
  // What a row adds to its scores is found first: a pass over rows instead of one over scores.
  const raise = offsets === undefined ? ops.offset(mean, -1) : ops.subtract(mean, constantPerHead(ops, offsets, scores));
  return ops.multiply(ops.subtract(scores, raise), mask);
}

/** The argument of centred powers where a secret says which keys count: their scores are zero already. */
function countedArgument(
  ops: Ops<Ref>,
  { offsets }: Pick<NodeOf<'powerAttention'>['parameters'], 'offsets'>,
  masked: Ref,
  { keep, shares }: { readonly keep: Ref; readonly shares: Ref },
): Ref {
  const ones = offsets === undefined ? keep : ops.multiply(keep, constantPerHead(ops, offsets, masked));
  return ops.subtract(ops.add(masked, ones), ops.multiply(ops.sum(masked, [last(ops, masked)]), shares));
}

function constantPerHead(ops: Ops<Ref>, offsets: readonly number[], scores: Ref): Ref {
  const { values, shape } = perHead(offsets, ops.shape(scores));
  return ops.constant(values, shape);
}

/** What every composite means in smaller operations. */
export const lowerings: Lowering = {
  relu: (ops, _, x) => ops.multiply(x!, ops.step(x!)),
  sigmoid: (ops, _, x) => ops.scale(ops.offset(ops.tanh(ops.scale(x!, 0.5)), 1), 0.5),
  silu: (ops, _, x) => ops.multiply(x!, ops.sigmoid(x!)),
  gelu: (ops, _, x) => ops.multiply(x!, ops.scale(ops.offset(ops.erf(ops.scale(x!, Math.SQRT1_2)), 1), 0.5)),
  quadratic: (ops, _, x, a, b, c) => ops.add(ops.add(ops.multiply(ops.square(x!), a!), ops.multiply(x!, b!)), c!),
  softmax: (ops, _, x) => {
    const e = ops.exp(ops.subtract(x!, ops.stopGradient(ops.max(x!, last(ops, x!)))));
    return ops.divide(e, ops.sum(e, [last(ops, x!)]));
  },
  logSoftmax: (ops, _, x) => {
    const shifted = ops.subtract(x!, ops.stopGradient(ops.max(x!, last(ops, x!))));
    return ops.subtract(shifted, ops.log(ops.sum(ops.exp(shifted), [last(ops, x!)])));
  },
  reciprocal: (ops, node, x) => ops.divide(ops.constant([1], []), ops.offset(x!, node.parameters.epsilon)),
  inverseSquareRoot: (ops, node, x) => {
    const { factor, epsilon } = node.parameters;
    return ops.divide(ops.constant([1], []), ops.sqrt(ops.offset(ops.scale(x!, factor), epsilon)));
  },
  rmsNorm: (ops, node, x, gain) => {
    const { epsilon, table } = node.parameters;
    const squares = ops.sum(ops.square(x!), [last(ops, x!)]);
    const row = ops.inverseSquareRoot(squares, { factor: 1 / ops.shape(x!).at(-1)!, epsilon, table });
    const normal = ops.multiply(x!, row);
    return gain === undefined ? normal : ops.multiply(normal, gain);
  },
  layerNorm: (ops, node, x, gain, bias) => {
    const normal = ops.rmsNorm(ops.subtract(x!, meanOverLast(ops, x!)), node.parameters);
    return gain === undefined || bias === undefined ? normal : ops.add(ops.multiply(normal, gain), bias);
  },
  rotary: (ops, _, x, cos, sin) => {
    const axis = last(ops, x!);
    const half = ops.shape(x!)[axis]! / 2;
    const turned = ops.concat([ops.scale(ops.slice(x!, axis, half, 2 * half), -1), ops.slice(x!, axis, 0, half)], axis);
    return ops.add(ops.multiply(x!, cos!), ops.multiply(turned, sin!));
  },
  softmaxAttention: (ops, _, scores, values, mask) => {
    const hidden = ops.scale(ops.offset(mask!, -1), maskedScore);
    return ops.matmul(ops.softmax(ops.add(scores!, hidden)), values!);
  },
  powers: (ops, { parameters }, scores, mask, inverseLengths) => {
    let power = powerArgument(ops, parameters, scores!, mask!, inverseLengths!);
    for (let p = parameters.exponent; p > 1; p /= 2) power = ops.square(power);
    return power;
  },
  powerAttention: (ops, node, scores, values, mask, inverseLengths, keep, shares) => {
    const { exponent, epsilon, table, half } = node.parameters;
    const powers = (p: number): Ref => {
      if (keep === undefined || shares === undefined)
        return ops.powers(scores!, mask!, inverseLengths!, { ...node.parameters, exponent: p });
      let power = countedArgument(ops, node.parameters, ops.multiply(scores!, mask!), { keep, shares });
      for (let at = p; at > 1; at /= 2) power = ops.square(power);
      return power;
    };
    const axis = last(ops, scores!);
    const rowMean = (x: Ref): Ref => ops.multiply(ops.sum(x, [axis]), inverseLengths!);
    const levelled = (method: Bounded): Ref => {
      const halves = powers(exponent / 2);
      return ops.square(ops.multiply(halves, ops.reciprocal(rowMean(halves), { epsilon: levelEpsilon, table: method })));
    };
    const power = half === undefined ? powers(exponent) : levelled(half);
    // Levelled powers have lost the factor that offsets give.
    const offsets = half === undefined ? node.parameters.offsets : undefined;
    const numerator = ops.multiply(ops.matmul(power, values!), inverseLengths!);
    const denominator = rowMean(power);
    if (offsets === undefined) return ops.multiply(numerator, ops.reciprocal(denominator, { epsilon, table }));
    const floors = offsets.map((offset) => epsilon * (offset ** exponent - 1));
    const { values: lacking, shape } = perHead(floors, ops.shape(scores!));
    const floored = ops.add(denominator, ops.constant(lacking, shape));
    return ops.multiply(numerator, ops.reciprocal(floored, { epsilon, table }));
  },
  embedding: (ops, _, table, indices) => ops.gather(table!, indices!),
  crossEntropy: (ops, _, logits, labels, weights) => {
    const depth = ops.shape(logits!).at(-1)!;
    const picked = ops.sum(ops.multiply(ops.logSoftmax(logits!), ops.oneHot(labels!, depth)), [last(ops, logits!)]);
    const flat = ops.reshape(ops.multiply(ops.reshape(picked, ops.shape(weights!)), weights!), [size(ops.shape(weights!))]);
    return ops.reshape(ops.scale(ops.sum(flat, [0]), -1), []);
  },
  nf4: (ops, node, codes, scales) => {
    const blocks = ops.shape(scales!)[0]!;
    const scaled = ops.multiply(nf4Units(ops, node, codes!, blocks), ops.reshape(scales!, [blocks, 1]));
    const length = size(node.shape);
    return ops.reshape(ops.slice(ops.reshape(scaled, [blocks * node.parameters.block]), 0, 0, length), node.shape);
  },
};

/** The levels of the codes in blocks, (blocks, block), zeros after the last. */
export function nf4Units(ops: Ops<Ref>, node: NodeOf<'nf4'>, codes: Ref, blocks: number): Ref {
  const { block } = node.parameters;
  const pairs = ops.gather(ops.constant(nf4Pairs, [256, 2]), codes);
  const bytes = ops.shape(codes)[0]!;
  const flat = ops.pad(ops.reshape(pairs, [2 * bytes]), 0, 0, blocks * block - 2 * bytes);
  return ops.reshape(flat, [blocks, block]);
}

export const isComposite = (operation: string): operation is Composite => operation in lowerings;
