import { SottoError } from '../errors/index.ts';
import { curves } from '../lab/plot.ts';
import { estimate } from '../math/index.ts';
import type { OnnxBackend } from '../node/onnx.ts';
import type { Executable, Feed, Program, Step, Tensor } from '../program/index.ts';
import { type FixedInLoop, fixedInLoop } from './fixed.ts';
import { type LogLine, openLog, type RunFolder, readState, writeState } from './folder.ts';
import { type LossOptions, type LossWeights, lossProgram, type Metric, teacherPrefix } from './losses.ts';
import { optimiserStates, type Pass, passes, passStates, schedule, type Trained, trainingStep } from './optimiser.ts';
import type { Recipe } from './recipe.ts';
import type { Samples } from './samples.ts';

/** Milliseconds from any fixed moment on. */
export interface Timer {
  /** Milliseconds; only differences count. */
  now(): number;
}

/** What a run reports after every step. */
export interface Progress {
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  /** Every term of the loss, the gradient's norm, and the last evaluation's figures (`heldOut/…`); with SAM `perturbedLoss` too. */
  readonly figures: Readonly<Record<string, number>>;
  /** Tokens or pictures that the run has learned from each second. */
  readonly unit: Samples['unit'];
  readonly unitsPerSecond: number;
  readonly secondsRemaining: number;
}

/** Tensors by their published names. */
export type Weights = ReadonlyMap<string, Tensor>;
/** Weights that are held, some of them packed. */
type Feeds = ReadonlyMap<string, Feed>;
type Tracing = (batch: number) => Program;
/** What the loop takes from a recipe. */
type Steps = Pick<
  Recipe,
  | 'name'
  | 'batch'
  | 'steps'
  | 'optimiser'
  | 'accumulate'
  | 'checkpoint'
  | 'logGradientNorms'
  | 'checkpointEvery'
  | 'evaluateEvery'
>;

export interface Training {
  readonly recipe: Steps;
  readonly folder: RunFolder;
  readonly backend: OnnxBackend;
  readonly student: Tracing;
  readonly teacher: { readonly program: Tracing; readonly weights: Feeds } | undefined;
  readonly losses: LossWeights;
  /** Rounds the student's values while it trains, and where it is evaluated. */
  readonly quantise?: FixedInLoop | undefined;
  /** Its samples are texts mixed with others, while it trains. */
  readonly mixed?: boolean | undefined;
  readonly samples: Samples;
  /** What is counted on held-back samples beside the losses. */
  readonly metrics?: readonly Metric[];
  readonly start: Weights;
  /** Weights of the student that stay as they are. */
  readonly frozen?: Feeds | undefined;
  readonly trained: readonly Trained[];
  /** Where a run has several stages: the steps before this one and those of all. Batches, states and the log are numbered through. */
  readonly stage?: { readonly before: number; readonly total: number } | undefined;
  readonly clock: Timer;
  readonly progress?: ((progress: Progress) => void) | undefined;
  /** Asked after every step: true saves the state and ends the call early. */
  readonly stop?: ((step: number) => boolean) | undefined;
}

/** A training as it stands after a call: how far it is, and what it has learnt. */
export interface Trainer {
  readonly finished: boolean;
  readonly step: number;
  readonly weights: Map<string, Tensor>;
  readonly log: readonly LogLine[];
}

/**
 * Runs, or continues, the steps of a training. The state on disk is only ever replaced by one whose loss and gradient were numbers;
 * where they are not, throws a `range` error and the last good state stays.
 */
export async function train(training: Training): Promise<Trainer> {
  const { recipe, folder, backend } = training;
  const before = training.stage?.before ?? 0;
  const found = await readState(folder.files);
  // A state at the end of the stage before is where this one's start came from.
  const saved = found !== undefined && found.step > before ? found : undefined;
  const log = await openLog(folder.directory, folder.files, saved?.step ?? before);
  const state = saved?.state ?? firstState(training);
  const losses = inLoop(training, {
    student: training.student(recipe.batch),
    teacher: needsTeacher(training.losses) ? training.teacher?.program(recipe.batch) : undefined,
    losses: training.losses,
    mixed: training.mixed,
  });
  const { optimiser, accumulate, checkpoint, logGradientNorms: partNorms } = recipe;
  const { clip, sam } = optimiser;
  const { trained } = training;
  const program = trainingStep(losses, { trained, optimiser, clip, sam, accumulate, checkpoint, partNorms });
  const bound = new Map([...teacherWeights(training.teacher?.weights), ...(training.frozen ?? [])]);
  const step = await backend.compileStep(program, { state, bound });
  const evaluation = await compileEvaluation(training, bound);
  try {
    const reached = await runSteps(training, { step, evaluation, log, from: (saved?.step ?? before) - before });
    const names = training.trained.map(({ name }) => name);
    const weights = await step.readState(names);
    return { finished: reached === recipe.steps, step: before + reached, weights, log: log.lines };
  } finally {
    await step.close();
    await evaluation?.executable.close();
  }
}

/** Losses, with the student's values rounded where the training asks for it. */
function inLoop({ quantise }: Training, options: LossOptions): Program {
  const program = lossProgram(options);
  return quantise === undefined ? program : fixedInLoop(program, quantise);
}

const needsTeacher = ({ kl, logitMse, hiddenMse, attentionMse }: LossWeights): boolean =>
  [kl, logitMse, hiddenMse, attentionMse].some((weight) => (weight ?? 0) !== 0);

const teacherWeights = (weights: Feeds | undefined): Map<string, Feed> =>
  new Map([...(weights ?? [])].map(([name, tensor]) => [teacherPrefix + name, tensor]));

function firstState({ start, trained, recipe }: Training): Map<string, Tensor> {
  const state = new Map<string, Tensor>();
  for (const { name } of trained) {
    const tensor = start.get(name);
    if (tensor === undefined)
      throw new SottoError('model', 'a trained tensor has no first value', {
        place: { tensor: name },
        remedy: 'check the names',
      });
    state.set(name, tensor);
    const { accumulate, optimiser } = recipe;
    for (const zero of [...optimiserStates(name, optimiser.kind), ...passStates(name, { accumulate, sam: optimiser.sam })])
      state.set(zero, { shape: tensor.shape, values: new Float32Array(tensor.values.length) });
  }
  return state;
}

interface Running {
  readonly step: Step;
  readonly evaluation: Evaluation | undefined;
  readonly log: Awaited<ReturnType<typeof openLog>>;
  readonly from: number;
}

async function runSteps(training: Training, { step, evaluation, log, from }: Running): Promise<number> {
  const { recipe, folder, clock } = training;
  const { optimiser, steps, accumulate = 1 } = recipe;
  const order = passes({ accumulate, sam: optimiser.sam });
  const { before, total } = training.stage ?? { before: 0, total: steps };
  const begin = clock.now();
  const secondsBefore = log.lines.at(-1)?.seconds ?? 0;
  const batches = ahead(training.samples);
  let heldOut: Record<string, number> = {};
  for (let n = from + 1; n <= steps; n++) {
    const rate = optimiser.rate * schedule(n, { steps, warmup: optimiser.warmup, floor: optimiser.floor });
    const scalars = {
      learningRate: rate,
      correction1: 1 / (1 - optimiser.beta1 ** n),
      correction2: 1 / (1 - optimiser.beta2 ** n),
    };
    const runs: Run[] = [];
    for (const [index, pass] of order.entries()) {
      const first = (before + n - 1) * accumulate;
      const feeds = new Map(batches.get(first + pass.micro));
      for (const [name, value] of [...Object.entries(scalars), ...pass.scalars]) feeds.set(name, scalar(value));
      if (!pass.last) feeds.set('learningRate', scalar(0));
      const running = step.run(feeds);
      if (n < steps || !pass.last) batches.prepare(first + (order[index + 1]?.micro ?? accumulate));
      runs.push({ pass, results: await running });
    }
    const figures = stepFigures(runs);
    checkFinite(figures, before + n, folder);
    const stopping = training.stop?.(before + n) ?? false;
    const evaluating = n % recipe.evaluateEvery === 0 || n === steps;
    if (evaluating) heldOut = await evaluate(evaluation, step, training.trained);
    const seconds = (clock.now() - begin) / 1000;
    await log.append({
      step: before + n,
      ...figures,
      ...(evaluating ? heldOut : {}),
      rate,
      seconds: secondsBefore + seconds,
    });
    if (evaluating) await folder.files.write('curves.svg', new TextEncoder().encode(curves(recipe.name, log.lines)));
    if (n % recipe.checkpointEvery === 0 || n === steps || stopping)
      await writeState(folder.files, before + n, await step.readState());
    const done = n - from;
    training.progress?.({
      step: before + n,
      steps: total,
      loss: figures.loss!,
      figures: { ...figures, ...heldOut },
      unit: training.samples.unit,
      unitsPerSecond: (done * accumulate * training.samples.unitsPerBatch) / seconds,
      secondsRemaining: (seconds / done) * (total - before - n),
    });
    if (stopping) return n;
  }
  // A recipe without steps is a conversion alone: its figures are those of the start.
  if (steps === 0 && log.lines.every((line) => line.step !== before))
    await log.append({ step: before, ...(await evaluate(evaluation, step, training.trained)), rate: 0, seconds: secondsBefore });
  return steps;
}

/** Batches by number; the next one is made (pictures decoded, turned, mixed) while the step before it runs in its thread. */
function ahead({ feeds }: Samples) {
  let ready: { index: number; made: () => ReadonlyMap<string, Tensor> } | undefined;
  const get = (index: number): ReadonlyMap<string, Tensor> => (ready?.index === index ? ready.made() : feeds(index));
  /** What goes wrong is told when the batch is asked for. */
  const prepare = (index: number): void => {
    if (ready?.index === index) return;
    try {
      const batch = feeds(index);
      ready = { index, made: () => batch };
    } catch (error) {
      ready = {
        index,
        made: () => {
          throw error;
        },
      };
    }
  };
  return { get, prepare };
}

interface Run {
  readonly pass: Pass;
  readonly results: ReadonlyMap<string, Tensor>;
}

/** Losses are means over the micro-batches at the weights themselves; the gradient's norm is that of the step. */
function stepFigures(runs: readonly Run[]): Record<string, number> {
  const here = runs.filter(({ pass }) => !pass.away);
  const away = runs.filter(({ pass }) => pass.away);
  const mean = (some: readonly Run[], name: string): number =>
    some.reduce((sum, { results }) => sum + results.get(name)!.values[0]! / some.length, 0);
  const figures = Object.fromEntries([...here[0]!.results.keys()].map((name) => [name, mean(here, name)]));
  const { results } = runs.at(-1)!;
  for (const [name, { values }] of results) if (name.startsWith('gradientNorm')) figures[name] = values[0]!;
  return away.length === 0 ? figures : { ...figures, perturbedLoss: mean(away, 'loss') };
}

const scalar = (value: number): Tensor => ({ shape: [], values: Float32Array.of(value) });

function checkFinite(figures: Record<string, number>, step: number, folder: RunFolder): void {
  for (const [name, value] of Object.entries(figures))
    if (!Number.isFinite(value))
      throw new SottoError('range', `${name} is ${value} at step ${step}`, {
        place: { file: folder.directory },
        remedy: 'lower the learning rate or the clipping norm; the last state saved before is intact and can be resumed',
      });
}

interface Evaluation {
  readonly executable: Executable;
  readonly feeds: readonly ReadonlyMap<string, Tensor>[];
}

/** Held-back samples under the student alone, and beside the teacher where there is one. */
async function compileEvaluation(training: Training, bound: Feeds): Promise<Evaluation | undefined> {
  const { backend, samples, metrics } = training;
  const { heldOut } = samples;
  if (heldOut === undefined) return undefined;
  const program = inLoop(training, {
    student: training.student(heldOut.batch),
    teacher: training.teacher?.program(heldOut.batch),
    losses: training.teacher === undefined ? { nll: 1 } : { nll: 1, kl: 1 },
    metrics,
  });
  return { executable: await backend.compile(program, bound), feeds: heldOut.feeds };
}

async function evaluate(
  evaluation: Evaluation | undefined,
  step: Step,
  trained: readonly Trained[],
): Promise<Record<string, number>> {
  if (evaluation === undefined) return {};
  const weights = await step.readState(trained.map(({ name }) => name));
  const samples = new Map<string, number[]>();
  for (const feeds of evaluation.feeds) {
    const results = await evaluation.executable.run(new Map([...feeds, ...weights]));
    for (const [name, { values }] of results) if (name !== 'loss') samples.set(name, [...(samples.get(name) ?? []), values[0]!]);
  }
  return Object.fromEntries(
    [...samples].map(([name, values]) => {
      const { mean } = estimate(values);
      return [`heldOut/${name.slice(name.indexOf('/') + 1)}`, mean];
    }),
  );
}
