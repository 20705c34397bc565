import { readFile } from 'node:fs/promises';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import type { PrivateModel, RehearsalSettings } from '../jobs/index.ts';
import { classifiesPictures } from '../models/families/index.ts';
import {
  type Checkpoint,
  companionFiles,
  type Files,
  foldWeights,
  loadWeights,
  type ModelConfig,
  memoryFiles,
  openModelFolder,
  type PixelValues,
  type Plan,
  parsePreprocessor,
  preprocess,
  type Tokenizer,
} from '../models/index.ts';
import { readJson } from '../models/json.ts';
import { isMeasured } from '../models/ranges.ts';
import { folderFiles } from '../node/files.ts';
import { nodePlatform } from '../party/platform.ts';
import { loadImage } from '../pictures/index.ts';
import type { Tensor } from '../program/index.ts';

/** A checkpoint that is ready to be used: settings checked, tokenizer and weights read when they are first needed. */
export interface LoadedModel {
  readonly checkpoint: Checkpoint;
  readonly config: ModelConfig;
  readonly plan: Plan;
  /** Read once. Throws an `input` error where it is missing, malformed or of an unknown kind. */
  tokenizer(): Promise<Tokenizer>;
  /** Published tensors by name: what float backends compute with. */
  weights(): Promise<ReadonlyMap<string, Tensor>>;
  /** Folded tensors by name: what the server of a private run owns. */
  privateWeights(): Promise<ReadonlyMap<string, Tensor>>;
  /** A picture's pixels as the model's preprocessor makes them, (C, S, S). */
  pixels(picture: string | Uint8Array): Promise<PixelValues>;
}

/** Opens a folder in the Hugging Face layout, on disk by its path or any other `Files`. Throws `input` and `model` errors. */
export async function openModel(folder: string | Files): Promise<LoadedModel> {
  const files = typeof folder === 'string' ? folderFiles(folder) : folder;
  const { checkpoint, config, plan, tokenizer } = await openModelFolder(files);
  return {
    checkpoint,
    config,
    plan,
    tokenizer: once(tokenizer),
    weights: once(() => loadWeights(checkpoint, config, plan)),
    privateWeights: once(() => fold(checkpoint, config, plan)),
    pixels: (picture) => readPicture(files, config, picture),
  };
}

/** What was computed once is kept; a failure is not. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () =>
    (made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    }));
}

async function fold(checkpoint: Checkpoint, config: ModelConfig, plan: Plan): Promise<Map<string, Tensor>> {
  const folded = new Map<string, Tensor>();
  for await (const [name, tensor] of foldWeights(config, plan, (tensor) => checkpoint.read(tensor))) folded.set(name, tensor);
  return folded;
}

async function readPicture(files: Files, config: ModelConfig, picture: string | Uint8Array): Promise<PixelValues> {
  const preprocessor = parsePreprocessor(
    await readJson(files, 'preprocessor_config.json', 2 ** 20),
    `${files.name}/preprocessor_config.json`,
  );
  const channels = classifiesPictures(config) ? config.numChannels : 3;
  if (typeof picture !== 'string') return preprocess(await loadImage(picture), preprocessor, channels);
  const bytes = await readFile(picture).catch((cause: unknown) => {
    throw new SottoError('input', 'the picture cannot be read', {
      place: { file: picture },
      remedy: 'name an existing JPEG, PNG or WebP file',
      cause,
    });
  });
  return preprocess(await loadImage(bytes, picture), preprocessor, channels);
}

/** The companions of a checkpoint (tokenizer and the like) as a folder in memory. */
export async function companionsOf(files: Files): Promise<ReturnType<typeof memoryFiles>> {
  const held: Record<string, Uint8Array> = {};
  for (const path of companionFiles) if (await files.exists(path)) held[path] = await files.read(path);
  return memoryFiles(held, files.name);
}

/** A ring program of a model that nobody measured would be wrong without a sign of it. */
export function requireMeasured(model: LoadedModel): void {
  if (isMeasured(model.plan)) return;
  throw new SottoError('range', 'nobody has measured which values this model computes with', {
    place: { file: model.checkpoint.files.name },
    remedy: 'calibrate it first: `sotto calibrate`, or calibrate() of a loaded model',
  });
}

/** What the server of a private run has of a model; its tensors are read when the first of them is needed. */
export const privateModel = (model: LoadedModel): PrivateModel => ({
  config: model.config,
  plan: model.plan,
  weight: async (name) => (await model.privateWeights()).get(name)!,
});

/** Three roles of this process. */
export const rehearsal = (ring: RingParameters, rangeFlags?: boolean): RehearsalSettings => ({
  ring,
  rangeFlags,
  platform: () => nodePlatform(ring.bits),
});
