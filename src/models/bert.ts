import { SottoError } from '../errors/index.ts';
import { type Ops, type Program, type Ref, type Shape, trace } from '../program/index.ts';
import {
  activate,
  attend,
  type Context,
  encoderContext,
  type Layer,
  learntScores,
  serverWeights,
  type WeightSource,
} from './block.ts';
import type { BertConfig } from './config.ts';
import {
  type FoldedStack,
  foldedActivation,
  foldedLayer,
  foldedLinear,
  foldedNorm,
  foldedQuadratic,
  layerNormStack,
} from './folded.ts';
import { isFoldedQuadratic } from './folded-tensors.ts';
import { paddingMask, paddingRows } from './padding.ts';
import { type ActivationPlan, type Coefficient, type Plan, poolerPlan, withDomains } from './plan.ts';

export type BertOutput = 'logits' | 'hidden' | 'attention' | 'pooled';

/** The published names: BERT and RoBERTa differ in the prefix, and RoBERTa keeps the pooler's matrix in the head. */
export function bertNames({ layout }: Pick<BertConfig, 'layout'>) {
  return {
    embeddings: `${layout}.embeddings`,
    layer: (index: number, part: string): string => `${layout}.encoder.layer.${index}.${part}`,
    pooler: layout === 'bert' ? 'bert.pooler.dense' : 'classifier.dense',
    /** Coefficients of what stands for its tanh: `….a`, `b`, `c`. */
    poolerAct: layout === 'bert' ? 'bert.pooler.act' : 'classifier.act',
    head: layout === 'bert' ? 'classifier' : 'classifier.out_proj',
  };
}

interface Norms {
  /** Behind the attention's sum and behind the block's. */
  middle(x: Ref): Ref;
  last(x: Ref): Ref;
  /** What goes past a branch. */
  pastAttention(x: Ref): Ref;
  pastMlp(x: Ref): Ref;
}

/** One post-norm block: x (…, T, d) → hidden (…, Q, d), and the attention's own contribution. */
function postNormBlock(ops: Ops<Ref>, layer: Layer, norms: Norms, index: number, x: Ref, context: Context) {
  return ops.scope(`layers.${index}`, () => {
    const attention = ops.scope('attention', () => attend(ops, layer, index, x, context));
    const { start, end } = context.queries ?? { start: 0, end: ops.shape(x).at(-2)! };
    const wanted = ops.slice(x, ops.shape(x).length - 2, start, end);
    const sum = ops.scope('attention.past', () => ops.add(norms.pastAttention(wanted), attention));
    const middle = ops.scope('attention.norm', () => norms.middle(sum));
    const mlp = ops.scope('mlp', () => layer.mlp(middle));
    const whole = ops.scope('mlp.past', () => ops.add(norms.pastMlp(middle), mlp));
    return { hidden: ops.scope('mlp.norm', () => norms.last(whole)), attention };
  });
}

const same = (x: Ref): Ref => x;

/** x · Wᵀ + b with a published matrix (out, in). */
function linear(ops: Ops<Ref>, weight: WeightSource, x: Ref, name: string, out: number): Ref {
  const product = ops.matmul(x, ops.transposed(weight(`${name}.weight`, [out, ops.shape(x).at(-1)!])));
  return ops.add(product, weight(`${name}.bias`, [out]));
}

function publishedLayer(ops: Ops<Ref>, config: BertConfig, plan: Plan, index: number, weight: WeightSource): Layer {
  const { hiddenSize: d, intermediateSize: ff, numAttentionHeads: heads, headDim } = config;
  const { activation, attention } = plan.layers[index]!;
  const name = (part: string): string => bertNames(config).layer(index, part);
  return {
    heads,
    keyValueHeads: heads,
    headDim,
    attention,
    adjustScores: (scores) =>
      learntScores(ops, { attention, heads, keyValueHeads: heads }, scores, {
        scale: () => weight(name('attention.self.quad.scale'), [heads]),
        shift: () => weight(name('attention.self.quad.shift'), [heads]),
      }),
    attentionNorm: same,
    queryKeyValue: (x) => [
      ops.scale(linear(ops, weight, x, name('attention.self.query'), d), 1 / Math.sqrt(headDim)),
      linear(ops, weight, x, name('attention.self.key'), d),
      linear(ops, weight, x, name('attention.self.value'), d),
    ],
    attentionOut: (x) => linear(ops, weight, x, name('attention.output.dense'), d),
    mlpNorm: same,
    mlp: (x) => {
      const up = ops.scope('up', () => linear(ops, weight, x, name('intermediate.dense'), ff)); // (…, T, ff)
      const coefficient = (letter: Coefficient, shape: Shape): Ref => weight(name(`intermediate.act.${letter}`), shape);
      const hidden = ops.scope('act', () => activate(ops, activation, config.hiddenAct, up, coefficient));
      return ops.scope('down', () => linear(ops, weight, hidden, name('output.dense'), d));
    },
  };
}

/**
 * The published model over `ids` and `types` (batch, T) and a 0/1 `mask` (batch, T) of real tokens, padding on the right: hidden states
 * and attention outputs (batch, T, d), the pooled first token (batch, d), logits (batch, classes). Padding is no key to anyone.
 */
export function bert(ops: Ops<Ref>, config: BertConfig, plan: Plan, input: { ids: Ref; types: Ref; mask: Ref }) {
  const { hiddenSize: d, layerNormEps: epsilon, firstPosition } = config;
  const [batch, tokens] = ops.shape(input.ids) as [number, number];
  const names = bertNames(config);
  const weight = serverWeights(ops);
  const normed = (x: Ref, name: string, table: Parameters<Ops<Ref>['layerNorm']>[1]['table']): Ref =>
    ops.layerNorm(x, { gain: weight(`${name}.weight`, [d]), bias: weight(`${name}.bias`, [d]), epsilon, table });
  let x = ops.scope('embed', () => {
    const table = (part: string, rows: number): Ref => weight(`${names.embeddings}.${part}.weight`, [rows, d]);
    const words = ops.embedding(table('word_embeddings', config.vocabSize), input.ids);
    const types = ops.embedding(table('token_type_embeddings', config.typeVocabSize), input.types);
    const positions = table('position_embeddings', config.maxPositionEmbeddings);
    const sum = ops.add(ops.add(words, types), ops.slice(positions, 0, firstPosition, firstPosition + tokens));
    return normed(sum, `${names.embeddings}.LayerNorm`, plan.layers[0]!.norm?.table);
  }); // (B, T, d)
  const lengths = ops.reshape(ops.sum(input.mask, [1]), [batch, 1, 1, 1]);
  const context: Context = {
    ...encoderContext(ops, tokens),
    mask: ops.reshape(input.mask, [batch, 1, 1, tokens]),
    inverseLengths: ops.divide(ops.constant([1], [1]), lengths),
  };
  const hidden: Ref[] = [];
  const attention: Ref[] = [];
  for (let index = 0; index < config.numHiddenLayers; index++) {
    const table = plan.layers[index]!.norm?.table;
    const norms: Norms = {
      middle: (sum) => normed(sum, names.layer(index, 'attention.output.LayerNorm'), table),
      last: (sum) => normed(sum, names.layer(index, 'output.LayerNorm'), table),
      pastAttention: same,
      pastMlp: same,
    };
    const made = postNormBlock(ops, publishedLayer(ops, config, plan, index, weight), norms, index, x, context);
    hidden.push((x = made.hidden));
    attention.push(made.attention);
  }
  const first = ops.reshape(ops.slice(x, 1, 0, 1), [batch, d]);
  const pooled = ops.scope('pooler', () => {
    const coefficient = (letter: string, shape: Shape): Ref => weight(`${names.poolerAct}.${letter}`, shape);
    return pool(ops, poolerPlan(plan), linear(ops, weight, first, names.pooler, d), coefficient);
  });
  const logits = ops.scope('head', () => linear(ops, weight, pooled, names.head, config.labels.length));
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
    const { hidden, attention, pooled, logits } = bert(ops, config, plan, input);
    const named = (label: BertOutput, refs: readonly Ref[]) =>
      outputs.includes(label) ? refs.map((ref, at) => [`${label}.${at}`, ref] as const) : [];
    return Object.fromEntries([
      ...(outputs.includes('logits') ? [['logits', logits] as const] : []),
      ...(outputs.includes('pooled') ? [['pooled', pooled] as const] : []),
      ...named('hidden', hidden),
      ...named('attention', attention),
    ]);
  });
}

/** How a BERT looks to the private programs, but for the place of its norms. */
export const bertStack = (config: BertConfig): FoldedStack => layerNormStack(config);

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
  const stack = bertStack(config);
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
    x = ops.scope('embed.norm', () => foldedNorm(ops, stack, plan.layers[0]!.norm, x));
    const context = padded ? paddedContext(ops, tokens) : encoderContext(ops, tokens);
    for (let index = 0; index < stack.numHiddenLayers; index++) {
      const layerPlan = plan.layers[index]!;
      const layer = { ...foldedLayer(ops, stack, layerPlan, index, weight), attentionNorm: same, mlpNorm: same };
      const gain = (x: Ref, part: string): Ref => ops.multiply(x, weight(`private/layers.${index}.${part}.past`, [d]));
      const norm = (sum: Ref): Ref => foldedNorm(ops, stack, layerPlan.norm, sum);
      const norms: Norms = {
        middle: norm,
        last: norm,
        pastAttention: (x) => gain(x, 'attention.out'),
        pastMlp: (x) => gain(x, 'mlp.down'),
      };
      const queries = index === stack.numHiddenLayers - 1 ? { start: 0, end: 1 } : undefined;
      x = postNormBlock(ops, layer, norms, index, x, { ...context, queries }).hidden;
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
