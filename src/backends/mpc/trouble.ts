import type { Channel } from '../../net/contract.ts';

/**
 * The first failure of several things that go on at once. Whatever is guarded ends with it, so that none of them waits for something that
 * will not come, and none goes on alone.
 */
export class Trouble {
  #raised: { readonly error: unknown } | undefined;
  readonly #waiting = new Set<(error: unknown) => void>();

  /** The first error counts, later ones are its echo. */
  raise(error: unknown): void {
    if (this.#raised !== undefined) return;
    this.#raised = { error };
    for (const reject of this.#waiting) reject(error);
    this.#waiting.clear();
  }

  /** The same promise, or the failure where that comes first. */
  guard<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const raised = this.#raised;
      if (raised === undefined) this.#waiting.add(reject);
      else reject(raised.error);
      work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
    });
  }

  /** Waits for all, also after a failure; the first one raises it. Throws the first failure. */
  async together<T extends readonly Promise<unknown>[]>(works: T): Promise<void> {
    await Promise.all(works.map((work) => work.catch((error: unknown) => this.raise(error))));
    if (this.#raised !== undefined) throw this.#raised.error;
  }

  /** The same channel, on which nothing is waited for after a failure elsewhere. */
  guarded(channel: Channel): Channel {
    return {
      peer: channel.peer,
      counters: channel.counters,
      gone: channel.gone,
      security: channel.security,
      send: (kind, payload) => this.guard(channel.send(kind, payload)),
      receive: () => this.guard(channel.receive()),
      close: (reason) => channel.close(reason),
    };
  }
}
