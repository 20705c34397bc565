import { SottoError } from '../errors/index.ts';
import { same } from '../program/index.ts';
import { type Checkpoint, type LoadedTensor, openCheckpoint } from './checkpoint.ts';
import type { ModelConfig } from './configuration.ts';
import { isFloat } from './dtypes.ts';
import { classifiesPictures, familyOf, layoutOf, parseModelConfig } from './families/index.ts';
import { printableField } from './fields.ts';
import { type Files, fileLabel } from './files.ts';
import { type Plan, planOf } from './plan.ts';
import { loadTokenizer, type Tokenizer } from './tokenizer.ts';
import { withinVocabulary } from './vocabulary.ts';
import { weightShapes } from './weights.ts';

/** A model as its folder describes it. */
export interface ModelFolder {
  /** With the tensors that the model reads, and no others. */
  readonly checkpoint: Checkpoint;
  readonly config: ModelConfig;
  readonly plan: Plan;
  /** The folder's tokenizer, which gives no token beyond the model's vocabulary. */
  tokenizer(): Promise<Tokenizer>;
}

/**
 * Opens a folder whole or not at all: every field of config.json is used, is one of those that docs/checkpoints.md lists as read over, or
 * is refused by its name; so is every tensor. Everything that computes with a model opens it here. Throws `input` and `model` errors.
 */
export async function openModelFolder(files: Files): Promise<ModelFolder> {
  await refuseCompanions(files);
  const checkpoint = await openCheckpoint(files);
  const file = fileLabel(files, 'config.json');
  const config = parseModelConfig(checkpoint.config, file);
  const plan = planOf(config, file);
  const read = weightShapes(config, plan);
  await checkTensors(checkpoint, config, read);
  const names = checkpoint.names().filter((name) => read.has(name));
  return {
    checkpoint: {
      ...checkpoint,
      names: () => [...names],
      has: (name) => read.has(name),
      async readAll() {
        const all = new Map<string, LoadedTensor>();
        for (const name of names) all.set(name, { shape: checkpoint.shape(name), values: await checkpoint.read(name) });
        return all;
      },
    },
    config,
    plan,
    tokenizer: async () => withinVocabulary(await loadTokenizer(files), classifiesPictures(config) ? Infinity : config.vocabSize),
  };
}

/** Files beside a model that make another one of it for published readers. */
const otherModels: readonly [path: string, reason: string, remedy: string][] = [
  [
    'adapter_config.json',
    'an adapter stands beside the model, and published readers apply it',
    'merge the adapter into its model and save it whole, or remove it from the folder',
  ],
  ...['quantize_config.json', 'quant_config.json', 'hf_quant_config.json'].map((path): [string, string, string] => [
    path,
    'the weights are quantised, and sotto does not dequantise',
    'take the checkpoint in float32, float16 or bfloat16',
  ]),
];

async function refuseCompanions(files: Files): Promise<void> {
  for (const [path, reason, remedy] of otherModels)
    if (await files.exists(path)) throw new SottoError('model', reason, { place: { file: fileLabel(files, path) }, remedy });
}

/** What the names of tensors that nobody reads tend to mean. */
const leftovers: readonly [pattern: RegExp, reason: string, remedy: string][] = [
  [
    /(qweight|qzeros|g_idx|scales?|scale_inv|zeros?|zero_point|absmax|quant_map|quant_state.*|SCB|weight_format|weight_packed|weight_shape|W_q|codebooks?|codes)$/,
    'it belongs to a quantised matrix, and sotto does not dequantise',
    'take the checkpoint in float32, float16 or bfloat16',
  ],
  [/lora_|adapter/i, 'it belongs to an adapter that is not merged', 'merge the adapter into its model and save it whole'],
  [
    /\.bias$/,
    'config.json describes a model without this bias',
    'correct config.json, or take the checkpoint that it belongs to',
  ],
];

async function checkTensors(
  checkpoint: Checkpoint,
  config: ModelConfig,
  read: ReadonlyMap<string, readonly number[]>,
): Promise<void> {
  const refuse = (tensor: string, reason: string, remedy = 'check that config.json and its plan describe these weights') =>
    new SottoError('model', reason, { place: { file: checkpoint.files.name, tensor: printableField(tensor) }, remedy });
  for (const name of checkpoint.names()) {
    if (read.has(name) || isNeutral(name, config)) continue;
    if (await isTiedHead(name, checkpoint, config)) continue;
    const [, reason, remedy] = leftovers.find(([pattern]) => pattern.test(name)) ?? [];
    throw refuse(name, reason ?? 'the model that config.json describes does not read this tensor', remedy);
  }
  for (const [name, shape] of read) {
    if (!checkpoint.has(name))
      throw refuse(
        name,
        'the checkpoint has no such tensor',
        'check that config.json and its plan describe these weights; `sotto convert` adds what a polynomial plan needs',
      );
    const stored = checkpoint.shape(name);
    if (!same(stored, shape)) throw refuse(name, `shape [${stored}] where the configuration asks for [${shape}]`);
    const dtype = checkpoint.dtype(name);
    if (!isFloat(dtype))
      throw refuse(name, `values of type ${dtype} are codes, not weights`, 'take the checkpoint in float32, float16 or bfloat16');
  }
}

function isNeutral(tensor: string, config: ModelConfig): boolean {
  const type = 'layout' in config ? config.layout : config.family;
  return familyOf(config).unread.some(({ name, types }) => name.test(tensor) && types?.includes(type) !== false);
}

/** A head that is tied to the embeddings may stand in the file as well, as long as it is the same. */
async function isTiedHead(name: string, checkpoint: Checkpoint, config: ModelConfig): Promise<boolean> {
  const { tied, embedding } = layoutOf(config);
  if (name !== tied || embedding.kind !== 'tokens' || !checkpoint.has(embedding.words)) return false;
  if (await checkpoint.same(name, embedding.words)) return true;
  throw new SottoError('model', 'it differs from the embeddings that config.json ties it to', {
    place: { file: checkpoint.files.name, tensor: name },
    remedy: 'set tie_word_embeddings to what the model was trained with',
  });
}
