import { calibrate, convertCheckpoint, vitSubject } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { type Pseudorandom, pseudorandom } from '../math/index.ts';
import { openCheckpoint, writeCheckpoint } from '../models/checkpoint.ts';
import { parseModelConfig, parseVitConfig, type VitConfig } from '../models/config.ts';
import type { Files } from '../models/files.ts';
import { exactPlan, planOf, traceVit } from '../models/index.ts';
import { jsonBytes, readJson } from '../models/json.ts';
import { type Preprocessor, parsePreprocessor } from '../models/preprocess.ts';
import type { PictureSet } from './data/index.ts';
import { adaptedOf, outputsFor, recipePlan } from './distill.ts';
import type { RunFolder } from './folder.ts';
import { floatInputs } from './graft.ts';
import { type Trainer, train, type Weights } from './loop.ts';
import type { LossWeights } from './losses.ts';
import { calibrationPixels, type PictureSplit, pictureSamples, readPictures, splitPictures } from './pictures.ts';
import { namedTensors } from './pretrain.ts';
import type { VisionDistillRecipe, VisionPretrainRecipe, VisionRecipe } from './recipe.ts';
import type { RunOptions } from './run.ts';

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
  const checkpoint = await openCheckpoint(folder.start);
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
  const tensors = namedTensors(result.weights);
  await writeCheckpoint(folder.result, { config: checkpoint.config, tensors, dtype: recipe.dtype, companions: folder.start });
  return result;
}

/** Labels that were mixed are distributions. */
const visionLosses = ({ augmentation }: VisionRecipe, losses: LossWeights): LossWeights =>
  augmentation?.mixup === undefined ? losses : { ...losses, nll: 0, targets: losses.nll ?? 0 };

/** Converts a teacher by the recipe's plan, trains the student beside it, and calibrates what came out. */
async function distillVision(
  recipe: VisionDistillRecipe,
  folder: RunFolder,
  pictures: Pictures,
  options: RunOptions,
): Promise<Trainer> {
  const { set, split } = pictures;
  const { backend } = options;
  const teacherFiles = options.models(recipe.teacher);
  const teacher = await openCheckpoint(teacherFiles);
  const config = await visionConfig(teacherFiles);
  checkPictures(set, config);
  const preprocessor = await readPreprocessor(teacherFiles);
  const { conversion } = recipe;
  const calibration = { pixels: calibrationPixels(set, split, preprocessor, conversion.calibrationRows) };
  if (!(await folder.start.exists('config.json'))) {
    const { initialisation, meanPowerLimit } = conversion;
    const plan = recipePlan(recipe, config);
    const fits = { initialisation, meanPowerLimit, calibrated: false };
    const made = await convertCheckpoint({ checkpoint: teacher, plan, calibration, backend, ...fits });
    await writeCheckpoint(folder.start, { config: made.config, tensors: made.tensors, companions: teacherFiles });
  }
  const converted = await openCheckpoint(folder.start);
  const studentConfig = parseVitConfig(converted.config);
  const plan = planOf(studentConfig);
  const adapted = adaptedOf(recipe, await converted.readAll());
  const { start, frozen } = adapted;
  const outputs = outputsFor(recipe.losses);
  const teacherPlan = planOf(config);
  const rate = (name: string): number => (name.includes('.intermediate.act.') ? recipe.optimiser.coefficientRate : 1);
  const result = await train({
    recipe,
    folder,
    backend,
    student: (batch) => adapted.adapt(traceVit(studentConfig, plan, { batch, outputs })),
    teacher: { program: (batch) => traceVit(config, teacherPlan, { batch, outputs }), weights: await teacher.readAll() },
    losses: visionLosses(recipe, recipe.losses),
    samples: pictureSamples(recipe, set, split, preprocessor, config.labels.length),
    metrics: ['accuracy', 'fidelity'],
    start,
    frozen,
    trained: [...start.keys()].map((name) => ({ name, rate: rate(name) })),
    clock: options.clock,
    progress: options.progress,
    stop: options.stop,
  });
  // An early state may have ranges that no table spans: only a finished run makes a checkpoint.
  if (!result.finished) return result;
  const weights = adapted.merge(result.weights);
  const subject = vitSubject(studentConfig, calibration);
  const calibrated = await calibrate(subject, plan, { weights, backend, margin: conversion.margin });
  await writeCheckpoint(folder.result, {
    config: { ...converted.config, sotto: calibrated },
    tensors: namedTensors(weights),
    dtype: recipe.dtype,
    companions: folder.start,
  });
  return result;
}

async function visionConfig(files: Files): Promise<VitConfig> {
  const checkpoint = await openCheckpoint(files);
  const config = parseModelConfig(checkpoint.config);
  if (config.family === 'vit') return config;
  throw new SottoError('model', `a ${config.family} cannot be distilled on pictures`, {
    place: { file: files.name },
    remedy: 'name a checkpoint of a vision transformer',
  });
}

const readPreprocessor = async (files: Files): Promise<Preprocessor> =>
  parsePreprocessor(await readJson(files, preprocessorFile, 2 ** 20), `${files.name}/${preprocessorFile}`);

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
  const shapes = floatInputs(traceVit(parsed, exactPlan(parsed), { batch: 1 }));
  shapes.delete('pixels');
  const random = pseudorandom(recipe.seed, 1);
  const tensors = [...shapes].map(([name, shape]) => ({ name, shape, values: firstValues(name, shape, model.layers, random) }));
  await writeCheckpoint(folder.start, { config, tensors, extra: { [preprocessorFile]: jsonBytes(preprocessor) } });
}

/**
 * Gains 1, biases 0; matrices normal with variance 1/inputs, those that write into the residual stream less. Positions are as large as
 * 0.3, so that a blank patch's variance is not thousands of times smaller than a full one's: no table of 1/√x spans that.
 */
function firstValues(name: string, shape: readonly number[], layers: number, random: Pseudorandom): Float32Array {
  const length = shape.reduce((product, extent) => product * extent, 1);
  if (shape.length === 1) return new Float32Array(length).fill(name.endsWith('.weight') ? 1 : 0);
  const placed = /(cls_token|position_embeddings)$/.test(name);
  const residual = /\.output\.dense\.weight$/.test(name) ? 1 / Math.sqrt(2 * layers) : 1;
  const deviation = placed ? 0.3 : (residual * Math.sqrt(shape[0]!)) / Math.sqrt(length);
  return Float32Array.from({ length }, () => deviation * random.normal());
}
