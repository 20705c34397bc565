/** Training: recipes, runs that resume bit for bit, and their parts. */
export { type Base, type Packing, plainBase, readBase } from './base.ts';
export { packNf4, packScales, scaleLevels, unpackNf4, unpackScales } from './codes.ts';
export { type Batch, batches, batchFeeds, type Documents, encodeDocuments, splitDocuments, splitItems } from './data.ts';
export { type FixedInLoop, fixedInLoop } from './fixed.ts';
export type { LogLine } from './folder.ts';
export { loadRecipe } from './inherit.ts';
export type { Progress, Timer, Trainer } from './loop.ts';
export { type Adapted, adapters, type Lora, withAdapters } from './lora.ts';
export { type LossTerm, type LossWeights, lossProgram, type Metric } from './losses.ts';
export {
  type AdamW,
  type Optimiser,
  optimiserStates,
  type Pass,
  passes,
  passStates,
  type StepOptions,
  schedule,
  type Trained,
  trainingStep,
} from './optimiser.ts';
export { type PictureSplit, pictureSamples, readPictures, splitPictures } from './pictures.ts';
export {
  type DistillRecipe,
  type PretrainRecipe,
  parseRecipe,
  type Recipe,
  type VisionDistillRecipe,
  type VisionPretrainRecipe,
  type VisionRecipe,
} from './recipe.ts';
export { readTexts, runRecipe } from './run.ts';
export type { RunOptions } from './run-options.ts';
export type { Samples } from './samples.ts';
export { recipePlan } from './stages.ts';
export { type TokenizerOptions, type TrainedTokenizer, trainBytePairTokenizer } from './tokenizer.ts';
export { type Writing, write, writeTexts } from './write.ts';
