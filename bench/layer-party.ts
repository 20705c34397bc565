// One role of the layer bench, in a process of its own: setup once, then offline and online `runs` times over Unix sockets.
import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { weightKey } from '../src/backends/mpc/correlations/weights.ts';
import {
  clientOffline,
  clientOnline,
  clientSetup,
  dealerOffline,
  dealerSetup,
  type Ledger,
  memoryBundle,
  serverOffline,
  serverOnline,
  serverSetup,
} from '../src/backends/mpc/index.ts';
import { setupFrame } from '../src/backends/mpc/roles.ts';
import { StreamReader } from '../src/backends/mpc/stream.ts';
import { maskedWeights, packedBytes, type RingNodeOf, type RingProgram } from '../src/backends/ring/index.ts';
import { openSafetensors, readTensor } from '../src/models/safetensors.ts';
import type { Channel } from '../src/net/contract.ts';
import { folderFiles } from '../src/node/files.ts';
import { connect, listen } from '../src/node/sockets.ts';
import { nodePlatform } from '../src/party/platform.ts';
import { size, type Tensor } from '../src/program/index.ts';
import { type LayerCase, traceLayer } from './layer-case.ts';

export interface LayerOrder {
  readonly role: 'client' | 'server' | 'dealer';
  readonly directory: string;
  readonly layer: LayerCase;
  /** Connections lead through a relay that listens beside every party. */
  readonly relayed?: boolean;
}
export interface LayerResult {
  readonly role: LayerOrder['role'];
  readonly setupSeconds: number;
  /** Per run. */
  readonly onlineSeconds: number[];
  readonly offlineSeconds: number[];
  readonly computeSeconds: number[];
  /** What all threads of the process ran online: independent of who else uses the machine. */
  readonly processorSeconds: number[];
  readonly sentBytes: { readonly setup: number; readonly offline: number; readonly online: number };
  readonly hops: number;
  /** Seconds of compute, and bytes both ways, by scope. */
  readonly scopes: Record<string, number>;
  readonly scopeBytes: Record<string, number>;
  readonly peakKernelBytes: number;
  readonly peakResidentBytes: number;
  readonly output?: Float64Array;
}

const timeoutMilliseconds = 120_000;
const barrierFrame = 9;

/** Both sides are at the same place before the clock starts. */
async function barrier(channel: Channel): Promise<void> {
  await channel.send(barrierFrame, new Uint8Array(1));
  await channel.receive();
}

async function open({ role, directory, relayed }: LayerOrder): Promise<Channel[]> {
  const at = (name: string): string => `unix:${directory}/${name}.socket`;
  const reach = async (name: string): Promise<Channel> => {
    const channel = await connect({ address: at(relayed ? `near-${name}` : name), peer: name, timeoutMilliseconds });
    return channel;
  };
  if (role === 'client') return [await reach('server'), await reach('dealer')];
  const listener = await listen({ address: at(role), peer: 'client', timeoutMilliseconds });
  if (role === 'server') return [await reach('dealer-server'), await listener.accept({ peer: 'client' })];
  const forServer = await listen({ address: at('dealer-server'), peer: 'server', timeoutMilliseconds });
  return [await forServer.accept({ peer: 'server' }), await listener.accept({ peer: 'client' })];
}

/** Reads a tensor whenever it is asked for. */
async function storedWeights(path: string): Promise<(name: string) => Promise<Tensor>> {
  const files = folderFiles(dirname(path));
  const { tensors } = await openSafetensors(files, basename(path));
  return async (name) => ({ shape: tensors.get(name)!.shape, values: await readTensor(files, tensors.get(name)!) });
}

/** The dealer's masked weights: in memory, or in files where the server's are in one. */
async function dealer(
  order: LayerOrder,
  program: RingProgram,
  channels: { server: Channel },
): Promise<ReadonlyMap<string, Uint8Array>> {
  if (order.layer.weightsFile === undefined)
    return await dealerSetup(nodePlatform(program.ring.bits), { program, context: [] }, channels);
  const nodes = maskedWeights(program).map((index) => program.nodes[index] as RingNodeOf<'serverInput'>);
  const bytesOf = (node: RingNodeOf<'serverInput'>): number => packedBytes(size(node.shape), program.ring.bits);
  const stream = new StreamReader(
    channels.server,
    setupFrame,
    nodes.reduce((sum, node) => sum + bytesOf(node), 0),
  );
  const paths = new Map<string, string>();
  for (const node of nodes) {
    const path = join(order.directory, `masked-${paths.size}`);
    const file = openSync(path, 'w', 0o600);
    for (let left = bytesOf(node); left > 0; left -= 2 ** 20) writeSync(file, await stream.read(Math.min(left, 2 ** 20)));
    closeSync(file);
    paths.set(weightKey(node), path);
  }
  return new FileMap(paths);
}

/** A map whose values are files, read when they are asked for. */
class FileMap extends Map<string, Uint8Array> {
  readonly #paths: ReadonlyMap<string, string>;
  constructor(paths: ReadonlyMap<string, string>) {
    super();
    this.#paths = paths;
  }
  override get(key: string): Uint8Array {
    return readFileSync(this.#paths.get(key)!);
  }
}

/** Linux tells a process's own peak; the usual figure begins with that of the process that started it. */
function peakResidentBytes(): number {
  const status = existsSync('/proc/self/status') ? readFileSync('/proc/self/status', 'utf8') : '';
  const own = /VmHWM:\s+(\d+) kB/.exec(status)?.[1];
  return 1024 * (own === undefined ? process.resourceUsage().maxRSS : Number(own));
}

async function run(order: LayerOrder): Promise<LayerResult> {
  const { layer, role } = order;
  const { ringProgram: program, weights, input } = traceLayer(layer);
  const platform = nodePlatform(layer.ring.bits);
  const session = { program, context: [] };
  const [first, second] = (await open(order)) as [Channel, Channel];
  const sent = (): number => first.counters.sentBytes + second.counters.sentBytes;
  const stored = layer.weightsFile === undefined ? undefined : await storedWeights(layer.weightsFile);
  const tensors = role === 'server' && stored === undefined ? weights() : new Map();
  const weight = stored ?? (async (name: string) => tensors.get(name)!);
  let start = sent();
  const began = platform.now();
  const channels =
    role === 'client' ? { server: first, dealer: second, client: first } : { dealer: first, client: second, server: first };
  const maskSeed = role === 'client' ? await clientSetup(platform, session, channels) : new Uint8Array(0);
  const masked = role === 'dealer' ? await dealer(order, program, channels) : new Map<string, Uint8Array>();
  if (role === 'server') await serverSetup(platform, session, channels, weight);
  const setup = sent() - start;
  const setupSeconds = (platform.now() - began) / 1000;
  const result = {
    onlineSeconds: [] as number[],
    offlineSeconds: [] as number[],
    computeSeconds: [] as number[],
    processorSeconds: [] as number[],
  };
  let [offline, online] = [0, 0];
  let ledger: Ledger | undefined;
  let output: Float64Array | undefined;
  // Made before the clock starts: drawing it is no part of a run.
  const given = role === 'client' ? input() : undefined;
  for (let at = 0; at < layer.runs; at++) {
    // The dealer waits for the client: it would else make the next bundle while this one is used.
    if (role === 'client') await barrier(channels.dealer);
    if (role === 'dealer') await barrier(channels.client);
    start = sent();
    let clock = platform.now();
    const bundle = memoryBundle();
    if (role === 'client') await clientOffline(platform, session, channels, maskSeed, bundle.sink);
    else if (role === 'server') await serverOffline(platform, session, channels, bundle.sink);
    else await dealerOffline(platform, session, channels, masked);
    result.offlineSeconds.push((platform.now() - clock) / 1000);
    offline = sent() - start;
    if (role === 'dealer') continue;
    const channel = role === 'client' ? channels.server : channels.client;
    await barrier(channel);
    start = sent();
    clock = platform.now();
    const before = process.cpuUsage();
    if (role === 'client')
      ledger = await clientOnline(platform, session, {
        channel,
        bundle: bundle.source,
        input: async () => given!,
        output: (_, value) => {
          output = value.values as Float64Array;
        },
      });
    else ledger = await serverOnline(platform, session, { channel, bundle: bundle.source, weight });
    result.onlineSeconds.push((platform.now() - clock) / 1000);
    const { user, system } = process.cpuUsage(before);
    result.processorSeconds.push((user + system) / 1e6);
    result.computeSeconds.push(ledger.seconds);
    online = sent() - start;
  }
  await Promise.all([first, second].map((channel) => channel.close()));
  return {
    role,
    setupSeconds,
    ...result,
    sentBytes: { setup, offline, online },
    hops: ledger?.hops ?? 0,
    scopes: Object.fromEntries([...(ledger?.scopes ?? [])].map(([scope, record]) => [scope, record.seconds])),
    scopeBytes: Object.fromEntries(
      [...(ledger?.scopes ?? [])].map(([scope, record]) => [scope, record.clientToServerBytes + record.serverToClientBytes]),
    ),
    peakKernelBytes: platform.kernels.peakBytes,
    peakResidentBytes: peakResidentBytes(),
    ...(output === undefined ? {} : { output }),
  };
}

process.once('message', (order: LayerOrder) => {
  run(order).then(
    (result) => process.send!(result, () => process.exit(0)),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
});
