import { type RingOperation, type RingRow, ringRows } from '../ring/index.ts';
import { secureRows } from './operations/index.ts';
import type { Client, Kept, SecureRow, Server } from './operations/row.ts';
import type { Held, NumberedNode, Protocol, Step } from './protocol.ts';

/**
 * One party's side of the online protocol, from the rows of all operations.
 *
 * Source: docs/protocols/online.md. Letters of the rows: x = x_c + x_s mod 2^L; m top bits; e openings; b, a, r, k, q pads; f bits dropped.
 * Adversary: semi-honest server, client or dealer, one of them. The server sees x − r, the masked bits and nothing else; the client sees
 * x_s − b, m_s ⊕ b, i_s − σ with pads it does not know, and its outputs. No product with a weight is computed by the client: its work does
 * not grow with the model's weights.
 */
export interface Party {
  readonly protocol: Protocol;
  /** Makes ready what a node needs of its material; undefined where it needs none. */
  load(node: NumberedNode): Promise<void> | undefined;
  /** One piece of work that will be needed, while the peer is waited for; false where there is none. */
  ahead(): Promise<boolean>;
  /** Frees what was kept for operations that did not come. */
  end(): void;
}

/** The rows where it is not known which operation's is meant. */
const rows = secureRows as unknown as Readonly<Record<RingOperation, SecureRow<RingOperation>>>;
const operations = Object.keys(ringRows) as RingOperation[];

export const clientOf = (client: Client): Party =>
  partyOf(
    client,
    ({ keys }) => keys !== undefined,
    (row) => row.keep?.client(client),
    (row, kept) => {
      const party = { ...client, kept };
      return (node, ...inputs) => row.client(party, node, ...inputs);
    },
  );

export const serverOf = (server: Server): Party =>
  partyOf(
    server,
    ({ keys, corrections }) => (keys ?? corrections) !== undefined,
    (row) => row.keep?.server(server),
    (row, kept) => {
      const party = { ...server, kept };
      return (node, ...inputs) => row.server(party, node, ...inputs);
    },
  );

type Row = SecureRow<RingOperation>;
type Run = (node: NumberedNode, ...inputs: Held[]) => Held | Step;

function partyOf(
  { correlations }: Pick<Client | Server, 'correlations'>,
  has: (row: RingRow<string, unknown>) => boolean,
  keep: (row: Row) => Kept | undefined,
  side: (row: Row, kept: Kept | undefined) => Run,
): Party {
  const protocol: Partial<Record<RingOperation, Run>> = {};
  const loads = new Map<RingOperation, (node: number) => Promise<void>>();
  const all: Kept[] = [];
  for (const operation of operations) {
    const kept = keep(rows[operation]);
    protocol[operation] = side(rows[operation], kept);
    if (kept !== undefined) all.push(kept);
    if (kept !== undefined) loads.set(operation, (node) => kept.load(node));
    else if (has(ringRows[operation] as RingRow<string, unknown>)) loads.set(operation, (node) => correlations.load(node));
  }
  return {
    protocol: protocol as unknown as Protocol,
    load: (node) => loads.get(node.operation)?.(node.index),
    async ahead() {
      for (const kept of all) if (await kept.ahead()) return true;
      return false;
    },
    end: () => {
      for (const kept of all) kept.end();
    },
  };
}
