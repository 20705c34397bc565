import { type Command, Option } from 'commander';
import { SottoError } from '../errors/index.ts';
import {
  documentIds,
  type Layered,
  type LayerSamples,
  type Metrics,
  mean,
  pixelsOf,
  type RunCost,
  readDocuments,
} from '../evaluate/index.ts';
import { type TaskResult, type TaskSources, taskNamed, taskNames, tasks } from '../lab/tasks/tasks.ts';
import { classifiesPictures } from '../models/families/index.ts';
import { checkRanges } from '../models/ranges.ts';
import { usualFloat, withFloatBackend } from '../node/float.ts';
import type { Device } from '../node/onnx.ts';
import { glueExamples } from '../package/encoders.ts';
import {
  type EvaluationBackend,
  evaluatedEncoder,
  evaluatedPictures,
  evaluatedText,
  preprocessorOf,
  readLabelledPictures,
} from '../package/evaluation.ts';
import { type LoadedModel, openModel } from '../package/model.ts';
import { classifier } from '../package/pictures.ts';
import { writer } from '../package/text.ts';
import type { FloatBackend } from '../program/index.ts';
import { openFor } from './measured.ts';
import {
  type BackendName,
  backendOption,
  deviceOf,
  deviceOption,
  fractionOption,
  jsonOption,
  progressOption,
  type RingFlags,
  rangeFlagsOptions,
  ringOf,
  ringOption,
  timeoutOption,
  transportOption,
  whole,
} from './options.ts';
import { progress } from './progress.ts';
import { modelFolder } from './shipped.ts';
import { table } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface EvalFlags extends RingFlags {
  readonly model?: string;
  readonly task: string;
  readonly data: string;
  readonly teacher?: string;
  readonly completions?: string;
  readonly references?: string[];
  readonly limit?: number;
  readonly window?: number;
  readonly stride?: number;
  readonly judge?: string;
  readonly judgeModel: string;
  readonly judgePrompts?: string;
  readonly backend: BackendName;
  readonly rangeFlags: boolean;
  readonly device: Device;
  readonly transport: 'unix' | 'tcp';
  readonly timeout: number;
  readonly json?: true;
  readonly progress?: true;
}

const help = `
Tasks and what --data names for them:
  perplexity            text with lines <|endoftext|> between documents, or JSONL with the field text. Sliding windows of
                        --window tokens (the context), moved on by --stride (half of it), each token predicted once
  image_accuracy        an IDX file of pictures with its labels beside it, a .bin batch of CIFAR, a folder of
                        class folders, or a tar of those. Folders bear the model's names (id2label); numbers count in
                        numeric order
  fidelity              text or pictures: how often the likeliest is --teacher's, cosine of the logits, KL; for text
                        the quotient of perplexities too, and all by position
  layer_mse             text or pictures: squared differences of the hidden states to --teacher's
  attention             text or pictures: how far and how widely heads look (distance, entropy in nats), by layer
  arc_easy, arc_challenge, piqa, winogrande, sciq, lambada    JSONL; prompts and scores of lm-evaluation-harness
  arc_easy_generative, arc_challenge_generative               the answer written out and matched to a choice
  sst2, qnli, mnli      texts with a class (GLUE): .tsv, .jsonl, .json or .parquet
  humaneval             JSONL; programs run confined by bubblewrap, three seconds each (Linux alone)
  mt_bench              JSONL of two-turn questions; --judge, --judge-prompts and, for their categories, --references
  wmt22_de_en           a folder with src.de and ref.A.en, or lines of German with --references: BLEU (13a) and chrF2

--completions scores given outputs without a model, one JSON object a line: {"task_id": …, "completion": …} for programs (several
a task for pass@k), {"completion": …} for texts, {"turns": [first, second]} for MT-Bench, {"loglikelihoods": [one a choice]},
{"loglikelihood": …, "greedy": …} for LAMBADA, {"logprobs": [one a token]} for perplexity. Each names its row by the data's own
task_id, question_id, idx or id, or by the row's number from 0 as doc_id; only where neither side names rows is line n the output of
row n. Files may be packed with gzip. The key of a judge is read from SOTTO_JUDGE_KEY. With --backend mpc every predicted token, picture or text is a private run of three processes, so keep --limit small.

Intervals are of 95 %: Wilson's for shares, normal across texts for means, a seeded bootstrap over segments for BLEU and chrF.

Examples:
  $ sotto eval --model stories-teacher --task perplexity --data stories.txt --limit 100
  $ sotto eval --model stories-polynomial --teacher stories-teacher --task fidelity --data stories.txt --backend fixed --limit 4
  $ sotto eval --task lambada --data lambada.jsonl --completions scores.jsonl --json
`;

export function registerEval(program: Command, terminal: Terminal): void {
  program
    .command('eval')
    .summary('score a model, or given outputs, on a task')
    .description('Scores a model, or given outputs, on a task; every figure with its count and 95 % interval.')
    .requiredOption('--task <name>', taskNames.join(', '))
    .option('--model <folder>', 'a checkpoint in the Hugging Face layout', modelFolder(terminal))
    .requiredOption('--data <path>', "the task's data")
    .option('--teacher <folder>', 'the checkpoint that the model is compared with; in the clear, on onnx', modelFolder(terminal))
    .option('--completions <file>', 'given outputs, scored without a model')
    .option('--references <file...>', 'reference translations or answers')
    .addOption(new Option('--limit <n>', 'the first rows, texts or pictures alone').argParser(whole(1, 1e9)))
    .addOption(new Option('--window <tokens>', 'of perplexity (default: the context)').argParser(whole(1, 1e7)))
    .addOption(new Option('--stride <tokens>', 'of perplexity (default: half the window)').argParser(whole(1, 1e7)))
    .option('--judge <url>', 'base address of an OpenAI-compatible server that rates answers')
    .option('--judge-model <name>', 'the model it is asked for', 'gpt-4')
    .option('--judge-prompts <file>', 'what it is asked')
    .addOption(backendOption())
    .addOption(deviceOption())
    .addOption(ringOption())
    .addOption(fractionOption())
    .addOption(rangeFlagsOptions()[0]!)
    .addOption(rangeFlagsOptions()[1]!)
    .addOption(transportOption())
    .addOption(timeoutOption())
    .addOption(jsonOption())
    .addOption(progressOption())
    .addHelpText('after', help)
    .action((flags: EvalFlags) => evaluate(flags, terminal));
}

async function evaluate(flags: EvalFlags, terminal: Terminal): Promise<void> {
  const task = taskNamed(flags.task);
  const start = terminal.now();
  const bar = progress(terminal, flags.progress === true);
  bar.show(`${task}: loading`);
  const watch = (done: number, total: number): void => bar.show(`${task}: ${done} of ${total}`, done, total);
  const clear = flags.backend === 'reference' || flags.backend === 'onnx' ? flags.backend : usualFloat();
  const score = async (float: FloatBackend) => {
    const { sources, costs } = opened(flags, terminal, float, watch);
    const run = await tasks[task](sources);
    return { ...run, metrics: { ...run.metrics, ...costMetrics(costs(), run.samples) } };
  };
  const result = await withFloatBackend(clear, score, deviceOf(flags)).finally(() => bar.end());
  const modelUsed = flags.completions === undefined;
  const shown = {
    task,
    model: modelUsed ? flags.model : (flags.model ?? null),
    backend: modelUsed ? flags.backend : null,
    metrics: result.metrics,
    samples: result.samples,
    ...(result.settings === undefined ? {} : { settings: result.settings }),
    seconds: (terminal.now() - start) / 1000,
  };
  if (flags.json) printJson(terminal, shown);
  else terminal.out(metricTable(result));
}

const significant = (value: number | null): string => (value === null ? '–' : String(Number(value.toPrecision(5))));

function metricTable({ metrics, settings }: TaskResult): string {
  const rows = Object.entries(metrics).map(([name, { value, count, low, high }]) => [
    name,
    significant(value),
    significant(low),
    significant(high),
    String(count),
  ]);
  const noted = Object.entries(settings ?? {}).map(([name, value]) => `${name} ${value}`);
  return `${table(['metric', 'value', '95 % from', 'to', 'count'], rows)}${noted.length > 0 ? `${noted.join(', ')}\n` : ''}`;
}

/** What the private runs of a sample sent and took, all parties and phases together. */
function costMetrics(costs: readonly RunCost[], samples: number): Metrics {
  if (costs.length === 0) return {};
  const runs = costs.length / samples;
  const per = (what: keyof RunCost) => {
    const { value, low, high } = mean(costs.map((cost) => cost[what]));
    return {
      value: value * runs,
      count: samples,
      low: low === null ? null : low * runs,
      high: high === null ? null : high * runs,
    };
  };
  return { bytes_per_sample: per('bytes'), seconds_per_sample: per('seconds') };
}

const missing = (field: string, remedy: string): SottoError =>
  new SottoError('usage', `the option ${field} is missing`, { place: { field }, remedy });

/** What the flags name, opened as the task asks for it; `costs` gathers those of private runs. */
function opened(flags: EvalFlags, terminal: Terminal, float: FloatBackend, watch: TaskSources['watch']) {
  const { data, completions, references = [], limit = Number.POSITIVE_INFINITY, window, stride, judge, judgePrompts } = flags;
  const clear: EvaluationBackend = { kind: 'float', backend: float };
  const costs: (() => readonly RunCost[])[] = [];
  const metered = <M extends { readonly costs?: () => readonly RunCost[] }>(model: M): M => {
    if (model.costs !== undefined) costs.push(model.costs);
    return model;
  };
  let student: Promise<LoadedModel> | undefined;
  const model = (): Promise<LoadedModel> => {
    if (flags.model === undefined)
      throw missing('--model', 'name the folder of a model, or score given outputs with --completions');
    return (student ??= openFor({ ...flags, model: flags.model }, terminal));
  };
  const teacher = async (): Promise<LoadedModel> => {
    if (flags.teacher === undefined) throw missing('--teacher', 'name the folder of the teacher');
    return await openModel(flags.teacher);
  };
  const pictureTeacher = async () => (flags.teacher === undefined ? undefined : await evaluatedPictures(await teacher(), clear));
  const key = terminal.environment.SOTTO_JUDGE_KEY;
  const sources: TaskSources = {
    data,
    completions,
    references,
    limit,
    window,
    stride,
    judge: judge === undefined ? undefined : { url: judge, model: flags.judgeModel, key },
    judgePrompts,
    watch,
    seesPictures: async () => classifiesPictures((await model()).config),
    text: async () => metered(await evaluatedText(await model(), backendOf(flags, terminal, await model(), clear))),
    teacherText: async () => await evaluatedText(await teacher(), clear),
    pictures: async () => ({
      model: metered(await evaluatedPictures(await model(), backendOf(flags, terminal, await model(), clear))),
      teacher: await pictureTeacher(),
      pictures: await readLabelledPictures(data, classifier(await model()).labels, limit),
    }),
    glue: async (task) => ({
      model: metered(await evaluatedEncoder(await model(), backendOf(flags, terminal, await model(), clear))),
      examples: await glueExamples(task, data, limit),
    }),
    layers: async () => {
      inTheClear(flags, 'hidden states');
      const [own, theirs] = [await model(), await teacher()];
      const samples = await layerSamples(own, data, limit);
      return { student: await layered(own), teacher: await layered(theirs), samples, backend: float };
    },
    attention: async () => {
      inTheClear(flags, 'attention weights');
      return { model: await layered(await model()), samples: await layerSamples(await model(), data, limit), backend: float };
    },
  };
  return { sources, costs: () => costs.flatMap((runs) => runs()) };
}

function inTheClear({ backend }: EvalFlags, what: string): void {
  if (backend === 'onnx' || backend === 'reference') return;
  throw new SottoError('usage', `the ${what} of a ${backend} run are not looked at`, {
    place: { field: '--backend' },
    remedy: 'use onnx or reference',
  });
}

const layered = async (model: LoadedModel): Promise<Layered> => ({
  config: classifiesPictures(model.config) ? model.config : writer(model),
  plan: model.plan,
  weights: await model.weights(),
});

async function layerSamples(model: LoadedModel, data: string, limit: number): Promise<LayerSamples> {
  if (classifiesPictures(model.config)) {
    const [config, preprocessor] = [classifier(model), await preprocessorOf(model)];
    const pictures = await readLabelledPictures(data, config.labels, limit);
    return { pixels: pictures.map(({ image }) => pixelsOf(image, preprocessor, config.numChannels)) };
  }
  const [config, tokenizer] = [writer(model), await model.tokenizer()];
  const texts = await readDocuments(data, limit);
  return { ids: texts.map((text) => Int32Array.from(documentIds(tokenizer, text).slice(0, config.maxPositionEmbeddings))) };
}

function backendOf(flags: EvalFlags, terminal: Terminal, model: LoadedModel, clear: EvaluationBackend): EvaluationBackend {
  const { backend, rangeFlags, transport, timeout } = flags;
  if (backend === 'onnx' || backend === 'reference') return clear;
  const ring = ringOf(flags, model.plan);
  checkRanges(model.plan, ring, model.checkpoint.files.name);
  if (backend === 'fixed') return { kind: 'fixed', ring };
  return { kind: 'mpc', ring, rangeFlags, transport, timeoutMilliseconds: timeout * 1000, now: terminal.now };
}
