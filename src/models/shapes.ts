import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { type Ops, type Program, type Ref, trace } from '../program/index.ts';
import { paddedContext } from './bert.ts';
import { block, type Context, causalMask, encoderContext, serverWeights, type WeightSource } from './block.ts';
import { activationNames, type LlamaConfig } from './configuration.ts';
import type { Files } from './files.ts';
import { fileLabel } from './files.ts';
import { foldedLayer, foldedLinear, foldedNorm } from './folded.ts';
import { readJson } from './json.ts';
import type { Layout, Matrix } from './layout.ts';
import { decode, rotaryRows } from './llama.ts';
import type { Plan } from './plan.ts';
import { classifyFolded } from './vit.ts';

const extent = (limit: number) => z.number().int().min(1).max(limit);
const width = extent(2 ** 17);

const shapeSchema = z
  .strictObject({
    name: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,63}$/),
    /** Where the dimensions come from, and what the forecast leaves out. */
    note: z.string().max(1000).optional(),
    /** An encoder sees its whole input at once; a decoder writes. */
    kind: z.enum(['encoder', 'decoder']),
    hiddenSize: width,
    intermediateSize: extent(2 ** 20),
    numHiddenLayers: extent(1024),
    heads: extent(4096),
    keyValueHeads: extent(4096).optional(),
    headDim: extent(8192).optional(),
    norm: z.enum(['rms', 'layer']),
    bias: z.boolean(),
    activation: z.enum(activationNames),
    gated: z.boolean(),
    embedding: z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('tokens'), vocabSize: extent(2 ** 22) }),
      z.strictObject({
        kind: z.literal('patches'),
        imageSize: extent(2 ** 14),
        patchSize: extent(2 ** 12),
        numChannels: extent(64),
      }),
    ]),
    positions: z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('learned'), count: extent(2 ** 24) }),
      z.strictObject({ kind: z.literal('rotary'), count: extent(2 ** 24), theta: z.number().gt(0).max(1e12) }),
    ]),
    head: z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('vocabulary') }),
      z.strictObject({ kind: z.literal('classes'), size: extent(2 ** 20) }),
      z.strictObject({ kind: z.literal('none') }),
    ]),
  })
  .check((context) => {
    for (const [path, error] of misfits(context.value as ModelShape))
      context.issues.push({ code: 'custom', message: error, path: [path], input: context.value });
  });

/** A model's dimensions without its weights: what a cost forecast needs. */
export interface ModelShape {
  readonly name: string;
  readonly note?: string | undefined;
  readonly kind: 'encoder' | 'decoder';
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly heads: number;
  readonly keyValueHeads?: number | undefined;
  readonly headDim?: number | undefined;
  readonly norm: 'rms' | 'layer';
  readonly bias: boolean;
  readonly activation: (typeof activationNames)[number];
  readonly gated: boolean;
  readonly embedding:
    | { readonly kind: 'tokens'; readonly vocabSize: number }
    | { readonly kind: 'patches'; readonly imageSize: number; readonly patchSize: number; readonly numChannels: number };
  readonly positions:
    | { readonly kind: 'learned'; readonly count: number }
    | { readonly kind: 'rotary'; readonly count: number; readonly theta: number };
  readonly head:
    | { readonly kind: 'vocabulary' }
    | { readonly kind: 'classes'; readonly size: number }
    | { readonly kind: 'none' };
}

function misfits(shape: ModelShape): [field: string, reason: string][] {
  const { hiddenSize, heads, keyValueHeads = heads, embedding, head, kind } = shape;
  const found: [string, string][] = [];
  if (shape.headDim === undefined && hiddenSize % heads !== 0)
    found.push(['heads', `${heads} does not divide hiddenSize ${hiddenSize}`]);
  if (heads % keyValueHeads !== 0) found.push(['keyValueHeads', `${keyValueHeads} does not divide heads ${heads}`]);
  if (shape.positions.kind === 'rotary' && (shape.headDim ?? hiddenSize / heads) % 2 !== 0)
    found.push(['positions', 'rotary positions turn pairs, the head dimension is odd']);
  if (kind === 'decoder' && (head.kind !== 'vocabulary' || embedding.kind !== 'tokens'))
    found.push(['head', 'a decoder reads tokens and has a head over its vocabulary']);
  if (kind === 'encoder' && head.kind === 'vocabulary') found.push(['head', 'an encoder has a head over classes, or none']);
  if (embedding.kind === 'patches') {
    if (head.kind !== 'classes') found.push(['head', 'pictures are classified']);
    if (embedding.imageSize % embedding.patchSize !== 0) found.push(['embedding', 'patchSize does not divide imageSize']);
    if (shape.positions.kind !== 'learned') found.push(['positions', 'patches have learned positions']);
  }
  return found;
}

/** A shape from JSON that nobody has checked. Throws a `model` error that names the field. */
export function parseShape(raw: unknown, file = 'shape'): ModelShape {
  const result = shapeSchema.safeParse(raw);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new SottoError('model', issue.message, {
    place: { file, field: issue.path.map(String).join('.').slice(0, 120) || '(whole)' },
    remedy: 'correct the shape file; those in shapes/ are examples',
    cause: result.error,
  });
}

/** Reads `name`.json of a folder of shapes. */
export async function loadShape(files: Files, name: string): Promise<ModelShape> {
  const path = `${name}.json`;
  return parseShape(await readJson(files, path, 2 ** 20), fileLabel(files, path));
}

/** A shape as a table whose names nobody has published. An ungated quadratic is one square: its coefficients are in the weights around it. */
function shapeLayout(shape: ModelShape): Layout {
  const { hiddenSize: d, intermediateSize: ff, heads, keyValueHeads = heads, headDim = d / heads, norm, bias, head } = shape;
  const matrix = (name: string, out: number, inputs: number): Matrix => ({ name, out, inputs, bias });
  const [wide, narrow] = [heads * headDim, keyValueHeads * headDim];
  const out = shape.embedding.kind === 'tokens' && head.kind === 'vocabulary' ? shape.embedding.vocabSize : undefined;
  const classes = head.kind === 'classes' ? head.size : out;
  return {
    hiddenSize: d,
    intermediateSize: ff,
    numHiddenLayers: shape.numHiddenLayers,
    heads,
    keyValueHeads,
    headDim,
    norm,
    normBias: norm === 'layer' && bias,
    epsilon: 1e-5,
    normPlace: 'before',
    activation: shape.activation,
    embedding: shapeEmbedding(shape),
    block: () => ({
      attention: {
        norm: 'attention.norm',
        query: matrix('query', wide, d),
        key: matrix('key', narrow, d),
        value: matrix('value', narrow, d),
        out: matrix('out', d, wide),
        quad: 'quad',
      },
      mlp: {
        norm: 'mlp.norm',
        ...(shape.gated ? { gate: matrix('gate', ff, d) } : {}),
        up: matrix('up', ff, d),
        down: matrix('down', d, ff),
        act: 'act',
      },
    }),
    finalNorm: 'norm',
    ...(classes === undefined ? {} : { head: { ...matrix('head', classes, d), bias: bias && head.kind === 'classes' } }),
    plainSquare: true,
  };
}

function shapeEmbedding({ embedding, positions, hiddenSize }: ModelShape): Layout['embedding'] {
  if (embedding.kind === 'tokens') {
    const learned = positions.kind === 'learned' ? { positions: { name: 'positions', count: positions.count, first: 0 } } : {};
    return { kind: 'tokens', words: 'words', vocabSize: embedding.vocabSize, ...learned };
  }
  const { imageSize, patchSize, numChannels } = embedding;
  const inputs = numChannels * patchSize ** 2;
  return {
    kind: 'patches',
    projection: { name: 'projection', out: hiddenSize, inputs, bias: true },
    count: (imageSize / patchSize) ** 2,
    first: 'first',
    positions: 'positions',
  };
}

/** The run that a shape is traced for, in tokens. */
export interface ShapeRun {
  readonly promptTokens: number;
  /** Decoders only; encoders and pictures need none. */
  readonly newTokens: number;
  /** As in PrivateGeneration; `secret` where absent. */
  readonly embedding?: 'secret' | 'public';
  readonly reveal?: 'logits' | 'token' | undefined;
  readonly padded?: boolean | undefined;
}

/**
 * The private program of a shape, for cost forecasts. Decoders: as traceLlamaPrivate. Encoders: the client's `prompt` (promptTokens)
 * → `logits` (classes) or, without a head, `hidden` (promptTokens, d). Pictures: as traceVitPrivate.
 */
export function traceShape(shape: ModelShape, plan: Plan, run: ShapeRun): Program {
  const { embedding: kind = 'secret', promptTokens, newTokens, reveal, padded } = run;
  const { embedding } = shape;
  const layout = shapeLayout(shape);
  if (embedding.kind === 'patches') {
    const { numChannels, imageSize } = embedding;
    return trace((ops) => {
      const pixels = ops.input('pixels', [numChannels, imageSize, imageSize], 'client');
      return { logits: classifyFolded(ops, layout, plan, embedding, pixels) };
    });
  }
  const { vocabSize } = embedding;
  checkPositions(shape, shape.kind === 'decoder' ? promptTokens + newTokens - 1 : promptTokens);
  return trace((ops) => {
    const embed = embedder(ops, shape, vocabSize, kind);
    if (shape.kind === 'encoder') {
      const context = padded === true ? paddedContext(ops, promptTokens) : wholeContext(ops, shape, promptTokens);
      return encode(ops, shape, plan, context, (weight) => embed('prompt', promptTokens, weight, 0));
    }
    const rotary = rotaryOf(ops, shape);
    return decode(ops, layout, plan, {
      promptTokens,
      newTokens,
      vocabSize,
      headBias: false,
      reveal,
      padded,
      embed,
      ...(rotary === undefined ? {} : { rotary }),
    });
  });
}

type Embedder = Parameters<typeof decode>[3]['embed'];

function embedder(ops: Ops<Ref>, shape: ModelShape, vocabSize: number, kind: 'secret' | 'public'): Embedder {
  const d = shape.hiddenSize;
  return (name, tokens, weight, start) => {
    // A public table is the client's, with the learned positions: it shares the sum of both.
    if (kind === 'public') return ops.input(name, [tokens, d], 'client');
    const rows = ops.embedding(weight('private/embedding', [vocabSize, d]), ops.input(name, [tokens], 'client', 'index'));
    if (shape.positions.kind !== 'learned') return rows;
    const positions = weight('private/embedding.position', [shape.positions.count, d]);
    return ops.add(rows, ops.slice(positions, 0, start, start + tokens));
  };
}

function encode(
  ops: Ops<Ref>,
  shape: ModelShape,
  plan: Plan,
  context: Context,
  embed: (weight: WeightSource) => Ref,
): Record<string, Ref> {
  const layout = shapeLayout(shape);
  const weight = serverWeights(ops);
  let x = ops.scope('embed', () => embed(weight)); // (T, d)
  for (let index = 0; index < layout.numHiddenLayers; index++)
    x = block(ops, foldedLayer(ops, layout, plan.layers[index]!, index, weight), index, x, context).hidden;
  const { head, bias } = shape;
  if (head.kind !== 'classes') return { hidden: ops.scope('norm', () => foldedNorm(ops, layout, plan.finalNorm, x)) };
  const normal = ops.scope('norm', () => foldedNorm(ops, layout, plan.finalNorm, ops.slice(x, 0, 0, 1))); // (1, d)
  const logits = ops.scope('head', () => foldedLinear(ops, weight, normal, 'private/head', head.size, bias));
  return { logits: ops.scope('head', () => ops.reshape(logits, [head.size])) };
}

/** The first layers of a shape, one where none are named, for benchmarks: the client's `x` (tokens, d) → `hidden` (tokens, d), under the scopes `layers.N`. */
export function traceShapeLayer(
  shape: ModelShape,
  plan: Plan,
  { tokens, layers = 1 }: { tokens: number; layers?: number },
): Program {
  checkPositions(shape, tokens);
  return trace((ops) => {
    let x = ops.scope('input', () => ops.input('x', [tokens, shape.hiddenSize], 'client'));
    const context = wholeContext(ops, shape, tokens);
    const weight = serverWeights(ops);
    for (let index = 0; index < layers; index++)
      x = block(ops, foldedLayer(ops, shapeLayout(shape), plan.layers[index]!, index, weight), index, x, context).hidden;
    return { hidden: x };
  });
}

function wholeContext(ops: Ops<Ref>, shape: ModelShape, tokens: number): Context {
  const turn = rotaryOf(ops, shape)?.(0, tokens);
  const groups = shape.heads / (shape.keyValueHeads ?? shape.heads);
  return {
    ...encoderContext(ops, tokens),
    rotate: (x) => (turn === undefined ? x : ops.rotary(x, turn.cos, turn.sin)),
    ...(shape.kind === 'decoder' ? causalMask(ops, tokens, tokens, groups) : {}),
  };
}

function rotaryOf(ops: Ops<Ref>, shape: ModelShape): ((start: number, tokens: number) => { cos: Ref; sin: Ref }) | undefined {
  if (shape.positions.kind !== 'rotary') return undefined;
  const headDim = shapeLayout(shape).headDim;
  const config: Pick<LlamaConfig, 'headDim' | 'ropeTheta' | 'ropeScaling'> = {
    headDim,
    ropeTheta: shape.positions.theta,
    ropeScaling: null,
  };
  return (start, tokens) => {
    const { cos, sin } = rotaryRows(config, start, tokens);
    return { cos: ops.constant(cos, [tokens, headDim]), sin: ops.constant(sin, [tokens, headDim]) };
  };
}

function checkPositions(shape: ModelShape, tokens: number): void {
  if (Number.isInteger(tokens) && tokens >= 1 && tokens <= shape.positions.count) return;
  throw new SottoError('usage', `${tokens} positions where ${shape.name} has 1 to ${shape.positions.count}`, {
    place: { field: 'promptTokens' },
    remedy: 'forecast a shorter run',
  });
}
