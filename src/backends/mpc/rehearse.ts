import type { Channel } from '../../net/contract.ts';
import { memoryPair } from '../../net/memory.ts';
import type { Tensor } from '../../program/index.ts';
import type { Costs, SentBytes, Setting } from '../cost/index.ts';
import type { RingProgram } from '../ring/index.ts';
import type { MaterialSource } from './correlations/bundle.ts';
import type { Ledger } from './ledger.ts';
import type { Protocol } from './protocol.ts';
import {
  clientOffline,
  clientSetup,
  dealerOffline,
  dealerSetup,
  type MaterialSink,
  type Platform,
  type Session,
  serverOffline,
  serverSetup,
} from './roles.ts';
import { clientLive, helperLive, serverLive } from './roles-live.ts';
import { type ClientRun, clientOnline, type ServerRun, serverOnline } from './roles-online.ts';

/**
 * A whole private run in one process, which then holds the secrets of all parties: for tests and for measuring, never for privacy.
 */
export interface RehearsalOptions {
  readonly program: RingProgram;
  /** `dealer` where absent. In the helper setting the dealer's platform is the helper's. */
  readonly setting?: Setting;
  readonly platforms: { readonly client: Platform; readonly server: Platform; readonly dealer: Platform };
  /** The server's tensors, as real numbers of the program's shapes. */
  readonly weight: (name: string) => Promise<Tensor>;
  /** The client's tensors: real numbers or indices. Asked for after every output that came before it was given. */
  readonly input: (name: string) => Promise<Tensor>;
  /** Each output by name as the client opens it. */
  readonly output?: (name: string, value: Tensor) => void;
  /** In the helper setting: material that a party keeps for later. */
  readonly keptBytes?: number;
  /** Lets a test watch, or falsify, what the client's operations do; the run uses what it returns. */
  readonly observeClient?: (protocol: Protocol) => Protocol;
  /** The same of the server's. */
  readonly observeServer?: (protocol: Protocol) => Protocol;
  /** Lets a test record what one end of a channel carries; the run uses what it returns. */
  readonly observeChannel?: (name: ChannelEnd, channel: Channel) => Channel;
}

/** An end of a channel, by who holds it and who or what is at the other end. */
export type ChannelEnd =
  | 'clientServer'
  | 'serverClient'
  | 'clientDealer'
  | 'dealerClient'
  | 'serverDealer'
  | 'dealerServer'
  | 'clientMaterial'
  | 'serverMaterial';

/** What a rehearsed run gave: the outputs as real numbers, and what it cost. */
export interface Rehearsal {
  readonly outputs: Map<string, Tensor>;
  /** As counted on the channels. */
  readonly measured: Costs;
  readonly client: Ledger;
  readonly server: Ledger;
}

/** Bytes appended and read back: a bundle that lives and dies with its run. */
export function memoryBundle(): { sink: MaterialSink; source: MaterialSource } {
  let bytes = new Uint8Array(1024);
  let filled = 0;
  return {
    async sink(part) {
      if (filled + part.length > bytes.length) {
        const grown = new Uint8Array(Math.max(filled + part.length, 2 * bytes.length));
        grown.set(bytes.subarray(0, filled));
        bytes = grown;
      }
      bytes.set(part, filled);
      filled += part.length;
    },
    source: { read: async (offset, length) => bytes.slice(offset, offset + length) },
  };
}

/**
 * All three roles in one process, over channels in memory: for the library's example, tests and benchmarks.
 * One process holds both sides' secrets, so this protects nothing; real parties run in processes of their own.
 */
export async function rehearse(options: RehearsalOptions): Promise<Rehearsal> {
  const outputs = new Map<string, Tensor>();
  const ends = {
    client: {
      input: options.input,
      output: (name: string, value: Tensor) => {
        outputs.set(name, value);
        options.output?.(name, value);
      },
      ...(options.observeClient === undefined ? {} : { observe: options.observeClient }),
    },
    server: {
      weight: options.weight,
      ...(options.observeServer === undefined ? {} : { observe: options.observeServer }),
    },
  };
  const channels = openChannels(options);
  const phases = options.setting === 'helper' ? withHelper : withDealer;
  const made = await phases(options, channels, ends);
  for (const channel of Object.values(channels)) await channel.close();
  return { outputs, ...made };
}

function openChannels({ observeChannel }: RehearsalOptions): Channels {
  const [clientServer, serverClient] = memoryPair({ names: ['client', 'server'] });
  const [clientDealer, dealerClient] = memoryPair({ names: ['client', 'dealer'] });
  const [serverDealer, dealerServer] = memoryPair({ names: ['server', 'dealer'] });
  const [clientMaterial, serverMaterial] = memoryPair({ names: ['client', 'server'] });
  const ends = {
    ...{ clientServer, serverClient, clientDealer, dealerClient },
    ...{ serverDealer, dealerServer, clientMaterial, serverMaterial },
  };
  if (observeChannel === undefined) return ends;
  const observed = Object.entries(ends).map(([name, channel]) => [name, observeChannel(name as ChannelEnd, channel)]);
  return Object.fromEntries(observed) as Channels;
}
type Channels = Readonly<Record<ChannelEnd, Channel>>;
interface Ends {
  readonly client: Pick<ClientRun, 'input' | 'output' | 'observe'>;
  readonly server: Pick<ServerRun, 'weight' | 'observe'>;
}
type Made = Omit<Rehearsal, 'outputs'>;

/** What each party has sent on all its channels since `start`. */
function sent(channels: Channels, start: SentBytes = { clientSentBytes: 0, serverSentBytes: 0, dealerSentBytes: 0 }): SentBytes {
  const sum = (...names: (keyof Channels)[]): number => names.reduce((all, name) => all + channels[name].counters.sentBytes, 0);
  return {
    clientSentBytes: sum('clientServer', 'clientDealer', 'clientMaterial') - start.clientSentBytes,
    serverSentBytes: sum('serverClient', 'serverDealer', 'serverMaterial') - start.serverSentBytes,
    dealerSentBytes: sum('dealerClient', 'dealerServer') - start.dealerSentBytes,
  };
}

async function setUp({ platforms, weight }: RehearsalOptions, session: Session, channels: Channels) {
  const { clientServer, serverClient, serverDealer, dealerServer } = channels;
  const [maskSeed, masked] = await Promise.all([
    clientSetup(platforms.client, session, { server: clientServer }),
    dealerSetup(platforms.dealer, session, { server: dealerServer }),
    serverSetup(platforms.server, session, { client: serverClient, dealer: serverDealer }, weight),
  ]);
  return { maskSeed, masked, setup: sent(channels) };
}

async function withDealer(options: RehearsalOptions, channels: Channels, ends: Ends): Promise<Made> {
  const { platforms, program } = options;
  const { clientServer, serverClient, clientDealer, dealerClient, serverDealer, dealerServer } = channels;
  const session = { program, context: [] };
  const { maskSeed, masked, setup } = await setUp(options, session, channels);
  let start = sent(channels);
  const [clientBundle, serverBundle] = [memoryBundle(), memoryBundle()];
  await Promise.all([
    dealerOffline(platforms.dealer, session, { client: dealerClient, server: dealerServer }, masked),
    clientOffline(platforms.client, session, { server: clientServer, dealer: clientDealer }, maskSeed, clientBundle.sink),
    serverOffline(platforms.server, session, { client: serverClient, dealer: serverDealer }, serverBundle.sink),
  ]);
  maskSeed.fill(0);
  const offline = sent(channels, start);
  start = sent(channels);
  const [client, server] = await Promise.all([
    clientOnline(platforms.client, session, { ...ends.client, channel: clientServer, bundle: clientBundle.source }),
    serverOnline(platforms.server, session, { ...ends.server, channel: serverClient, bundle: serverBundle.source }),
  ]);
  const { clientSentBytes, serverSentBytes } = sent(channels, start);
  const online = { clientToServerBytes: clientSentBytes, serverToClientBytes: serverSentBytes, hops: client.hops };
  return { measured: { setup, offline, online }, client, server };
}

async function withHelper(options: RehearsalOptions, channels: Channels, ends: Ends): Promise<Made> {
  const { platforms, program } = options;
  const { clientServer, serverClient, clientDealer, dealerClient, serverDealer, dealerServer } = channels;
  const session = { program, context: Object.values(platforms).map(freshNonce) };
  const { maskSeed, masked, setup } = await setUp(options, session, channels);
  const start = sent(channels);
  const before = [clientServer.counters.sentBytes, serverClient.counters.sentBytes] as const;
  const [client, server] = await Promise.all([
    clientLive(platforms.client, session, {
      ...ends.client,
      channel: clientServer,
      helper: clientDealer,
      material: channels.clientMaterial,
      keptBytes: options.keptBytes,
      maskSeed,
    }),
    serverLive(platforms.server, session, {
      ...ends.server,
      channel: serverClient,
      helper: serverDealer,
      material: channels.serverMaterial,
      keptBytes: options.keptBytes,
    }),
    helperLive(platforms.dealer, session, { client: dealerClient, server: dealerServer }, masked),
  ]);
  maskSeed.fill(0);
  const all = sent(channels, start);
  const online = {
    clientToServerBytes: clientServer.counters.sentBytes - before[0],
    serverToClientBytes: serverClient.counters.sentBytes - before[1],
    hops: client.hops,
  };
  const offline = {
    clientSentBytes: all.clientSentBytes - online.clientToServerBytes,
    serverSentBytes: all.serverSentBytes - online.serverToClientBytes,
    dealerSentBytes: all.dealerSentBytes,
  };
  return { measured: { setup, offline, online }, client, server };
}

function freshNonce({ entropy }: Platform): Uint8Array {
  const nonce = new Uint8Array(16);
  entropy(nonce);
  return nonce;
}
