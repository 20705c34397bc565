import type { Ops, Ref, Shape } from '../program/index.ts';
import { activate, type Layer, learntScores, type WeightSource } from './block.ts';
import type { ActivationName } from './configuration.ts';
import { foldedName, isFoldedQuadratic } from './folded-tensors.ts';
import type { Layout } from './layout.ts';
import type { ActivationPlan, LayerPlan, NormPlan } from './plan.ts';

/** A norm without gain and bias: both are in the next matrix. */
export function foldedNorm(ops: Ops<Ref>, { norm, epsilon }: Layout, plan: NormPlan | undefined, x: Ref): Ref {
  const options = { epsilon, table: plan?.table };
  return norm === 'rms' ? ops.rmsNorm(x, options) : ops.layerNorm(x, options);
}

/** x · W (in, out), plus the bias (out) where there is one. */
export function foldedLinear(ops: Ops<Ref>, weight: WeightSource, x: Ref, name: string, out: number, bias: boolean): Ref {
  const product = ops.matmul(x, weight(name, [ops.shape(x).at(-1)!, out]));
  return bias ? ops.add(product, weight(`${name}.bias`, [out])) : product;
}

/** W(a∘x² + b∘x + c) = (W∘a)x² + (W∘b)x + Wc: the coefficients cost nothing. */
export function foldedQuadratic(
  ops: Ops<Ref>,
  weight: WeightSource,
  [square, x]: readonly [Ref, Ref],
  name: string,
  out: number,
): Ref {
  const squares = foldedLinear(ops, weight, square, `${name}.square`, out, false);
  return ops.add(squares, foldedLinear(ops, weight, x, `${name}.linear`, out, true));
}

/** The activation of a folded model: what it divides its argument by is in the matrix before it, a bilinear's coefficients too (or behind). */
export function foldedActivation(
  ops: Ops<Ref>,
  plan: ActivationPlan,
  exact: ActivationName,
  x: Ref,
  coefficient: (name: string, shape: Shape) => Ref,
): Ref {
  if (plan.kind === 'bilinear') return x;
  return activate(ops, plan.kind === 'quartic' ? { ...plan, reach: 1 } : plan, exact, x, coefficient);
}

/**
 * Block `index` as the private programs run it: norm gains and biases, 1/√Dh and an ungated quadratic's coefficients are folded into the
 * neighbouring matrices, which are stored (in, out) and fused, so that the ring's linear maps need no moves. See `foldedRows`.
 */
export function foldedLayer(ops: Ops<Ref>, layout: Layout, plan: LayerPlan, index: number, weight: WeightSource): Layer {
  const { heads, keyValueHeads, headDim, hiddenSize, normBias, normPlace } = layout;
  const { attention: parts } = layout.block(index);
  const [wide, narrow] = [heads * headDim, keyValueHeads * headDim];
  const part = (x: Ref, start: number, end: number): Ref => ops.slice(x, ops.shape(x).length - 1, start, end);
  const norm = (x: Ref): Ref => foldedNorm(ops, layout, plan.norm, x);
  const gain = (x: Ref, name: string): Ref => ops.multiply(x, weight(foldedName(index, `${name}.past`), [hiddenSize]));
  const behind = normPlace === 'behind';
  return {
    heads,
    keyValueHeads,
    headDim,
    attention: plan.attention,
    adjustScores: (scores, keep) =>
      learntScores(ops, { attention: plan.attention, heads, keyValueHeads }, scores, {
        keep,
        shift: () => weight(foldedName(index, 'attention.shift'), [heads]),
      }),
    attentionNorm: norm,
    queryKeyValue: (x) => {
      const biased = normBias || parts.query.bias || parts.key.bias || parts.value.bias;
      const all = foldedLinear(ops, weight, x, foldedName(index, 'attention.qkv'), wide + 2 * narrow, biased);
      return [part(all, 0, wide), part(all, wide, wide + narrow), part(all, wide + narrow, wide + 2 * narrow)];
    },
    attentionOut: (x) => {
      const biased = parts.out.bias || (behind && normBias);
      return foldedLinear(ops, weight, x, foldedName(index, 'attention.out'), hiddenSize, biased);
    },
    mlpNorm: norm,
    mlp: foldedMlp(ops, layout, plan, index, weight),
    past: behind ? { attention: (x) => gain(x, 'attention.out'), mlp: (x) => gain(x, 'mlp.down') } : undefined,
  };
}

function foldedMlp(ops: Ops<Ref>, layout: Layout, plan: LayerPlan, index: number, weight: WeightSource): (x: Ref) => Ref {
  const { hiddenSize, intermediateSize: width, normBias, normPlace, plainSquare } = layout;
  const { gate, up, down } = layout.block(index).mlp;
  const linear = (x: Ref, part: string, out: number, bias: boolean): Ref =>
    foldedLinear(ops, weight, x, foldedName(index, part), out, bias);
  const coefficient = (name: string, shape: Shape): Ref => weight(foldedName(index, `mlp.act.${name}`), shape);
  const activation = (x: Ref): Ref => foldedActivation(ops, plan.activation, layout.activation, x, coefficient);
  const lower = (x: Ref): Ref => linear(x, 'mlp.down', hiddenSize, down.bias || (normPlace === 'behind' && normBias));
  if (gate !== undefined)
    return (x) => {
      const both = ops.scope('up', () => linear(x, 'mlp.gateUp', 2 * width, normBias || gate.bias || up.bias)); // (T, 2·ff)
      const part = (start: number): Ref => ops.slice(both, ops.shape(both).length - 1, start, start + width);
      const hidden = ops.scope('act', () => ops.multiply(activation(part(0)), part(width)));
      return ops.scope('down', () => lower(hidden));
    };
  return (x) => {
    const raised = ops.scope('up', () => linear(x, 'mlp.up', width, normBias || up.bias)); // (T, ff)
    if (!isFoldedQuadratic(plan.activation)) {
      const hidden = ops.scope('act', () => activation(raised));
      return ops.scope('down', () => lower(hidden));
    }
    const squared = ops.scope('act', () => ops.square(raised));
    return ops.scope('down', () => {
      if (plainSquare === true) return lower(squared);
      return foldedQuadratic(ops, weight, [squared, raised], foldedName(index, 'mlp.down'), hiddenSize);
    });
  };
}
