/**
 * `sotto/mpc`: private inference. `launchLocal` runs client, server and dealer as three processes of this machine; `runClient`,
 * `runServer` and `runDealer` are one party each, `serveModel` and `serveDealer` stand for many clients; `rehearse` is the whole protocol in one
 * process, `simulate` its exact integers, and `agree` compares them with the clear model.
 */
export { type RoundingOffsets, type SimulationOptions, simulate } from '../backends/fixed/index.ts';
export type { MaterialSource } from '../backends/mpc/correlations/bundle.ts';
export type { EncryptBlocks } from '../backends/mpc/correlations/dpf.ts';
export {
  memoryBundle,
  type Platform,
  type PointFunctionCipher,
  type Rehearsal,
  type RehearsalOptions,
  rehearse,
  type ScopeRecord,
} from '../backends/mpc/index.ts';
export type { Ledger } from '../backends/mpc/ledger.ts';
export type { ChannelEnd } from '../backends/mpc/rehearse.ts';
export type { MaterialSink } from '../backends/mpc/roles.ts';
export {
  type Material,
  type QuantiseOptions,
  quantise,
  type RingParameters,
  type RingProgram,
  wordBitsOf,
} from '../backends/ring/index.ts';
export type { RingNode } from '../backends/ring/operations/index.ts';
export type { Direction } from '../backends/ring/sizes.ts';
export type { EncodedText, Prompt, TextAsk } from '../jobs/index.ts';
export type { PaddingPolicy } from '../jobs/lengths.ts';
export type { Block, WordBits } from '../kernels/contract.ts';
export { createWasmKernels, type RingKernels, type WasmOptions } from '../kernels/index.ts';
export type { TreeKernels } from '../kernels/trees.ts';
export type { EmbeddingTable } from '../models/public-embedding.ts';
export { checkRanges } from '../models/ranges.ts';
export type { Limits, RunShape } from '../party/admission.ts';
export type { AskPolicy, Reveal } from '../party/asking.ts';
export type { BundleHeader, BundleOwner, StoredHeader } from '../party/bundle-header.ts';
export type { Minutes } from '../party/bundle-id.ts';
export type { BundleEntry, BundleExpectation, BundleReader, BundleStore, BundleWriter } from '../party/bundles.ts';
export type { Measuring } from '../party/calibration.ts';
export type { EmbeddingSource, PictureTask, TextTask, WriteTask } from '../party/client-task.ts';
export type { Control, ControlType, RunRequest } from '../party/control.ts';
export {
  type ClientOptions,
  type ClientReport,
  type ClientTask,
  type DealerOptions,
  type DealServiceOptions,
  type LaunchOptions,
  type LaunchResult,
  launchLocal,
  modelManifestHash,
  openBundleStore,
  type Role,
  type RoleReport,
  runClient,
  runDealer,
  runServer,
  type ScopeReport,
  type ServeOptions,
  type ServerOptions,
  type Service,
  serveDealer,
  serveModel,
} from '../party/index.ts';
export type { LinkToken } from '../party/link-token.ts';
export type { Log, LogFields, LogLevel } from '../party/log.ts';
export { nodePlatform } from '../party/platform.ts';
export type { Phase } from '../party/report.ts';
export type { TracingLimits } from '../party/tracing.ts';
export { type Agreement, type AgreementRequest, agree, type BackendAgreement } from './agreement.ts';
