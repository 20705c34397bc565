import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readRows, splitPart } from '../src/train/data/index.ts';

/** A task of `sotto eval`; on data of its own where that is named, with the metrics under the task's name then. */
export interface Scored {
  readonly name: string;
  readonly data?: string;
  readonly limit?: number;
}

const arc = 'arc_easy/test500.jsonl';
const questions: readonly Scored[] = [
  { name: 'arc_easy', data: arc },
  { name: 'arc_easy_generative', data: arc, limit: 100 },
];

/** A list of recipes whose students are compared. */
export interface Ladder {
  readonly name: string;
  readonly title: string;
  /** What the table is about, and the command that makes it. */
  readonly about: string;
  readonly recipes: readonly string[];
  /** In the models folder. */
  readonly teacher: string;
  readonly tasks: readonly Scored[];
  /** The columns, by the metrics' names; shares are printed in percent. */
  readonly columns: readonly { readonly metric: string; readonly title: string; readonly percent: boolean }[];
  /** Data that no recipe reads, from the data folder and the ladder's own. */
  readonly test: (data: string, directory: string) => string;
  /** A statically fitted student and one fitted on its own data, whose readings of pictures are compared. */
  readonly fitted?: readonly [string, string];
  /** Makes that data where it must be made. */
  readonly prepare?: (data: string, directory: string) => Promise<void>;
}

const vision = (set: 'mnist' | 'cifar'): Pick<Ladder, 'recipes' | 'teacher' | 'tasks' | 'columns' | 'fitted'> => ({
  fitted: [`polyvit-v1-${set}`, `polyvit-v2-${set}`],
  recipes: ['v1', 'v2', 'v3', 'ultimate', 'hybrid', 'full', 'progressive'].map((rung) => `polyvit-${rung}-${set}`),
  teacher: `${set}-teacher/checkpoint`,
  tasks: [{ name: 'fidelity' }],
  columns: [
    { metric: 'acc', title: 'accuracy', percent: true },
    { metric: 'fidelity', title: 'fidelity', percent: true },
    { metric: 'cosine', title: 'cosine', percent: false },
    { metric: 'kl', title: 'KL', percent: false },
  ],
});

const models = {
  stories260k: { teacher: 'stories260K', title: 'stories260K' },
  babyllama: { teacher: 'babyllama-105', title: 'babyllama-105' },
} as const;
type Model = keyof typeof models;

/** Rows that the recipes reserve, of one file, as JSONL in the ladder's folder. */
const reserved = (file: string, path: string, holdOutEvery: number): Pick<Ladder, 'test' | 'prepare'> => ({
  test: (_, directory) => join(directory, path),
  prepare: async (data, directory) => {
    const to = join(directory, path);
    if (existsSync(to)) return;
    const rows: string[] = [];
    let index = 0;
    for await (const { value } of readRows(join(data, file)))
      if (splitPart(index++, { holdOutEvery, reserveEvery: 10 }) === 'reserved') rows.push(JSON.stringify({ text: value.text }));
    mkdirSync(directory, { recursive: true });
    writeFileSync(to, `${rows.join('\n')}\n`);
  },
});

/** Text students: perplexity beside the teacher's, agreement with it, KL. */
function text(model: Model, kind: string, title: string, rungs: readonly string[], source: 'stories' | 'c4'): Ladder {
  const stories = source === 'stories';
  return {
    name: `ladder-${kind}-${model}`,
    title: `${title}: ${models[model].title}`,
    about: `Every figure is of ${stories ? 'stories' : 'C4 documents'} that the recipes reserve for this table alone.`,
    recipes: rungs.map((rung) => `${rung}-${model}`),
    teacher: models[model].teacher,
    tasks: [{ name: 'fidelity' }, { name: 'perplexity' }, ...(stories ? [] : questions)],
    columns: [
      { metric: 'perplexity', title: 'perplexity', percent: false },
      { metric: 'fidelity', title: 'same arg max', percent: true },
      { metric: 'kl', title: 'KL', percent: false },
      { metric: 'cosine', title: 'cosine', percent: false },
      ...(stories
        ? []
        : [
            { metric: 'arc_easy/acc', title: 'ARC-Easy', percent: true },
            { metric: 'arc_easy/acc_norm', title: 'ARC-Easy, by characters', percent: true },
            { metric: 'arc_easy_generative/acc', title: 'ARC-Easy, written out', percent: true },
          ]),
    ],
    ...(stories
      ? reserved('text/tinystories_1800.txt', 'stories-reserved.jsonl', 20)
      : reserved('text/c4_sample.jsonl', 'c4-reserved.jsonl', 10)),
  };
}

const fourBits = [
  'naive',
  'same',
  'direct',
  '',
  'mixup',
  'progressive',
  'deep',
  'deep-unclipped',
  'deep-layerwise',
  'deep-layerwise-unclipped',
];
const texts = (Object.keys(models) as Model[]).flatMap((model) => [
  text(
    model,
    '4bit',
    'Quadratic gates over 4-bit weights',
    fourBits.map((variant) => `polyllama-4bit${variant === '' ? '' : `-${variant}`}`),
    'stories',
  ),
  text(
    model,
    'fft',
    'Quadratic gates in full precision',
    ['qlora', 'fft-phase1', 'fft-phase1-adamw', 'fft-phase2', 'fft-phase2-adamw'].map((variant) => `polyllama-${variant}`),
    'c4',
  ),
  text(
    model,
    'power',
    'Power attention in place of softmax',
    ['', '-unbounded', '-p2', '-p4', '-p16', '-plain', '-stable', '-length-agnostic'].map((variant) => `power-softmax${variant}`),
    'stories',
  ),
  text(model, 'full', 'Everything polynomial', ['gate-polynomial', 'full-polynomial', 'full-polynomial-progressive'], 'stories'),
]);

export const ladders: readonly Ladder[] = [
  ...texts,
  {
    name: 'ladder-mnist',
    title: 'The ladder of polynomial vision transformers on MNIST',
    about: 'Every figure is of the 5,000 test pictures, which no recipe reads.',
    ...vision('mnist'),
    test: (data) => join(data, 'mnist/test5000-images-idx3-ubyte.gz'),
  },
  {
    name: 'ladder-cifar',
    title: 'The ladder of polynomial vision transformers on CIFAR-10',
    about: 'Every figure is of the 1,000 test pictures, which no recipe reads.',
    ...vision('cifar'),
    test: (data) => join(data, 'cifar10/cifar10_test1000_jpg.tar.gz'),
  },
];
