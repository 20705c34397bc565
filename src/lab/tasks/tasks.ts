import { SottoError } from '../../errors/index.ts';
import { attentionReach } from '../../evaluate/attention.ts';
import type { Layered, LayerSamples } from '../../evaluate/layered.ts';
import { compareLayers } from '../../evaluate/layers.ts';
import { logLikelihoods } from '../../evaluate/likelihood.ts';
import type { Metrics } from '../../evaluate/metric.ts';
import type { PictureModel, TextModel, Watch } from '../../evaluate/model.ts';
import { documentLosses, givenLoss, readDocuments, scorePerplexity } from '../../evaluate/perplexity.ts';
import { type Row, readRows } from '../../evaluate/rows.ts';
import { compareTexts, type LabelledPicture, scorePictures } from '../../evaluate/teacher.ts';
import type { FloatBackend } from '../../program/index.ts';
import {
  type ChoiceTask,
  choiceFormats,
  choiceLikelihoods,
  givenLikelihood,
  givenLikelihoods,
  lambadaRequest,
  scoreChoices,
  scoreLambada,
} from './choices.ts';
import { outputOf, readCompletions } from './completions.ts';
import { scoreWritten, writeAfter, writtenQuestion, writtenStops } from './generative.ts';
import { evaluateGlue, type GlueExample, type GlueModel, type GlueTask } from './glue.ts';
import { codeCompletion, codeStops, codeTask, runCode, scoreCode } from './humaneval.ts';
import type { JudgeOptions } from './judge.ts';
import { answerTurns, judgeAll, judgePrompts, scoreRatings, turnsOf, twoTurns } from './mt-bench.ts';
import { PythonSandbox } from './sandbox.ts';
import { readHypotheses, readTranslations, scoreTranslations, translateAll } from './translation.ts';

/** What a task may ask for. Models and pictures are made when they are first asked for; asking for what was not given throws. */
export interface TaskSources {
  readonly data: string;
  readonly completions?: string | undefined;
  readonly references: readonly string[];
  readonly limit: number;
  readonly window?: number | undefined;
  readonly stride?: number | undefined;
  readonly judge?: JudgeOptions | undefined;
  readonly judgePrompts?: string | undefined;
  readonly watch: Watch;
  /** Whether the model names pictures. */
  seesPictures(): Promise<boolean>;
  /** The model under evaluation, as one that writes; a `model` error where it does not. */
  text(): Promise<TextModel>;
  /** The model that it is compared with; a `usage` error where none was named. */
  teacherText(): Promise<TextModel>;
  /** A classifier of pictures, the one that it is compared with, and labelled pictures. */
  pictures(): Promise<{ model: PictureModel; teacher?: PictureModel | undefined; pictures: readonly LabelledPicture[] }>;
  /** The labelled rows of a GLUE task, and a classifier of texts. */
  glue(task: GlueTask): Promise<{ model: GlueModel; examples: readonly GlueExample[] }>;
  /** The attention of every layer on samples, in the clear. */
  attention(): Promise<{ model: Layered; samples: LayerSamples; backend: FloatBackend }>;
  /** What every layer gives on samples, beside the teacher's; a `usage` error where no teacher was named. */
  layers(): Promise<{ student: Layered; teacher: Layered; samples: LayerSamples; backend: FloatBackend }>;
}

/** What a task found. */
export interface TaskResult {
  readonly metrics: Metrics;
  /** Rows, texts or pictures. */
  readonly samples: number;
  /** What else the figures depend on. */
  readonly settings?: Readonly<Record<string, string | number>>;
}
type Task = (sources: TaskSources) => Promise<TaskResult>;

const choiceTask =
  (name: ChoiceTask): Task =>
  async ({ data, completions, limit, watch, text }) => {
    const all = await dataRows({ data, completions, limit });
    const rows = all.slice(0, limit);
    const questions = rows.map(choiceFormats[name]);
    if (completions === undefined) {
      const likelihoods = await choiceLikelihoods(await text(), questions, watch);
      return { metrics: scoreChoices(name, questions, likelihoods), samples: rows.length };
    }
    const { given, by } = await readCompletions(all, completions, { limit });
    const likelihoods = given.map(([own], index) => givenLikelihoods(questions[index]!, own!));
    return { metrics: scoreChoices(name, questions, likelihoods), samples: rows.length, settings: { joined_by: by } };
  };

/** The rows of the data: those that the limit leaves, or all where given outputs are joined with them. */
const dataRows = ({ data, completions, limit }: Pick<TaskSources, 'data' | 'completions' | 'limit'>): Promise<Row[]> =>
  readRows(data, completions === undefined ? limit : Number.POSITIVE_INFINITY);

/** The outputs of each row, and how given ones were joined. */
interface Outputs<T> {
  readonly made: T[][];
  readonly settings: { readonly joined_by?: string };
}

/** The given outputs of the first rows, or those that `write` makes with the model. */
async function outputs<T>(
  { completions, limit, text, watch }: TaskSources,
  all: readonly Row[],
  { given, write, several = false }: Output<T>,
): Promise<Outputs<T>> {
  if (completions !== undefined) {
    const joined = await readCompletions(all, completions, { limit, several });
    return { made: joined.given.map((own) => own.map(given)), settings: { joined_by: joined.by } };
  }
  const model = await text();
  const made: T[][] = [];
  for (let index = 0; index < all.length; index++) {
    made.push([await write(model, index)]);
    watch(index + 1, all.length);
  }
  return { made, settings: {} };
}
interface Output<T> {
  given(completion: Row): T;
  write(model: TextModel, index: number): Promise<T>;
  readonly several?: boolean;
}

const first = <T>(lists: readonly (readonly T[])[]): T[] => lists.map((list) => list[0]!);

const writtenTask: Task = async (sources) => {
  const all = await dataRows(sources);
  const questions = all.slice(0, sources.limit).map(writtenQuestion);
  const { made, settings } = await outputs(sources, all, {
    given: outputOf,
    write: (model, index) => writeAfter(model, questions[index]!.prompt, { newTokens: 48, stops: writtenStops }),
  });
  return { metrics: scoreWritten(questions, first(made)), samples: questions.length, settings };
};

const lambadaTask: Task = async ({ data, completions, limit, watch, text }) => {
  const all = await dataRows({ data, completions, limit });
  const requests = all.slice(0, limit).map(lambadaRequest);
  if (completions === undefined)
    return { metrics: scoreLambada(await logLikelihoods(await text(), requests, watch)), samples: requests.length };
  const { given, by } = await readCompletions(all, completions, { limit });
  return { metrics: scoreLambada(first(given).map(givenLikelihood)), samples: requests.length, settings: { joined_by: by } };
};

const perplexityTask: Task = async (sources) => {
  const { data, completions, limit, watch } = sources;
  if (completions !== undefined) {
    const all = await readRows(data);
    const { given, by } = await readCompletions(all, completions, { limit });
    const losses = given.map(([own], index) => givenLoss(own!, all[index]!.text('text')));
    return { metrics: scorePerplexity(losses), samples: losses.length, settings: { joined_by: by } };
  }
  const texts = await readDocuments(data, limit);
  const model = await sources.text();
  const window = sources.window ?? model.context;
  const stride = sources.stride ?? Math.max(1, window >> 1);
  if (stride > window)
    throw new SottoError('usage', `a stride of ${stride} skips tokens between windows of ${window}`, {
      place: { field: '--stride' },
      remedy: 'use a stride of at most the window',
    });
  const losses = await documentLosses(model, texts, { window, stride }, watch);
  return { metrics: scorePerplexity(losses), samples: texts.length, settings: { window, stride } };
};

const codeTaskRun: Task = async (sources) => {
  const all = await dataRows(sources);
  const tasks = all.slice(0, sources.limit).map(codeTask);
  const sandbox = await PythonSandbox.open();
  const { made, settings } = await outputs(sources, all, {
    given: codeCompletion,
    write: (model, index) =>
      writeAfter(model, tasks[index]!.prompt, { newTokens: Math.min(512, model.context >> 1), stops: codeStops }),
    several: true,
  });
  const scores = await runCode(sandbox, tasks, made, { watch: sources.watch });
  const executions = made.reduce((sum, own) => sum + own.length, 0);
  return {
    metrics: scoreCode(scores),
    samples: tasks.length,
    settings: { ...settings, executions, confinement: sandbox.confinement },
  };
};

const benchTask: Task = async (sources) => {
  const { judge, judgePrompts: promptFile, references } = sources;
  if (judge === undefined || promptFile === undefined)
    throw new SottoError('usage', 'MT-Bench needs a judge', {
      place: { field: judge === undefined ? '--judge' : '--judge-prompts' },
      remedy: 'give --judge, --judge-model and --judge-prompts',
    });
  const prompts = judgePrompts(await readRows(promptFile), promptFile);
  const known = (await Promise.all(references.map((file) => readRows(file)))).flat();
  const all = await dataRows(sources);
  const questions = twoTurns(all.slice(0, sources.limit), known);
  const { made, settings } = await outputs(sources, all, {
    given: turnsOf,
    write: (model, index) => answerTurns(model, questions[index]!),
  });
  const rated = await judgeAll(judge, prompts, questions, first(made), sources.watch);
  return { metrics: scoreRatings(rated), samples: questions.length, settings: { ...settings, judge: judge.model } };
};

const translationTask: Task = async ({ data, completions, references, limit, watch, text }) => {
  const translations = await readTranslations(data, references, limit);
  const { sources } = translations;
  const hypotheses =
    completions === undefined
      ? await translateAll(await text(), sources, watch)
      : await readHypotheses(completions, translations);
  return {
    metrics: scoreTranslations(hypotheses, translations),
    samples: sources.length,
    settings: { bleu: 'tok:13a|smooth:exp', chrf: 'nc:6|nw:0|beta:2' },
  };
};

const pictureTask = async ({ pictures: open, watch }: TaskSources, needed?: 'teacher'): Promise<TaskResult> => {
  const { model, teacher, pictures } = await open();
  if (needed === 'teacher' && teacher === undefined)
    throw new SottoError('usage', 'there is no teacher', {
      place: { field: '--teacher' },
      remedy: 'name the folder of the teacher',
    });
  return { metrics: await scorePictures(model, teacher, pictures, watch), samples: pictures.length };
};

const fidelityTask: Task = async (sources) => {
  if (await sources.seesPictures()) return await pictureTask(sources, 'teacher');
  const teacher = await sources.teacherText();
  const texts = await readDocuments(sources.data, sources.limit);
  return { metrics: await compareTexts(await sources.text(), teacher, texts, sources.watch), samples: texts.length };
};

const glueTask =
  (name: GlueTask): Task =>
  async ({ glue }) => {
    const { model, examples } = await glue(name);
    return { metrics: await evaluateGlue(name, examples, model), samples: examples.length };
  };

const attentionTask: Task = async ({ attention, watch }) => {
  const { model, samples, backend } = await attention();
  const metrics = await attentionReach(model, samples, backend, watch);
  return { metrics, samples: metrics.attention_distance!.count };
};

const layerTask: Task = async ({ layers, watch }) => {
  const { student, teacher, samples, backend } = await layers();
  const metrics = await compareLayers(student, teacher, samples, backend, watch);
  return { metrics, samples: metrics.layer_mse!.count };
};

/** Tasks by name; names are those of lm-evaluation-harness where it has the task. */
export const tasks = {
  perplexity: perplexityTask,
  image_accuracy: (sources) => pictureTask(sources),
  fidelity: fidelityTask,
  layer_mse: layerTask,
  attention: attentionTask,
  arc_easy: choiceTask('arc_easy'),
  arc_challenge: choiceTask('arc_challenge'),
  arc_easy_generative: writtenTask,
  arc_challenge_generative: writtenTask,
  lambada: lambadaTask,
  piqa: choiceTask('piqa'),
  winogrande: choiceTask('winogrande'),
  sciq: choiceTask('sciq'),
  sst2: glueTask('sst2'),
  qnli: glueTask('qnli'),
  mnli: glueTask('mnli'),
  humaneval: codeTaskRun,
  mt_bench: benchTask,
  wmt22_de_en: translationTask,
} as const satisfies Record<string, Task>;
export type TaskName = keyof typeof tasks;
/** The names of all tasks, which `sotto eval` takes too. */
export const taskNames = Object.keys(tasks) as TaskName[];

const otherNames: Readonly<Record<string, TaskName>> = {
  accuracy: 'image_accuracy',
  images: 'image_accuracy',
  logit_cosine: 'fidelity',
  cosine: 'fidelity',
  kl: 'fidelity',
  agreement: 'fidelity',
  layerwise_mse: 'layer_mse',
  attention_distance: 'attention',
  attention_entropy: 'attention',
  arc_easy_generate: 'arc_easy_generative',
  lambada_openai: 'lambada',
  human_eval: 'humaneval',
  mtbench: 'mt_bench',
  wmt22: 'wmt22_de_en',
  bleu: 'wmt22_de_en',
  chrf: 'wmt22_de_en',
};

/** A task by its name or another one it goes by, with `-` for `_` and in any case. Throws a `usage` error that lists all. */
export function taskNamed(text: string): TaskName {
  const name = text.toLowerCase().replaceAll('-', '_');
  if (Object.hasOwn(tasks, name)) return name as TaskName;
  if (Object.hasOwn(otherNames, name)) return otherNames[name]!;
  throw new SottoError('usage', `there is no task ${JSON.stringify(text)}`, {
    place: { field: '--task' },
    remedy: `choose one of ${taskNames.join(', ')}`,
  });
}
