import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Command } from 'commander';
import { readJson } from '../models/json.ts';
import { folderFiles } from '../node/files.ts';
import { type Device, onnxBackend } from '../node/onnx.ts';
import { loadRecipe, type Recipe, runRecipe } from '../train/index.ts';
import { deviceOption, jsonOption, progressOption } from './options.ts';
import { progress } from './progress.ts';
import { seconds } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface TrainFlags {
  readonly directory?: string;
  readonly data: string;
  readonly models: string;
  readonly device: Device;
  readonly resume?: true;
  readonly json?: true;
  readonly progress?: true;
}

const help = `
A recipe is a JSON file: a Llama trained from scratch on text (kind pretrain), or a polynomial student that learns to say what its
teacher says (kind distill); vision-pretrain and vision-distill do the same with vision transformers on labelled pictures. recipes/ has
many, which can be named without their path; one may extend another (extends), convert in stages (stages) and learn from a mixture of
data sets (data.mixture). The run's folder has its log, its curves (curves.svg) and, in the end, the checkpoint with a card. Control-C
saves the state and ends; --resume goes on to the same weights, bit for bit.

Examples:
  $ sotto train stories-teacher --data corpora --directory runs/models/stories-teacher
  $ sotto train stories-polynomial --data corpora --models runs/models
  $ sotto train stories-polynomial --data corpora --models runs/models --resume
  $ sotto train mnist-teacher --data corpora --directory runs/models/mnist-teacher
  $ sotto train polyvit-progressive-mnist --data corpora --models runs/models
`;

export function registerTrain(program: Command, terminal: Terminal): void {
  program
    .command('train')
    .summary('train or distil a model by a recipe')
    .description('Trains or distils a model by a recipe, in runs that can be stopped and continued.')
    .argument('<recipe>', 'a JSON file, or the name of a recipe that comes with the package')
    .option('--directory <folder>', "where the run lives (default: runs/ and the recipe's name)")
    .option('--data <folder>', "where the recipe's texts or pictures are looked up", '.')
    .option('--models <folder>', 'where the folders of teachers and writers are looked up', '.')
    .option('--resume', 'continue a run that stopped')
    .addOption(deviceOption())
    .addOption(jsonOption())
    .addOption(progressOption())
    .addHelpText('after', help)
    .action((recipe: string, flags: TrainFlags) => train(recipe, flags, terminal));
}

async function train(name: string, flags: TrainFlags, terminal: Terminal): Promise<void> {
  const recipe = await readRecipe(name, terminal);
  const directory = flags.directory ?? join('runs', recipe.name);
  const bar = progress(terminal, flags.progress === true);
  bar.show(`${recipe.name}: preparing`);
  const backend = onnxBackend({ providers: [flags.device] });
  let interrupted = false;
  const calm = terminal.onInterrupt(() => {
    interrupted = true;
    bar.show(`${recipe.name}: saving the state`);
  });
  try {
    await backend.ready();
    const { finished, step, log } = await runRecipe({
      recipe,
      directory,
      resume: flags.resume === true,
      data: folderFiles(flags.data),
      pictures: flags.data,
      models: (model) => folderFiles(join(flags.models, model)),
      backend,
      clock: { now: terminal.now },
      progress: ({ step: done, steps, loss, unit, unitsPerSecond, secondsRemaining }) => {
        const pace = `${Math.round(unitsPerSecond)} ${unit}/s, ${seconds(secondsRemaining)} left`;
        bar.show(`${recipe.name}: step ${done} of ${steps}, loss ${loss.toFixed(4)}, ${pace}`, done, steps);
      },
      stop: () => interrupted,
    });
    bar.end();
    const checkpoint = join(directory, 'checkpoint');
    const last = log.at(-1);
    if (flags.json)
      printJson(terminal, { recipe: recipe.name, directory, finished, step, ...(finished ? { checkpoint } : {}), last });
    else if (finished) terminal.out(`${recipe.name}: ${step} steps; the checkpoint is in ${checkpoint}\n`);
    else terminal.out(`${recipe.name}: stopped after ${step} of ${recipe.steps} steps; go on with --resume\n`);
  } finally {
    calm();
    bar.end();
    await backend.close();
  }
}

async function readRecipe(name: string, terminal: Terminal): Promise<Recipe> {
  const limitBytes = 2 ** 20;
  const shipped = folderFiles(join(terminal.packageFolder, 'recipes'));
  const isFile = (await stat(name).catch(() => undefined))?.isFile() === true;
  const path = isFile || /[/\\]|\.json$/.test(name);
  const own = path ? folderFiles(dirname(name)) : shipped;
  // A recipe may extend one beside it, or one that comes with the package.
  const read = async (base: string): Promise<unknown> => {
    const file = `${base}.json`;
    return readJson((await own.exists(file)) ? own : shipped, file, limitBytes);
  };
  const file = path ? basename(name) : `${name}.json`;
  return loadRecipe(await readJson(own, file, limitBytes), read, path ? name : file);
}
