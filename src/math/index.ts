/** Pure numerics and the contracts of randomness. */
export { erf } from './erf.ts';
export { PolynomialMoments, solvePositive, staticFit } from './fit.ts';
export {
  inversePower,
  newtonDistance,
  newtonIterations,
  newtonLine,
  type RowFunction,
  rowValue,
} from './newton.ts';
export { type Pseudorandom, pseudorandom } from './pseudorandom.ts';
export type * from './random.ts';
export { clusteredRatio, type Estimate, estimate, quantile, ranks } from './statistics.ts';
