/** Programs in the ring: fixed-point lowering, hops and declared sizes. */

export {
  correctionWidths,
  dealtOperations,
  type Material,
  maskedNodes,
  maskedWeights,
  materialOf,
  piecewiseShape,
  pointFunctionBytes,
  wordBitsOf,
} from './material.ts';
export { defaultQuantisation, type QuantiseOptions, quantise } from './quantise.ts';
export { type Direction, type Hop, type Message, messagesOf, mostFrameBytes, packedBytes, schedule } from './schedule.ts';
export type * from './types.ts';
