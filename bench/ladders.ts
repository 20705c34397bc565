import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readRows, splitPart } from '../src/lab/data/index.ts';

/** A task of `sotto eval`; on data of its own where that is named, with the metrics under the task's name then. */
export interface Scored {
  readonly name: string;
  readonly data?: string;
  readonly limit?: number;
}

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
  /** Whether the page shows agreement by position in the text. */
  readonly byPosition?: boolean;
  /** A statically fitted student and one fitted on its own data, whose readings of pictures are compared. */
  readonly fitted?: readonly [string, string];
  /** Makes that data where it must be made. */
  readonly prepare?: (data: string, directory: string) => Promise<void>;
}

const polyvit = ['v1', 'v2', 'v3', 'ultimate', 'hybrid', 'full', 'progressive'];
const rungs = { mnist: polyvit, cifar: [...polyvit, 'quartic'] };
const vision = (set: 'mnist' | 'cifar'): Pick<Ladder, 'recipes' | 'teacher' | 'tasks' | 'columns' | 'fitted'> => ({
  fitted: [`polyvit-v1-${set}`, `polyvit-v2-${set}`],
  recipes: rungs[set].map((rung) => `polyvit-${rung}-${set}`),
  teacher: `${set}-teacher/checkpoint`,
  tasks: [{ name: 'fidelity' }],
  columns: [
    share('acc', 'accuracy'),
    share('fidelity', 'fidelity'),
    plain('cosine', 'cosine'),
    plain('kl', 'KL'),
    share('heldOut/accuracy', 'accuracy on the 5,000 held back'),
    share('heldOut/fidelity', 'fidelity on the 5,000 held back'),
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

type Column = Ladder['columns'][number];
const plain = (metric: string, title: string): Column => ({ metric, title, percent: false });
const share = (metric: string, title: string): Column => ({ metric, title, percent: true });
const perplexity = plain('perplexity', 'perplexity');

/** What some ladders look at beside perplexity and agreement with the teacher. */
interface Beside {
  readonly byPosition?: boolean;
  readonly tasks: readonly Scored[];
  readonly columns: readonly Column[];
}
const nothing: Beside = { tasks: [], columns: [] };
const questions: Beside = {
  tasks: [
    { name: 'arc_easy', data: 'arc_easy/test500.jsonl', limit: 200 },
    { name: 'arc_easy_generative', data: 'arc_easy/test500.jsonl', limit: 20 },
  ],
  columns: [
    share('arc_easy/acc', 'ARC-Easy'),
    share('arc_easy/acc_norm', 'ARC-Easy, by characters'),
    share('arc_easy_generative/acc', 'ARC-Easy, written out'),
  ],
};
const looks: Beside = {
  tasks: [{ name: 'attention', limit: 32 }],
  columns: [
    plain('attention_distance', 'distance of attention, tokens'),
    plain('attention_entropy', 'entropy of attention, nats'),
  ],
};
const positions: Beside = { byPosition: true, tasks: [], columns: [plain('perplexity_ratio', 'perplexity over the teacher’s')] };

const storiesReserved = reserved('text/tinystories_1800.txt', 'stories-reserved.jsonl', 20);
const reservedTexts = {
  stories: { what: 'stories', ...storiesReserved },
  c4: { what: 'C4 documents', ...reserved('text/c4_sample.jsonl', 'c4-reserved.jsonl', 10) },
} as const;

/** Text students: perplexity beside the teacher's, agreement with it, KL. */
function text(model: Model, { kind, title, rungs, source = 'stories', beside = nothing }: TextRungs): Ladder {
  const { what, ...data } = reservedTexts[source];
  return {
    name: `ladder-${kind}-${model}`,
    title: `${title}: ${models[model].title}`,
    about: `Every figure is of ${what} that the recipes reserve for this table alone.`,
    recipes: rungs.map((rung) => `${rung}-${model}`),
    teacher: models[model].teacher,
    tasks: [{ name: 'fidelity' }, { name: 'perplexity' }, ...beside.tasks],
    columns: [perplexity, share('fidelity', 'same arg max'), plain('kl', 'KL'), plain('cosine', 'cosine'), ...beside.columns],
    ...data,
    ...(beside.byPosition === undefined ? {} : { byPosition: beside.byPosition }),
  };
}

interface TextRungs {
  readonly kind: string;
  readonly title: string;
  readonly rungs: readonly string[];
  readonly source?: keyof typeof reservedTexts;
  readonly beside?: Beside;
}

const variants = (name: string, kinds: readonly string[]): string[] =>
  kinds.map((kind) => (kind === '' ? name : `${name}-${kind}`));
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
  'deep-sgd',
  'deep-sgd-unclipped',
];
const powers = ['', 'unbounded', 'p2', 'p4', 'p16', 'plain', 'stable', 'length-agnostic'];
const kinds: readonly TextRungs[] = [
  { kind: '4bit', title: 'Quadratic gates over 4-bit weights', rungs: variants('polyllama-4bit', fourBits) },
  {
    kind: 'fft',
    title: 'Quadratic gates: QLoRA, then all weights',
    rungs: variants('polyllama', ['qlora', 'fft-phase1', 'fft-phase1-adamw', 'fft-phase2', 'fft-phase2-adamw']),
    source: 'c4',
    beside: questions,
  },
  { kind: 'power', title: 'Power attention in place of softmax', rungs: variants('power-softmax', powers), beside: looks },
  {
    kind: 'full',
    title: 'Everything polynomial',
    rungs: ['gate-polynomial', ...variants('full-polynomial', ['', 'p4', 'ring', 'progressive'])],
    beside: positions,
  },
];
const texts = (Object.keys(models) as Model[]).flatMap((model) => kinds.map((kind) => text(model, kind)));

export const ladders: readonly Ladder[] = [
  ...texts,
  {
    name: 'ladder-scratch',
    title: 'Power attention from the first step on',
    about:
      'Every figure is of stories that the recipes reserve for this table alone. No students: models trained alike from random weights, beside a longer trained one.',
    recipes: ['softmax-scratch', ...variants('power-softmax-scratch', ['', 'stable', 'plain', 'length-agnostic'])],
    teacher: 'stories-teacher',
    tasks: [{ name: 'perplexity' }, ...looks.tasks],
    columns: [perplexity, ...looks.columns],
    ...storiesReserved,
  },
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
