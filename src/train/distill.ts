import { SottoError } from '../errors/index.ts';
import { type Checkpoint, openCheckpoint } from '../models/checkpoint.ts';
import { type LlamaConfig, type ModelConfig, parseModelConfig } from '../models/config.ts';
import { traceLlama } from '../models/index.ts';
import { loadTokenizer } from '../models/tokenizer.ts';
import { batches, type Documents, encodeDocuments } from './data.ts';
import type { RunFolder } from './folder.ts';
import type { Trainer } from './loop.ts';
import type { DistillRecipe } from './recipe.ts';
import type { RunOptions, Texts } from './run.ts';
import { textSamples } from './samples.ts';
import { distillation } from './stages.ts';

/** Distils a Llama teacher on text; see `distillation`. */
export async function distill(recipe: DistillRecipe, folder: RunFolder, texts: Texts, options: RunOptions): Promise<Trainer> {
  const teacherFiles = options.models(recipe.teacher);
  const teacher = await openCheckpoint(teacherFiles);
  llamaConfig(teacher);
  const tokenizer = await loadTokenizer(teacherFiles);
  const documents = encodeDocuments(texts.train, tokenizer);
  return distillation({
    recipe,
    folder,
    options,
    teacher,
    calibration: calibrationIds(recipe, documents),
    samples: textSamples(recipe, { train: documents, heldOut: encodeDocuments(texts.heldOut, tokenizer) }),
    trace: (config, plan, batch, outputs) => traceLlama(config as LlamaConfig, plan, { batch, tokens: recipe.context, outputs }),
    losses: (weights) => weights,
  });
}

function llamaConfig(checkpoint: Checkpoint): ModelConfig {
  const config = parseModelConfig(checkpoint.config);
  if (config.family === 'llama') return config;
  throw new SottoError('model', `a ${config.family} cannot be distilled yet`, {
    place: { file: checkpoint.files.name },
    remedy: 'name a llama checkpoint',
  });
}

/** Rows of training text, spread by the recipe's seed, at the recipe's full context. */
function calibrationIds(recipe: DistillRecipe, documents: Documents) {
  const { batch, context, seed, conversion } = recipe;
  const size = Math.min(batch, conversion.calibrationRows, 4);
  const batchAt = batches(documents, { batch: size, tokens: context, seed: seed + 1 });
  const rows = Array.from({ length: Math.floor(conversion.calibrationRows / size) }, (_, at) => batchAt(at).ids).flatMap((ids) =>
    Array.from({ length: size }, (_, i) => ids.slice(i * context, (i + 1) * context)),
  );
  return { rows, batch: size };
}
