// `npm run results -- LADDER --data DATA --models MODELS --directory RUNS` trains a list of recipes over seeds by `sotto train`, scores
// each by `sotto eval` on data that no recipe reads, and prints (or, with --out, writes) a table. What is finished is skipped, what
// stopped is resumed: it can be ended and started again at any time.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { proportion } from '../src/evaluate/metric.ts';
import { loadRecipe, type Recipe } from '../src/train/index.ts';
import { gradientNotes, layerNotes, misread, positionNotes } from './ladder-notes.ts';
import { type Finished, ladderTable } from './ladder-table.ts';
import { type Ladder, ladders } from './ladders.ts';
import { root, sotto } from './sotto.ts';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: 'string', default: '.' },
    models: { type: 'string', default: '.' },
    directory: { type: 'string', default: 'runs/ladder' },
    seeds: { type: 'string', default: '1,2,3' },
    only: { type: 'string' },
    limit: { type: 'string' },
    'limit-steps': { type: 'string' },
    out: { type: 'string' },
    table: { type: 'boolean', default: false },
  },
});

/** How `sotto` ends where figures leave their range. */
const rangeExit = 5;

const json = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
const readShipped = async (name: string): Promise<unknown> => json(join(root, 'recipes', `${name}.json`));

/** The recipe with another seed and, for a trial, fewer steps. */
async function seeded(name: string, seed: number): Promise<Recipe> {
  const recipe = await loadRecipe(await readShipped(name), readShipped, name);
  const limit = flags['limit-steps'] === undefined ? Number.POSITIVE_INFINITY : Number(flags['limit-steps']);
  const steps = Math.min(recipe.steps, limit);
  if (!('stages' in recipe) || recipe.stages === undefined) return { ...recipe, seed, steps };
  const stages = recipe.stages.map((stage) => ({ ...stage, steps: Math.min(stage.steps, limit) }));
  return { ...recipe, seed, stages, steps: stages.reduce((sum, stage) => sum + stage.steps, 0) };
}

type Scores = Finished['metrics'];

async function scores(ladder: Ladder, model: string, folder: string): Promise<Scores> {
  const all: Scores = {};
  for (const { name, data: own, limit: rows = flags.limit } of ladder.tasks) {
    const data = own === undefined ? ladder.test(flags.data, folder) : join(flags.data, own);
    const limit = rows === undefined ? [] : ['--limit', String(rows)];
    const teacher = own === undefined ? ['--teacher', join(flags.models, ladder.teacher)] : [];
    const printed = await sotto(['eval', '--task', name, '--model', model, ...teacher, '--data', data, ...limit, '--json']);
    const { metrics } = JSON.parse(printed) as { metrics: Scores };
    for (const [metric, figure] of Object.entries(metrics)) all[own === undefined ? metric : `${name}/${metric}`] = figure;
  }
  return all;
}

/** Trains and scores one recipe with one seed, unless that is done. */
async function finished(ladder: Ladder, name: string, seed: number): Promise<Finished> {
  const recipe = await seeded(name, seed);
  const folder = join(flags.directory, name, `seed-${seed}`);
  const path = join(folder, 'result.json');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'recipe.json');
  const stored = JSON.parse(JSON.stringify(recipe)) as unknown;
  if (existsSync(file) && !isDeepStrictEqual(json(file), stored))
    throw new Error(`${folder} holds a run of another recipe of this name: move it away`);
  if (existsSync(path)) return withHeldOut(json(path) as Finished, join(folder, 'run'));
  writeFileSync(file, `${JSON.stringify(recipe, null, 2)}\n`);
  const run = join(folder, 'run');
  const begun = existsSync(join(run, 'run.json')) ? ['--resume'] : [];
  console.error(`${name}, seed ${seed}`);
  const place = ['--data', flags.data, '--models', flags.models, '--directory', run];
  const diverged = await sotto(['train', file, ...place, ...begun, '--json']).then(
    () => false,
    (cause: { exitCode?: number }) => {
      // A loss that is no number is a finding: the table says so.
      if (cause.exitCode === rangeExit) return true;
      throw cause;
    },
  );
  const keep = (result: Finished): Finished => {
    writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
    return withHeldOut(result, run);
  };
  const common = { recipe: name, seed, seconds: lastLine(run).seconds ?? 0 };
  // It would diverge again: every step is decided by the recipe and the seed.
  if (diverged) return keep({ ...common, failed: true, metrics: {}, plan: undefined });
  const checkpoint = join(run, 'checkpoint');
  const config = json(join(checkpoint, 'config.json')) as { sotto?: Finished['plan'] };
  const metrics = await scores(ladder, checkpoint, flags.directory);
  return keep({ ...common, failed: false, metrics, plan: config.sotto });
}

/** The last line of a run's log. */
function lastLine(run: string): Readonly<Record<string, number>> {
  const log = join(run, 'log.jsonl');
  const last = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').at(-1) : undefined;
  return last === undefined || last === '' ? {} : (JSON.parse(last) as Record<string, number>);
}

/** Shares of the pictures that a run held back from training, as its last evaluation counted them. */
function heldOutShares(run: string): Scores {
  const { recipe } = json(join(run, 'run.json')) as { recipe: { data: { heldOut?: number } } };
  const line = lastLine(run);
  const count = recipe.data.heldOut;
  if (count === undefined) return {};
  const names = ['heldOut/accuracy', 'heldOut/fidelity'].filter((name) => line[name] !== undefined);
  return Object.fromEntries(names.map((name) => [name, proportion(Math.round(line[name]! * count), count) as Scores[string]]));
}

/** The teacher beside itself: its own figures on the same data. */
async function teacherRow(ladder: Ladder): Promise<Finished> {
  const path = join(flags.directory, `${ladder.name}-teacher.json`);
  const run = join(flags.models, dirname(ladder.teacher));
  if (existsSync(path)) return withHeldOut(json(path) as Finished, run);
  mkdirSync(flags.directory, { recursive: true });
  const metrics = await scores(ladder, join(flags.models, ladder.teacher), flags.directory);
  const result: Finished = { recipe: 'teacher', seed: 0, failed: false, metrics, plan: undefined, seconds: 0 };
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
  return withHeldOut(result, run);
}

const withHeldOut = (result: Finished, run: string): Finished =>
  existsSync(join(run, 'run.json')) ? { ...result, metrics: { ...result.metrics, ...heldOutShares(run) } } : result;

const [wanted] = positionals;
const ladder = ladders.find(({ name }) => name === wanted);
if (ladder === undefined) {
  console.error(`name one of ${ladders.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}
await ladder.prepare?.(flags.data, flags.directory);
const names = flags.only === undefined ? ladder.recipes : flags.only.split(',');
const seeds = flags.seeds.split(',').map(Number);
const results = [await teacherRow(ladder)];
const { fitted } = ladder;
const page = async (): Promise<string> => {
  const parts = [
    ladderTable(ladder, results),
    ...(ladder.byPosition === true ? [positionNotes(results)] : []),
    gradientNotes(flags.directory, results),
    await layerNotes(flags.directory, results),
  ];
  if (fitted !== undefined) {
    const [data, teacher] = [ladder.test(flags.data, flags.directory), join(flags.models, ladder.teacher)];
    const picture = join(flags.directory, `${ladder.name}-misread.png`);
    parts.push(await misread({ directory: flags.directory, teacher, data, fitted, seed: seeds[0]!, picture }));
  }
  return parts.filter((part) => part !== '').join('\n');
};
for (const seed of seeds)
  for (const name of names) {
    const recipe = await seeded(name, seed);
    const drawn = 'conversion' in recipe && recipe.conversion.initialisation === 'naive';
    // Without steps nothing depends on the seed.
    if (recipe.steps === 0 && !drawn && seed !== seeds[0]) continue;
    const done = existsSync(join(flags.directory, name, `seed-${seed}`, 'result.json'));
    if (flags.table && !done) continue;
    results.push(await finished(ladder, name, seed));
    if (flags.out !== undefined) writeFileSync(flags.out, ladderTable(ladder, results));
  }
if (flags.out === undefined) console.log(await page());
else writeFileSync(flags.out, await page());
