/** Evaluation: how closely a student follows its teacher. */
export { type Agreement, type AgreementFigures, type AgreementOptions, agreement, type Evaluated } from './agreement.ts';
