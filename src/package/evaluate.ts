/**
 * `sotto/evaluate`: tasks by name and their metrics with intervals, over any backend that gives logits, and how far a model is from its teacher.
 */

export type { FloatParts } from '../evaluate/float.ts';
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
  type TextModel,
} from '../evaluate/index.ts';
export type { Layered, LayerSamples } from '../evaluate/layered.ts';
export type { Watch } from '../evaluate/model.ts';
export type { GlueExample, GlueModel } from '../lab/tasks/glue.ts';
export type { JudgeOptions } from '../lab/tasks/judge.ts';
export { type TaskResult, type TaskSources, taskNamed, taskNames } from '../lab/tasks/tasks.ts';
