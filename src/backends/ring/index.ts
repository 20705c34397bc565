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
export { type Direction, messagesOf, packedBytes } from './messages.ts';
export { defaultQuantisation, type QuantiseOptions, quantise } from './quantise.ts';
export { awaited, isLate, ReadyNodes, readiness, type Side } from './readiness.ts';
export { type Hop, type Message, mostFrameBytes, schedule } from './schedule.ts';
export type * from './types.ts';
