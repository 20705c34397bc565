import { type Ops, type Program, type Ref, trace } from '../program/index.ts';
import { block, encoderContext, serverWeights } from './block.ts';
import type { VitConfig } from './configuration.ts';
import { layoutOf } from './families/index.ts';
import { foldedLayer, foldedLinear, foldedNorm } from './folded.ts';
import type { Layout, PatchEmbedding } from './layout.ts';
import { type Plan, withDomains } from './plan.ts';
import { outputsOf, publishedBlocks, publishedLinear, publishedNorm } from './published.ts';

/**
 * What the program of a published vision transformer can give: logits (batch, classes), hidden states and attention outputs
 * (batch, T, d).
 */
export type VitOutput = 'logits' | 'hidden' | 'attention';

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

/** The published model over pixels (batch, C, S, S): hidden states and attention outputs (batch, 1 + patches, d), logits. */
export function vit(ops: Ops<Ref>, config: VitConfig, plan: Plan, pixels: Ref) {
  const layout = layoutOf(config);
  const { hiddenSize: d } = layout;
  const { projection, first, positions, count } = layout.embedding as PatchEmbedding;
  const [batch, tokens] = [ops.shape(pixels)[0]!, count + 1];
  const weight = serverWeights(ops);
  const x = ops.scope('embed', () => {
    const { name, out, inputs, stored } = projection;
    const kernel = ops.reshape(weight(`${name}.weight`, stored!), [out, inputs]);
    const embedded = ops.add(ops.matmul(patches(ops, config, pixels), ops.transposed(kernel)), weight(`${name}.bias`, [d]));
    const ahead = ops.broadcast(weight(first, [1, 1, d]), [batch, 1, d]);
    return ops.add(ops.concat([ahead, embedded], 1), weight(positions, [1, tokens, d]));
  }); // (B, T, d)
  const { hidden, attention, last } = publishedBlocks(ops, layout, plan, weight, x, encoderContext(ops, tokens));
  const norm = publishedNorm(ops, layout, weight, layout.finalNorm!, plan.finalNorm);
  const normal = ops.scope('norm', () => norm(ops.slice(last, 1, 0, 1))); // (B, 1, d)
  const head = layout.head!;
  const logits = ops.scope('head', () => ops.reshape(publishedLinear(ops, weight, normal, head), [batch, head.out]));
  return { hidden, attention, logits };
}

/** Pictures in the clear. Input `pixels` (batch, C, S, S), public; outputs `logits` (batch, classes), `hidden.L`, `attention.L`. */
export function traceVit(config: VitConfig, plan: Plan, options: { batch: number; outputs?: readonly VitOutput[] }): Program {
  const { batch, outputs = ['logits'] } = options;
  return trace((ops) => {
    const pixels = ops.input('pixels', [batch, config.numChannels, config.imageSize, config.imageSize], 'public');
    return outputsOf(vit(ops, config, plan, pixels), outputs, ['logits', 'hidden', 'attention']);
  });
}

/** One private classification: the client's `pixels` (C, S, S) → `logits` (classes). Weights: `private/…` of foldWeights. */
export function traceVitPrivate(config: VitConfig, plan: Plan): Program {
  const program = trace((ops) => {
    const pixels = ops.input('pixels', [config.numChannels, config.imageSize, config.imageSize], 'client');
    return { logits: classifyFolded(ops, layoutOf(config), plan, config, pixels) };
  });
  return withDomains(program, plan);
}

/** A folded stack over the patches of one picture (C, S, S) → class logits; the last layer works for the class token alone. */
export function classifyFolded(
  ops: Ops<Ref>,
  layout: Layout,
  plan: Plan,
  picture: Pick<VitConfig, 'imageSize' | 'patchSize' | 'numChannels'>,
  pixels: Ref,
): Ref {
  const weight = serverWeights(ops);
  const d = layout.hiddenSize;
  const { count } = layout.embedding as PatchEmbedding;
  let x = ops.scope('embed', () => {
    const rows = patches(ops, picture, pixels);
    const embedded = foldedLinear(ops, weight, rows, 'private/embedding.patch', d, false);
    // The projection's bias is in the positions, the first position in the class token.
    const placed = ops.add(embedded, weight('private/embedding.position', [count, d]));
    return ops.concat([weight('private/embedding.class', [1, d]), placed], 0);
  }); // (T, d)
  const context = encoderContext(ops, count + 1);
  for (let index = 0; index < layout.numHiddenLayers; index++) {
    const queries = index === layout.numHiddenLayers - 1 ? { start: 0, end: 1 } : undefined;
    x = block(ops, foldedLayer(ops, layout, plan.layers[index]!, index, weight), index, x, { ...context, queries }).hidden;
  }
  const normal = ops.scope('norm', () => foldedNorm(ops, layout, plan.finalNorm, x)); // (1, d)
  const classes = layout.head!.out;
  return ops.scope('head', () => ops.reshape(foldedLinear(ops, weight, normal, 'private/head', classes, true), [classes]));
}
