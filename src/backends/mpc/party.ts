import { type RingOperation, ringRows } from '../ring/index.ts';
import { secureRows } from './operations/index.ts';
import type { Client, Kept, Part, SecureRow, Server } from './operations/row.ts';
import type { NumberedNode, Protocol } from './protocol.ts';

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

export const clientOf = (client: Client): Party =>
  partyOf(
    (operation) => rows[operation].client(client),
    (operation) => 'keys' in ringRows[operation],
    client,
  );

export const serverOf = (server: Server): Party =>
  partyOf(
    (operation) => rows[operation].server(server),
    (operation) => 'keys' in ringRows[operation] || 'corrections' in ringRows[operation],
    server,
  );

function partyOf(
  part: (operation: RingOperation) => Part<RingOperation>,
  has: (operation: RingOperation) => boolean,
  { correlations }: Pick<Client | Server, 'correlations'>,
): Party {
  const protocol: Partial<Record<RingOperation, Kept<RingOperation>['run']>> = {};
  const loads = new Map<RingOperation, (node: number) => Promise<void>>();
  const kept: Kept<RingOperation>[] = [];
  for (const operation of Object.keys(ringRows) as RingOperation[]) {
    const made = part(operation);
    const own = typeof made === 'function' ? { run: made } : made;
    protocol[operation] = own.run;
    if (own.load !== undefined) loads.set(operation, (node) => own.load!(node));
    else if (has(operation)) loads.set(operation, (node) => correlations.load(node));
    if (own.ahead !== undefined || own.end !== undefined) kept.push(own);
  }
  return {
    protocol: protocol as Protocol,
    load: (node) => loads.get(node.operation)?.(node.index),
    async ahead() {
      for (const own of kept) if ((await own.ahead?.()) === true) return true;
      return false;
    },
    end: () => {
      for (const own of kept) own.end?.();
    },
  };
}
