/** Conversion of published checkpoints into polynomial ones: fits, calibration, plans. */
export {
  type ActivationFit,
  fisherDamping,
  fitActivation,
  type Initialisation,
  initialisations,
  type Polynomials,
} from './activation.ts';
export { type AttentionFit, type AttentionShift, fitAttention, foldShifts } from './attention.ts';
export { type CalibrationOptions, calibrate } from './calibrate.ts';
export { type Conversion, type ConversionOptions, convertCheckpoint, type LayerReport } from './checkpoint.ts';
export type { Subject, Weights } from './observe.ts';
export {
  type Calibration,
  type CalibrationIds,
  type CalibrationPixels,
  llamaSubject,
  subjectOf,
  vitSubject,
} from './subjects.ts';
export { type ArgumentRange, chooseTable, interpolationError } from './tables.ts';
export { widenHeads } from './widen.ts';
