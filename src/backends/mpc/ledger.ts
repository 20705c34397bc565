import type { Direction } from '../ring/index.ts';

/** What one party measured of a run, by scope: payload bytes each way as they crossed the channel, and its own compute time. */
export interface ScopeRecord {
  clientToServerBytes: number;
  serverToClientBytes: number;
  seconds: number;
}

/** What one party of a rehearsal sent, heard and spent: hops and bytes of frames, and bytes and seconds by scope and by node. */
export class Ledger {
  readonly scopes = new Map<string, ScopeRecord>();
  /** Turns of both parties: frames on the channel without those that only follow another. */
  hops = 0;
  readonly frameBytes: { [D in Direction]: number } = { clientToServer: 0, serverToClient: 0 };
  /** Bytes that each node sent or received: what a declaration is checked against. */
  readonly nodes = new Map<number, { [D in Direction]?: number }>();

  /** The record of a scope (`layers.3.mlp`), a new one of zeros where it has none. */
  at(scope: string): ScopeRecord {
    const known = this.scopes.get(scope) ?? { clientToServerBytes: 0, serverToClientBytes: 0, seconds: 0 };
    this.scopes.set(scope, known);
    return known;
  }

  /** Counts bytes of a message that a node sent or received, without framing. */
  message(node: number, scope: string, direction: Direction, bytes: number): void {
    this.at(scope)[`${direction}Bytes`] += bytes;
    const record = this.nodes.get(node) ?? {};
    record[direction] = (record[direction] ?? 0) + bytes;
    this.nodes.set(node, record);
  }

  /** Counts bytes of a frame as the channel carries it. */
  frame(direction: Direction, bytes: number): void {
    this.frameBytes[direction] += bytes;
  }

  /** Seconds of all scopes together. */
  get seconds(): number {
    return [...this.scopes.values()].reduce((sum, scope) => sum + scope.seconds, 0);
  }
}
