import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { checkFields, type Family, neutralFields, printableField } from './fields.ts';
import { endTokens } from './generation-config.ts';
import { isObject } from './json.ts';
import { type RopeScaling, ropeFields, ropeOf } from './rope-config.ts';

/** Activations by their published names; `swish` is read as `silu`. */
export const activationNames = ['silu', 'gelu', 'gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', 'quick_gelu', 'relu'] as const;
export type ActivationName = (typeof activationNames)[number];

export interface LlamaConfig {
  readonly family: 'llama';
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  readonly hiddenAct: ActivationName;
  readonly tieWordEmbeddings: boolean;
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  readonly bosTokenId: number | null;
  /** Any of these ids ends a text. */
  readonly eosTokenIds: readonly number[];
  /** The key `sotto` of config.json, not yet checked; undefined where there is none. */
  readonly plan: unknown;
}

export interface VitConfig {
  readonly family: 'vit';
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly headDim: number;
  readonly hiddenAct: ActivationName;
  readonly layerNormEps: number;
  /** Pixels per side of the square picture and of a patch. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly numChannels: number;
  readonly qkvBias: boolean;
  /** Class names by class id. */
  readonly labels: readonly string[];
  readonly plan: unknown;
}

export interface BertConfig {
  readonly family: 'bert';
  /** Which names and head the checkpoint has, and where positions begin. */
  readonly layout: 'bert' | 'roberta';
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  /** Rows of the table of positions; texts have at most `maxPositionEmbeddings − firstPosition` tokens. */
  readonly maxPositionEmbeddings: number;
  /** The row of the first token: 0, or behind the padding's with RoBERTa. */
  readonly firstPosition: number;
  readonly typeVocabSize: number;
  readonly padTokenId: number;
  readonly layerNormEps: number;
  readonly hiddenAct: ActivationName;
  /** Class names by class id. */
  readonly labels: readonly string[];
  readonly plan: unknown;
}

/** What config.json says of a model, by `family`: the fields that sotto reads, checked. */
export type ModelConfig = LlamaConfig | VitConfig | BertConfig;

/** Sizes beyond these are damage, not models: they bound what a configuration can make anyone allocate. */
const extent = (limit: number) => z.number().int().min(1).max(limit);
const width = extent(2 ** 17);
const layers = extent(1024);
const epsilon = z.number().gt(0).max(0.1);
const tokenId = z
  .number()
  .int()
  .min(0)
  .max(2 ** 22);
const activation = z.preprocess((name) => (name === 'swish' ? 'silu' : name), z.enum(activationNames));
/** Python's None is written as null where a default applies. */
const orDefault = <T extends z.ZodType>(schema: T, value: z.output<T>) =>
  schema.nullish().transform((given) => (given ?? value) as z.output<T>);

const llamaSchema = z.object({
  hidden_size: orDefault(width, 4096),
  intermediate_size: orDefault(extent(2 ** 20), 11008),
  num_hidden_layers: orDefault(layers, 32),
  num_attention_heads: orDefault(extent(4096), 32),
  num_key_value_heads: extent(4096).nullish(),
  head_dim: extent(8192).nullish(),
  vocab_size: orDefault(extent(2 ** 22), 32000),
  max_position_embeddings: orDefault(extent(2 ** 24), 2048),
  rms_norm_eps: orDefault(epsilon, 1e-6),
  hidden_act: orDefault(activation, 'silu'),
  tie_word_embeddings: orDefault(z.boolean(), false),
  attention_bias: orDefault(z.boolean(), false),
  mlp_bias: orDefault(z.boolean(), false),
  bos_token_id: tokenId.nullable().optional(),
  eos_token_id: endTokens,
});

/** config.json of a Llama, with the published defaults, checked field by field and across fields. */
export function parseLlamaConfig(raw: unknown, file = 'config.json'): LlamaConfig {
  const fields = checked('llama', llamaSchema, raw, file);
  const heads = fields.num_attention_heads;
  const keyValueHeads = fields.num_key_value_heads ?? heads;
  if (fields.head_dim == null) divides(fields.hidden_size, heads, 'num_attention_heads', 'hidden_size', file);
  divides(heads, keyValueHeads, 'num_key_value_heads', 'num_attention_heads', file);
  const headDim = fields.head_dim ?? fields.hidden_size / heads;
  if (headDim % 2 !== 0) throw misfit(`the head dimension ${headDim} is odd, rotary positions turn pairs`, 'head_dim', file);
  return {
    family: 'llama',
    hiddenSize: fields.hidden_size,
    intermediateSize: fields.intermediate_size,
    numHiddenLayers: fields.num_hidden_layers,
    numAttentionHeads: heads,
    numKeyValueHeads: keyValueHeads,
    headDim,
    vocabSize: fields.vocab_size,
    maxPositionEmbeddings: fields.max_position_embeddings,
    rmsNormEps: fields.rms_norm_eps,
    ...ropeOf(raw as Record<string, unknown>, file),
    hiddenAct: fields.hidden_act,
    tieWordEmbeddings: fields.tie_word_embeddings,
    attentionBias: fields.attention_bias,
    mlpBias: fields.mlp_bias,
    bosTokenId: fields.bos_token_id === undefined ? 1 : fields.bos_token_id,
    eosTokenIds: asList(fields.eos_token_id === undefined ? 2 : fields.eos_token_id),
    plan: (raw as Record<string, unknown>).sotto,
  };
}

const asList = (ids: number | number[] | null): number[] => (ids === null ? [] : Array.isArray(ids) ? ids : [ids]);

const square = (limit: number) =>
  z.preprocess((raw) => (Array.isArray(raw) && raw.length === 2 && raw[0] === raw[1] ? raw[0] : raw), extent(limit));

const vitSchema = z.object({
  hidden_size: orDefault(width, 768),
  intermediate_size: orDefault(extent(2 ** 20), 3072),
  num_hidden_layers: orDefault(layers, 12),
  num_attention_heads: orDefault(extent(4096), 12),
  hidden_act: orDefault(activation, 'gelu'),
  layer_norm_eps: orDefault(epsilon, 1e-12),
  image_size: orDefault(square(2 ** 14), 224),
  patch_size: orDefault(square(2 ** 12), 16),
  num_channels: orDefault(extent(64), 3),
  qkv_bias: orDefault(z.boolean(), true),
  id2label: z.record(z.string(), z.string()).nullish(),
  num_labels: extent(2 ** 20).nullish(),
});

/** config.json of a vision transformer that classifies pictures, with the published defaults. */
export function parseVitConfig(raw: unknown, file = 'config.json'): VitConfig {
  const fields = checked('vit', vitSchema, raw, file);
  divides(fields.hidden_size, fields.num_attention_heads, 'num_attention_heads', 'hidden_size', file);
  divides(fields.image_size, fields.patch_size, 'patch_size', 'image_size', file);
  return {
    family: 'vit',
    hiddenSize: fields.hidden_size,
    intermediateSize: fields.intermediate_size,
    numHiddenLayers: fields.num_hidden_layers,
    numAttentionHeads: fields.num_attention_heads,
    headDim: fields.hidden_size / fields.num_attention_heads,
    hiddenAct: fields.hidden_act,
    layerNormEps: fields.layer_norm_eps,
    imageSize: fields.image_size,
    patchSize: fields.patch_size,
    numChannels: fields.num_channels,
    qkvBias: fields.qkv_bias,
    labels: readLabels(fields.id2label, fields.num_labels, file),
    plan: (raw as Record<string, unknown>).sotto,
  };
}

const bertSchema = z.object({
  model_type: z.enum(['bert', 'roberta']).default('bert'),
  hidden_size: orDefault(width, 768),
  intermediate_size: orDefault(extent(2 ** 20), 3072),
  num_hidden_layers: orDefault(layers, 12),
  num_attention_heads: orDefault(extent(4096), 12),
  vocab_size: extent(2 ** 22).nullish(),
  max_position_embeddings: orDefault(extent(2 ** 24), 512),
  type_vocab_size: orDefault(extent(256), 2),
  pad_token_id: tokenId.nullish(),
  layer_norm_eps: orDefault(epsilon, 1e-12),
  hidden_act: orDefault(activation, 'gelu'),
  position_embedding_type: orDefault(z.literal('absolute', { error: 'only absolute positions are supported' }), 'absolute'),
  is_decoder: orDefault(z.literal(false, { error: 'decoders of this architecture are not supported' }), false),
  id2label: z.record(z.string(), z.string()).nullish(),
  num_labels: extent(2 ** 20).nullish(),
});

/** config.json of a BERT or RoBERTa that classifies texts, with the published defaults. */
export function parseBertConfig(raw: unknown, file = 'config.json'): BertConfig {
  const fields = checked('bert', bertSchema, raw, file);
  divides(fields.hidden_size, fields.num_attention_heads, 'num_attention_heads', 'hidden_size', file);
  const layout = fields.model_type;
  const padTokenId = fields.pad_token_id ?? (layout === 'bert' ? 0 : 1);
  const firstPosition = layout === 'bert' ? 0 : padTokenId + 1;
  if (firstPosition >= fields.max_position_embeddings)
    throw misfit(`no position is left behind the ${firstPosition} of the padding`, 'max_position_embeddings', file);
  return {
    family: 'bert',
    layout,
    hiddenSize: fields.hidden_size,
    intermediateSize: fields.intermediate_size,
    numHiddenLayers: fields.num_hidden_layers,
    numAttentionHeads: fields.num_attention_heads,
    headDim: fields.hidden_size / fields.num_attention_heads,
    vocabSize: fields.vocab_size ?? (layout === 'bert' ? 30522 : 50265),
    maxPositionEmbeddings: fields.max_position_embeddings,
    firstPosition,
    typeVocabSize: fields.type_vocab_size,
    padTokenId,
    layerNormEps: fields.layer_norm_eps,
    hiddenAct: fields.hidden_act,
    labels: readLabels(fields.id2label, fields.num_labels, file),
    plan: (raw as Record<string, unknown>).sotto,
  };
}

function readLabels(byId: Record<string, string> | null | undefined, count: number | null | undefined, file: string): string[] {
  if (byId == null) return Array.from({ length: count ?? 2 }, (_, id) => `LABEL_${id}`);
  const labels = Array.from({ length: Object.keys(byId).length }, (_, id) => {
    const label = Object.hasOwn(byId, String(id)) ? byId[String(id)] : undefined;
    if (label === undefined) throw misfit(`the class ${id} has no name, though there are names of later ones`, 'id2label', file);
    return label;
  });
  if (count != null && count !== labels.length)
    throw misfit(`${count} classes where id2label names ${labels.length}`, 'num_labels', file);
  return labels;
}

const families = { llama: parseLlamaConfig, vit: parseVitConfig, bert: parseBertConfig, roberta: parseBertConfig } as const;
export const supportedModelTypes = Object.keys(families) as (keyof typeof families)[];

const schemas = { llama: llamaSchema, vit: vitSchema, bert: bertSchema, roberta: bertSchema } as const;

/** The fields of config.json that the definition of an architecture reads. */
export function usedFields(type: unknown): readonly string[] {
  if (typeof type !== 'string' || !Object.hasOwn(schemas, type)) return [];
  const fields = Object.keys(schemas[type as keyof typeof schemas].shape);
  return type === 'llama' ? [...fields, ...ropeFields] : fields;
}

/** Reads config.json of any supported architecture, chosen by `model_type`. */
export function parseModelConfig(raw: unknown, file = 'config.json'): ModelConfig {
  const type = isObject(raw) ? raw.model_type : undefined;
  if (typeof type === 'string' && Object.hasOwn(families, type)) return families[type as keyof typeof families](raw, file);
  // Printing a value of any other kind could take as deep a stack as the file likes.
  const named = typeof type === 'string' ? JSON.stringify(type.slice(0, 80)) : `of type ${type === null ? 'null' : typeof type}`;
  throw new SottoError('model', `the architecture ${named} is not supported`, {
    place: { file, field: 'model_type' },
    remedy: `sotto runs these: ${supportedModelTypes.join(', ')}`,
  });
}

/** Fields that no schema holds, and that are used all the same. */
const otherFields = {
  llama: ['model_type', 'architectures', 'sotto', ...ropeFields],
  vit: ['model_type', 'architectures', 'sotto'],
  bert: ['architectures', 'sotto'],
} as const;

/** The published classes that these definitions are of. One of another name may read the same tensors in another way. */
const architectures: Readonly<Record<string, readonly string[]>> = {
  llama: ['LlamaForCausalLM', 'LLaMAForCausalLM'],
  vit: ['ViTForImageClassification'],
  bert: ['BertForSequenceClassification'],
  roberta: ['RobertaForSequenceClassification'],
};

/** Reads what a family uses of config.json; every other field must be one that is read over, or is refused by its name. */
function checked<T extends z.ZodObject>(family: Family, schema: T, raw: unknown, file: string): z.output<T> {
  if (isObject(raw)) {
    const used = new Set([...Object.keys(schema.shape), ...otherFields[family]]);
    checkFields(raw, used, neutralFields(family), file);
    checkArchitectures(raw.architectures, typeof raw.model_type === 'string' ? raw.model_type : family, file);
  }
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new SottoError('model', issue.message, {
    place: { file, field: printableField(issue.path.map(String).join('.')) || '(whole)' },
    remedy: 'correct the field, or take a checkpoint that sotto supports',
    cause: result.error,
  });
}

function checkArchitectures(given: unknown, type: string, file: string): void {
  if (given === null || given === undefined) return;
  const taken = Object.hasOwn(architectures, type) ? architectures[type]! : [];
  if (Array.isArray(given) && given.every((name) => taken.includes(name))) return;
  throw new SottoError('model', `of a ${printableField(type)}, only ${taken[0]} is supported`, {
    place: { file, field: 'architectures' },
    remedy: `take a checkpoint that was saved as ${taken[0]}`,
  });
}

const misfit = (reason: string, field: string, file: string) =>
  new SottoError('model', reason, {
    place: { file, field },
    remedy: 'config.json does not describe a model that can exist: correct it',
  });

function divides(whole: number, part: number, partField: string, wholeField: string, file: string): void {
  if (whole % part !== 0) throw misfit(`${part} does not divide ${wholeField} ${whole}`, partField, file);
}
