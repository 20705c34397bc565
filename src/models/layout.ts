import { type Shape, size } from '../program/index.ts';
import type { ActivationName } from './configuration.ts';
import { type ActivationPlan, type Coefficient, coefficientsOf, type Plan, poolerPlan } from './plan.ts';

/** W (out, in) and b of x ↦ W·x + b: the tensors `name.weight` and, with a bias, `name.bias`. */
export interface Matrix {
  readonly name: string;
  readonly out: number;
  readonly inputs: number;
  readonly bias: boolean;
  /** How the weight is stored where that is not (out, in): its axes behind the first have `inputs` elements together. */
  readonly stored?: Shape;
}

/** One numbered block: where its tensors stand in a checkpoint. */
export interface BlockLayout {
  readonly attention: {
    /** `norm.weight` and, of a LayerNorm, `norm.bias`. */
    readonly norm: string;
    readonly query: Matrix;
    readonly key: Matrix;
    readonly value: Matrix;
    readonly out: Matrix;
    /** The numbers a head of an `l2quad`: `quad.scale` and `quad.shift`. */
    readonly quad: string;
  };
  readonly mlp: {
    readonly norm: string;
    /** Where act(gate) · up stands for act(up). */
    readonly gate?: Matrix;
    readonly up: Matrix;
    readonly down: Matrix;
    /** Coefficients of what a plan puts in the activation's place: `act.a`, `act.b` and so on. */
    readonly act: string;
  };
}

/** Rows of tables, added up. */
export interface TokenEmbedding {
  readonly kind: 'tokens';
  /** A row a token. */
  readonly words: string;
  readonly vocabSize: number;
  readonly types?: { readonly name: string; readonly count: number };
  /** A row a position; the first token has the row `first`. */
  readonly positions?: { readonly name: string; readonly count: number; readonly first: number };
  /** Of the sum. */
  readonly norm?: string;
}

/** Square patches of a picture through one matrix, behind a row for the class. */
export interface PatchEmbedding {
  readonly kind: 'patches';
  readonly projection: Matrix;
  readonly count: number;
  /** (1, 1, d) and (1, count + 1, d). */
  readonly first: string;
  readonly positions: string;
}

/**
 * What a model is made of: its sizes, and where each of its tensors stands in a published checkpoint. Names, shapes, owners, first values,
 * folded weights and both definitions follow from it.
 */
export interface Layout {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  /** What every norm is, and whether a LayerNorm adds a bias. */
  readonly norm: 'rms' | 'layer';
  readonly normBias: boolean;
  readonly epsilon: number;
  /** Before each branch, whose result is added to what it came from; or behind each sum. */
  readonly normPlace: 'before' | 'behind';
  readonly activation: ActivationName;
  readonly embedding: TokenEmbedding | PatchEmbedding;
  readonly block: (index: number) => BlockLayout;
  /** Before the head, where norms stand before their branches. */
  readonly finalNorm?: string;
  /** Between the first row and the head, with a tanh (or what `Plan.pooler` says) behind it. */
  readonly pooler?: { readonly matrix: Matrix; readonly act: string };
  /** Of the name that the table of words has where the two are one. Absent where hidden states are what a model gives. */
  readonly head?: Matrix;
  /** Where a head that is tied to the words may stand in a checkpoint as well. */
  readonly tied?: string;
  /** An ungated quadratic is one square, whose coefficients are completed into the weights around it. No checkpoint has that: forecasts do. */
  readonly plainSquare?: boolean;
}

/** What a tensor does: how it is first drawn and how it is held in training follow. A letter is a coefficient of an activation. */
export type Role = 'words' | 'place' | 'matrix' | 'ending' | 'bias' | 'gain' | 'scale' | 'shift' | Coefficient;

/** A tensor by what it is. */
export interface Made {
  readonly shape: Shape;
  readonly role: Role;
}

/** A tensor of a published checkpoint. */
export interface Published extends Made {
  /** `public` where clients hold it. */
  readonly owner: 'server' | 'public';
  /** The block that it stands in, if any. */
  readonly block?: number | undefined;
}

/** Numbers of a coefficient: one, or one a channel. */
export const coefficientWidth = (activation: ActivationPlan, width: number): number =>
  'per' in activation && activation.per === 'channel' ? width : 1;

/** Every tensor that a model under a plan reads of its checkpoint, by published name, in the order in which the model comes to them. */
export function publishedTensors(layout: Layout, plan: Plan): Map<string, Published> {
  const { hiddenSize: d, intermediateSize: ff, heads, normBias, normPlace, embedding } = layout;
  const all = new Map<string, Published>();
  let block: number | undefined;
  const put = (name: string, shape: Shape, role: Role, owner: Published['owner'] = 'server'): void => {
    if (!all.has(name)) all.set(name, { shape, role, owner, ...(block === undefined ? {} : { block }) });
  };
  const matrix = ({ name, out, inputs, bias, stored = [out, inputs] }: Matrix, role: 'matrix' | 'ending' = 'matrix'): void => {
    put(`${name}.weight`, stored, role);
    if (bias) put(`${name}.bias`, [out], 'bias');
  };
  const norm = (name: string | undefined): void => {
    if (name === undefined) return;
    put(`${name}.weight`, [d], 'gain');
    if (normBias) put(`${name}.bias`, [d], 'bias');
  };
  const coefficients = (name: string, activation: ActivationPlan, width: number): void => {
    for (const letter of coefficientsOf[activation.kind]) put(`${name}.${letter}`, [coefficientWidth(activation, width)], letter);
  };
  if (embedding.kind === 'tokens') {
    const { words, vocabSize, types, positions } = embedding;
    put(words, [vocabSize, d], 'words', plan.embedding?.kind ?? 'server');
    if (types !== undefined) put(types.name, [types.count, d], 'words');
    if (positions !== undefined) put(positions.name, [positions.count, d], 'words');
    norm(embedding.norm);
  } else {
    matrix(embedding.projection);
    put(embedding.first, [1, 1, d], 'place');
    put(embedding.positions, [1, embedding.count + 1, d], 'place');
  }
  for (block = 0; block < layout.numHiddenLayers; block++) {
    const { attention, mlp } = layout.block(block);
    const planned = plan.layers[block]!;
    if (normPlace === 'before') norm(attention.norm);
    for (const part of [attention.query, attention.key, attention.value]) matrix(part);
    if (planned.attention.kind === 'l2quad')
      for (const part of ['scale', 'shift'] as const) put(`${attention.quad}.${part}`, [heads], part);
    matrix(attention.out, 'ending');
    if (normPlace === 'behind') norm(attention.norm);
    if (normPlace === 'before') norm(mlp.norm);
    if (mlp.gate !== undefined) matrix(mlp.gate);
    matrix(mlp.up);
    coefficients(mlp.act, planned.activation, ff);
    matrix(mlp.down, 'ending');
    if (normPlace === 'behind') norm(mlp.norm);
  }
  block = undefined;
  norm(layout.finalNorm);
  if (layout.pooler !== undefined) {
    matrix(layout.pooler.matrix);
    coefficients(layout.pooler.act, poolerPlan(plan), d);
  }
  if (layout.head !== undefined) matrix(layout.head);
  return all;
}

/** The name of the table of words of a model that reads tokens. */
export const wordsOf = ({ embedding }: Layout): string => (embedding as TokenEmbedding).words;

/** The table whose rows are what the first norm of the first block sees; undefined where it sees sums of several. */
export function rowsOfFirstNorm({ embedding, normPlace }: Layout): string | undefined {
  if (embedding.kind !== 'tokens' || normPlace !== 'before') return undefined;
  const { words, types, positions, norm } = embedding;
  return types === undefined && positions === undefined && norm === undefined ? words : undefined;
}

/** How many numbers make one output of a matrix that is stored (out, …). */
export const inputsOf = ({ shape }: Made): number => size(shape) / shape[0]!;
