/**
 * `sotto/convert`: published checkpoints into polynomial ones. `openModel` and `convertModel` are the usual way; the fits, the choice of a table
 * and the calibration that it is made of are here for who makes a way of his own.
 */

export type { Degree, FitOptions, Polynomials } from '../convert/activation.ts';
export type { AttentionShift } from '../convert/attention.ts';
export {
  type ActivationFit,
  type ArgumentRange,
  type AttentionFit,
  type Calibration,
  type CalibrationIds,
  type CalibrationOptions,
  type CalibrationPixels,
  type Conversion,
  type ConversionOptions,
  calibrate,
  chooseTable,
  convertCheckpoint,
  fitActivation,
  fitAttention,
  type Initialisation,
  type LayerReport,
  subjectOf,
  widenHeads,
} from '../convert/index.ts';
export type { Subject, Weights } from '../convert/observe.ts';
export type { CalibrationTexts } from '../convert/subjects.ts';
export type { TableOptions } from '../convert/tables.ts';
export type { Source } from '../convert/widen.ts';
export { type ConvertOptions, convertModel, type WriteOptions, writeConversion } from './conversion.ts';
export { type LoadedModel, openModel } from './model.ts';
