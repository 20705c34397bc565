import { SottoError } from '../errors/index.ts';
import type { LlamaConfig } from '../models/config.ts';
import { writesText } from '../models/families/index.ts';
import { type ModelFolder, openModelFolder, traceLlama } from '../models/index.ts';
import type { RunFolder } from './folder.ts';
import type { Trainer } from './loop.ts';
import type { DistillRecipe } from './recipe.ts';
import type { RunOptions } from './run-options.ts';
import { mixedSamples, type StudentText } from './samples.ts';
import { distillation } from './stages.ts';

/** Distils a Llama teacher on text; see `distillation`. */
export async function distill(
  recipe: DistillRecipe,
  folder: RunFolder,
  { samples, calibration }: StudentText,
  options: RunOptions,
): Promise<Trainer> {
  const teacher = await openModelFolder(options.models(recipe.teacher));
  checkFamily(teacher);
  return distillation({
    recipe,
    folder,
    options,
    teacher: teacher.checkpoint,
    calibration,
    samples: recipe.mixup === undefined ? samples : mixedSamples(samples, recipe.mixup, recipe.seed),
    trace: (config, plan, batch, outputs) => traceLlama(config as LlamaConfig, plan, { batch, tokens: recipe.context, outputs }),
    losses: (weights) => weights,
  });
}

function checkFamily({ checkpoint, config }: ModelFolder): void {
  if (writesText(config)) return;
  throw new SottoError('model', `a ${config.family} cannot be distilled yet`, {
    place: { file: checkpoint.files.name },
    remedy: 'name a llama checkpoint',
  });
}
