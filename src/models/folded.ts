import type { Ops, Ref, Shape } from '../program/index.ts';
import { activate, type Layer, learntScores, type WeightSource } from './block.ts';
import type { ActivationName } from './config.ts';
import { foldedName, isFoldedQuadratic } from './folded-tensors.ts';
import type { ActivationPlan, LayerPlan, NormPlan } from './plan.ts';

/**
 * A stack of blocks as the private programs run it: norm gains and biases, 1/√Dh and an ungated quadratic's coefficients are folded
 * into the neighbouring matrices, which are stored (in, out) and fused, so that the ring's linear maps need no moves.
 */
export interface FoldedStack {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  readonly norm: 'rms' | 'layer';
  readonly epsilon: number;
  readonly activation: ActivationName;
  /** act(gate) · up instead of act(up). */
  readonly gated: boolean;
  readonly attentionBias: boolean;
  readonly outBias: boolean;
  readonly mlpBias: boolean;
  /** An ungated quadratic is one square: its coefficients are completed into the weights around it. */
  readonly plainSquare: boolean;
}

/** The stack of an encoder with LayerNorm, all biases and no gate: vision transformers and BERT. */
export function layerNormStack(config: {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly headDim: number;
  readonly layerNormEps: number;
  readonly hiddenAct: FoldedStack['activation'];
}): FoldedStack {
  return {
    hiddenSize: config.hiddenSize,
    intermediateSize: config.intermediateSize,
    numHiddenLayers: config.numHiddenLayers,
    heads: config.numAttentionHeads,
    keyValueHeads: config.numAttentionHeads,
    headDim: config.headDim,
    norm: 'layer',
    epsilon: config.layerNormEps,
    activation: config.hiddenAct,
    gated: false,
    attentionBias: true,
    outBias: true,
    mlpBias: true,
    plainSquare: false,
  };
}

/** A norm without gain and bias: both are in the next matrix. */
export function foldedNorm(ops: Ops<Ref>, stack: Pick<FoldedStack, 'norm' | 'epsilon'>, plan: NormPlan | undefined, x: Ref): Ref {
  const options = { epsilon: stack.epsilon, table: plan?.table };
  return stack.norm === 'rms' ? ops.rmsNorm(x, options) : ops.layerNorm(x, options);
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

/** Layer `index` of a folded stack. */
export function foldedLayer(ops: Ops<Ref>, stack: FoldedStack, plan: LayerPlan, index: number, weight: WeightSource): Layer {
  const { heads, keyValueHeads, headDim, hiddenSize, intermediateSize } = stack;
  const [wide, narrow] = [heads * headDim, keyValueHeads * headDim];
  const linear = (x: Ref, part: string, out: number, bias: boolean): Ref =>
    foldedLinear(ops, weight, x, foldedName(index, part), out, bias);
  const part = (x: Ref, start: number, end: number): Ref => ops.slice(x, ops.shape(x).length - 1, start, end);
  const coefficient = (name: string, shape: Shape): Ref => weight(foldedName(index, `mlp.act.${name}`), shape);
  const activation = (x: Ref): Ref => foldedActivation(ops, plan.activation, stack.activation, x, coefficient);
  const norm = (x: Ref): Ref => foldedNorm(ops, stack, plan.norm, x);

  const gatedMlp = (x: Ref): Ref => {
    const both = ops.scope('up', () => linear(x, 'mlp.gateUp', 2 * intermediateSize, stack.mlpBias)); // (T, 2·ff)
    const hidden = ops.scope('act', () =>
      ops.multiply(activation(part(both, 0, intermediateSize)), part(both, intermediateSize, 2 * intermediateSize)),
    );
    return ops.scope('down', () => linear(hidden, 'mlp.down', hiddenSize, stack.mlpBias));
  };
  const plainMlp = (x: Ref): Ref => {
    const up = ops.scope('up', () => linear(x, 'mlp.up', intermediateSize, stack.mlpBias)); // (T, ff)
    if (!isFoldedQuadratic(plan.activation)) {
      const hidden = ops.scope('act', () => activation(up));
      return ops.scope('down', () => linear(hidden, 'mlp.down', hiddenSize, stack.mlpBias));
    }
    const squared = ops.scope('act', () => ops.square(up));
    return ops.scope('down', () => {
      if (stack.plainSquare) return linear(squared, 'mlp.down', hiddenSize, stack.mlpBias);
      return foldedQuadratic(ops, weight, [squared, up], foldedName(index, 'mlp.down'), hiddenSize);
    });
  };

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
      const all = linear(x, 'attention.qkv', wide + 2 * narrow, stack.attentionBias);
      return [part(all, 0, wide), part(all, wide, wide + narrow), part(all, wide + narrow, wide + 2 * narrow)];
    },
    attentionOut: (x) => linear(x, 'attention.out', hiddenSize, stack.outBias),
    mlpNorm: norm,
    mlp: stack.gated ? gatedMlp : plainMlp,
  };
}
