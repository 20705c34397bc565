/** Programs in the ring: operations, fixed-point lowering, hops and declared sizes. */

export { type QuantiseOptions, usualFraction, usualRing, wide } from './budget.ts';
export {
  correctionsOf,
  formOf,
  isDealt,
  maskedNodes,
  maskedWeights,
  materialOf,
  messagesOf,
  pieceBytes,
  piecesOf,
  rowOf,
  workOf,
} from './declared.ts';
export { type FixedValue, RangeGuard, type RoundingOffsets } from './exact.ts';
export { inputModulus, modulusOf, ofPinned } from './node.ts';
export { projected } from './operations/flags.ts';
export { type RingOperation, ringRows } from './operations/index.ts';
export { encodingBits, unencodable } from './operations/inputs.ts';
export { lookupRows, pointFunctionBytes } from './operations/lookup.ts';
export { piecewiseShape } from './operations/piecewise.ts';
export type { RingRow } from './operations/row.ts';
export { privateProgram, quantise } from './quantise.ts';
export { isFlag, outOfRange, withRangeFlags } from './range-flags.ts';
export { isLate, ReadyNodes, readiness, type Side } from './readiness.ts';
export { type Hop, type Message, mostFrameBytes, schedule } from './schedule.ts';
export { type Direction, type Material, type Piece, packedBytes, wordBitsOf } from './sizes.ts';
export type * from './types.ts';
export { Withheld } from './withheld.ts';
