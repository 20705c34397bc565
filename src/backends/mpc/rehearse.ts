import { memoryPair } from '../../net/memory.ts';
import type { Tensor } from '../../program/index.ts';
import type { Costs } from '../cost/index.ts';
import type { RingProgram } from '../ring/index.ts';
import type { MaterialSource } from './correlations/bundle.ts';
import type { Ledger } from './ledger.ts';
import type { Protocol } from './protocol.ts';
import {
  clientOffline,
  clientOnline,
  clientSetup,
  dealerOffline,
  dealerSetup,
  type MaterialSink,
  type Platform,
  serverOffline,
  serverOnline,
  serverSetup,
} from './roles.ts';

export interface RehearsalOptions {
  readonly program: RingProgram;
  readonly platforms: { readonly client: Platform; readonly server: Platform; readonly dealer: Platform };
  readonly weight: (name: string) => Promise<Tensor>;
  readonly input: (name: string) => Promise<Tensor>;
  readonly output?: (name: string, value: Tensor) => void;
  readonly observeClient?: (protocol: Protocol) => Protocol;
  readonly observeServer?: (protocol: Protocol) => Protocol;
}

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
 * All three roles of the dealer setting in one process, over channels in memory: for the library's example, tests and benchmarks.
 * One process holds both sides' secrets, so this protects nothing; real parties run in processes of their own.
 */
export async function rehearse(options: RehearsalOptions): Promise<Rehearsal> {
  const { platforms, program, weight } = options;
  const [clientServer, serverClient] = memoryPair({ names: ['client', 'server'] });
  const [clientDealer, dealerClient] = memoryPair({ names: ['client', 'dealer'] });
  const [serverDealer, dealerServer] = memoryPair({ names: ['server', 'dealer'] });
  const channels = { clientServer, serverClient, clientDealer, dealerClient, serverDealer, dealerServer };
  const session = { program, context: [] };
  const sent = (): { client: number; server: number; dealer: number } => ({
    client: clientServer.counters.sentBytes + clientDealer.counters.sentBytes,
    server: serverClient.counters.sentBytes + serverDealer.counters.sentBytes,
    dealer: dealerClient.counters.sentBytes + dealerServer.counters.sentBytes,
  });
  const since = (start: ReturnType<typeof sent>) => {
    const now = sent();
    return {
      clientSentBytes: now.client - start.client,
      serverSentBytes: now.server - start.server,
      dealerSentBytes: now.dealer - start.dealer,
    };
  };
  let start = sent();
  const [maskSeed, masked] = await Promise.all([
    clientSetup(platforms.client, session, { server: clientServer }),
    dealerSetup(platforms.dealer, session, { server: dealerServer }),
    serverSetup(platforms.server, session, { client: serverClient, dealer: serverDealer }, weight),
  ]);
  const setup = since(start);
  start = sent();
  const [clientBundle, serverBundle] = [memoryBundle(), memoryBundle()];
  await Promise.all([
    dealerOffline(platforms.dealer, session, { client: dealerClient, server: dealerServer }, masked),
    clientOffline(platforms.client, session, { server: clientServer, dealer: clientDealer }, maskSeed, clientBundle.sink),
    serverOffline(platforms.server, session, { client: serverClient, dealer: serverDealer }, serverBundle.sink),
  ]);
  maskSeed.fill(0);
  const offline = since(start);
  start = sent();
  const outputs = new Map<string, Tensor>();
  const [client, server] = await Promise.all([
    clientOnline(platforms.client, session, {
      channel: clientServer,
      bundle: clientBundle.source,
      input: options.input,
      output: (name, value) => {
        outputs.set(name, value);
        options.output?.(name, value);
      },
      ...(options.observeClient === undefined ? {} : { observe: options.observeClient }),
    }),
    serverOnline(platforms.server, session, {
      channel: serverClient,
      bundle: serverBundle.source,
      weight,
      ...(options.observeServer === undefined ? {} : { observe: options.observeServer }),
    }),
  ]);
  const online = since(start);
  for (const channel of Object.values(channels)) await channel.close();
  return {
    outputs,
    measured: {
      setup,
      offline,
      online: { clientToServerBytes: online.clientSentBytes, serverToClientBytes: online.serverSentBytes, hops: client.hops },
    },
    client,
    server,
  };
}
