import type { Ops, Ref, Shape } from '../program/index.ts';
import { activate, block, type Context, type Layer, learntScores, type WeightSource } from './block.ts';
import type { Layout, Matrix } from './layout.ts';
import type { NormPlan, Plan } from './plan.ts';

/** x · Wᵀ, plus b where there is one. */
export function publishedLinear(ops: Ops<Ref>, weight: WeightSource, x: Ref, { name, out, inputs, bias }: Matrix): Ref {
  const product = ops.matmul(x, ops.transposed(weight(`${name}.weight`, [out, inputs])));
  return bias ? ops.add(product, weight(`${name}.bias`, [out])) : product;
}

/** A norm's tensors, and the norm: programs may declare the first apart. */
export function publishedNorm(ops: Ops<Ref>, layout: Layout, weight: WeightSource, name: string, plan: NormPlan | undefined) {
  const { hiddenSize: d, epsilon, norm, normBias } = layout;
  const gain = weight(`${name}.weight`, [d]);
  const bias = normBias ? weight(`${name}.bias`, [d]) : undefined;
  const options = { gain, epsilon, table: plan?.table };
  return (x: Ref): Ref => (norm === 'rms' ? ops.rmsNorm(x, options) : ops.layerNorm(x, { ...options, bias }));
}

/** Block `index` with the published tensors. */
function publishedLayer(ops: Ops<Ref>, layout: Layout, plan: Plan, index: number, weight: WeightSource): Layer {
  const { heads, keyValueHeads, headDim, normPlace } = layout;
  const { attention: parts, mlp } = layout.block(index);
  const { activation, attention, norm } = plan.layers[index]!;
  const linear = (x: Ref, matrix: Matrix): Ref => publishedLinear(ops, weight, x, matrix);
  const coefficient = (letter: string, shape: Shape): Ref => weight(`${mlp.act}.${letter}`, shape);
  const activated = (x: Ref): Ref => activate(ops, activation, layout.activation, x, coefficient);
  const same = (x: Ref): Ref => x;
  return {
    heads,
    keyValueHeads,
    headDim,
    attention,
    adjustScores: (scores) =>
      learntScores(ops, { attention, heads, keyValueHeads }, scores, {
        scale: () => weight(`${parts.quad}.scale`, [heads]),
        shift: () => weight(`${parts.quad}.shift`, [heads]),
      }),
    attentionNorm: (x) => publishedNorm(ops, layout, weight, parts.norm, norm)(x),
    queryKeyValue: (x) => [
      ops.scale(linear(x, parts.query), 1 / Math.sqrt(headDim)),
      linear(x, parts.key),
      linear(x, parts.value),
    ],
    attentionOut: (x) => linear(x, parts.out),
    mlpNorm: (x) => publishedNorm(ops, layout, weight, mlp.norm, norm)(x),
    mlp: (x) => {
      const { gate } = mlp;
      const first = ops.scope('up', () => linear(x, gate ?? mlp.up)); // (…, T, ff)
      const up = gate === undefined ? undefined : ops.scope('up', () => linear(x, mlp.up));
      const hidden = ops.scope('act', () => (up === undefined ? activated(first) : ops.multiply(activated(first), up)));
      return ops.scope('down', () => linear(hidden, mlp.down));
    },
    past: normPlace === 'behind' ? { attention: same, mlp: same } : undefined,
  };
}

/** All blocks over x (…, T, d): hidden states and attention outputs (…, T, d) of each. */
export function publishedBlocks(ops: Ops<Ref>, layout: Layout, plan: Plan, weight: WeightSource, x: Ref, context: Context) {
  const [hidden, attention]: [Ref[], Ref[]] = [[], []];
  for (let index = 0; index < layout.numHiddenLayers; index++) {
    const made = block(ops, publishedLayer(ops, layout, plan, index, weight), index, hidden.at(-1) ?? x, context);
    hidden.push(made.hidden);
    attention.push(made.attention);
  }
  return { hidden, attention, last: hidden.at(-1) ?? x };
}

/** The outputs of a program that were asked for: `logits`, `pooled`, `hidden.L`, `attention.L`. */
export function outputsOf<T extends string>(
  found: { readonly [output in T]?: Ref | readonly Ref[] },
  wanted: readonly T[],
  order: readonly T[],
): Record<string, Ref> {
  const made: Record<string, Ref> = {};
  for (const label of order) {
    const refs: Ref | readonly Ref[] | undefined = wanted.includes(label) ? found[label] : undefined;
    if (Array.isArray(refs)) for (const [at, ref] of refs.entries()) made[`${label}.${at}`] = ref;
    else if (refs !== undefined) made[label] = refs as Ref;
  }
  return made;
}
