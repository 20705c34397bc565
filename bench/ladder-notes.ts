import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Checkpoint, openCheckpoint } from '../src/models/checkpoint.ts';
import { resizeImage } from '../src/models/resample.ts';
import { folderFiles } from '../src/node/files.ts';
import { onnxBackend } from '../src/node/onnx.ts';
import { evaluatedPictures, readLabelledPictures } from '../src/package/evaluation.ts';
import { openModel } from '../src/package/model.ts';
import { encodePng } from '../src/pictures/index.ts';
import type { Finished } from './ladder-table.ts';

/** Where a run of a recipe's first seed lies. */
const runOf = (directory: string, recipe: string, seed: number): string => join(directory, recipe, `seed-${seed}`, 'run');

/** How large the arguments of each layer's activation became, and how training moved the quadratics' coefficients: two tables. */
export async function layerNotes(directory: string, results: readonly Finished[]): Promise<string> {
  const firsts = results.filter(
    ({ recipe, plan }, at) => plan !== undefined && results.findIndex((one) => one.recipe === recipe) === at,
  );
  const ranges = firsts.flatMap(({ recipe, plan }) => {
    const met = (plan?.layers ?? []).map((_, layer) => plan?.ranges?.[`layers.${layer}.mlp.act`]?.maxAbs);
    return met.some((value) => value === undefined) ? [] : [[recipe, ...met.map((value) => value!.toFixed(2))]];
  });
  const moves: string[][] = [];
  for (const { recipe, seed, plan } of firsts) {
    const run = runOf(directory, recipe, seed);
    if (!existsSync(join(run, 'checkpoint'))) continue;
    const [start, end] = [
      await openCheckpoint(folderFiles(join(run, 'start'))),
      await openCheckpoint(folderFiles(join(run, 'checkpoint'))),
    ];
    for (const [layer, { activation }] of plan!.layers.entries())
      if (activation.kind === 'quadratic')
        moves.push([recipe, String(layer), ...(await coefficients(start, layer)), ...(await coefficients(end, layer))]);
  }
  const layers = firsts[0]?.plan?.layers.map((_, layer) => `layer ${layer}`) ?? [];
  return [
    ...(ranges.length === 0
      ? []
      : ['## Largest argument of an activation, by layer', '', ...markdown(['recipe', ...layers], ranges), '']),
    ...(moves.length === 0
      ? []
      : [
          '## Coefficients a, b, c of a·x² + b·x + c, before and after training',
          '',
          'Means over channels where there is one quadratic a channel. In a run of stages, where the first one started.',
          '',
          ...markdown(['recipe', 'layer', 'a', 'b', 'c', 'a after', 'b after', 'c after'], moves),
          '',
        ]),
  ].join('\n');
}

/** Agreement with the teacher by position in the text, where it was scored so. */
export function positionNotes(results: readonly Finished[]): string {
  const prefix = 'fidelity@';
  const firsts = results.filter(
    ({ recipe, seed }) => recipe !== 'teacher' && seed === results.find((one) => one.recipe === recipe)!.seed,
  );
  const spans = [...new Set(firsts.flatMap(({ metrics }) => Object.keys(metrics)).filter((name) => name.startsWith(prefix)))];
  if (spans.length === 0) return '';
  const percent = (value: number | undefined): string => (value === undefined ? '' : (100 * value).toFixed(1));
  const rows = firsts.map(({ recipe, metrics }) => [
    recipe,
    ...spans.map(
      (span) =>
        `${percent(metrics[span]?.value)} / ${metrics[`perplexity_ratio@${span.slice(prefix.length)}`]?.value.toFixed(3) ?? ''}`,
    ),
  ]);
  return [
    '## By position: the same arg max in percent / perplexity over the teacher’s',
    '',
    ...markdown(['recipe', ...spans.map((span) => span.slice(prefix.length).replace('-', '–'))], rows),
    '',
  ].join('\n');
}

type Line = Readonly<Record<string, number>>;

/** Of every run that logged the gradients of its layers: the largest norms, and the step after which the loss rose most, over five steps. */
export function gradientNotes(directory: string, results: readonly Finished[]): string {
  const rows = results.flatMap(({ recipe, seed, failed }) => {
    const path = join(runOf(directory, recipe, seed), 'log.jsonl');
    if (recipe === 'teacher' || !existsSync(path)) return [];
    const lines = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Line);
    const parts = Object.keys(lines[0] ?? {}).filter((name) => name.startsWith('gradientNorm/'));
    if (parts.length === 0) return [];
    const most = parts.map((part) => Math.max(...lines.map((line) => line[part] ?? 0)).toPrecision(3));
    return [
      {
        parts,
        row: [recipe, String(seed), spike(lines), failed ? 'diverged' : (lines.at(-1)?.loss ?? 0).toPrecision(3), ...most],
      },
    ];
  });
  if (rows.length === 0) return '';
  const parts = rows[0]!.parts.map((part) => part.slice('gradientNorm/'.length));
  return [
    '## Gradient norms before clipping, largest of the run, and where the loss rose most',
    '',
    'Means of five steps beside means of the five before: the step where their quotient is largest.',
    '',
    ...markdown(
      ['recipe', 'seed', 'largest rise of the loss', 'last loss', ...parts],
      rows.map(({ row }) => row),
    ),
    '',
  ].join('\n');
}

const window = 5;

function spike(lines: readonly Line[]): string {
  const losses = lines.map((line) => line.loss ?? Number.NaN);
  const mean = (from: number): number => losses.slice(from, from + window).reduce((sum, loss) => sum + loss / window, 0);
  let [best, ratio] = [window, 0];
  for (let at = window; at + window <= losses.length; at++) {
    const found = mean(at) / mean(at - window);
    if (found > ratio) [best, ratio] = [at, found];
  }
  if (losses.length < 2 * window) return '';
  return `step ${lines[best]!.step}: ${mean(best - window).toPrecision(3)} to ${mean(best).toPrecision(3)}`;
}

const markdown = (head: readonly string[], rows: readonly (readonly string[])[]): string[] =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);

async function coefficients(checkpoint: Checkpoint, layer: number): Promise<string[]> {
  const made: string[] = [];
  for (const part of ['a', 'b', 'c']) {
    const name = checkpoint
      .names()
      .find((own) => own.endsWith(`.${layer}.intermediate.act.${part}`) || own.endsWith(`.${layer}.mlp.act.${part}`));
    if (name === undefined) made.push('');
    else {
      const values = await checkpoint.read(name);
      made.push((values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(3));
    }
  }
  return made;
}

export interface Misread {
  readonly directory: string;
  /** The teacher's folder. */
  readonly teacher: string;
  readonly data: string;
  /** The recipes of a statically fitted student and of one fitted on its own data. */
  readonly fitted: readonly [string, string];
  readonly seed: number;
  /** Where the picture is written: with the runs, as data sets stay out of the repository. */
  readonly picture: string;
}

/** The first picture that the static student misreads while the other one and the teacher read it: a note, and the picture enlarged. */
export async function misread({ directory, teacher, data, fitted, seed, picture }: Misread): Promise<string> {
  const folders = [teacher, ...fitted.map((recipe) => join(runOf(directory, recipe, seed), 'checkpoint'))];
  if (!folders.every((folder) => existsSync(folder))) return '';
  const backend = onnxBackend();
  try {
    const models = [];
    for (const folder of folders) models.push(await evaluatedPictures(await openModel(folder), { kind: 'float', backend }));
    const { labels } = models[0]!;
    const pictures = await readLabelledPictures(data, labels, 5000);
    const said = [];
    for (const model of models) said.push((await model.logits(pictures.map(({ image }) => image))).map(likeliest));
    const [byTeacher, byStatic, byDirect] = said as [Said[], Said[], Said[]];
    const wrong = pictures.flatMap(({ label }, at) =>
      byTeacher[at]!.class === label && byDirect[at]!.class === label && byStatic[at]!.class !== label ? [at] : [],
    );
    const surest = wrong.toSorted((one, other) => byStatic[other]!.share - byStatic[one]!.share)[0];
    if (surest === undefined) return '';
    const { image, label } = pictures[surest]!;
    await writeFile(picture, await encodePng(resizeImage(image, 8 * image.width, 8 * image.height, 'nearest')));
    const shown = ({ class: found, share }: Said): string => `${labels[found]} with ${(100 * share).toFixed(1)} %`;
    return [
      '## A picture that the statically fitted student misreads',
      '',
      `Number ${surest} of the test pictures, a ${labels[label]}: the teacher says ${shown(byTeacher[surest]!)}, \`${fitted[0]}\` says`,
      `${shown(byStatic[surest]!)}, \`${fitted[1]}\` says ${shown(byDirect[surest]!)}. It is the one of ${wrong.length} such pictures that the first is`,
      `surest of; \`${basename(picture)}\` among the runs shows it.`,
      '',
    ].join('\n');
  } finally {
    await backend.close();
  }
}

interface Said {
  readonly class: number;
  readonly share: number;
}

function likeliest(logits: ArrayLike<number>): Said {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  const total = Array.from(logits).reduce((sum, logit) => sum + Math.exp(logit - logits[best]!), 0);
  return { class: best, share: 1 / total };
}
