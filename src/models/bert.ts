import { SottoError } from '../errors/index.ts';
import { type Ops, type Program, type Ref, type Shape, trace } from '../program/index.ts';
import { activate, block, type Context, encoderContext, serverWeights, type WeightSource } from './block.ts';
import type { BertConfig } from './configuration.ts';
import { layoutOf } from './families/index.ts';
import { foldedActivation, foldedLayer, foldedLinear, foldedNorm, foldedQuadratic } from './folded.ts';
import { isFoldedQuadratic } from './folded-tensors.ts';
import type { TokenEmbedding } from './layout.ts';
import { paddingMask, paddingRows } from './padding.ts';
import { type ActivationPlan, type Coefficient, type Plan, poolerPlan, withDomains } from './plan.ts';
import { outputsOf, publishedBlocks, publishedLinear, publishedNorm } from './published.ts';

/** What the program of a published encoder can give; `bert` has the shapes. */
export type BertOutput = 'logits' | 'hidden' | 'attention' | 'pooled';

/**
 * The published model over `ids` and `types` (batch, T) and a 0/1 `mask` (batch, T) of real tokens, padding on the right: hidden states
 * and attention outputs (batch, T, d), the pooled first token (batch, d), logits (batch, classes). Padding is no key to anyone.
 */
export function bert(ops: Ops<Ref>, config: BertConfig, plan: Plan, input: { ids: Ref; types: Ref; mask: Ref }) {
  const layout = layoutOf(config);
  const { hiddenSize: d } = layout;
  const { words, vocabSize, types, positions, norm } = layout.embedding as TokenEmbedding;
  const [batch, tokens] = ops.shape(input.ids) as [number, number];
  const weight = serverWeights(ops);
  const x = ops.scope('embed', () => {
    const rows = ops.embedding(weight(words, [vocabSize, d]), input.ids);
    const typed = ops.embedding(weight(types!.name, [types!.count, d]), input.types);
    const { name, count, first } = positions!;
    const table = weight(name, [count, d]);
    const sum = ops.add(ops.add(rows, typed), ops.slice(table, 0, first, first + tokens));
    return publishedNorm(ops, layout, weight, norm!, plan.layers[0]!.norm)(sum);
  }); // (B, T, d)
  const lengths = ops.reshape(ops.sum(input.mask, [1]), [batch, 1, 1, 1]);
  const context: Context = {
    ...encoderContext(ops, tokens),
    mask: ops.reshape(input.mask, [batch, 1, 1, tokens]),
    inverseLengths: ops.divide(ops.constant([1], [1]), lengths),
  };
  const { hidden, attention, last } = publishedBlocks(ops, layout, plan, weight, x, context);
  const first = ops.reshape(ops.slice(last, 1, 0, 1), [batch, d]);
  const { matrix, act } = layout.pooler!;
  const pooled = ops.scope('pooler', () => {
    const coefficient = (letter: string, shape: Shape): Ref => weight(`${act}.${letter}`, shape);
    return pool(ops, poolerPlan(plan), publishedLinear(ops, weight, first, matrix), coefficient);
  });
  const logits = ops.scope('head', () => publishedLinear(ops, weight, pooled, layout.head!));
  return { hidden, attention, pooled, logits };
}

/** tanh, or what a plan has in its place. */
function pool(ops: Ops<Ref>, plan: ActivationPlan, x: Ref, coefficient: (name: Coefficient, shape: Shape) => Ref): Ref {
  return plan.kind === 'exact' ? ops.tanh(x) : activate(ops, plan, 'gelu', x, coefficient);
}

/**
 * Texts in the clear. Inputs `ids`, `types` and `mask` (batch, tokens), public; outputs `logits` (batch, classes), `pooled`
 * (batch, d), `hidden.L` and `attention.L` (batch, tokens, d) where asked for. Weights by their published names.
 */
export function traceBert(
  config: BertConfig,
  plan: Plan,
  options: { batch: number; tokens: number; outputs?: readonly BertOutput[] },
): Program {
  const { batch, tokens, outputs = ['logits'] } = options;
  checkLength(config, tokens);
  return trace((ops) => {
    const index = (name: string): Ref => ops.input(name, [batch, tokens], 'public', 'index');
    const input = { ids: index('ids'), types: index('types'), mask: ops.input('mask', [batch, tokens], 'public') };
    return outputsOf(bert(ops, config, plan, input), outputs, ['logits', 'pooled', 'hidden', 'attention']);
  });
}

/**
 * One private classification of `tokens` tokens, their number public; with `padded` the text stands at the beginning of so many positions,
 * where the client's secret mask says (padding.ts). The client's `prompt` (T) and, where the model has
 * several token types, `types` (T) → `logits` (classes). Weights: `private/…` of foldWeights. What goes past a branch is multiplied by
 * the gain of the norm before it, one product of a share and a server's vector each.
 */
export function traceBertPrivate(
  config: BertConfig,
  plan: Plan,
  { tokens, padded = false }: { tokens: number; padded?: boolean | undefined },
): Program {
  checkLength(config, tokens);
  const { hiddenSize: d, vocabSize, typeVocabSize, maxPositionEmbeddings, firstPosition } = config;
  const layout = layoutOf(config);
  const program = trace((ops) => {
    const weight = serverWeights(ops);
    const ids = ops.input('prompt', [tokens], 'client', 'index');
    let x = ops.scope('embed', () => {
      const words = ops.embedding(weight('private/embedding', [vocabSize, d]), ids);
      const positions = weight('private/embedding.position', [maxPositionEmbeddings - firstPosition, d]);
      const placed = ops.add(words, ops.slice(positions, 0, 0, tokens));
      if (typeVocabSize === 1) return placed;
      const types = ops.input('types', [tokens], 'client', 'index');
      return ops.add(placed, ops.embedding(weight('private/embedding.type', [typeVocabSize, d]), types));
    }); // (T, d)
    x = ops.scope('embed.norm', () => foldedNorm(ops, layout, plan.layers[0]!.norm, x));
    const context = padded ? paddedContext(ops, tokens) : encoderContext(ops, tokens);
    for (let index = 0; index < layout.numHiddenLayers; index++) {
      const layer = foldedLayer(ops, layout, plan.layers[index]!, index, weight);
      const queries = index === layout.numHiddenLayers - 1 ? { start: 0, end: 1 } : undefined;
      x = block(ops, layer, index, x, { ...context, queries }).hidden;
    }
    const dense = ops.scope('pooler', () => foldedLinear(ops, weight, x, 'private/pooler', d, true)); // (1, d)
    const classes = config.labels.length;
    return { logits: ops.scope('head', () => ops.reshape(privateHead(ops, plan, dense, classes, weight), [classes])) };
  });
  return withDomains(program, plan);
}

/** Everybody looks at everybody who counts. */
export function paddedContext(ops: Ops<Ref>, tokens: number): Context {
  return ops.scope('padding', () => {
    const mask = paddingMask(ops, tokens);
    const rows = paddingRows(ops, 0, { rows: 1, keys: tokens, positions: tokens });
    return {
      ...encoderContext(ops, tokens),
      remember: (_, keys, values) => [ops.multiply(keys, ops.reshape(mask, [tokens, 1])), values],
      padding: { keep: ops.reshape(mask, [1, tokens]), ...rows },
    };
  });
}

function privateHead(ops: Ops<Ref>, plan: Plan, dense: Ref, classes: number, weight: WeightSource): Ref {
  const pooler = poolerPlan(plan);
  const head = 'private/head';
  if (isFoldedQuadratic(pooler)) return foldedQuadratic(ops, weight, [ops.square(dense), dense], head, classes);
  const coefficient = (letter: string, shape: Shape): Ref => weight(`private/pooler.act.${letter}`, shape);
  const pooled = pooler.kind === 'exact' ? ops.tanh(dense) : foldedActivation(ops, pooler, 'gelu', dense, coefficient);
  return foldedLinear(ops, weight, pooled, head, classes, true);
}

function checkLength(config: BertConfig, tokens: number): void {
  const most = config.maxPositionEmbeddings - config.firstPosition;
  if (Number.isInteger(tokens) && tokens >= 1 && tokens <= most) return;
  throw new SottoError('input', `${tokens} positions where the model has 1 to ${most}`, {
    place: { field: 'max_position_embeddings' },
    remedy: 'shorten the text',
  });
}
