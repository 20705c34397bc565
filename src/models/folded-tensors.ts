import { type Shape, size } from '../program/index.ts';
import { type BlockLayout, coefficientWidth, type Layout, type Matrix } from './layout.ts';
import { type ActivationPlan, coefficientsOf, fixedQuad, type LayerPlan, type Plan, poolerPlan, reachOf } from './plan.ts';

/** A vector by its name and stored width (each number for as many neighbours as it takes), or one number throughout. */
export type Vector = { readonly name: string; readonly width: number } | { readonly value: number };

/** A published matrix in a fused one. */
export interface Part extends Matrix {
  readonly scale?: number;
  /** Multiplies its outputs. */
  readonly outputs?: Vector | undefined;
}

/** What is folded into a matrix from its left: x ↦ gain ∘ x + shift. */
interface Left {
  readonly gain?: Vector;
  readonly shift?: Vector | undefined;
}

/** Published numbers as they are, or from an element on, with the first row of another tensor added to every row of them. */
export interface Copied {
  readonly name: string;
  readonly shape: Shape;
  readonly from: string;
  /** Of the whole tensor. */
  readonly length: number;
  readonly start?: number;
  readonly plus?: { readonly name: string; readonly length: number } | undefined;
}

/** Published matrices side by side along `out`: `name` (in, out) and, where `bias` is set, `name.bias` (out). */
export interface Fused {
  readonly name: string;
  readonly shape: Shape;
  readonly left: Left;
  readonly parts: readonly Part[];
  readonly bias: boolean;
  /** A vector that is added to the bias. */
  readonly plus?: Vector | undefined;
}

export type FoldedRow = Copied | Fused;

/** `private/layers.N.`, before the part: `attention.qkv`, `attention.out`, `mlp.up`, `mlp.gateUp`, `mlp.act.a`, `mlp.down`… */
export const foldedName = (layer: number, part: string): string => `private/layers.${layer}.${part}`;

/** Whether an activation's coefficients are in two matrices behind it, one for its squares. */
export const isFoldedQuadratic = ({ kind }: ActivationPlan): boolean => kind === 'quadratic' || kind === 'quad';

/**
 * The server's tensors of a private run of a model under a plan, each with what it is made of, in the order of the layers. Gains and biases of
 * norms go into the matrix behind, 1/√Dh and an `l2quad`'s scale into the queries, an ungated activation's coefficients into the matrix behind
 * it; where norms stand behind sums, what goes past a branch is multiplied by the gain of the norm before it, and that norm's bias joins
 * the one of the matrix which ends the branch. Matrices become (in, out); query, key, value and gate, up are fused.
 */
export function foldedRows(layout: Layout, plan: Plan): FoldedRow[] {
  const { hiddenSize: d, finalNorm, pooler, head, normPlace, embedding } = layout;
  const rows = embeddingRows(layout, plan);
  let before = embedding.kind === 'tokens' ? embedding.norm : undefined;
  for (let index = 0; index < layout.numHiddenLayers; index++) {
    const block = layout.block(index);
    rows.push(...attentionRows(layout, block, plan.layers[index]!, index, before));
    rows.push(...mlpRows(layout, block, plan.layers[index]!, index));
    if (normPlace === 'behind') before = block.mlp.norm;
  }
  if (head === undefined) return rows;
  const last = normOf(layout, finalNorm ?? before);
  if (pooler === undefined) return [...rows, fused('private/head', d, last, [head])];
  const activation = poolerPlan(plan);
  rows.push(fused('private/pooler', d, last, [{ ...pooler.matrix, scale: 1 / reachOf(activation) }]));
  const coefficients = { from: pooler.act, to: 'private/pooler.act', width: d, activation };
  return [...rows, ...behindActivation('private/head', head, coefficients)];
}

/** Their shapes by name, biases too. */
export function foldedShapes(layout: Layout, plan: Plan): Map<string, Shape> {
  const all = new Map<string, Shape>();
  for (const row of foldedRows(layout, plan)) {
    all.set(row.name, row.shape);
    if ('parts' in row && row.bias) all.set(`${row.name}.bias`, row.shape.slice(1));
  }
  return all;
}

function fused(name: string, inputs: number, left: Left, parts: readonly Part[], plus?: Vector): Fused {
  const out = parts.reduce((sum, part) => sum + part.out, 0);
  const bias = left.shift !== undefined || plus !== undefined || parts.some((part) => part.bias);
  return { name, shape: [inputs, out], left, parts, bias, plus };
}

const vector = (name: string, width: number): Vector => ({ name, width });

const copied = (name: string, shape: Shape, from: string, length = size(shape)): Copied => ({ name, shape, from, length });

function normOf({ hiddenSize: d, normBias }: Layout, name: string | undefined): Left {
  if (name === undefined) return {};
  return { gain: vector(`${name}.weight`, d), shift: normBias ? vector(`${name}.bias`, d) : undefined };
}

/** The one type of a RoBERTa's tokens is in the positions; a picture's projection bias too, and the first position in the class's row. */
function embeddingRows({ hiddenSize: d, embedding }: Layout, plan: Plan): FoldedRow[] {
  if (embedding.kind === 'patches') {
    const { projection, count, positions, first } = embedding;
    const length = (count + 1) * d;
    const placed = copied('private/embedding.position', [count, d], positions, length);
    return [
      fused('private/embedding.patch', projection.inputs, {}, [{ ...projection, bias: false }]),
      { ...placed, start: d, plus: { name: `${projection.name}.bias`, length: d } },
      { ...copied('private/embedding.class', [1, d], first), plus: { name: positions, length } },
    ];
  }
  const { words, vocabSize, types, positions } = embedding;
  const rows = plan.embedding === undefined ? [copied('private/embedding', [vocabSize, d], words)] : [];
  if (types !== undefined && types.count > 1) rows.push(copied('private/embedding.type', [types.count, d], types.name));
  if (positions === undefined) return rows;
  const { name, count, first } = positions;
  const placed = copied('private/embedding.position', [count - first, d], name, count * d);
  const plus = types?.count === 1 ? { name: types.name, length: d } : undefined;
  return [...rows, { ...placed, start: first * d, plus }];
}

function attentionRows(
  layout: Layout,
  { attention }: BlockLayout,
  plan: LayerPlan,
  index: number,
  before: string | undefined,
): FoldedRow[] {
  const { hiddenSize: d, heads, headDim, normPlace } = layout;
  const { query, key, value, out, quad } = attention;
  const learnt = plan.attention.kind === 'l2quad';
  const scaled: Part = {
    ...query,
    scale: 1 / Math.sqrt(headDim),
    outputs: learnt ? vector(`${quad}.scale`, heads) : undefined,
  };
  const left = normOf(layout, normPlace === 'before' ? attention.norm : before);
  const rows: FoldedRow[] = [fused(foldedName(index, 'attention.qkv'), d, left, [scaled, key, value])];
  if (learnt) rows.push(copied(foldedName(index, 'attention.shift'), [heads], `${quad}.shift`));
  const past = normPlace === 'behind' ? before : undefined;
  const name = foldedName(index, 'attention.out');
  return [...rows, fused(name, heads * headDim, {}, [out], normOf(layout, past).shift), ...pastRows(layout, name, past)];
}

/** The gain on the way past the branch that ends in the matrix `name`. */
const pastRows = ({ hiddenSize: d }: Layout, name: string, norm: string | undefined): FoldedRow[] =>
  norm === undefined ? [] : [copied(`${name}.past`, [d], `${norm}.weight`)];

function mlpRows(layout: Layout, { attention, mlp }: BlockLayout, { activation }: LayerPlan, index: number): FoldedRow[] {
  const { hiddenSize: d, intermediateSize: width, normPlace, plainSquare } = layout;
  const { gate, up, down, act } = mlp;
  const left = normOf(layout, normPlace === 'before' ? mlp.norm : attention.norm);
  const past = normPlace === 'behind' ? attention.norm : undefined;
  const plus = normOf(layout, past).shift;
  const coefficients = { from: act, to: foldedName(index, 'mlp.act'), width, activation };
  const name = foldedName(index, 'mlp.down');
  const scale = 1 / reachOf(activation);
  if (gate !== undefined) {
    const outputs = activation.kind === 'bilinear' ? vector(`${act}.a`, coefficientWidth(activation, width)) : undefined;
    return [
      fused(foldedName(index, 'mlp.gateUp'), d, left, [{ ...gate, scale, outputs }, up]),
      // A gate's coefficients are vectors: what it multiplies stands behind it.
      ...(activation.kind === 'bilinear' ? [] : coefficientRows(coefficients)),
      fused(name, width, {}, [down], plus),
      ...pastRows(layout, name, past),
    ];
  }
  const plain = plainSquare === true && isFoldedQuadratic(activation);
  return [
    fused(foldedName(index, 'mlp.up'), d, left, [{ ...up, scale }]),
    ...(plain ? [fused(name, width, {}, [down], plus)] : behindActivation(name, down, coefficients, plus)),
    ...pastRows(layout, name, past),
  ];
}

/** Where the coefficients of an activation stand, and where they go as vectors of their own. */
interface Coefficients {
  readonly from: string;
  readonly to: string;
  readonly width: number;
  readonly activation: ActivationPlan;
}

function coefficientRows({ from, to, width, activation }: Coefficients): FoldedRow[] {
  const stored = coefficientWidth(activation, width);
  return coefficientsOf[activation.kind].map((letter) => copied(`${to}.${letter}`, [stored], `${from}.${letter}`));
}

/**
 * The matrix behind an activation; behind a quadratic, one for the squares and one for the values, W(a∘u² + b∘u + c). A quartic's
 * coefficients are vectors before it: every other power would cost a matrix.
 */
function behindActivation(name: string, matrix: Matrix, coefficients: Coefficients, plus?: Vector): FoldedRow[] {
  const { from, width, activation } = coefficients;
  const coefficient = (letter: 'a' | 'b' | 'c'): Vector =>
    activation.kind === 'quad' ? { value: fixedQuad[letter] } : vector(`${from}.${letter}`, coefficientWidth(activation, width));
  if (activation.kind === 'bilinear') return [fused(name, width, { gain: coefficient('a') }, [matrix], plus)];
  if (!isFoldedQuadratic(activation)) return [...coefficientRows(coefficients), fused(name, width, {}, [matrix], plus)];
  const linear = { gain: coefficient('b'), shift: coefficient('c') };
  return [
    fused(`${name}.square`, width, { gain: coefficient('a') }, [{ ...matrix, bias: false }]),
    fused(`${name}.linear`, width, linear, [matrix], plus),
  ];
}
