import type { Channel } from '../net/contract.ts';
import { systemAlarm } from '../node/clock.ts';
import { Objection } from './refusals.ts';

/** Brings a connection to the session that expects it, by a name that only its peer was told. */
export class Rendezvous {
  readonly #expected = new Map<string, (channel: Channel) => void>();
  readonly #early = new Map<string, (met: boolean) => void>();
  readonly #come = new Map<string, Channel>();

  /** The connection of that name. Throws an objection (`late`) after so long, and what `aborted` rejects with. */
  async expect(name: string, peer: string, milliseconds: number, aborted: Promise<never>): Promise<Channel> {
    const early = this.#come.get(name);
    if (early !== undefined) {
      this.#early.get(name)!(true);
      return early;
    }
    let cancel = (): void => {};
    try {
      return await Promise.race([
        aborted,
        new Promise<Channel>((resolve, reject) => {
          this.#expected.set(name, resolve);
          cancel = systemAlarm(milliseconds, () => reject(missing(peer, milliseconds)));
        }),
      ]);
    } finally {
      cancel();
      this.#expected.delete(name);
    }
  }

  /** Hands a connection over, waiting so long for somebody to expect it; false where nobody does, and the channel stays the caller's. */
  async meet(name: string, channel: Channel, milliseconds = 0): Promise<boolean> {
    const expected = this.#expected.get(name);
    if (expected !== undefined) {
      this.#expected.delete(name);
      expected(channel);
      return true;
    }
    if (milliseconds === 0 || this.#come.has(name)) return false;
    let cancel = (): void => {};
    const met = await new Promise<boolean>((resolve) => {
      this.#come.set(name, channel);
      this.#early.set(name, resolve);
      cancel = systemAlarm(milliseconds, () => resolve(false));
    });
    cancel();
    this.#come.delete(name);
    this.#early.delete(name);
    return met;
  }
}

const missing = (peer: string, milliseconds: number): Objection =>
  new Objection('late', `the ${peer} did not come within ${milliseconds} ms`, {
    party: peer,
    remedy: `look at the ${peer}'s log`,
  });
