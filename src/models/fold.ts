import { SottoError } from '../errors/index.ts';
import type { Shape } from '../program/index.ts';
import { bertNames } from './bert.ts';
import type { BertConfig, LlamaConfig, ModelConfig, VitConfig } from './config.ts';
import { foldedName } from './folded.ts';
import { type ActivationPlan, coefficientsOf, fixedQuad, type LayerPlan, type Plan, poolerPlan, reachOf } from './plan.ts';
import { embeddingTensor } from './public-embedding.ts';
import { patchCount } from './vit.ts';

export interface FoldedTensor {
  readonly shape: Shape;
  readonly values: Float64Array;
}
/** Gives a published tensor's values, row-major. */
export type ReadTensor = (name: string) => Promise<Float32Array | Float64Array>;

interface FoldedPart {
  /** Its matrix is (out, in). */
  readonly name: string;
  readonly out: number;
  readonly bias: boolean;
  readonly scale?: number;
  /** Multiplies its outputs, each number as many neighbours as it takes. */
  readonly outputs?: Vector | undefined;
}

/** A vector by its name, by name and stored width, or one number throughout. */
type Vector = string | { readonly name: string; readonly width: number } | { readonly value: number };

/**
 * The private weights of a Llama, one after the other, never more than one layer at a time in memory. Norm gains go into the next
 * matrix, 1/√Dh into the queries; matrices become (in, out); query, key, value and gate, up are fused along `out`.
 */
export async function* foldLlama(config: LlamaConfig, plan: Plan, read: ReadTensor): AsyncGenerator<[string, FoldedTensor]> {
  const { hiddenSize: d, intermediateSize: ff, vocabSize, headDim, attentionBias, mlpBias } = config;
  const [wide, narrow] = [config.numAttentionHeads * headDim, config.numKeyValueHeads * headDim];
  const tensor = checkedReader(read);
  const folded = folder(tensor);
  if (plan.embedding === undefined)
    yield ['private/embedding', { shape: [vocabSize, d], values: await tensor(embeddingTensor, vocabSize * d) }];
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const name = (part: string): string => `model.layers.${layer}.${part}`;
    const part = (text: string, out: number, bias: boolean, scale = 1): FoldedPart => ({ name: name(text), out, bias, scale });
    const query = part('self_attn.q_proj', wide, attentionBias, 1 / Math.sqrt(headDim));
    const quad = quadNames(name('self_attn'), plan.layers[layer]!, config.numAttentionHeads);
    yield* folded(foldedName(layer, 'attention.qkv'), d, { gain: name('input_layernorm.weight') }, [
      { ...query, outputs: quad?.scale },
      part('self_attn.k_proj', narrow, attentionBias),
      part('self_attn.v_proj', narrow, attentionBias),
    ]);
    yield* foldedShift(tensor, layer, quad);
    yield* folded(foldedName(layer, 'attention.out'), wide, {}, [part('self_attn.o_proj', d, attentionBias)]);
    const { activation } = plan.layers[layer]!;
    const gate =
      activation.kind === 'bilinear' ? { name: name('mlp.act.a'), width: coefficientWidth(activation, ff) } : undefined;
    yield* folded(foldedName(layer, 'mlp.gateUp'), d, { gain: name('post_attention_layernorm.weight') }, [
      { ...part('mlp.gate_proj', ff, mlpBias, 1 / reachOf(activation)), outputs: gate },
      part('mlp.up_proj', ff, mlpBias),
    ]);
    // A gate's coefficients are vectors: what it multiplies stands behind it.
    if (activation.kind === 'quadratic' || activation.kind === 'quartic')
      yield* foldedCoefficients(tensor, activation, ff, { from: name('mlp.act'), to: foldedName(layer, 'mlp.act') });
    yield* folded(foldedName(layer, 'mlp.down'), ff, {}, [part('mlp.down_proj', d, mlpBias)]);
  }
  const head = config.tieWordEmbeddings ? 'model.embed_tokens' : 'lm_head';
  yield* folded('private/head', d, { gain: 'model.norm.weight' }, [{ name: head, out: vocabSize, bias: false }]);
}

/**
 * The private weights of a vision transformer: LayerNorm's gain and bias go into the next matrix and its bias, the projection's bias
 * into the positions, the first position into the class token, a quadratic's coefficients into two matrices and a bias.
 */
export async function* foldVit(config: VitConfig, plan: Plan, read: ReadTensor): AsyncGenerator<[string, FoldedTensor]> {
  const { hiddenSize: d, intermediateSize: ff, headDim, qkvBias } = config;
  const tensor = checkedReader(read);
  const folded = folder(tensor);
  yield* foldPictureEmbedding(config, tensor, folded);
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const name = (part: string): string => `vit.encoder.layer.${layer}.${part}`;
    const norm = (part: string) => ({ gain: name(`${part}.weight`), shift: name(`${part}.bias`) });
    const part = (text: string, out: number, bias: boolean, scale = 1): FoldedPart => ({ name: name(text), out, bias, scale });
    const query = part('attention.attention.query', d, qkvBias, 1 / Math.sqrt(headDim));
    const quad = quadNames(name('attention.attention'), plan.layers[layer]!, config.numAttentionHeads);
    yield* folded(foldedName(layer, 'attention.qkv'), d, norm('layernorm_before'), [
      { ...query, outputs: quad?.scale },
      part('attention.attention.key', d, qkvBias),
      part('attention.attention.value', d, qkvBias),
    ]);
    yield* foldedShift(tensor, layer, quad);
    yield* folded(foldedName(layer, 'attention.out'), d, {}, [part('attention.output.dense', d, true)]);
    const { activation } = plan.layers[layer]!;
    const up = part('intermediate.dense', ff, true, 1 / reachOf(activation));
    yield* folded(foldedName(layer, 'mlp.up'), d, norm('layernorm_after'), [up]);
    const coefficients = { from: name('intermediate.act'), to: foldedName(layer, 'mlp.act') };
    const down = part('output.dense', d, true);
    yield* foldActivated({ tensor, folded }, foldedName(layer, 'mlp.down'), ff, down, activation, coefficients);
  }
  const classes = config.labels.length;
  const norm = { gain: 'vit.layernorm.weight', shift: 'vit.layernorm.bias' };
  yield* folded('private/head', d, norm, [{ name: 'classifier', out: classes, bias: true }]);
}

/** The private weights of any supported model. */
export function foldWeights(config: ModelConfig, plan: Plan, read: ReadTensor): AsyncGenerator<[string, FoldedTensor]> {
  if (config.family === 'llama') return foldLlama(config, plan, read);
  return config.family === 'bert' ? foldBert(config, plan, read) : foldVit(config, plan, read);
}

/**
 * The private weights of a BERT. Its norms stand behind the sums: gain and bias of each go into the next matrix, and on the way past it
 * the gain is a vector of its own while the bias joins that of the matrix which ends the branch. The one type of a RoBERTa's tokens is
 * in the positions; the coefficients of quadratics are in the matrices behind them.
 */
export async function* foldBert(config: BertConfig, plan: Plan, read: ReadTensor): AsyncGenerator<[string, FoldedTensor]> {
  const { hiddenSize: d, intermediateSize: ff, headDim, vocabSize, typeVocabSize, firstPosition } = config;
  const tensor = checkedReader(read);
  const folded = folder(tensor);
  const names = bertNames(config);
  const { embeddings } = names;
  yield [
    'private/embedding',
    { shape: [vocabSize, d], values: await tensor(`${embeddings}.word_embeddings.weight`, vocabSize * d) },
  ];
  const positions = await tensor(`${embeddings}.position_embeddings.weight`, config.maxPositionEmbeddings * d);
  const types = await tensor(`${embeddings}.token_type_embeddings.weight`, typeVocabSize * d);
  const placed = positions.slice(firstPosition * d);
  if (typeVocabSize > 1) yield ['private/embedding.type', { shape: [typeVocabSize, d], values: types }];
  else for (let at = 0; at < placed.length; at++) placed[at]! += types[at % d]!;
  yield ['private/embedding.position', { shape: [placed.length / d, d], values: placed }];
  let before = `${embeddings}.LayerNorm`;
  const left = (norm: string) => ({ gain: `${norm}.weight`, shift: `${norm}.bias` });
  /** The matrix that ends a branch around which the output of `norm` goes on. */
  const ending = async function* (
    name: string,
    norm: string,
    matrices: AsyncGenerator<[string, FoldedTensor]>,
  ): AsyncGenerator<[string, FoldedTensor]> {
    const shift = await tensor(`${norm}.bias`, d);
    for await (const [made, { shape, values }] of matrices)
      yield [made, { shape, values: made.endsWith('.bias') ? values.map((value, at) => value + shift[at]!) : values }];
    yield [`${name}.past`, { shape: [d], values: await tensor(`${norm}.weight`, d) }];
  };
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const name = (part: string): string => names.layer(layer, part);
    const part = (text: string, out: number, scale = 1): FoldedPart => ({ name: name(text), out, bias: true, scale });
    const quad = quadNames(name('attention.self'), plan.layers[layer]!, config.numAttentionHeads);
    yield* folded(foldedName(layer, 'attention.qkv'), d, left(before), [
      { ...part('attention.self.query', d, 1 / Math.sqrt(headDim)), outputs: quad?.scale },
      part('attention.self.key', d),
      part('attention.self.value', d),
    ]);
    yield* foldedShift(tensor, layer, quad);
    const out = foldedName(layer, 'attention.out');
    yield* ending(out, before, folded(out, d, {}, [part('attention.output.dense', d)]));
    const middle = name('attention.output.LayerNorm');
    const { activation } = plan.layers[layer]!;
    const up = part('intermediate.dense', ff, 1 / reachOf(activation));
    yield* folded(foldedName(layer, 'mlp.up'), d, left(middle), [up]);
    const coefficients = { from: name('intermediate.act'), to: foldedName(layer, 'mlp.act') };
    const down = foldedName(layer, 'mlp.down');
    const matrices = foldActivated({ tensor, folded }, down, ff, part('output.dense', d), activation, coefficients);
    yield* ending(down, middle, matrices);
    before = name('output.LayerNorm');
  }
  const pooler = { name: names.pooler, out: d, bias: true, scale: 1 / reachOf(poolerPlan(plan)) };
  yield* folded('private/pooler', d, left(before), [pooler]);
  const head = { name: names.head, out: config.labels.length, bias: true };
  const coefficients = { from: names.poolerAct, to: 'private/pooler.act' };
  yield* foldActivated({ tensor, folded }, 'private/head', d, head, poolerPlan(plan), coefficients);
}

/** Where the two numbers a head of an `l2quad` stand; undefined for every other attention. */
function quadNames(attention: string, plan: LayerPlan, heads: number) {
  if (plan.attention.kind !== 'l2quad') return undefined;
  return { scale: { name: `${attention}.quad.scale`, width: heads }, shift: { name: `${attention}.quad.shift`, width: heads } };
}

async function* foldedShift(
  tensor: CheckedReader,
  layer: number,
  quad: ReturnType<typeof quadNames>,
): AsyncGenerator<[string, FoldedTensor]> {
  if (quad === undefined) return;
  const { name, width } = quad.shift;
  yield [foldedName(layer, 'attention.shift'), { shape: [width], values: await tensor(name, width) }];
}

/** Where the coefficients of an activation stand, and where they go as vectors of their own. */
interface CoefficientNames {
  readonly from: string;
  readonly to: string;
}

/** Coefficients as vectors of their own. */
async function* foldedCoefficients(
  tensor: CheckedReader,
  activation: ActivationPlan & { kind: 'quadratic' | 'quartic' },
  width: number,
  { from, to }: CoefficientNames,
): AsyncGenerator<[string, FoldedTensor]> {
  const stored = coefficientWidth(activation, width);
  for (const letter of coefficientsOf[activation.kind])
    yield [`${to}.${letter}`, { shape: [stored], values: await tensor(`${from}.${letter}`, stored) }];
}

/**
 * The matrix behind an activation; behind a quadratic, one for the squares and one for the values, W(a∘u² + b∘u + c). A quartic's
 * coefficients are vectors before it: every other power would cost a matrix.
 */
async function* foldActivated(
  { tensor, folded }: { readonly tensor: CheckedReader; readonly folded: Folder },
  name: string,
  inputs: number,
  part: FoldedPart,
  activation: ActivationPlan,
  coefficients: CoefficientNames,
): AsyncGenerator<[string, FoldedTensor]> {
  if (activation.kind === 'quartic') yield* foldedCoefficients(tensor, activation, inputs, coefficients);
  if (activation.kind === 'exact' || activation.kind === 'relu' || activation.kind === 'quartic')
    return yield* folded(name, inputs, {}, [part]);
  const coefficient = (letter: 'a' | 'b' | 'c'): Vector =>
    activation.kind === 'quad'
      ? { value: fixedQuad[letter] }
      : { name: `${coefficients.from}.${letter}`, width: coefficientWidth(activation, inputs) };
  if (activation.kind === 'bilinear') return yield* folded(name, inputs, { gain: coefficient('a') }, [part]);
  yield* folded(`${name}.square`, inputs, { gain: coefficient('a') }, [{ ...part, bias: false }]);
  yield* folded(`${name}.linear`, inputs, { gain: coefficient('b'), shift: coefficient('c') }, [part]);
}

async function* foldPictureEmbedding(
  config: VitConfig,
  tensor: CheckedReader,
  folded: Folder,
): AsyncGenerator<[string, FoldedTensor]> {
  const { hiddenSize: d, patchSize, numChannels } = config;
  const [projection, count] = ['vit.embeddings.patch_embeddings.projection', patchCount(config)];
  yield* folded('private/embedding.patch', numChannels * patchSize ** 2, {}, [{ name: projection, out: d, bias: false }]);
  const positions = await tensor('vit.embeddings.position_embeddings', (count + 1) * d);
  const first = await tensor('vit.embeddings.cls_token', d);
  const bias = await tensor(`${projection}.bias`, d);
  const placed = positions.subarray(d).map((value, at) => value + bias[at % d]!);
  yield ['private/embedding.position', { shape: [count, d], values: placed }];
  yield ['private/embedding.class', { shape: [1, d], values: first.map((value, at) => value + positions[at]!) }];
}

const coefficientWidth = (activation: ActivationPlan & { per: 'layer' | 'channel' }, width: number): number =>
  activation.per === 'layer' ? 1 : width;

type CheckedReader = (name: string, length: number) => Promise<Float64Array>;

/** Reads a tensor as float64, or throws a `model` error that names it where its size is not what config.json says. */
function checkedReader(read: ReadTensor): CheckedReader {
  return async (name, length) => {
    const values = await read(name);
    if (values.length === length) return Float64Array.from(values);
    throw new SottoError('model', `${values.length} values where the configuration asks for ${length}`, {
      place: { tensor: name },
      remedy: 'check that config.json and its plan describe these weights',
    });
  };
}

/** What is folded into a matrix from its left: x ↦ gain ∘ x + shift. A name stands for a vector of the matrix's inputs. */
interface Left {
  readonly gain?: Vector;
  readonly shift?: Vector;
}
type Folder = (name: string, inputs: number, left: Left, parts: readonly FoldedPart[]) => AsyncGenerator<[string, FoldedTensor]>;

/** Fuses parts along `out`: `name` (in, out) and, where a part or a shift needs it, `name.bias` (out). */
function folder(tensor: CheckedReader): Folder {
  const vector = async (source: Vector | undefined, width: number): Promise<Float64Array | undefined> => {
    if (source === undefined) return undefined;
    if (typeof source !== 'string' && 'value' in source) return new Float64Array(width).fill(source.value);
    const { name, width: stored } = typeof source === 'string' ? { name: source, width } : source;
    const values = await tensor(name, stored);
    return Float64Array.from({ length: width }, (_, at) => values[Math.floor((at * stored) / width)]!);
  };
  return async function* (name, inputs, left, parts) {
    const outputs = parts.reduce((sum, part) => sum + part.out, 0);
    const [gain, shift] = [await vector(left.gain, inputs), await vector(left.shift, inputs)];
    const matrix = new Float64Array(inputs * outputs);
    const bias = new Float64Array(outputs);
    let column = 0;
    for (const { name: source, out, bias: hasBias, scale: common = 1, outputs: own } of parts) {
      const values = await tensor(`${source}.weight`, out * inputs);
      const added = hasBias ? await tensor(`${source}.bias`, out) : undefined;
      const scales = await vector(own, out);
      for (let row = 0; row < out; row++) {
        const scale = common * (scales?.[row] ?? 1);
        let constant = added?.[row] ?? 0;
        for (let k = 0; k < inputs; k++) {
          const value = values[row * inputs + k]!;
          matrix[k * outputs + column] = scale * value * (gain?.[k] ?? 1);
          if (shift !== undefined) constant += value * shift[k]!;
        }
        bias[column++] = scale * constant;
      }
    }
    yield [name, { shape: [inputs, outputs], values: matrix }];
    const needed = shift !== undefined || parts.some((part) => part.bias);
    if (needed) yield [`${name}.bias`, { shape: [outputs], values: bias }];
  };
}
