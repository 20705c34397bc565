import type { Direction } from '../ring/index.ts';

/** What one party measured of a run, by scope: payload bytes each way as they crossed the channel, and its own compute time. */
export interface ScopeRecord {
  clientToServerBytes: number;
  serverToClientBytes: number;
  seconds: number;
}

export class Ledger {
  readonly scopes = new Map<string, ScopeRecord>();
  /** Turns of both parties: frames on the channel without those that only follow another. */
  hops = 0;
  readonly frameBytes: { [D in Direction]: number } = { clientToServer: 0, serverToClient: 0 };
  /** Bytes that each node sent or received: what a declaration is checked against. */
  readonly nodes = new Map<number, { [D in Direction]?: number }>();

  at(scope: string): ScopeRecord {
    const known = this.scopes.get(scope) ?? { clientToServerBytes: 0, serverToClientBytes: 0, seconds: 0 };
    this.scopes.set(scope, known);
    return known;
  }

  message(node: number, scope: string, direction: Direction, bytes: number): void {
    this.at(scope)[`${direction}Bytes`] += bytes;
    const record = this.nodes.get(node) ?? {};
    record[direction] = (record[direction] ?? 0) + bytes;
    this.nodes.set(node, record);
  }

  frame(direction: Direction, bytes: number): void {
    this.frameBytes[direction] += bytes;
  }

  get seconds(): number {
    return [...this.scopes.values()].reduce((sum, scope) => sum + scope.seconds, 0);
  }
}
