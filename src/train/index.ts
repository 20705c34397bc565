/** Training: recipes, runs that resume bit for bit, and their parts. */

export { type TokenizerOptions, type TrainedTokenizer, trainBytePairTokenizer } from '../lab/tokenizer.ts';
export { plainBase, readBase } from './base.ts';
export { packNf4, packScales, scaleLevels, unpackNf4, unpackScales } from './codes.ts';
export { batches, batchFeeds, encodeDocuments, splitDocuments, splitItems } from './data.ts';
export { fixedInLoop } from './fixed.ts';
export type { LogLine } from './folder.ts';
export { loadRecipe } from './inherit.ts';
export type { Progress } from './loop.ts';
export { adapters, type Lora, withAdapters } from './lora.ts';
export { type LossTerm, type LossWeights, lossProgram } from './losses.ts';
export {
  type AdamW,
  type Optimiser,
  optimiserStates,
  passes,
  type StepOptions,
  schedule,
  type Trained,
  trainingStep,
} from './optimiser.ts';
export { pictureSamples, splitPictures } from './pictures.ts';
export {
  type DistillRecipe,
  type PretrainRecipe,
  parseRecipe,
  type Recipe,
  type VisionDistillRecipe,
  type VisionPretrainRecipe,
  type VisionRecipe,
} from './recipe.ts';
export { runRecipe } from './run.ts';
export type { RunOptions } from './run-options.ts';
export type { Samples } from './samples.ts';
export { recipePlan } from './stages.ts';
export { write, writeTexts } from './write.ts';
