/** Evaluation: a model over any backend, metrics with intervals, and how closely a student follows its teacher. */
export { folderClasses, numberedClasses } from '../models/class-names.ts';
export { FloatPictureModel, FloatTextModel, pixelsOf } from './float.ts';
export type { Layered, LayerSamples } from './layered.ts';
export { type Metric, type Metrics, mean } from './metric.ts';
export type { PictureModel, Prediction, RunCost, TextModel } from './model.ts';
export { documentIds, readDocuments } from './perplexity.ts';
export { compareIds, type LabelledPicture } from './teacher.ts';
