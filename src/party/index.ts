/** Parties as processes: roles, sessions, bundles, and a launcher for one machine. */
export { openBundleStore } from './bundles.ts';
export { type NodeClientOptions as ClientOptions, runClient } from './client-node.ts';
export type { ClientTask } from './client-task.ts';
export { type DealServiceOptions, serveDealer } from './deal-service.ts';
export { type DealerOptions, runDealer } from './dealer.ts';
export { embeddingFrom } from './embedding.ts';
export { readImage } from './image.ts';
export { parseManifestHash } from './known-manifests.ts';
export { type LaunchOptions, type LaunchResult, launchLocal } from './launch.ts';
export { manifestHash, readManifest } from './manifest.ts';
export { modelManifestHash } from './model.ts';
export type { ClientReport, Role, RoleReport, ScopeReport } from './report.ts';
export { type ServeOptions, serveModel } from './serve.ts';
export { runServer, type ServerOptions } from './server.ts';
export { plainWarning, type Service } from './service.ts';
