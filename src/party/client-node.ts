import { connect } from '../node/sockets.ts';
import type { TlsFiles } from '../node/tls.ts';
import { patienceMilliseconds } from './attend.ts';
import { type ClientOptions, runClientOn } from './client.ts';
import { partyCredentials } from './credentials.ts';
import { knownManifests } from './known-manifests-node.ts';
import { nodePlatform } from './platform.ts';
import type { ClientReport } from './report.ts';
import { clientKeptBytes, openRunStore } from './run-store.ts';

/** One private run as its client in a process: what `ClientOptions` has in a page too, and where its state lies. */
export interface NodeClientOptions extends ClientOptions {
  /** Where claims are kept, for ever, and sealed what of a run's material does not fit into memory. */
  readonly state: string;
  readonly timeoutMilliseconds: number;
  /** For `tls:` and `wss:` addresses: the certificates of this party and its authority. */
  readonly tls?: TlsFiles | undefined;
}

/** One private run as the client, in this process. */
export async function runClient(options: NodeClientOptions): Promise<ClientReport> {
  const { timeoutMilliseconds, state } = options;
  const credentials = partyCredentials(options.tls, 'client', [options.server, options.dealer]);
  const host = {
    platform: nodePlatform,
    patienceMilliseconds: timeoutMilliseconds,
    connect: (address: string, peer: string) => {
      const patience = peer === 'server' ? patienceMilliseconds(timeoutMilliseconds) : timeoutMilliseconds;
      return connect({ address, peer, timeoutMilliseconds: patience, connectMilliseconds: timeoutMilliseconds, credentials });
    },
    store: () => openRunStore({ state, party: 'client', keptBytes: clientKeptBytes }),
    manifests: knownManifests(state),
  };
  return await runClientOn(host, options);
}
