import { type Ops, type Program, type Ref, type Shape, trace } from '../program/index.ts';
import {
  activate,
  block,
  type Context,
  encoderContext,
  type Layer,
  learntScores,
  serverWeights,
  type WeightSource,
} from './block.ts';
import type { VitConfig } from './config.ts';
import { type FoldedStack, foldedLayer, foldedLinear, foldedNorm, layerNormStack } from './folded.ts';
import { type Plan, withDomains } from './plan.ts';

export type VitOutput = 'logits' | 'hidden' | 'attention';

const layerName = (index: number, part: string): string => `vit.encoder.layer.${index}.${part}`;

/** Layer `index` with the published tensors; coefficients of a quadratic are `….intermediate.act.a`, `b` and `c`. */
function publishedLayer(ops: Ops<Ref>, config: VitConfig, plan: Plan, index: number, weight: WeightSource): Layer {
  const { hiddenSize: d, intermediateSize: ff, numAttentionHeads: heads, headDim, layerNormEps: epsilon, qkvBias } = config;
  const { activation, attention, norm } = plan.layers[index]!;
  const named = (part: string, shape: Shape): Ref => weight(layerName(index, part), shape);
  const linear = (x: Ref, part: string, out: number, bias: boolean): Ref =>
    publishedLinear(ops, weight, x, layerName(index, part), out, bias);
  const normed = (x: Ref, part: string): Ref =>
    ops.layerNorm(x, { gain: named(`${part}.weight`, [d]), bias: named(`${part}.bias`, [d]), epsilon, table: norm?.table });
  return {
    heads,
    keyValueHeads: heads,
    headDim,
    attention,
    adjustScores: (scores) =>
      learntScores(ops, { attention, heads, keyValueHeads: heads }, scores, {
        scale: () => named('attention.attention.quad.scale', [heads]),
        shift: () => named('attention.attention.quad.shift', [heads]),
      }),
    attentionNorm: (x) => normed(x, 'layernorm_before'),
    queryKeyValue: (x) => [
      ops.scale(linear(x, 'attention.attention.query', d, qkvBias), 1 / Math.sqrt(headDim)),
      linear(x, 'attention.attention.key', d, qkvBias),
      linear(x, 'attention.attention.value', d, qkvBias),
    ],
    attentionOut: (x) => linear(x, 'attention.output.dense', d, true),
    mlpNorm: (x) => normed(x, 'layernorm_after'),
    mlp: (x) => {
      const up = ops.scope('up', () => linear(x, 'intermediate.dense', ff, true)); // (…, T, ff)
      const coefficient = (part: string, shape: Shape): Ref => named(`intermediate.act.${part}`, shape);
      const hidden = ops.scope('act', () => activate(ops, activation, config.hiddenAct, up, coefficient));
      return ops.scope('down', () => linear(hidden, 'output.dense', d, true));
    },
  };
}

function publishedLinear(ops: Ops<Ref>, weight: WeightSource, x: Ref, name: string, out: number, bias: boolean): Ref {
  const product = ops.matmul(x, ops.transposed(weight(`${name}.weight`, [out, ops.shape(x).at(-1)!])));
  return bias ? ops.add(product, weight(`${name}.bias`, [out])) : product;
}

/** Pixels (batch, C, S, S) or (C, S, S) → one row of C·p² pixels a patch, (…, patches, C·p²), channels first. */
export function patches(ops: Ops<Ref>, config: Pick<VitConfig, 'imageSize' | 'patchSize' | 'numChannels'>, pixels: Ref): Ref {
  const { patchSize: p, numChannels: channels } = config;
  const side = config.imageSize / p;
  const lead = ops.shape(pixels).slice(0, -3);
  const planes = lead.reduce((product, extent) => product * extent, channels);
  const cut = ops.reshape(pixels, [planes, side, p, side, p]);
  const tiles = ops.reshape(ops.transpose(cut, [0, 1, 3, 2, 4]), [...lead, channels, side * side, p * p]);
  const rank = lead.length + 3;
  const swap = [...lead.keys(), rank - 2, rank - 3, rank - 1];
  return ops.reshape(ops.transpose(tiles, swap), [...lead, side * side, channels * p * p]);
}

export const patchCount = (config: Pick<VitConfig, 'imageSize' | 'patchSize'>): number =>
  (config.imageSize / config.patchSize) ** 2;

/** The published model over pixels (batch, C, S, S): hidden states and attention outputs (batch, 1 + patches, d), logits. */
export function vit(ops: Ops<Ref>, config: VitConfig, plan: Plan, pixels: Ref) {
  const { hiddenSize: d, layerNormEps: epsilon, patchSize: p, numChannels } = config;
  const [batch, tokens] = [ops.shape(pixels)[0]!, patchCount(config) + 1];
  const weight = serverWeights(ops);
  let x = ops.scope('embed', () => {
    const name = 'vit.embeddings.patch_embeddings.projection';
    const kernel = ops.reshape(weight(`${name}.weight`, [d, numChannels, p, p]), [d, numChannels * p * p]);
    const embedded = ops.add(ops.matmul(patches(ops, config, pixels), ops.transposed(kernel)), weight(`${name}.bias`, [d]));
    const first = ops.broadcast(weight('vit.embeddings.cls_token', [1, 1, d]), [batch, 1, d]);
    return ops.add(ops.concat([first, embedded], 1), weight('vit.embeddings.position_embeddings', [1, tokens, d]));
  }); // (B, T, d)
  const context: Context = encoderContext(ops, tokens);
  const hidden: Ref[] = [];
  const attention: Ref[] = [];
  for (let index = 0; index < config.numHiddenLayers; index++) {
    const made = block(ops, publishedLayer(ops, config, plan, index, weight), index, x, context);
    hidden.push((x = made.hidden));
    attention.push(made.attention);
  }
  const [gain, bias] = [weight('vit.layernorm.weight', [d]), weight('vit.layernorm.bias', [d])];
  const { table } = plan.finalNorm;
  const normal = ops.scope('norm', () => ops.layerNorm(ops.slice(x, 1, 0, 1), { gain, bias, epsilon, table })); // (B, 1, d)
  const classes = config.labels.length;
  const logits = ops.scope('head', () =>
    ops.reshape(publishedLinear(ops, weight, normal, 'classifier', classes, true), [batch, classes]),
  );
  return { hidden, attention, logits };
}

/** Pictures in the clear. Input `pixels` (batch, C, S, S), public; outputs `logits` (batch, classes), `hidden.L`, `attention.L`. */
export function traceVit(config: VitConfig, plan: Plan, options: { batch: number; outputs?: readonly VitOutput[] }): Program {
  const { batch, outputs = ['logits'] } = options;
  return trace((ops) => {
    const pixels = ops.input('pixels', [batch, config.numChannels, config.imageSize, config.imageSize], 'public');
    const { hidden, attention, logits } = vit(ops, config, plan, pixels);
    const named = (label: VitOutput, refs: readonly Ref[]) =>
      outputs.includes(label) ? refs.map((ref, index) => [`${label}.${index}`, ref] as const) : [];
    return Object.fromEntries([
      ...(outputs.includes('logits') ? [['logits', logits] as const] : []),
      ...named('hidden', hidden),
      ...named('attention', attention),
    ]);
  });
}

/** How a vision transformer looks to the private programs: a folded LayerNorm leaves a bias behind every matrix. */
export const vitStack = (config: VitConfig): FoldedStack => layerNormStack(config);

/** One private classification: the client's `pixels` (C, S, S) → `logits` (classes). Weights: `private/…` of foldWeights. */
export function traceVitPrivate(config: VitConfig, plan: Plan): Program {
  const program = trace((ops) => {
    const pixels = ops.input('pixels', [config.numChannels, config.imageSize, config.imageSize], 'client');
    return { logits: classifyFolded(ops, vitStack(config), plan, config, config.labels.length, pixels) };
  });
  return withDomains(program, plan);
}

/** A folded stack over the patches of one picture (C, S, S) → class logits; the last layer works for the class token alone. */
export function classifyFolded(
  ops: Ops<Ref>,
  stack: FoldedStack,
  plan: Plan,
  picture: Pick<VitConfig, 'imageSize' | 'patchSize' | 'numChannels'>,
  classes: number,
  pixels: Ref,
): Ref {
  const weight = serverWeights(ops);
  const d = stack.hiddenSize;
  const count = patchCount(picture);
  let x = ops.scope('embed', () => {
    const rows = patches(ops, picture, pixels);
    const embedded = foldedLinear(ops, weight, rows, 'private/embedding.patch', d, false);
    // The projection's bias is in the positions, the first position in the class token.
    const placed = ops.add(embedded, weight('private/embedding.position', [count, d]));
    return ops.concat([weight('private/embedding.class', [1, d]), placed], 0);
  }); // (T, d)
  const context = encoderContext(ops, count + 1);
  for (let index = 0; index < stack.numHiddenLayers; index++) {
    const queries = index === stack.numHiddenLayers - 1 ? { start: 0, end: 1 } : undefined;
    x = block(ops, foldedLayer(ops, stack, plan.layers[index]!, index, weight), index, x, { ...context, queries }).hidden;
  }
  const normal = ops.scope('norm', () => foldedNorm(ops, stack, plan.finalNorm, x)); // (1, d)
  return ops.scope('head', () => ops.reshape(foldedLinear(ops, weight, normal, 'private/head', classes, true), [classes]));
}
