/**
 * `sotto/train`: a recipe, and the run that it describes (`runRecipe`, which resumes bit for bit); the step, losses and schedule that it is
 * made of; adapters; a tokenizer from texts.
 */

export type { Base } from '../train/base.ts';
export {
  type AdamW,
  adapters,
  type DistillRecipe,
  type LogLine,
  type Lora,
  type LossTerm,
  type LossWeights,
  loadRecipe,
  lossProgram,
  type Optimiser,
  type PretrainRecipe,
  type Progress,
  parseRecipe,
  type Recipe,
  type RunOptions,
  recipePlan,
  runRecipe,
  type StepOptions,
  schedule,
  type TokenizerOptions,
  type Trained,
  type TrainedTokenizer,
  trainBytePairTokenizer,
  trainingStep,
  type VisionDistillRecipe,
  type VisionPretrainRecipe,
  type VisionRecipe,
  withAdapters,
} from '../train/index.ts';
export type { Timer, Trainer, Weights } from '../train/loop.ts';
export type { Adapted } from '../train/lora.ts';
export type { LossOptions, Metric } from '../train/losses.ts';
export type { Sgd } from '../train/optimiser.ts';
export type { StudentRecipe } from '../train/stages.ts';
