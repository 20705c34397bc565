// `npm run results:ring -- --student FOLDER --teacher FOLDER --text FILE --directory RUNS --ring 32` calibrates a trained text student
// for a ring, lets its teacher write texts that nobody trained on, and scores both the float model and the ring's exact integers on
// rows of the full context. With `--images` instead of `--text` the student reads pictures, those of `--test`. A value that leaves the
// ring or a table ends the scoring: it is found, and the page says so.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { folderFiles } from '../src/node/files.ts';
import { onnxBackend } from '../src/node/onnx.ts';
import { writeTexts } from '../src/train/index.ts';
import { ended, sotto } from './sotto.ts';

const { values: flags } = parseArgs({
  options: {
    student: { type: 'string', default: '.' },
    teacher: { type: 'string', default: '.' },
    /** Calibration text. */
    text: { type: 'string' },
    /** Calibration pictures, and those that are scored. */
    images: { type: 'string' },
    test: { type: 'string', default: '.' },
    directory: { type: 'string', default: 'runs/ring' },
    ring: { type: 'string', default: '32' },
    'head-range': { type: 'string' },
    'head-sum': { type: 'string' },
    margin: { type: 'string', default: '1.5' },
    /** Rows of calibration. */
    calibration: { type: 'string', default: '64' },
    rows: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '2024' },
    out: { type: 'string' },
  },
});

interface Config {
  readonly max_position_embeddings: number;
  readonly sotto: { readonly name?: string; readonly ring: { readonly bits: number; readonly fraction: number } };
}
if ((flags.text === undefined) === (flags.images === undefined)) throw new Error('give --text or --images');
const configOf = (folder: string): Config => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Config;

/** Texts of the teacher, enough for the rows, once for all rings. */
async function written(): Promise<string> {
  const path = join(flags.directory, `written-${flags.rows}-${flags.seed}.jsonl`);
  if (existsSync(path)) return path;
  const backend = onnxBackend();
  try {
    const length = configOf(flags.teacher).max_position_embeddings;
    // Texts end early: half as many again fill the rows.
    const texts = Math.ceil(1.5 * Number(flags.rows));
    const options = { texts, length, temperature: 1, seed: Number(flags.seed), backend };
    const made = await writeTexts(folderFiles(flags.teacher), options);
    writeFileSync(path, `${made.map((text) => JSON.stringify({ text })).join('\n')}\n`);
    return path;
  } finally {
    await backend.close();
  }
}

interface Figure {
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly count: number;
}
type Metrics = Readonly<Record<string, Figure>>;

async function scored(model: string, data: string, backend: readonly string[]): Promise<Metrics | string> {
  const task = ['--task', 'fidelity', '--model', model, '--teacher', flags.teacher, '--data', data, '--limit', flags.rows];
  const { code, out } = await ended(['eval', ...task, ...backend, '--json']);
  if (code !== 0) return (JSON.parse(out) as { error: { message: string } }).error.message;
  return (JSON.parse(out) as { metrics: Metrics }).metrics;
}

mkdirSync(flags.directory, { recursive: true });
const narrowed = join(flags.directory, `ring-${flags.ring}`);
const data = flags.images === undefined ? await written() : flags.test;
const context = configOf(flags.teacher).max_position_embeddings;
const heads = (['head-range', 'head-sum'] as const).flatMap((name) =>
  flags[name] === undefined ? [] : [`--${name}`, flags[name]],
);
const calibration =
  flags.images === undefined
    ? ['--text', flags.text!, '--rows', flags.calibration, '--tokens', String(context)]
    : ['--images', flags.images, '--rows', flags.calibration];
if (!existsSync(join(narrowed, 'config.json'))) {
  const settings = [...heads, ...calibration, '--margin', flags.margin];
  await sotto(['convert', '--model', flags.student, '--out', narrowed, '--ring', flags.ring, ...settings, '--json']);
}
const { ring } = configOf(narrowed).sotto;
const results = [
  ['float32', await scored(narrowed, data, [])],
  [
    `ring of ${ring.bits} bits, ${ring.fraction} fraction bits`,
    await scored(narrowed, data, ['--backend', 'fixed', '--ring', flags.ring]),
  ],
] as const;

/** The columns: of texts and of pictures. */
const columns: readonly (readonly [metric: string, title: string])[] =
  flags.images === undefined
    ? [
        ['perplexity', 'perplexity'],
        ['perplexity_ratio', 'over the teacher’s'],
        ['fidelity', 'same arg max'],
      ]
    : [
        ['acc', 'accuracy'],
        ['fidelity', 'same class as the teacher'],
        ['kl', 'KL'],
      ];
const shown = ({ value, low, high }: Figure): string => `${value.toFixed(4)} (${low.toFixed(4)} – ${high.toFixed(4)})`;
const lines = results.map(([name, metrics]) =>
  typeof metrics === 'string'
    ? `| ${name} | ${metrics} |${' |'.repeat(columns.length)}`
    : `| ${name} | ${columns.map(([metric]) => shown(metrics[metric]!)).join(' | ')} | ${metrics.fidelity!.count} |`,
);
const command = ['head-range', 'head-sum', 'margin', 'calibration', 'rows', 'ring', 'seed']
  .flatMap((name) => (flags[name as keyof typeof flags] === undefined ? [] : [`--${name} ${flags[name as keyof typeof flags]}`]))
  .join(' ');
const [source, what] =
  flags.images === undefined
    ? ['--text TEXT', `${flags.rows} rows of ${context} tokens that the teacher wrote`]
    : ['--images IMAGES --test TEST', `the first ${flags.rows} test pictures`];
const folder = resolve(flags.teacher);
const teacher = basename(basename(folder) === 'checkpoint' ? dirname(folder) : folder);
const page = [
  `## ${configOf(narrowed).sotto.name ?? 'student'} of ${teacher}, ${ring.bits} bits`,
  '',
  `    npm run results:ring -- --student STUDENT --teacher TEACHER ${source} --directory RUNS ${command}`,
  '',
  `| ${what} | ${columns.map(([, title]) => title).join(' | ')} | count |`,
  `|${' --- |'.repeat(columns.length + 2)}`,
  ...lines,
  '',
].join('\n');
if (flags.out === undefined) console.log(page);
else writeFileSync(flags.out, page);
