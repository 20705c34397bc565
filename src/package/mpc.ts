/**
 * `sotto/mpc`: private inference. `launchLocal` runs client, server and dealer as three processes of this machine; `runClient`,
 * `runServer` and `runDealer` are one party each; `rehearse` is the whole protocol in one process; `simulate` its exact integers.
 */
export { type RoundingOffsets, type SimulationOptions, simulate } from '../backends/fixed/index.ts';
export {
  Ledger,
  type MaterialSource,
  memoryBundle,
  type Platform,
  type PointFunctionCipher,
  type Rehearsal,
  type RehearsalOptions,
  rehearse,
  type ScopeRecord,
} from '../backends/mpc/index.ts';
export {
  defaultQuantisation,
  type Material,
  type QuantiseOptions,
  quantise,
  type RingParameters,
  type RingProgram,
  wordBitsOf,
} from '../backends/ring/index.ts';
export { createWasmKernels, type RingKernels, type WasmOptions } from '../kernels/index.ts';
export { checkRanges } from '../models/ranges.ts';
export * from '../party/index.ts';
export { nodePlatform } from '../party/platform.ts';
export { type Agreement, type AgreementRequest, agree, type BackendAgreement } from './agreement.ts';
