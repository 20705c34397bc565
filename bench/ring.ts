// `npm run results:ring -- --student FOLDER --teacher FOLDER --text FILE --directory RUNS --ring 32` calibrates a trained text student
// for a ring, lets its teacher write texts that nobody trained on, and scores both the float model and the ring's exact integers on
// rows of the full context. A value that leaves the ring or a table ends the row's scoring: it is found, and the page says so.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
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
    text: { type: 'string', default: '.' },
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
const data = await written();
const context = configOf(flags.teacher).max_position_embeddings;
const heads = (['head-range', 'head-sum'] as const).flatMap((name) =>
  flags[name] === undefined ? [] : [`--${name}`, flags[name]],
);
if (!existsSync(join(narrowed, 'config.json'))) {
  const rows = ['--text', flags.text, '--rows', flags.calibration, '--tokens', String(context), '--margin', flags.margin];
  await sotto(['convert', '--model', flags.student, '--out', narrowed, '--ring', flags.ring, ...heads, ...rows, '--json']);
}
const { ring } = configOf(narrowed).sotto;
const results = [
  ['float32', await scored(narrowed, data, [])],
  [
    `ring of ${ring.bits} bits, ${ring.fraction} fraction bits`,
    await scored(narrowed, data, ['--backend', 'fixed', '--ring', flags.ring]),
  ],
] as const;
const shown = ({ value, low, high }: Figure, digits: number): string =>
  `${value.toFixed(digits)} (${low.toFixed(digits)} – ${high.toFixed(digits)})`;
const lines = results.map(([name, metrics]) =>
  typeof metrics === 'string'
    ? `| ${name} | ${metrics} | | | |`
    : `| ${name} | ${shown(metrics.perplexity!, 4)} | ${shown(metrics.perplexity_ratio!, 4)} | ${shown(metrics.fidelity!, 4)} | ${metrics.perplexity!.count} |`,
);
const command = ['head-range', 'head-sum', 'margin', 'calibration', 'rows', 'ring', 'seed']
  .flatMap((name) => (flags[name as keyof typeof flags] === undefined ? [] : [`--${name} ${flags[name as keyof typeof flags]}`]))
  .join(' ');
const page = [
  `## ${configOf(narrowed).sotto.name ?? 'student'} of ${basename(flags.teacher)}, ${ring.bits} bits`,
  '',
  `    npm run results:ring -- --student STUDENT --teacher TEACHER --text TEXT --directory RUNS ${command}`,
  '',
  `| ${flags.rows} rows of ${context} tokens that the teacher wrote | perplexity | over the teacher’s | same arg max | tokens |`,
  '| --- | --- | --- | --- | --- |',
  ...lines,
  '',
].join('\n');
if (flags.out === undefined) console.log(page);
else writeFileSync(flags.out, page);
