import type { Block } from '../../../kernels/index.ts';
import type { RingNodeOf } from '../../ring/index.ts';
import type { Dealer, Outbox } from '../operations/row.ts';
import { offlineTable, walk } from './walk.ts';

/**
 * The dealer: makes the server's corrections from both parties' pads and the masked weights, before the run.
 *
 * Source: docs/protocols/dealer.md. Letters as in party.ts; V = W − A.
 * What it knows: all pads of this bundle, V, the program. What it must not see: any message of the run (it could then remove its
 * own pads), A's seed (it would learn W), the input.
 * Offline bits an element: linear L (and L from the client), products L, truncations f, lookups 17·depth bytes to each side.
 */
export interface DealerOptions extends Omit<Dealer, 'outbox'> {
  /** V of a weight. */
  readonly maskedWeight: (node: RingNodeOf<'serverInput'>) => Promise<Block>;
  readonly toServer: (bytes: Uint8Array) => Promise<void>;
  readonly toClient: (bytes: Uint8Array) => Promise<void>;
}

export async function deal(options: DealerOptions): Promise<void> {
  const outbox: Outbox = {};
  const dealer = { ...options, outbox };
  const before = { ...options, pads: options.clientPads };
  const table = offlineTable(
    (row) =>
      (node, ...inputs) =>
        row.dealer?.(dealer, node, ...inputs) ?? row.share?.(before, node, ...inputs),
  );
  await walk(options, table, {
    weight: async (node) => ({ block: await options.maskedWeight(node) }),
    emitted: async () => {
      const { toServer, toClient, pieces } = outbox;
      delete outbox.toServer;
      delete outbox.toClient;
      delete outbox.pieces;
      if (toServer !== undefined) await options.toServer(toServer);
      if (toClient !== undefined) await options.toClient(toClient);
      if (pieces === undefined) return;
      for (const piece of pieces) {
        await options.toServer(piece.toServer);
        await options.toClient(piece.toClient);
      }
    },
  });
}
