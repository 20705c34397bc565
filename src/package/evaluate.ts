/**
 * `sotto/evaluate`: tasks by name and their metrics with intervals, over any backend that gives logits, and how far a model is from its teacher.
 */

export type { FloatParts } from '../evaluate/float.ts';
export type { GlueExample, GlueModel } from '../evaluate/glue.ts';
export {
  compareIds,
  FloatPictureModel,
  FloatTextModel,
  type LabelledPicture,
  type Metric,
  type Metrics,
  type PictureModel,
  type Prediction,
  type RunCost,
  readDocuments,
  type TaskResult,
  type TaskSources,
  type TextModel,
  taskNamed,
  taskNames,
} from '../evaluate/index.ts';
export type { JudgeOptions } from '../evaluate/judge.ts';
export type { Layered, LayerSamples } from '../evaluate/layered.ts';
export type { Watch } from '../evaluate/model.ts';
