import type { Plan } from '../src/models/index.ts';
import type { Ladder } from './ladders.ts';

interface Metric {
  readonly value: number;
  readonly count: number;
  readonly low: number;
  readonly high: number;
}

/** One trained and scored student. */
export interface Finished {
  readonly recipe: string;
  readonly seed: number;
  /** The training ended in figures that are no numbers. */
  readonly failed: boolean;
  readonly metrics: Record<string, Metric>;
  readonly plan: Plan | undefined;
  readonly seconds: number;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** A Markdown page: a row a recipe, its figures the means over seeds with the means of their 95 % bounds, and the seeds' spread. */
export function ladderTable(ladder: Ladder, results: readonly Finished[]): string {
  const names = [...new Set(results.map(({ recipe }) => recipe))];
  const first = ladder.columns[0]!;
  const head = [
    'recipe',
    'seeds',
    ...ladder.columns.map(({ title }) => title),
    `${first.title}, lowest – highest seed`,
    'exact activations left',
    'softmax left',
    'seconds of training',
  ];
  const rows = names.map((name) => row(ladder, name, results));
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    `# ${ladder.title}`,
    '',
    `    npm run results -- ${ladder.name} --data DATA --models MODELS --directory RUNS`,
    '',
    `${ladder.about} Students of one teacher, \`${ladder.teacher}\`, by the recipes`,
    'of these names; one thread. In brackets 95 % intervals of one run (of several seeds, the means of their bounds). A layer whose activation is a',
    'quadratic needs no comparison, one whose attention is a power no exponential: the columns say in what share of the layers they are left.',
    'Seconds are the wall clock of a machine that had other work as well. Runs that are not over have no row.',
    '',
    line(head),
    line(head.map(() => '---')),
    ...rows.map(line),
    '',
  ].join('\n');
}

function row(ladder: Ladder, name: string, results: readonly Finished[]): string[] {
  const own = results.filter(({ recipe }) => recipe === name);
  const sound = own.filter(({ failed }) => !failed);
  const failures = own.length - sound.length;
  const seeds = name === 'teacher' ? '' : `${own.length}${failures === 0 ? '' : `, ${failures} diverged`}`;
  const cells = ladder.columns.map(({ metric, percent }) => {
    const found = sound.flatMap(({ metrics }) => (metrics[metric] === undefined ? [] : [metrics[metric]]));
    if (found.length === 0) return '';
    const [value, low, high] = (['value', 'low', 'high'] as const).map((part) => mean(found.map((figure) => figure[part])));
    return `${shown(value!, percent)} (${shown(low!, percent)} – ${shown(high!, percent)})`;
  });
  const { metric, percent } = ladder.columns[0]!;
  const values = sound.flatMap(({ metrics }) => (metrics[metric] === undefined ? [] : [metrics[metric].value]));
  const spread = values.length < 2 ? '' : `${shown(Math.min(...values), percent)} – ${shown(Math.max(...values), percent)}`;
  const plan = sound.find((result) => result.plan !== undefined)?.plan;
  const left = (exact: (layer: Plan['layers'][number]) => boolean): string =>
    plan === undefined
      ? name === 'teacher'
        ? '100 %'
        : ''
      : `${Math.round((100 * plan.layers.filter(exact).length) / plan.layers.length)} %`;
  const seconds = own.length === 0 || name === 'teacher' ? '' : mean(own.map((result) => result.seconds)).toFixed(0);
  return [
    name,
    seeds,
    ...cells,
    spread,
    left(({ activation }) => activation.kind === 'exact'),
    left(({ attention }) => attention.kind === 'softmax'),
    seconds,
  ];
}

const shown = (value: number, percent: boolean): string => (percent ? `${(100 * value).toFixed(2)} %` : value.toPrecision(4));
