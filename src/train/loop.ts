import { SottoError } from '../errors/index.ts';
import { estimate } from '../math/index.ts';
import type { OnnxBackend, Step } from '../node/onnx.ts';
import type { Executable, Program, Tensor } from '../program/index.ts';
import type { Documents } from './data.ts';
import { batches, batchFeeds } from './data.ts';
import { type LogLine, openLog, type RunFolder, readState, writeState } from './folder.ts';
import { type LossWeights, lossProgram, teacherPrefix } from './losses.ts';
import { optimiserStates, schedule, type Trained, trainingStep } from './optimiser.ts';
import type { Recipe } from './recipe.ts';

/** Milliseconds from any fixed moment on. */
export interface Timer {
  now(): number;
}

/** What a run reports after every step. */
export interface Progress {
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  /** Every term of the loss, the gradient's norm, and the last evaluation's figures (`heldOut/…`). */
  readonly figures: Readonly<Record<string, number>>;
  readonly tokensPerSecond: number;
  readonly secondsRemaining: number;
}

export type Weights = ReadonlyMap<string, Tensor>;
type Tracing = (shape: { batch: number; tokens: number }) => Program;

export interface Training {
  readonly recipe: Recipe;
  readonly folder: RunFolder;
  readonly backend: OnnxBackend;
  readonly student: Tracing;
  readonly teacher: { readonly program: Tracing; readonly weights: Weights } | undefined;
  readonly losses: LossWeights;
  readonly train: Documents;
  readonly heldOut: Documents;
  readonly start: Weights;
  readonly trained: readonly Trained[];
  readonly clock: Timer;
  readonly progress?: ((progress: Progress) => void) | undefined;
  /** Asked after every step: true saves the state and ends the call early. */
  readonly stop?: ((step: number) => boolean) | undefined;
}

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
  const saved = await readState(folder.files);
  const log = await openLog(folder.directory, folder.files, saved?.step ?? 0);
  const state = saved?.state ?? firstState(training);
  const shape = { batch: recipe.batch, tokens: recipe.context };
  const losses = lossProgram({
    student: training.student(shape),
    teacher: needsTeacher(training.losses) ? training.teacher?.program(shape) : undefined,
    losses: training.losses,
  });
  const program = trainingStep(losses, { trained: training.trained, optimiser: recipe.optimiser, clip: recipe.optimiser.clip });
  const bound = teacherWeights(training.teacher?.weights);
  const step = await backend.compileStep(program, { state, bound });
  const evaluation = await compileEvaluation(training, bound);
  try {
    const reached = await runSteps(training, { step, evaluation, log, from: saved?.step ?? 0 });
    const names = training.trained.map(({ name }) => name);
    const weights = await step.readState(names);
    return { finished: reached === recipe.steps, step: reached, weights, log: log.lines };
  } finally {
    await step.close();
    await evaluation?.executable.close();
  }
}

const needsTeacher = ({ kl, logitMse, hiddenMse, attentionMse }: LossWeights): boolean =>
  [kl, logitMse, hiddenMse, attentionMse].some((weight) => (weight ?? 0) !== 0);

const teacherWeights = (weights: Weights | undefined): Map<string, Tensor> =>
  new Map([...(weights ?? [])].map(([name, tensor]) => [teacherPrefix + name, tensor]));

function firstState({ start, trained }: Training): Map<string, Tensor> {
  const state = new Map<string, Tensor>();
  for (const { name } of trained) {
    const tensor = start.get(name);
    if (tensor === undefined)
      throw new SottoError('model', 'a trained tensor has no first value', {
        place: { tensor: name },
        remedy: 'check the names',
      });
    state.set(name, tensor);
    for (const moment of optimiserStates(name))
      state.set(moment, { shape: tensor.shape, values: new Float32Array(tensor.values.length) });
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
  const { optimiser, steps, batch, context } = recipe;
  const batchAt = batches(training.train, { batch, tokens: context, seed: recipe.seed });
  const begin = clock.now();
  let heldOut: Record<string, number> = {};
  for (let n = from + 1; n <= steps; n++) {
    const rate = optimiser.rate * schedule(n, { steps, warmup: optimiser.warmup, floor: optimiser.floor });
    const feeds = batchFeeds(batchAt(n - 1));
    feeds.set('learningRate', scalar(rate));
    feeds.set('correction1', scalar(1 / (1 - optimiser.beta1 ** n)));
    feeds.set('correction2', scalar(1 / (1 - optimiser.beta2 ** n)));
    const results = await step.run(feeds);
    const figures = Object.fromEntries([...results].map(([name, { values }]) => [name, values[0]!]));
    checkFinite(figures, n, folder);
    const stopping = training.stop?.(n) ?? false;
    if (n % recipe.evaluateEvery === 0 || n === steps) heldOut = await evaluate(evaluation, step, training.trained);
    const seconds = (clock.now() - begin) / 1000;
    await log.append({ step: n, ...figures, ...(n % recipe.evaluateEvery === 0 || n === steps ? heldOut : {}), rate, seconds });
    if (n % recipe.checkpointEvery === 0 || n === steps || stopping) await writeState(folder.files, n, await step.readState());
    const done = n - from;
    training.progress?.({
      step: n,
      steps,
      loss: figures.loss!,
      figures: { ...figures, ...heldOut },
      tokensPerSecond: (done * batch * context) / seconds,
      secondsRemaining: (seconds / done) * (steps - n),
    });
    if (stopping) return n;
  }
  return steps;
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
  readonly feeds: Map<string, Tensor>[];
}

/** Held-back text under the student alone, and beside the teacher where there is one; rows of one document's begin or middle. */
async function compileEvaluation(training: Training, bound: Weights): Promise<Evaluation | undefined> {
  const { recipe, backend } = training;
  const tokens = recipe.context;
  const total = training.heldOut.reduce((sum, document) => sum + document.length, 0);
  const batch = Math.min(recipe.batch, Math.floor(total / (2 * tokens)));
  if (batch === 0) return undefined;
  const rows = Math.min(recipe.evaluateRows, Math.floor(total / tokens));
  const shape = { batch, tokens };
  const program = lossProgram({
    student: training.student(shape),
    teacher: training.teacher?.program(shape),
    losses: training.teacher === undefined ? { nll: 1 } : { nll: 1, kl: 1 },
  });
  const batchAt = batches(training.heldOut, { batch, tokens, seed: recipe.seed });
  const feeds = Array.from({ length: Math.max(1, Math.floor(rows / batch)) }, (_, i) => batchFeeds(batchAt(i)));
  return { executable: await backend.compile(program, bound), feeds };
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
    for (const [name, { values }] of results)
      if (name.startsWith('loss/')) samples.set(name, [...(samples.get(name) ?? []), values[0]!]);
  }
  return Object.fromEntries(
    [...samples].map(([name, values]) => {
      const { mean } = estimate(values);
      return [`heldOut/${name.slice('loss/'.length)}`, mean];
    }),
  );
}
