import { SottoError } from '../errors/index.ts';
import type { PictureSet } from '../lab/data/index.ts';
import { pseudorandom } from '../math/index.ts';
import { writeCheckpoint } from '../models/checkpoint.ts';
import { folderClasses } from '../models/class-names.ts';
import { parseVitConfig, type VitConfig } from '../models/config.ts';
import { classifiesPictures } from '../models/families/index.ts';
import type { Files } from '../models/files.ts';
import { exactPlan, firstWeights, openModelFolder, traceVit } from '../models/index.ts';
import { jsonBytes, readJson } from '../models/json.ts';
import { type Preprocessor, parsePreprocessor } from '../models/preprocess.ts';
import type { RunFolder } from './folder.ts';
import { type Trainer, train, type Weights } from './loop.ts';
import type { LossWeights } from './losses.ts';
import { calibrationPictures, type PictureSplit, pictureSamples, readPictures, splitPictures } from './pictures.ts';
import type { VisionDistillRecipe, VisionPretrainRecipe, VisionRecipe } from './recipe.ts';
import { writeResult } from './result.ts';
import type { RunOptions } from './run-options.ts';
import { distillation } from './stages.ts';

const preprocessorFile = 'preprocessor_config.json';
type Work = (folder: RunFolder) => Promise<Trainer>;

/** Reads the pictures, and the teacher's sizes where there is one; gives what trains on them. */
export async function runVision(recipe: VisionRecipe, options: RunOptions): Promise<Work> {
  const folder = options.pictures;
  if (folder === undefined)
    throw new SottoError('usage', 'the recipe learns from pictures, and no folder of pictures is named', {
      place: { field: 'pictures' },
      remedy: 'name the data folder',
    });
  const side = recipe.kind === 'vision-distill' ? (await visionConfig(options.models(recipe.teacher))).imageSize : undefined;
  const set = await readPictures(recipe.data, folder, side);
  const split = splitPictures(set.count, recipe.data);
  return (at) =>
    recipe.kind === 'vision-pretrain'
      ? pretrainVision(recipe, at, { set, split }, options)
      : distillVision(recipe, at, { set, split }, options);
}

interface Pictures {
  readonly set: PictureSet;
  readonly split: PictureSplit;
}

/** A small vision transformer from random weights, on cross-entropy. */
async function pretrainVision(
  recipe: VisionPretrainRecipe,
  folder: RunFolder,
  pictures: Pictures,
  options: RunOptions,
): Promise<Trainer> {
  const { set, split } = pictures;
  if (!(await folder.start.exists('config.json'))) await writeFirst(recipe, folder, set);
  const { checkpoint } = await openModelFolder(folder.start);
  const config = parseVitConfig(checkpoint.config);
  const start: Weights = await checkpoint.readAll();
  const result = await train({
    recipe,
    folder,
    backend: options.backend,
    student: (batch) => traceVit(config, exactPlan(config), { batch }),
    teacher: undefined,
    losses: visionLosses(recipe, { nll: 1 }),
    samples: pictureSamples(recipe, set, split, await readPreprocessor(folder.start), config.labels.length),
    metrics: ['accuracy'],
    start,
    trained: [...start.keys()].map((name) => ({ name, rate: 1 })),
    clock: options.clock,
    progress: options.progress,
    stop: options.stop,
  });
  if (!result.finished) return result;
  const { weights, log } = result;
  await writeResult({ recipe, folder, backend: options.backend, config: checkpoint.config, weights, log });
  return result;
}

/** Labels that were mixed are distributions. */
const visionLosses = ({ augmentation }: VisionRecipe, losses: LossWeights): LossWeights =>
  augmentation?.mixup === undefined ? losses : { ...losses, nll: 0, targets: losses.nll ?? 0 };

/** Distils a vision transformer on pictures; see `distillation`. */
async function distillVision(
  recipe: VisionDistillRecipe,
  folder: RunFolder,
  { set: read, split }: Pictures,
  options: RunOptions,
): Promise<Trainer> {
  const teacherFiles = options.models(recipe.teacher);
  const config = await visionConfig(teacherFiles);
  checkPictures(read, config);
  const set = inClassesOf(read, config);
  const preprocessor = await readPreprocessor(teacherFiles);
  return distillation({
    recipe,
    folder,
    options,
    teacher: (await openModelFolder(teacherFiles)).checkpoint,
    calibration: calibrationPictures(set, split, preprocessor, recipe.conversion.calibrationRows),
    samples: pictureSamples(recipe, set, split, preprocessor, config.labels.length),
    metrics: ['accuracy', 'fidelity'],
    trace: (own, plan, batch, outputs) => traceVit(own as VitConfig, plan, { batch, outputs }),
    losses: (weights) => visionLosses(recipe, weights),
  });
}

async function visionConfig(files: Files): Promise<VitConfig> {
  const { config } = await openModelFolder(files);
  if (classifiesPictures(config)) return config;
  throw new SottoError('model', `a ${config.family} cannot be distilled on pictures`, {
    place: { file: files.name },
    remedy: 'name a checkpoint of a vision transformer',
  });
}

const readPreprocessor = async (files: Files): Promise<Preprocessor> =>
  parsePreprocessor(await readJson(files, preprocessorFile, 2 ** 20), `${files.name}/${preprocessorFile}`);

/** The pictures with the numbers that the teacher gives their classes. */
function inClassesOf(set: PictureSet, { labels }: VitConfig): PictureSet {
  const classes = folderClasses('data', set.classes, labels);
  return { ...set, labels: set.labels.map((label) => classes[label]!), classes: labels };
}

function checkPictures(set: PictureSet, config: VitConfig): void {
  const problem =
    set.channels !== config.numChannels
      ? `the pictures have ${set.channels} channels, the teacher takes ${config.numChannels}`
      : set.classes.length > config.labels.length
        ? `the pictures have ${set.classes.length} classes, the teacher ${config.labels.length}`
        : undefined;
  if (problem === undefined) return;
  throw new SottoError('input', problem, { place: { field: 'data' }, remedy: 'name the data that the teacher was trained for' });
}

async function writeFirst(recipe: VisionPretrainRecipe, folder: RunFolder, set: PictureSet): Promise<void> {
  const { model, normalise } = recipe;
  if (set.width !== set.height || set.width % model.patchSize !== 0)
    throw new SottoError('input', `patches of ${model.patchSize} do not tile pictures of ${set.width} × ${set.height}`, {
      place: { field: 'model.patchSize' },
      remedy: 'choose a size that divides, and square pictures',
    });
  if (model.hiddenSize % model.heads !== 0)
    throw new SottoError('input', `${model.heads} heads do not divide the hidden size ${model.hiddenSize}`, {
      place: { field: 'model.heads' },
      remedy: 'choose sizes that divide',
    });
  const names = Object.fromEntries(set.classes.map((name, id) => [String(id), name]));
  const config = {
    architectures: ['ViTForImageClassification'],
    model_type: 'vit',
    hidden_size: model.hiddenSize,
    intermediate_size: model.intermediateSize,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    hidden_act: model.activation,
    layer_norm_eps: model.normEpsilon,
    image_size: set.width,
    patch_size: model.patchSize,
    num_channels: set.channels,
    qkv_bias: true,
    id2label: names,
    label2id: Object.fromEntries(set.classes.map((name, id) => [name, id])),
    torch_dtype: 'float32',
  };
  const preprocessor = {
    image_processor_type: 'ViTImageProcessor',
    do_resize: true,
    size: { height: set.height, width: set.width },
    resample: 2,
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: normalise.mean,
    image_std: normalise.deviation,
  };
  const parsed = parseVitConfig(config);
  const random = pseudorandom(recipe.seed, 1);
  const tensors = firstWeights(parsed, exactPlan(parsed), () => random.normal());
  await writeCheckpoint(folder.start, { config, tensors, extra: { [preprocessorFile]: jsonBytes(preprocessor) } });
}
