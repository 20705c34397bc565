import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import type { StreamWriter } from '../backends/mpc/index.ts';
import { hkdf } from '../node/randomness.ts';
import { ChunkSealer, openChunk, sealedChunkBytes, sealTagBytes } from '../node/sealed.ts';
import { type BundleStore, openBundleStore, type StoredHeader } from './bundles.ts';
import { type Control, sameProgram } from './control.ts';
import { lockState } from './lock.ts';
import { commitmentTo } from './session.ts';
import type { Sessions } from './sessions.ts';

export const ticketBytes = (ticket: string): Uint8Array => new Uint8Array(Buffer.from(ticket, 'hex'));

/** What a half is sealed under; the ticket is cleared. */
function sealingKey(ticket: Uint8Array, id: string): Uint8Array {
  const key = hkdf(ticket, 'sotto sealed half/v1', [new Uint8Array(Buffer.from(id, 'hex'))]);
  ticket.fill(0);
  return key;
}

/**
 * Clients' halves of material made ahead, in the store of bundles: claimed before the first byte leaves, burned after it. They lie sealed
 * under their tickets, which this party does not have: whoever takes its disk reads no run by it, and a half goes to who shows its ticket.
 */
export class Halves {
  readonly #store: BundleStore;
  readonly #most: number;
  readonly #sessions: Sessions;
  readonly #available: Map<string, StoredHeader>;
  readonly close: () => Promise<void>;

  private constructor(
    store: BundleStore,
    most: number,
    sessions: Sessions,
    { unlock, available }: { unlock: () => Promise<void>; available: Map<string, StoredHeader> },
  ) {
    this.close = unlock;
    this.#store = store;
    this.#most = most;
    this.#sessions = sessions;
    this.#available = available;
  }

  /** Burns what a crash left half made or half used; the rest is there, the oldest first. */
  static async open({ state, most }: { readonly state: string; readonly most: number }, sessions: Sessions): Promise<Halves> {
    const store = await openBundleStore(state, 'client');
    const unlock = await lockState(state, 'dealer');
    const found: { header: StoredHeader; at: number }[] = [];
    for (const { id, state: is, header } of await store.present()) {
      if (is === 'available' && header?.commitment !== undefined)
        found.push({ header, at: (await lstat(join(state, 'bundles', id))).mtimeMs });
      else await store.burn(id);
    }
    found.sort((a, b) => a.at - b.at);
    return new Halves(store, most, sessions, { unlock, available: new Map(found.map(({ header }) => [header.id, header])) });
  }

  get count(): number {
    return this.#available.size;
  }

  /** Whether there is a half for who joins so. */
  has({ bundle, ticket }: Joining): boolean {
    return this.#available.get(bundle)?.commitment === commitmentTo(ticket);
  }

  /** Seals what `deal` gives; the ticket is cleared. */
  async make(
    header: Parameters<BundleStore['write']>[0],
    ticket: Uint8Array,
    deal: (client: Sink) => Promise<void>,
  ): Promise<void> {
    const { bundles } = this.#sessions.metrics;
    for (const oldest of this.#available.keys()) {
      if (this.#available.size < this.#most) break;
      this.#available.delete(oldest);
      await this.#store.burn(oldest);
      bundles.add({ event: 'burned' });
    }
    const key = sealingKey(ticket, header.id);
    const writer = await this.#store.write(header);
    const sealer = new ChunkSealer(key, (sealed) => writer.append(sealed));
    try {
      await deal({ write: (bytes) => sealer.append(bytes), finish: () => sealer.finish() });
    } catch (error) {
      sealer.clear();
      await writer.abort();
      throw error;
    } finally {
      key.fill(0);
    }
    this.#available.set(header.id, await writer.finish());
    bundles.add({ event: 'made' });
  }

  /** Claims a half for good, opens it, sends it and burns it. False where it is not there any more. */
  async hand(joining: Joining, client: StreamWriter): Promise<boolean> {
    if (!this.has(joining)) return false;
    const { id, program, ring, materialBytes } = this.#available.get(joining.bundle)!;
    this.#available.delete(id);
    const key = sealingKey(ticketBytes(joining.ticket), id);
    const { bundles } = this.#sessions.metrics;
    try {
      sameProgram('client', joining.program, program);
      await this.#store.claim(id, { program, ring });
      bundles.add({ event: 'claimed' });
      const reader = await this.#store.open(id);
      try {
        for (let index = 0; index * sealedBytes < materialBytes; index++) {
          const at = index * sealedBytes;
          const chunk = openChunk(key, index, await reader.read(at, Math.min(sealedBytes, materialBytes - at)));
          await client.write(chunk);
          chunk.fill(0);
        }
        await client.finish();
      } finally {
        await reader.close();
      }
      return true;
    } finally {
      key.fill(0);
      await this.#store.burn(id);
      bundles.add({ event: 'burned' });
    }
  }
}

type Joining = Pick<Control<'join'>, 'bundle' | 'program' | 'ticket'>;

const sealedBytes = sealedChunkBytes + sealTagBytes;
interface Sink {
  write(bytes: Uint8Array): Promise<void>;
  finish(): Promise<void>;
}
