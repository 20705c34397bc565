import { type Calibration, convertCheckpoint, widenHeads } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { type Checkpoint, writeCheckpoint } from '../models/checkpoint.ts';
import { type ModelConfig, parseModelConfig } from '../models/config.ts';
import {
  type AttentionPlan,
  blockMatrices,
  coefficientNames,
  defaultEpsilon,
  type LayerPlan,
  openModelFolder,
  type Plan,
  planOf,
} from '../models/index.ts';
import type { Program } from '../program/index.ts';
import { type Base, readBase } from './base.ts';
import { type RunFolder, readStateStep } from './folder.ts';
import { type Trainer, train, type Weights } from './loop.ts';
import { type Adapted, adapters } from './lora.ts';
import type { LossWeights, Metric } from './losses.ts';
import type { DistillRecipe, VisionDistillRecipe } from './recipe.ts';
import { writeResult } from './result.ts';
import type { RunOptions } from './run-options.ts';
import type { Samples } from './samples.ts';

/** A recipe with a teacher. */
export type StudentRecipe = DistillRecipe | VisionDistillRecipe;

/** A teacher, and what its student is made and trained with. */
export interface Distillation {
  readonly recipe: StudentRecipe;
  readonly folder: RunFolder;
  readonly options: RunOptions;
  readonly teacher: Checkpoint;
  readonly calibration: Calibration;
  readonly samples: Samples;
  readonly metrics?: readonly Metric[];
  /** The program of a configuration under a plan, with what the losses look at. */
  readonly trace: (config: ModelConfig, plan: Plan, batch: number, outputs: Outputs) => Program;
  /** The recipe's weights as the samples need them. */
  readonly losses: (weights: LossWeights) => LossWeights;
}

type Outputs = ReturnType<typeof outputsFor>;
type Source = Pick<Checkpoint, 'config' | 'readAll'>;

/**
 * Converts a teacher by the recipe's plan, trains the converted model to say what the teacher says, and calibrates tables and ranges
 * for the weights that came out; with stages converts, trains and converts further. The teacher keeps its exact operations and full
 * precision. A run that stopped goes on in the stage, and at the step, of its last state.
 */
export async function distillation(task: Distillation): Promise<Trainer> {
  const { recipe, folder, teacher } = task;
  const stages = stagesOf(recipe);
  const reached = await readStateStep(folder.files);
  let source: Source | undefined = teacher;
  let before = 0;
  let stopped = false;
  const stop = (step: number): boolean => {
    stopped = task.options.stop?.(step) ?? false;
    return stopped;
  };
  for (const [index, stage] of stages.entries()) {
    const start = folder.stageStart(index);
    const last = index === stages.length - 1;
    if (!last && reached > before + stage.steps) {
      // Its result is the start of the next stage, which is on disk.
      source = undefined;
      before += stage.steps;
      continue;
    }
    if (!(await start.exists('config.json')) && source !== undefined) await convertStart(task, stage, source, index);
    const trained = await trainStage(task, stage, (await openModelFolder(start)).checkpoint, { before, stop });
    // An early state may have ranges that no table spans: only a finished run makes a checkpoint.
    if (last && trained.result.finished) await finish(task, trained);
    if (last || !trained.result.finished) return trained.result;
    if (stopped) return { ...trained.result, finished: false };
    before += stage.steps;
    source = trained.source;
  }
  throw new SottoError('usage', 'the recipe has no stages', { place: { field: 'stages' }, remedy: 'give one at least' });
}

/** The stages as recipes of their own; one that names none has one. */
export function stagesOf(recipe: StudentRecipe): StudentRecipe[] {
  const { stages = [{ steps: recipe.steps }] } = recipe;
  return stages.map((stage) => {
    const conversion = { ...recipe.conversion, ...('conversion' in stage ? stage.conversion : {}) };
    const layers = ('layers' in stage ? stage.layers : undefined) ?? recipe.conversion.layers;
    const { layers: _, ...unplaced } = conversion;
    const given = 'optimiser' in stage && stage.optimiser !== undefined ? stage.optimiser : {};
    const changed = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    return {
      ...recipe,
      steps: stage.steps,
      losses: ('losses' in stage ? stage.losses : undefined) ?? recipe.losses,
      conversion: { ...unplaced, ...(layers === undefined ? {} : { layers }) },
      optimiser: { ...recipe.optimiser, ...changed },
    };
  });
}

async function convertStart(task: Distillation, stage: StudentRecipe, source: Source, index: number): Promise<void> {
  const { folder, options, calibration, teacher } = task;
  const { initialisation, meanPowerLimit, headDim } = stage.conversion;
  const checkpoint = headDim === undefined ? source : await widenHeads(source, headDim, stage.seed);
  const made = await convertCheckpoint({
    checkpoint,
    plan: recipePlan(stage, parseModelConfig(checkpoint.config)),
    calibration,
    backend: options.backend,
    initialisation,
    meanPowerLimit,
    calibrated: false,
    seed: stage.seed,
  });
  await writeCheckpoint(folder.stageStart(index), { config: made.config, tensors: made.tensors, companions: teacher.files });
}

async function trainStage(
  task: Distillation,
  stage: StudentRecipe,
  converted: Checkpoint,
  { before, stop }: { readonly before: number; readonly stop: (step: number) => boolean },
): Promise<Trained> {
  const { recipe, folder, options, teacher } = task;
  const config = parseModelConfig(converted.config);
  const plan = planOf(config);
  const coefficients = coefficientNames(config, plan);
  const adapted = adaptedOf(stage, await readBase(converted, stage.base, blockMatrices(config, plan)), coefficients);
  const { start, frozen } = adapted;
  const outputs = outputsFor(stage.losses);
  const teacherConfig = parseModelConfig(teacher.config);
  const teacherPlan = planOf(teacherConfig);
  const teacherBase = await readBase(teacher, stage.teacherBase, blockMatrices(teacherConfig, teacherPlan));
  const rate = (name: string): number => (coefficients.has(name) ? stage.optimiser.coefficientRate : 1);
  const result = await train({
    recipe: stage,
    folder,
    backend: options.backend,
    student: (batch) => adapted.adapt(task.trace(config, plan, batch, outputs)),
    teacher: {
      program: (batch) => teacherBase.pack(task.trace(teacherConfig, teacherPlan, batch, outputs)),
      weights: teacherBase.tensors,
    },
    losses: task.losses(stage.losses),
    quantise: stage.quantise,
    mixed: 'mixup' in stage && stage.mixup !== undefined,
    samples: task.samples,
    ...(task.metrics === undefined ? {} : { metrics: task.metrics }),
    start,
    frozen,
    trained: [...start.keys()].map((name) => ({ name, rate: rate(name) })),
    stage: { before, total: recipe.steps },
    clock: options.clock,
    progress: options.progress,
    stop,
  });
  return { result, source: { config: converted.config, readAll: async () => unshared(adapted.merge(result.weights)) } };
}

async function finish({ recipe, folder, options, calibration }: Distillation, { result, source }: Trained): Promise<void> {
  const measuring = { calibration, margin: recipe.conversion.margin };
  const { config } = source;
  await writeResult({
    recipe,
    folder,
    backend: options.backend,
    config,
    weights: await source.readAll(),
    log: result.log,
    measuring,
  });
}

interface Trained {
  readonly result: Trainer;
  /** What came out, as a checkpoint that the next stage converts further. */
  readonly source: Source;
}

/** Weights in the arrays that conversion changes in place. */
const unshared = (weights: Weights) =>
  new Map([...weights].map(([name, { shape, values }]) => [name, { shape: [...shape], values: Float32Array.from(values) }]));

/**
 * What is trained: all weights, or adapters and coefficients where the recipe asks for them. Coefficients whose rate is 0 are
 * constants: they cost no gradient.
 */
export function adaptedOf(
  { lora, seed, optimiser }: Pick<StudentRecipe, 'lora' | 'seed' | 'optimiser'>,
  base: Base,
  coefficients: ReadonlySet<string>,
): Adapted {
  const constant = (name: string): boolean => coefficients.has(name) && optimiser.coefficientRate === 0;
  if (lora !== undefined) return adapters(lora, base, { seed, kept: (name) => coefficients.has(name) && !constant(name) });
  const weights = new Map([...base.shapes.keys()].map((name) => [name, base.read(name)]));
  const part = (held: boolean): Weights => new Map([...weights].filter(([name]) => constant(name) === held));
  const frozen = part(true);
  return {
    start: part(false),
    frozen,
    adapt: (program) => program,
    merge: (trained) => new Map([...weights.keys()].map((name) => [name, trained.get(name) ?? frozen.get(name)!])),
  };
}

/** What a model must give for these losses. */
const outputsFor = ({ hiddenMse = 0, attentionMse = 0 }: LossWeights) => [
  'logits' as const,
  ...(hiddenMse === 0 ? [] : ['hidden' as const]),
  ...(attentionMse === 0 ? [] : ['attention' as const]),
];

/** The plan that a recipe's conversion asks for: the last layers, or all, alike; what the model has converted already stays so. */
export function recipePlan({ conversion }: Pick<StudentRecipe, 'conversion'>, config: ModelConfig): Plan {
  const { exponent, activation, degree = 2, form, layers = config.numHiddenLayers } = conversion;
  const attention: AttentionPlan =
    exponent === 0
      ? { kind: 'softmax' }
      : { kind: 'power', exponent, epsilon: defaultEpsilon, ...(form === undefined ? {} : { form }) };
  const wanted: LayerPlan = {
    activation: activation === 'none' ? { kind: 'exact' } : { kind: degree === 2 ? 'quadratic' : 'quartic', per: activation },
    attention,
  };
  // Training changes the table of embeddings: it is no longer the one that was published.
  const { embedding: _, ...known } = planOf(config);
  const first = config.numHiddenLayers - layers;
  const name = `${exponent === 0 ? 'softmax' : `power-${exponent}`}${form === undefined ? '' : ` ${form}`} ${activation}${degree === 2 ? '' : ` degree ${degree}`}${first > 0 ? ` hybrid-${layers}` : ''}`;
  const merged = known.layers.map((own, index): LayerPlan => {
    if (index < first) return own;
    return {
      activation: own.activation.kind === 'exact' ? wanted.activation : own.activation,
      attention: own.attention.kind === 'softmax' ? wanted.attention : own.attention,
    };
  });
  return { ...known, name, layers: merged };
}
