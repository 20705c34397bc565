/** Conversion of published checkpoints into polynomial ones: fits, calibration, plans. */
export {
  type ActivationFit,
  fisherDamping,
  fitActivation,
  type Initialisation,
  initialisations,
  type Polynomials,
} from './activation.ts';
export { type AttentionFit, fitAttention, foldShifts } from './attention.ts';
export { type CalibrationOptions, calibrate } from './calibrate.ts';
export { type Conversion, type ConversionOptions, convertCheckpoint, type LayerReport } from './checkpoint.ts';

export {
  type Calibration,
  type CalibrationIds,
  type CalibrationPixels,
  llamaSubject,
  subjectOf,
  vitSubject,
} from './subjects.ts';
export { type ArgumentRange, chooseTable } from './tables.ts';
export { widenHeads } from './widen.ts';
