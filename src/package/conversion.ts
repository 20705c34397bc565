import { type Conversion, convertCheckpoint, type Initialisation, type LayerReport } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { beginPicture } from '../jobs/index.ts';
import { classifiesPictures, layoutOf } from '../models/families/index.ts';
import {
  type Files,
  isPolynomial,
  type LlamaConfig,
  memoryFiles,
  type Plan,
  parsePlan,
  type VitConfig,
  writeCheckpoint,
} from '../models/index.ts';
import { wordsOf } from '../models/layout.ts';
import { embeddingFile, publicEmbedding } from '../models/public-embedding.ts';
import { type NamedTensor, openSafetensors, readTensor, writeSafetensors } from '../models/safetensors.ts';
import { usualFloat, withFloatBackend } from '../node/float.ts';
import type { Device } from '../node/onnx.ts';
import type { FloatBackend, Tensor } from '../program/index.ts';
import { batches, encodeDocuments, writeTexts } from '../train/index.ts';
import type { LoadedModel } from './model.ts';
import { pixelsOf } from './pictures.ts';
import { writer } from './text.ts';

/** What a model is converted into, and what its fits look at. Nothing is needed for a Llama: it writes its own samples. */
export interface ConvertOptions {
  /** A plan, or the name of one (see parsePlan). Unless told the model's own where it is polynomial, else `full-p8`. */
  readonly plan?: string | Plan | undefined;
  /** Documents that the fits and the calibration look at. Without them the model writes some itself. */
  readonly texts?: readonly string[] | undefined;
  /** The same for a vision transformer: files by path, their bytes, or (C, S, S) preprocessed pixels. It needs some. */
  readonly pictures?: readonly (string | Uint8Array | Float32Array | Float64Array)[] | undefined;
  /** Rows of the fits and the calibration, and their tokens; 16 rows of at most 128 unless told. */
  readonly rows?: number | undefined;
  readonly tokens?: number | undefined;
  /** How the quadratics begin: `direct` is the fit, `scale` and `static` leave more to training. */
  readonly initialisation?: Initialisation | undefined;
  /** What tables allow beyond what calibration saw. */
  readonly margin?: number | undefined;
  /** What the plan is calibrated for, 64 bits with 16 of fraction unless told; without fraction bits, the most that fit. */
  readonly ring?: { readonly bits: number; readonly fraction?: number | undefined } | undefined;
  /** How norms and denominators are evaluated in the ring: read from tables unless told, or the plan, says otherwise. */
  readonly method?: 'table' | 'newton' | undefined;
  /** Scales the heads of a power attention that raise a larger |x| on the calibration data so that it is this. */
  readonly headRange?: number | undefined;
  /** The same of those whose powers sum up to more in a row. */
  readonly headSum?: number | undefined;
  readonly seed?: number | undefined;
  /** Where ONNX Runtime computes; the processor where absent. */
  readonly device?: Device | undefined;
  /** After each layer, with the errors of its fits and the number of layers. */
  readonly onLayer?: ((report: LayerReport, layers: number) => void) | undefined;
  /** Once, where no texts were given and the model begins to write some. */
  readonly onWriting?: (() => void) | undefined;
}

export type { Conversion, LayerReport };

const rowsByDefault = 16;
const tokensByDefault = 128;
const batchRows = 4;

/** Fits and calibrates a model under a plan, untrained: layer by layer on what its converted predecessors produce. */
export async function convertModel(model: LoadedModel, options: ConvertOptions = {}): Promise<Conversion> {
  const { config } = model;
  const own = isPolynomial(model.plan) ? model.plan : 'full-p8';
  const { plan: wanted = own, initialisation = 'direct', margin, ring, method, device = 'cpu', onLayer } = options;
  const plan = typeof wanted === 'string' ? parsePlan(wanted, config, 'plan') : wanted;
  const convert = async (backend: FloatBackend): Promise<Conversion> =>
    convertCheckpoint({
      checkpoint: model.checkpoint,
      plan,
      calibration: classifiesPictures(config)
        ? await calibrationPixels(model, config, options)
        : await calibrationRows(model, writer(model), backend, options),
      backend,
      initialisation,
      ...(margin === undefined ? {} : { margin }),
      ...(ring === undefined ? {} : { ring }),
      method,
      headRange: options.headRange,
      headSum: options.headSum,
      ...(onLayer === undefined ? {} : { progress: (report) => onLayer(report, config.numHiddenLayers) }),
    });
  return await withFloatBackend(usualFloat(), convert, device);
}

/** Writes a conversion as a checkpoint folder with the tokenizer of the model that it was made from. */
export async function writeConversion(
  files: Files,
  conversion: Conversion,
  source: LoadedModel,
  { dtype = 'F32', publishEmbedding = conversion.plan.embedding !== undefined }: WriteOptions = {},
): Promise<void> {
  const { config, tensors } = conversion;
  const companions = source.checkpoint.files;
  if (!publishEmbedding) return await writeCheckpoint(files, { config, tensors, dtype, companions });
  const { bytes, embedding } = await publishTable(source, tensors, dtype);
  const plan = { ...conversion.plan, embedding };
  const extra = { [embeddingFile]: bytes };
  await writeCheckpoint(files, { config: { ...config, sotto: plan }, tensors, dtype, companions, extra });
}

/** How a converted model is stored. */
export interface WriteOptions {
  readonly dtype?: 'F32' | 'F16' | 'BF16';
  /** Gives the table of embeddings to clients, as a file of its own; as the plan says where absent. */
  readonly publishEmbedding?: boolean;
}

/** The table as it is stored, and what the plan says of it. */
async function publishTable(source: LoadedModel, tensors: readonly NamedTensor[], dtype: 'F32' | 'F16' | 'BF16') {
  const words = wordsOf(layoutOf(writer(source)));
  const table = tensors.find(({ name }) => name === words)!;
  const bytes = writeSafetensors([table], { dtype });
  const stored = memoryFiles({ [embeddingFile]: bytes });
  const { tensors: entries } = await openSafetensors(stored, embeddingFile);
  return { bytes, embedding: publicEmbedding(await readTensor(stored, entries.get(words)!)) };
}

/** All pictures, as many a run as divide their number. */
export async function calibrationPixels(
  model: LoadedModel,
  config: VitConfig,
  { pictures = [] }: ConvertOptions,
): Promise<{ pixels: Tensor[] }> {
  if (pictures.length === 0)
    throw new SottoError('usage', 'a vision transformer is calibrated on pictures, and none were given', {
      place: { field: 'pictures' },
      remedy: 'give some pictures of the kind that it names',
    });
  const batch = [4, 3, 2].find((size) => pictures.length % size === 0) ?? 1;
  const count = config.numChannels * config.imageSize ** 2;
  const shape = [batch, config.numChannels, config.imageSize, config.imageSize];
  const pixels: Tensor[] = [];
  for (let start = 0; start < pictures.length; start += batch) {
    const values = new Float32Array(batch * count);
    for (const [at, picture] of pictures.slice(start, start + batch).entries()) {
      const job = beginPicture({ config }, { pixels: await pixelsOf(model, picture) });
      values.set(job.input('pixels').values, at * count);
    }
    pixels.push({ shape, values });
  }
  return { pixels };
}

async function calibrationRows(
  model: LoadedModel,
  config: LlamaConfig,
  backend: FloatBackend,
  options: ConvertOptions,
): Promise<{ rows: Int32Array[]; batch: number }> {
  const { rows: count = rowsByDefault, seed = 0 } = options;
  const wanted = options.tokens ?? Math.min(tokensByDefault, config.maxPositionEmbeddings);
  if (wanted > config.maxPositionEmbeddings)
    throw new SottoError('usage', `rows of ${wanted} tokens for a context of ${config.maxPositionEmbeddings}`, {
      place: { field: 'tokens' },
      remedy: 'calibrate on shorter rows',
    });
  const batch = Math.min(batchRows, count);
  const documents = encodeDocuments(
    options.texts ?? (await ownTexts(model, count, wanted, seed, backend, options)),
    await model.tokenizer(),
  );
  // Little text gives shorter rows, unless their length was asked for.
  const available = documents.reduce((sum, { length }) => sum + length, 0) - 1;
  const tokens = options.tokens ?? Math.max(1, Math.min(wanted, available));
  const batchAt = batches(documents, { batch, tokens, seed });
  const rows = Array.from({ length: Math.ceil(count / batch) }, (_, at) => batchAt(at).ids).flatMap((ids) =>
    Array.from({ length: batch }, (_, row) => ids.slice(row * tokens, (row + 1) * tokens)),
  );
  return { rows, batch };
}

/** What the model writes when it begins from nothing: text of the kind that it was trained on. */
async function ownTexts(
  model: LoadedModel,
  count: number,
  tokens: number,
  seed: number,
  backend: FloatBackend,
  { onWriting }: ConvertOptions,
): Promise<string[]> {
  onWriting?.();
  return await writeTexts(model.checkpoint.files, { texts: 2 * count, length: tokens, temperature: 1, seed, backend });
}
