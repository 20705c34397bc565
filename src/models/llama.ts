import { SottoError } from '../errors/index.ts';
import { sineAndCosine } from '../math/elementary.ts';
import { type Ops, type Program, type Ref, type Shape, trace } from '../program/index.ts';
import { block, type Context, causalBlocks, causalMask, serverWeights, type WeightSource } from './block.ts';
import type { LlamaConfig } from './configuration.ts';
import { layoutOf } from './families/index.ts';
import { foldedLayer, foldedLinear, foldedNorm } from './folded.ts';
import { type Layout, wordsOf } from './layout.ts';
import { forGroups, memo, type Padding, paddingMask, paddingRows } from './padding.ts';
import { type Plan, withDomains } from './plan.ts';
import { outputsOf, publishedBlocks, publishedNorm } from './published.ts';
import { ropeFrequencies } from './rope.ts';

/** What the program of a published Llama can give; `llama` has the shapes. */
export type LlamaOutput = 'logits' | 'hidden' | 'attention';

/** The published model over token ids (…, T): hidden states and attention outputs (…, T, d) of every layer, logits (…, T, V). */
export function llama(ops: Ops<Ref>, config: LlamaConfig, plan: Plan, ids: Ref, context: Context) {
  const layout = layoutOf(config);
  const weight = serverWeights(ops);
  const table = weight(wordsOf(layout), [config.vocabSize, config.hiddenSize]);
  const x = ops.scope('embed', () => ops.embedding(table, ids));
  const { hidden, attention, last } = publishedBlocks(ops, layout, plan, weight, x, context);
  const norm = publishedNorm(ops, layout, weight, layout.finalNorm!, plan.finalNorm);
  const normal = ops.scope('norm', () => norm(last));
  const { name, out, inputs } = layout.head!;
  const head = weight(`${name}.weight`, [out, inputs]);
  const logits = ops.scope('head', () => ops.matmul(normal, ops.transposed(head)));
  return { hidden, attention, logits };
}

/**
 * Whole texts at once, for training, evaluation and prefill. Input `ids` (batch, tokens), public; weights by their published names.
 * Outputs `logits` (batch, tokens, V); `hidden.L` and `attention.L` (batch, tokens, d) where asked for. With `blocks`, a divisor of the
 * tokens, queries are cut into so many blocks that see no further than their ends: the same function for less work.
 */
export function traceLlama(
  config: LlamaConfig,
  plan: Plan,
  options: { batch: number; tokens: number; outputs?: readonly LlamaOutput[]; blocks?: number },
): Program {
  const { batch, tokens, outputs = ['logits'], blocks = textBlocks(tokens) } = options;
  checkLength(config, tokens);
  return trace((ops) => {
    const ids = ops.input('ids', [batch, tokens], 'public', 'index');
    const context = wholeText(ops, config, tokens);
    const groups = config.numAttentionHeads / config.numKeyValueHeads;
    const cut = blocks === 1 ? {} : { blocks: causalBlocks(ops, tokens, blocks, groups) };
    return outputsOf(llama(ops, config, plan, ids, { ...context, ...cut }), outputs, ['logits', 'hidden', 'attention']);
  });
}

/** Into how many blocks whole texts are best cut: eight, where a block stays wide enough for its products. */
export const textBlocks = (tokens: number): number =>
  [8, 4, 2].find((blocks) => tokens % blocks === 0 && tokens / blocks >= 32) ?? 1;

/** The context of `tokens` positions from the first on, each looking at itself and at those before it. */
export function wholeText(ops: Ops<Ref>, config: LlamaConfig, tokens: number): Context {
  const { cos, sin } = rotaryConstants(ops, config, 0, tokens);
  return {
    rotate: (x) => ops.rotary(x, cos, sin),
    remember: (_, keys, values) => [keys, values],
    ...causalMask(ops, tokens, tokens, config.numAttentionHeads / config.numKeyValueHeads),
  };
}

/**
 * One token with a static cache, one program for all positions. Inputs, all public but the weights: `ids` (1, 1), `cos` and `sin`
 * (1, Dh) of the position, `slot` (capacity, 1) one at the position, `mask` (1, capacity) one up to it, `inverseLength` (1, 1), and
 * per layer `cache.key.L`, `cache.value.L` (Hkv, capacity, Dh). Outputs `logits` (1, 1, V) and `next/cache.key.L`,
 * `next/cache.value.L`.
 */
export function traceLlamaStep(config: LlamaConfig, plan: Plan, { capacity }: { capacity: number }): Program {
  checkLength(config, capacity);
  return trace((ops) => {
    const input = (name: string, shape: Shape): Ref => ops.input(name, shape, 'public');
    const ids = ops.reshape(ops.input('ids', [1, 1], 'public', 'index'), [1]);
    const [cos, sin] = [input('cos', [1, config.headDim]), input('sin', [1, config.headDim])];
    const slot = input('slot', [capacity, 1]);
    const [mask, inverseLengths] = [input('mask', [1, capacity]), input('inverseLength', [1, 1])];
    const free = ops.offset(ops.scale(slot, -1), 1);
    const next: Record<string, Ref> = {};
    const store = (name: string, now: Ref): Ref => {
      const past = input(name, [config.numKeyValueHeads, capacity, config.headDim]);
      return (next[`next/${name}`] = ops.add(ops.multiply(past, free), ops.multiply(now, slot)));
    };
    const context: Context = {
      rotate: (x) => ops.rotary(x, cos, sin),
      remember: (layer, keys, values) => [store(`cache.key.${layer}`, keys), store(`cache.value.${layer}`, values)],
      mask,
      inverseLengths,
    };
    const { logits } = llama(ops, config, plan, ids, context);
    return { logits: ops.reshape(logits, [1, 1, config.vocabSize]), ...next };
  });
}

/** A private run of a text, in tokens, and what of it is opened. */
export interface PrivateGeneration {
  readonly promptTokens: number;
  readonly newTokens: number;
  /** `token`: only the likeliest next token is revealed, as `choice.k` (a scalar index); `logits`, all of them, where absent. */
  readonly reveal?: 'logits' | 'token' | undefined;
  /** Logits of every position of the prompt, (promptTokens, V), for a text that is scored; of the last one alone where absent. */
  readonly everyPosition?: boolean | undefined;
  /** The text stands at the end of the prompt's positions, where the client's secret mask says; see padding.ts. */
  readonly padded?: boolean | undefined;
}

/**
 * A whole private generation as one straight-line program: the client's `prompt` (promptTokens) → `logits.0` (V); then for k = 1 …
 * newTokens − 1 the client's `token.k` (1) → `logits.k`. Where the plan's embedding is public the client's inputs are rows of
 * the table instead, (promptTokens, d) and (1, d). Keys and values are plain wires that grow by concatenation. Weights: `private/…` of foldWeights.
 */
export function traceLlamaPrivate(config: LlamaConfig, plan: Plan, generation: PrivateGeneration): Program {
  const { promptTokens, newTokens, reveal, everyPosition, padded } = generation;
  checkLength(config, promptTokens);
  checkLength(config, newTokens);
  checkLength(config, promptTokens + newTokens - 1);
  const program = trace((ops) =>
    decode(ops, layoutOf(config), plan, {
      promptTokens,
      newTokens,
      vocabSize: config.vocabSize,
      reveal,
      everyPosition,
      padded,
      rotary: (start, tokens) => rotaryConstants(ops, config, start, tokens),
      embed: (name, tokens, weight) => {
        if (plan.embedding !== undefined) return ops.input(name, [tokens, config.hiddenSize], 'client');
        const ids = ops.input(name, [tokens], 'client', 'index');
        return ops.embedding(weight('private/embedding', [config.vocabSize, config.hiddenSize]), ids);
      },
    }),
  );
  return withDomains(program, plan);
}

export interface Decoding {
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly vocabSize: number;
  /** As the head and the norm before it have one, where absent. */
  readonly headBias?: boolean;
  /** As in PrivateGeneration. */
  readonly reveal?: 'logits' | 'token' | undefined;
  readonly everyPosition?: boolean | undefined;
  readonly padded?: boolean | undefined;
  /** Rotary tables of positions; undefined where positions are in the embedding. */
  readonly rotary?: (start: number, tokens: number) => { cos: Ref; sin: Ref };
  /** The rows (tokens, d) of the next tokens, from the client's input `name`. */
  readonly embed: (name: string, tokens: number, weight: WeightSource, start: number) => Ref;
}

/** A folded stack that writes (promptTokens, newTokens ≥ 1): prefill, then one token at a time, one set of logits (V) each. */
export function decode(ops: Ops<Ref>, layout: Layout, plan: Plan, decoding: Decoding): Record<string, Ref> {
  const weight = serverWeights(ops);
  const past: (readonly [Ref, Ref])[] = [];
  const outputs: Record<string, Ref> = {};
  const mask = decoding.padded === true ? ops.scope('padding', () => paddingMask(ops, decoding.promptTokens)) : undefined;
  for (let step = 0; step < decoding.newTokens; step++) {
    const start = step === 0 ? 0 : decoding.promptTokens + step - 1;
    const tokens = step === 0 ? decoding.promptTokens : 1;
    const padding = mask === undefined ? undefined : ops.scope('padding', () => counting(ops, layout, decoding, mask, step));
    const context = growing(ops, layout, decoding, past, start, tokens, padding);
    let x = ops.scope('embed', () => decoding.embed(step === 0 ? 'prompt' : `token.${step}`, tokens, weight, start)); // (T, d)
    for (let index = 0; index < layout.numHiddenLayers; index++) {
      const layer = foldedLayer(ops, layout, plan.layers[index]!, index, weight);
      x = block(ops, layer, index, x, context(decoding.everyPosition !== true && index === layout.numHiddenLayers - 1)).hidden;
    }
    const normal = ops.scope('norm', () => foldedNorm(ops, layout, plan.finalNorm, x)); // (1, d), or (T, d)
    const logits = ops.scope('head', () =>
      foldedLinear(
        ops,
        weight,
        normal,
        'private/head',
        decoding.vocabSize,
        decoding.headBias ?? (layout.head!.bias || layout.normBias),
      ),
    );
    if (decoding.everyPosition === true) {
      outputs[`logits.${step}`] = logits;
      continue;
    }
    const row = ops.scope('head', () => ops.reshape(logits, [decoding.vocabSize]));
    if (decoding.reveal === 'token') outputs[`choice.${step}`] = ops.scope('choice', () => ops.argmax(row));
    else outputs[`logits.${step}`] = row;
  }
  return outputs;
}

/** Positions `start` … of a text whose keys and values stand in `past`; the last layer works for the last position alone. */
function growing(
  ops: Ops<Ref>,
  layout: Layout,
  decoding: Decoding,
  past: (readonly [Ref, Ref])[],
  start: number,
  tokens: number,
  padding: CausalPadding | undefined,
): (last: boolean) => Context {
  const turn = decoding.rotary?.(start, tokens);
  const groups = layout.heads / layout.keyValueHeads;
  const wide = causalMask(ops, start + tokens, tokens, groups);
  const narrow = causalMask(ops, start + tokens, 1, groups);
  return (last) => ({
    rotate: (x) => (turn === undefined ? x : ops.rotary(x, turn.cos, turn.sin)),
    remember: (layer, keys, values) => {
      const before = past[layer];
      const axis = ops.shape(keys).length - 2;
      const join = (old: Ref | undefined, now: Ref): Ref => (old === undefined ? now : ops.concat([old, now], axis));
      const counted = padding?.countedKeys(keys) ?? keys;
      return (past[layer] = [join(before?.[0], counted), join(before?.[1], values)]);
    },
    ...(last ? narrow : wide),
    padding: padding?.of(last),
    queries: last ? { start: tokens - 1, end: tokens } : undefined,
  });
}

interface CausalPadding {
  /** The keys (…, T, Dh) of a step, zero where the client's mask is. */
  countedKeys(keys: Ref): Ref;
  of(last: boolean): Padding;
}

/**
 * What counts in a text that stands at the end of `promptTokens` positions. A place before it sees itself alone, as the first token of a
 * text does: it stays an ordinary row. For a query of the text every key that it may see and that counts is one of the text.
 */
function counting(ops: Ops<Ref>, layout: Layout, decoding: Decoding, mask: Ref, step: number): CausalPadding {
  const { promptTokens, newTokens } = decoding;
  const groups = layout.heads / layout.keyValueHeads;
  const keys = promptTokens + step;
  const rows = step === 0 ? promptTokens : 1;
  const positions = promptTokens + newTokens;
  const fed = paddingRows(ops, step, { rows, keys, positions });
  // The keys of new tokens count.
  const seen = ops.reshape(step === 0 ? mask : ops.offset(ops.pad(ops.offset(mask, -1), 0, 0, step), 1), [1, keys]);
  const column = ops.reshape(mask, [promptTokens, 1]);
  const wide: Padding = {
    keep: rows === 1 ? seen : causalKeep(ops, seen, keys, groups),
    ...(rows === 1 ? {} : { alone: memo(() => aloneOf(ops, seen, keys, groups)) }),
    shares: memo(() => forGroups(ops, fed.shares(), groups)),
    inverseLengths: memo(() => forGroups(ops, fed.inverseLengths(), groups)),
  };
  const narrow: Padding = {
    keep: seen,
    shares: memo(() => ops.slice(fed.shares(), 0, rows - 1, rows)),
    inverseLengths: memo(() => ops.slice(fed.inverseLengths(), 0, rows - 1, rows)),
  };
  return {
    countedKeys: (now) => (step === 0 ? ops.multiply(now, column) : now),
    of: (last) => (last ? narrow : wide),
  };
}

/** A causal mask (G·T, T) times the client's (1, T), and ones where a place sees itself. */
function causalKeep(ops: Ops<Ref>, seen: Ref, tokens: number, groups: number): Ref {
  const rows = groups * tokens;
  const before = new Float64Array(rows * tokens);
  for (let row = 0; row < rows; row++) before.fill(1, row * tokens, row * tokens + (row % tokens));
  return ops.add(ops.multiply(seen, ops.constant(before, [rows, tokens])), ownPlaces(ops, tokens, groups));
}

/** Ones where a place that does not count sees itself, (G·T, T). */
const aloneOf = (ops: Ops<Ref>, seen: Ref, tokens: number, groups: number): Ref =>
  ops.multiply(ops.offset(ops.scale(seen, -1), 1), ownPlaces(ops, tokens, groups));

/** Ones where a query's key is its own, (G·T, T). */
function ownPlaces(ops: Ops<Ref>, tokens: number, groups: number): Ref {
  const rows = groups * tokens;
  const own = new Float64Array(rows * tokens);
  for (let row = 0; row < rows; row++) own[row * tokens + (row % tokens)] = 1;
  return ops.constant(own, [rows, tokens]);
}

/** Cosines and sines of positions start … start + tokens − 1, (tokens, Dh) each: the angles of the two halves are the same. */
export function rotaryRows(
  config: Pick<LlamaConfig, 'headDim' | 'ropeTheta' | 'ropeScaling'>,
  start: number,
  tokens: number,
): { cos: Float64Array; sin: Float64Array } {
  const frequencies = ropeFrequencies(config);
  const cos = new Float64Array(tokens * config.headDim);
  const sin = new Float64Array(tokens * config.headDim);
  for (let at = 0; at < cos.length; at++) {
    const position = start + Math.floor(at / config.headDim);
    const angle = position * frequencies[at % frequencies.length]!;
    // Parties whose engines differ must get the same bits.
    ({ cosine: cos[at], sine: sin[at] } = sineAndCosine(angle));
  }
  return { cos, sin };
}

function rotaryConstants(ops: Ops<Ref>, config: LlamaConfig, start: number, tokens: number): { cos: Ref; sin: Ref } {
  const { cos, sin } = rotaryRows(config, start, tokens);
  const shape = [tokens, config.headDim];
  return { cos: ops.constant(cos, shape), sin: ops.constant(sin, shape) };
}

function checkLength(config: LlamaConfig, tokens: number): void {
  if (Number.isInteger(tokens) && tokens >= 1 && tokens <= config.maxPositionEmbeddings) return;
  throw new SottoError('input', `${tokens} positions where the model has 1 to ${config.maxPositionEmbeddings}`, {
    place: { field: 'max_position_embeddings' },
    remedy: 'shorten the prompt or ask for fewer new tokens',
  });
}
