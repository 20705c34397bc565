/** The secure backend: one online protocol, its roles and its sources of correlated randomness. */

export type { MaterialSource } from './correlations/bundle.ts';
export type { PointFunctionCipher } from './correlations/contract.ts';
export { fixedKeysHex } from './correlations/dpf.ts';
export { Ledger, type ScopeRecord } from './ledger.ts';
export type { Protocol } from './protocol.ts';
export { type ChannelEnd, memoryBundle, type Rehearsal, type RehearsalOptions, rehearse } from './rehearse.ts';
export * from './roles.ts';
export { clientLive, helperLive, serverLive } from './roles-live.ts';
export { type ClientRun, clientOnline, type ServerRun, serverOnline } from './roles-online.ts';
export { StreamWriter } from './stream.ts';
export { Trouble } from './trouble.ts';
