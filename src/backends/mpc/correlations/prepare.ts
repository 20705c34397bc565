import type { Block } from '../../../kernels/index.ts';
import type { RingNodeOf } from '../../ring/index.ts';
import type { Before, Outbox } from '../operations/row.ts';
import { offlineTable, walk } from './walk.ts';

export interface PrepareOptions extends Before {
  /** A of a weight. */
  readonly mask: (node: RingNodeOf<'serverInput'>) => Promise<Block>;
  /** The client's offline stream to the server. */
  readonly toServer: (bytes: Uint8Array) => Promise<void>;
}

/**
 * The client's half of the linear correlations, before the run, from its shares of pinned wires, which depend on its pads only. The only
 * place where a client meets the weights' size, and it meets a mask, not a weight.
 */
export async function prepare(options: PrepareOptions): Promise<void> {
  const outbox: Outbox = {};
  const preparing = { ...options, outbox };
  const table = offlineTable(
    (row) =>
      (node, ...inputs) =>
        row.half?.(preparing, node, ...inputs) ?? row.share?.(preparing, node, ...inputs),
  );
  await walk(options, table, {
    weight: async (node) => ({ block: await options.mask(node) }),
    emitted: async () => {
      const { toServer } = outbox;
      delete outbox.toServer;
      if (toServer !== undefined) await options.toServer(toServer);
    },
  });
}
