import { broadcastShapes, levelEpsilon, type NodeOf, perHead, type Shape, size } from '../../program/index.ts';
import type { Arithmetic } from './arithmetic.ts';
import { foldConstants, maxAbs } from './constants.ts';
import type { Nonlinear } from './nonlinear.ts';
import type { ConstantValue, SharedValue, Site, Value } from './value.ts';

/**
 * Power attention (see its lowering in program/composites.ts) with scores packed to what the mask leaves of them: a causal layer sends
 * only the lower triangle. Means, sums and centring are local on the untruncated scores; squares and truncations see the packed ones.
 * `small`: whether a map by weights that reads the result may have a smaller ring. Half powers that are levelled cost a product and a row function more, three rounds with a table that interpolates.
 */
export function powerAttention(
  on: Arithmetic,
  nonlinear: Nonlinear,
  node: NodeOf<'powerAttention'>,
  inputs: readonly Value[],
  small: boolean,
): Value {
  const [scores, values, mask, inverseLengths, keep, shares] = inputs as [Value, Value, Value, Value, Value?, Value?];
  const { argument, offsets, exponent, epsilon, table, half } = node.parameters;
  if (scores.kind !== 'shared' || mask.kind !== 'constant') return on.fail(node, 'needs shared scores and a public mask');
  const { shape } = scores;
  const rows: Shape = [...shape.slice(0, -1), 1];
  const at = (operation: string, extents: Shape): Site => ({ operation, scope: node.scope, shape: extents });
  const wide = at('powerAttention', shape);
  const masked = on.multiply(wide, scores, mask) as SharedValue;
  const lengths = prefixes(mask, shape);
  const packed = lengths === undefined ? undefined : packing(shape, lengths);
  const pack = (value: SharedValue): SharedValue => (packed === undefined ? value : packed.pack(on, value));
  const unpack = (value: SharedValue): SharedValue => (packed === undefined ? value : packed.unpack(on, value));
  const spread = (row: number): number => {
    const wideRow = on.out.broadcast(row, shape);
    return packed === undefined ? wideRow : packed.packNode(on, wideRow);
  };
  const ones = (value: Value): Value =>
    on.multiply(
      wide,
      value,
      headConstant(offsets, shape, (offset) => offset),
    );
  const sums = (): SharedValue => on.sum(at('sum', rows), masked, [shape.length - 1]) as SharedValue;
  const centred = (): SharedValue => {
    if (inverseLengths.kind !== 'constant') return on.fail(node, 'centres rows of secret lengths without their shares');
    const mean = on.average(at('mean', rows), sums(), inverseLengths);
    const one = headConstant(offsets, shape, (offset) => offset);
    return pack(on.multiply(wide, on.add(wide, on.subtract(wide, masked, mean), one), mask) as SharedValue);
  };
  /** Where a secret says which keys count: one where they do, less their share of the row's sum. */
  const counted = (counts: SharedValue, share: SharedValue): SharedValue => {
    const raised = pack(on.add(wide, masked, ones({ ...counts, ...laidOut(on, counts, shape) })) as SharedValue);
    const mean = on.factors.spreadProduct(raised.shape, precise(on, share), sums(), spread);
    return on.subtract(at('centred', raised.shape), raised, mean) as SharedValue;
  };
  const argumentOf = (): SharedValue => {
    if (argument !== 'centred') return pack(masked);
    if (keep?.kind === 'shared' && shares?.kind === 'shared') return counted(keep, shares);
    return centred();
  };
  let power: Value = argumentOf();
  if (argument === 'rectified') power = nonlinear.rectified(at('rectified', shape), power as SharedValue);
  // Levelled powers have lost the factor that offsets give.
  const epsilons = headConstant(half === undefined ? offsets : undefined, shape, (offset) => epsilon * offset ** exponent);
  const [lengthFactors, floors] = quotientScale(on, node, inverseLengths, epsilons, epsilon);
  const rowMean = (value: SharedValue): Value =>
    on.multiply(at('denominator', rows), on.sum(at('sum', rows), unpack(value), [shape.length - 1]), lengthFactors);
  for (let p = exponent; p > 1; p /= 2) {
    if (p === 2 && half !== undefined) {
      const level = nonlinear.rowFunction(at('reciprocal', rows), rowMean(power as SharedValue), half, {
        power: -1,
        factor: 1,
        epsilon: levelEpsilon,
      });
      power = on.factors.rowProduct(power as SharedValue, on.shared(at('level', rows), level), spread);
    }
    power = on.factors.square(at('square', (power as SharedValue).shape), power);
  }
  const weights = unpack(on.operand(power as SharedValue));
  const numerator = on.multiply(at('numerator', node.shape), on.matmul(at('matmul', node.shape), weights, values), lengthFactors);
  const scaled = rowMean(power as SharedValue);
  const denominator = maxAbs(floors.values) === 0 ? scaled : on.add(at('denominator', rows), scaled, floors);
  const inverse = nonlinear.rowFunction(at('reciprocal', rows), denominator, table, { power: -1, factor: 1, epsilon });
  const factor = small && numerator.kind === 'shared' ? { ...numerator, factorFraction: on.rowFraction } : numerator;
  return on.multiply(at('quotient', node.shape), factor, inverse, small);
}

const laidOut = (on: Arithmetic, x: SharedValue, shape: Shape): { node: number; shape: Shape } => ({
  node: on.out.broadcast(x.node, shape),
  shape,
});

/** A share of a row, with all the fraction bits that its products have room for: in long rows it is small. */
function precise(on: Arithmetic, x: SharedValue): SharedValue {
  const { bits, fraction } = on.ring;
  const room = Math.min(bits >> 1, bits - 2 - on.options.integerBits - fraction);
  return { ...x, factorFraction: Math.min(x.fraction, Math.max(fraction, room)) };
}

/** A number a head for every row of scores; one number where heads were not scaled. */
function headConstant(offsets: readonly number[] | undefined, scores: Shape, f: (offset: number) => number): ConstantValue {
  if (offsets === undefined) return { kind: 'constant', shape: [], values: Float64Array.of(f(1)) };
  return { kind: 'constant', ...perHead(offsets.map(f), scores) };
}

/**
 * Numerator and denominator may carry any common factor, so that 1/n needs no more bits for long rows than for short ones: it is rounded to
 * those of a public factor, and what must fit is the mean of a row. Where the ring has no room for them, rows of different lengths n get the
 * exact power of two next to 1/n instead, with which epsilon must be n/2^k of itself: the second value is what the denominator lacks then.
 * Arguments of the reciprocal then are up to √2 times larger or smaller; calibration counts them so.
 */
function quotientScale(
  on: Arithmetic,
  node: NodeOf<'powerAttention'>,
  inverseLengths: Value,
  epsilons: ConstantValue,
  epsilon: number,
): [ConstantValue | SharedValue, ConstantValue] {
  // A secret 1/n is taken as it is.
  if (inverseLengths.kind === 'shared')
    return [precise(on, inverseLengths), { ...epsilons, values: epsilons.values.map((own) => own - epsilon) }];
  if (inverseLengths.kind !== 'constant') return on.fail(node, 'needs lengths that are public or the client’s');
  const { values, shape } = inverseLengths;
  const { factorBits, integerBits } = on.options;
  const roomy = on.fits(2 * on.ring.fraction + factorBits, integerBits);
  const uniform = values.every((value) => value === values[0]);
  const powers = !roomy && !uniform;
  const factors = values.map((inverse) => {
    if (powers) return 2 ** Math.round(Math.log2(inverse));
    return roomy ? Math.max(1, Math.round(inverse * 2 ** factorBits)) / 2 ** factorBits : inverse;
  });
  const parts: ConstantValue = {
    kind: 'constant',
    shape,
    values: factors.map((factor, row) => (powers ? factor / values[row]! : 1)),
  };
  const rows = { shape: broadcastShapes(shape, epsilons.shape)! };
  const floors = foldConstants(rows, parts, epsilons, (part, own) => part * own - epsilon);
  return [{ kind: 'constant', shape, values: factors }, floors];
}

/** How many keys each row of the last two axes sees, where every row sees a prefix and some see fewer than all. */
function prefixes(mask: ConstantValue, shape: Shape): number[] | undefined {
  const [queries, keys] = shape.slice(-2) as [number, number];
  if (size(mask.shape) !== queries * keys || maxAbs(mask.values) !== 1) return undefined;
  const lengths: number[] = [];
  for (let row = 0; row < queries; row++) {
    const of = mask.values.subarray(row * keys, (row + 1) * keys);
    const length = of.indexOf(0);
    const count = length < 0 ? keys : length;
    if (of.subarray(count).some((value) => value !== 0)) return undefined;
    lengths.push(count);
  }
  return lengths.every((length) => length === keys) ? undefined : lengths;
}

interface Packing {
  packNode(on: Arithmetic, node: number): number;
  pack(on: Arithmetic, value: SharedValue): SharedValue;
  unpack(on: Arithmetic, value: SharedValue): SharedValue;
}

function packing(shape: Shape, lengths: readonly number[]): Packing {
  const outer = size(shape.slice(0, -2));
  const width = shape.at(-1)!;
  const short: Shape = [outer, lengths.reduce((sum, length) => sum + length, 0)];
  const moved =
    (operation: 'packRows' | 'unpackRows', extents: Shape) =>
    (on: Arithmetic, node: number): number => {
      const { state, fraction } = on.out.node(node);
      return on.out.push(operation, [node], { lengths, width }, { shape: extents, state, fraction });
    };
  const [packNode, unpackNode] = [moved('packRows', short), moved('unpackRows', shape)];
  return {
    packNode,
    pack: (on, value) => ({ ...value, node: packNode(on, value.node), shape: short }),
    unpack: (on, value) => ({ ...value, node: unpackNode(on, value.node), shape }),
  };
}
