import { frameHeaderBytes } from '../../net/frame.ts';
import { size } from '../../program/index.ts';
import { maskedWeights, materialOf, packedBytes, type RingProgram, schedule } from '../ring/index.ts';
import { masterBytes, sectionsOf, seedBytes } from './sections.ts';

/** Where correlated randomness comes from: made by a dealer before the run, or by a helper while the run goes on. */
export type Setting = 'dealer' | 'helper';

/** Bytes on channels, frame headers included: what each party sends. */
export interface SentBytes {
  readonly clientSentBytes: number;
  readonly serverSentBytes: number;
  readonly dealerSentBytes: number;
}
export interface OnlineBytes {
  readonly clientToServerBytes: number;
  readonly serverToClientBytes: number;
  /** One-way messages that the next step waits for, both directions. */
  readonly hops: number;
}
/** What a run sends, phase by phase, in bytes of messages; framing and TLS come on top. */
export interface Costs {
  readonly setup: SentBytes;
  /**
   * Correlations. In the helper setting they are sent while the run goes on, on connections of their own: what the helper sends stands
   * for the dealer, and the client's part is what it sends the server on their second connection.
   */
  readonly offline: SentBytes;
  readonly online: OnlineBytes;
}
/** One scope's part: payload only; frame headers belong to the run. */
export interface ScopeCosts extends Costs {
  readonly scope: string;
}
export interface Forecast {
  readonly total: Costs;
  readonly perScope: readonly ScopeCosts[];
}

/** Streams of setup and offline material are cut into frames of this many payload bytes. */
export const streamChunkBytes = 2 ** 20;

/** Bytes on the channel of a stream: payload and the header of every frame. */
export const streamBytes = (payload: number): number =>
  payload === 0 ? 0 : payload + Math.ceil(payload / streamChunkBytes) * frameHeaderBytes;

class Counter {
  clientToServer = 0;
  serverToClient = 0;
  readonly hops = new Set<number>();
  clientOffline = 0;
  dealerToServer = 0;
  dealerToClient = 0;
  setup = 0;

  costs(): Costs {
    return {
      setup: { clientSentBytes: 0, serverSentBytes: this.setup, dealerSentBytes: 0 },
      offline: {
        clientSentBytes: this.clientOffline,
        serverSentBytes: 0,
        dealerSentBytes: this.dealerToServer + this.dealerToClient,
      },
      online: { clientToServerBytes: this.clientToServer, serverToClientBytes: this.serverToClient, hops: this.hops.size },
    };
  }
}

/**
 * What a run of a ring program sends, from the program alone: bytes of frames each way (headers and padding
 * included, handshake excluded), hops, offline material and setup. Equal to what a run measures, to the byte. The settings differ only
 * in the frame headers of `offline`.
 */
export function forecast(program: RingProgram, setting: Setting = 'dealer'): Forecast {
  const scopes = new Map<string, Counter>();
  const at = (scope: string): Counter => {
    const known = scopes.get(scope) ?? new Counter();
    scopes.set(scope, known);
    return known;
  };
  const total = new Counter();
  let number = -1;
  for (const hop of schedule(program)) {
    if (!hop.follows) number += 1;
    for (const message of hop.messages) {
      const counter = at(program.nodes[message.node]!.scope);
      counter[hop.direction] += message.bytes;
      counter.hops.add(number);
    }
    total[hop.direction] += hop.bytes + hop.frames * frameHeaderBytes;
    total.hops.add(number);
  }
  for (const node of program.nodes) {
    const { dealerToServer, dealerToClient, clientToServer } = materialOf(node, program);
    if (dealerToServer + dealerToClient + clientToServer === 0) continue;
    const counter = at(node.scope);
    counter.dealerToServer += dealerToServer;
    counter.dealerToClient += dealerToClient;
    counter.clientOffline += clientToServer;
  }
  for (const index of maskedWeights(program)) {
    const node = program.nodes[index]!;
    at(node.scope).setup += packedBytes(size(node.shape), program.ring.bits);
  }
  const sum = (read: (counter: Counter) => number): number =>
    [...scopes.values()].reduce((all, counter) => all + read(counter), 0);
  total.setup = streamBytes(sum((counter) => counter.setup)) + streamBytes(seedBytes);
  if (setting === 'dealer') {
    total.clientOffline = streamBytes(sum((counter) => counter.clientOffline));
    total.dealerToServer = streamBytes(masterBytes + sum((counter) => counter.dealerToServer));
    total.dealerToClient = streamBytes(masterBytes + sum((counter) => counter.dealerToClient));
  } else {
    const { clientToServer, helperToServer, helperToClient } = sectionsOf(program);
    const cut = (sections: readonly number[]): number => sections.reduce((all, bytes) => all + streamBytes(bytes), 0);
    total.clientOffline = cut(clientToServer);
    total.dealerToServer = cut(helperToServer);
    total.dealerToClient = cut(helperToClient);
  }
  const perScope = [...scopes].map(([scope, counter]) => ({ scope, ...counter.costs() }));
  return { total: total.costs(), perScope };
}

/** Scopes added up by their first parts: `layers.3.mlp.act` counts for `layers.3`, `embed` for `embed`. Hops are those a group takes part in. */
export function perLayer(program: RingProgram): ScopeCosts[] {
  const grouped = { ...program, nodes: program.nodes.map((node) => ({ ...node, scope: layerOf(node.scope) })) } as RingProgram;
  return [...forecast(grouped).perScope];
}

function layerOf(scope: string): string {
  const [first, second] = scope.split('.');
  return second !== undefined && /^\d+$/.test(second) ? `${first}.${second}` : (first ?? scope);
}
