import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { checkFields, type FieldGroup, printableField } from './fields.ts';
import { isObject } from './json.ts';
import type { RopeScaling } from './rope-config.ts';

/** Activations by their published names; `swish` is read as `silu`. */
export const activationNames = ['silu', 'gelu', 'gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', 'quick_gelu', 'relu'] as const;
/** The published name of an activation that sotto knows. */
export type ActivationName = (typeof activationNames)[number];

/** A model that writes, as config.json describes it: sizes in elements, angles of the rotary embedding, and how a text ends. */
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

/** A vision transformer, as config.json describes it: sizes in elements and pixels, and the names of its classes. */
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

/**
 * An encoder of texts, as config.json describes it: sizes in elements, how positions are counted, and the names of its classes.
 */
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
/** A size from 1 to a limit. */
export const extent = (limit: number) => z.number().int().min(1).max(limit);
export const width = extent(2 ** 17);
export const layers = extent(1024);
export const epsilon = z.number().gt(0).max(0.1);
export const tokenId = z
  .number()
  .int()
  .min(0)
  .max(2 ** 22);
export const activation = z.preprocess((name) => (name === 'swish' ? 'silu' : name), z.enum(activationNames));
/** Python's None is written as null where a default applies. */
export const orDefault = <T extends z.ZodType>(schema: T, value: z.output<T>) =>
  schema.nullish().transform((given) => (given ?? value) as z.output<T>);

/** The key of a plan in config.json, not yet checked. */
export const planIn = (raw: unknown): unknown => (raw as Record<string, unknown>).sotto;

/** Class names by class id, or as many numbered ones as there are classes. label2id, where `raw` has it, must be the inverse of id2label. */
export function readLabels(
  raw: unknown,
  { id2label: byId, num_labels: count }: { readonly id2label?: unknown; readonly num_labels?: number | null | undefined },
  file: string,
): string[] {
  if (!isObject(byId)) return Array.from({ length: count ?? 2 }, (_, id) => `LABEL_${id}`);
  const labels = Array.from({ length: Object.keys(byId).length }, (_, id) => {
    const label = Object.hasOwn(byId, String(id)) ? byId[String(id)] : undefined;
    if (typeof label !== 'string')
      throw misfit(`the class ${id} has no name, though there are names of later ones`, 'id2label', file);
    return label;
  });
  if (count != null && count !== labels.length)
    throw misfit(`${count} classes where id2label names ${labels.length}`, 'num_labels', file);
  checkInverse((raw as Record<string, unknown>).label2id ?? null, labels, file);
  return labels;
}

/** label2id gives every name of id2label an id of that name, and no other name. */
function checkInverse(given: unknown, labels: readonly string[], file: string): void {
  if (given === null) return;
  const ids = isObject(given) ? given : {};
  const agrees =
    Object.entries(ids).every(([label, id]) => labels[Number(id)] === label) &&
    labels.every((label) => Object.hasOwn(ids, label));
  if (!agrees) throw misfit('the field and id2label name the classes in different ways', 'label2id', file);
}

/** What of a configuration is taken: beside the fields that a schema reads. */
export interface Taken {
  /** Fields that no schema holds, and that are used all the same. */
  readonly others: readonly string[];
  /** Fields that are read over. */
  readonly neutral: readonly FieldGroup[];
  /** The published classes that a definition is of, by `model_type`, the usual type first. One of another name may read the same tensors in another way. */
  readonly architectures: Readonly<Record<string, readonly string[]>>;
}

/** Reads what a family uses of config.json; every other field must be one that is read over, or is refused by its name. */
export function checked<T extends z.ZodObject>(schema: T, raw: unknown, file: string, taken: Taken): z.output<T> {
  if (isObject(raw)) {
    const used = new Set(['model_type', 'architectures', 'sotto', ...Object.keys(schema.shape), ...taken.others]);
    checkFields(raw, used, taken.neutral, file);
    const usual = Object.keys(taken.architectures)[0]!;
    checkArchitectures(raw.architectures, taken.architectures, typeof raw.model_type === 'string' ? raw.model_type : usual, file);
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

function checkArchitectures(given: unknown, architectures: Taken['architectures'], type: string, file: string): void {
  if (given === null || given === undefined) return;
  const taken = Object.hasOwn(architectures, type) ? architectures[type]! : [];
  if (Array.isArray(given) && given.every((name) => taken.includes(name))) return;
  throw new SottoError('model', `of a ${printableField(type)}, only ${taken[0]} is supported`, {
    place: { file, field: 'architectures' },
    remedy: `take a checkpoint that was saved as ${taken[0]}`,
  });
}

export const misfit = (reason: string, field: string, file: string) =>
  new SottoError('model', reason, {
    place: { file, field },
    remedy: 'config.json does not describe a model that can exist: correct it',
  });

export function divides(whole: number, part: number, partField: string, wholeField: string, file: string): void {
  if (whole % part !== 0) throw misfit(`${part} does not divide ${wholeField} ${whole}`, partField, file);
}
