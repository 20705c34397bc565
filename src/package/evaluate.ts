/** `sotto/evaluate`: how far a converted model is from its teacher. */
export {
  type Agreement,
  type AgreementFigures,
  type AgreementOptions,
  agreement,
  type Evaluated,
} from '../evaluate/agreement.ts';
