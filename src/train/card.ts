import { isPolynomial, type Plan } from '../models/index.ts';
import type { LogLine } from './folder.ts';
import type { Recipe } from './recipe.ts';

/** The README.md of a run's checkpoint: what it is, how it was made, what it reached on what was held back. */
export function modelCard(
  recipe: Recipe,
  log: readonly LogLine[],
  student?: { readonly plan: Plan; readonly problem: string | undefined },
): string {
  const last = log.findLast((line) => Object.keys(line).some((name) => name.startsWith('heldOut/')));
  const figures = Object.entries(last ?? {}).filter(([name]) => name.startsWith('heldOut/'));
  const seconds = log.at(-1)?.seconds;
  const rows: [string, string][] = [
    ['recipe', `\`${recipe.name}\` (${recipe.kind})`],
    ...('teacher' in recipe ? [['teacher', `\`${recipe.teacher}\``] as [string, string]] : []),
    ['seed', String(recipe.seed)],
    ['steps', `${recipe.steps}, of ${recipe.batch * (recipe.accumulate ?? 1)} rows or pictures`],
    ...(seconds === undefined ? [] : [['seconds', seconds.toFixed(0)] as [string, string]]),
    ...(student === undefined ? [] : [['plan', planLine(student.plan)] as [string, string]]),
    ...figures.map(([name, value]): [string, string] => [`held out: ${name.slice(8)}`, value.toPrecision(5)]),
  ];
  const lines = [
    `# ${recipe.name}`,
    '',
    'Made by `sotto train`; `run.json` beside this folder has the whole recipe, `log.jsonl` every step.',
    '',
    `    sotto train ${recipe.name}${'teacher' in recipe ? ' --models MODELS' : ''} --data DATA`,
    '',
    '| | |',
    '|---|---|',
    ...rows.map(([name, value]) => `| ${name} | ${value} |`),
    '',
    ...(student?.problem === undefined
      ? []
      : ['No table spans its ranges, so that it runs in floating point only:', '', `    ${student.problem}`, '']),
  ];
  return lines.join('\n');
}

function planLine(plan: Plan): string {
  const count = (of: (layer: Plan['layers'][number]) => boolean): number => plan.layers.filter(of).length;
  const quadratic = count(({ activation }) => activation.kind === 'quadratic');
  const quartic = count(({ activation }) => activation.kind === 'quartic');
  const activations = quartic === 0 ? `quadratics in ${quadratic}` : `quadratics in ${quadratic} and quartics in ${quartic}`;
  const power = count(({ attention }) => attention.kind === 'power');
  const all = plan.layers.length;
  const whole = isPolynomial(plan) ? ' (fully polynomial)' : '';
  return `${plan.name ?? 'unnamed'}${whole}: ${activations} of ${all} layers, power attention in ${power}`;
}
