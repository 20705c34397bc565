import { calibrate, convertCheckpoint, llamaSubject } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { type Checkpoint, openCheckpoint, writeCheckpoint } from '../models/checkpoint.ts';
import { type LlamaConfig, type ModelConfig, parseModelConfig } from '../models/config.ts';
import { type AttentionPlan, defaultEpsilon, exactPlan, type LayerPlan, type Plan, planOf, traceLlama } from '../models/index.ts';
import { loadTokenizer } from '../models/tokenizer.ts';
import { batches, type Documents, encodeDocuments } from './data.ts';
import type { RunFolder } from './folder.ts';
import { type Trainer, train, type Weights } from './loop.ts';
import { type Adapted, adapters } from './lora.ts';
import type { LossWeights } from './losses.ts';
import { namedTensors } from './pretrain.ts';
import type { DistillRecipe } from './recipe.ts';
import type { RunOptions, Texts } from './run.ts';
import { textSamples } from './samples.ts';

/**
 * Converts a teacher by the recipe's plan, trains the converted model to say what the teacher says, and calibrates tables and ranges
 * for the weights that came out. The teacher keeps its exact operations and full precision.
 */
export async function distill(recipe: DistillRecipe, folder: RunFolder, texts: Texts, options: RunOptions): Promise<Trainer> {
  const teacherFiles = options.models(recipe.teacher);
  const teacher = await openCheckpoint(teacherFiles);
  const config = llamaConfig(teacher);
  const tokenizer = await loadTokenizer(teacherFiles);
  const documents = encodeDocuments(texts.train, tokenizer);
  if (!(await folder.start.exists('config.json'))) await writeStart(recipe, folder, { teacher, config, documents, options });
  const converted = await openCheckpoint(folder.start);
  const studentConfig = llamaConfig(converted);
  const plan = planOf(studentConfig);
  const adapted = adaptedOf(recipe, await converted.readAll());
  const { start, frozen } = adapted;
  const outputs = outputsFor(recipe.losses);
  const teacherPlan = planOf(config);
  const rate = (name: string): number => (name.includes('.mlp.act.') ? recipe.optimiser.coefficientRate : 1);
  const result = await train({
    recipe,
    folder,
    backend: options.backend,
    student: (batch) => adapted.adapt(traceLlama(studentConfig, plan, { batch, tokens: recipe.context, outputs })),
    teacher: {
      program: (batch) => traceLlama(config, teacherPlan, { batch, tokens: recipe.context, outputs }),
      weights: await teacher.readAll(),
    },
    losses: recipe.losses,
    samples: textSamples(recipe, { train: documents, heldOut: encodeDocuments(texts.heldOut, tokenizer) }),
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
  const subject = llamaSubject(studentConfig, calibrationIds(recipe, documents));
  const { margin } = recipe.conversion;
  const calibrated = await calibrate(subject, plan, { weights, backend: options.backend, margin });
  await writeCheckpoint(folder.result, {
    config: { ...converted.config, sotto: calibrated },
    tensors: namedTensors(weights),
    dtype: recipe.dtype,
    companions: folder.start,
  });
  return result;
}

/** What is trained: all weights, or adapters and coefficients where the recipe asks for them. */
export function adaptedOf({ lora, seed }: Pick<DistillRecipe, 'lora' | 'seed'>, weights: Weights): Adapted {
  if (lora !== undefined) return adapters(lora, weights, { seed, kept: (name) => /\.act\.[abc]$/.test(name) });
  return { start: weights, frozen: new Map(), adapt: (program) => program, merge: (trained) => new Map(trained) };
}

function llamaConfig(checkpoint: Checkpoint): LlamaConfig {
  const config = parseModelConfig(checkpoint.config);
  if (config.family === 'llama') return config;
  throw new SottoError('model', `a ${config.family} cannot be distilled yet`, {
    place: { file: checkpoint.files.name },
    remedy: 'name a llama checkpoint',
  });
}

/** What a model must give for these losses. */
export const outputsFor = ({ hiddenMse = 0, attentionMse = 0 }: LossWeights) => [
  'logits' as const,
  ...(hiddenMse === 0 ? [] : ['hidden' as const]),
  ...(attentionMse === 0 ? [] : ['attention' as const]),
];

/** The plan that a recipe's conversion asks for: the last layers, or all, alike. */
export function recipePlan({ conversion }: Pick<DistillRecipe, 'conversion'>, config: ModelConfig): Plan {
  const { exponent, activation, layers = config.numHiddenLayers } = conversion;
  const attention: AttentionPlan = exponent === 0 ? { kind: 'softmax' } : { kind: 'power', exponent, epsilon: defaultEpsilon };
  const layer: LayerPlan = {
    activation: activation === 'none' ? { kind: 'exact' } : { kind: 'quadratic', per: activation },
    attention,
  };
  const exact = exactPlan(config);
  const first = config.numHiddenLayers - layers;
  const name = `${exponent === 0 ? 'softmax' : `power-${exponent}`} ${activation}${first > 0 ? ` hybrid-${layers}` : ''}`;
  return { ...exact, name, layers: exact.layers.map((own, index) => (index < first ? own : layer)) };
}

/** Rows of training text, spread by the recipe's seed, at the recipe's full context. */
function calibrationIds(recipe: DistillRecipe, documents: Documents) {
  const { batch, context, seed, conversion } = recipe;
  const size = Math.min(batch, conversion.calibrationRows, 4);
  const batchAt = batches(documents, { batch: size, tokens: context, seed: seed + 1 });
  const rows = Array.from({ length: Math.floor(conversion.calibrationRows / size) }, (_, at) => batchAt(at).ids).flatMap((ids) =>
    Array.from({ length: size }, (_, i) => ids.slice(i * context, (i + 1) * context)),
  );
  return { rows, batch: size };
}

interface Start {
  readonly teacher: Checkpoint;
  readonly config: LlamaConfig;
  readonly documents: Documents;
  readonly options: RunOptions;
}

async function writeStart(
  recipe: DistillRecipe,
  folder: RunFolder,
  { teacher, config, documents, options }: Start,
): Promise<void> {
  const { initialisation, meanPowerLimit } = recipe.conversion;
  const conversion = await convertCheckpoint({
    checkpoint: teacher,
    plan: recipePlan(recipe, config),
    calibration: calibrationIds(recipe, documents),
    backend: options.backend,
    initialisation,
    meanPowerLimit,
    calibrated: false,
  });
  await writeCheckpoint(folder.start, { config: conversion.config, tensors: conversion.tensors, companions: teacher.files });
}
