import { TurnedAway } from './refusals.ts';

/** Who comes again after so long finds some of its own done. */
const retrySeconds = 30;

/**
 * Work that is done one piece after the other, by turns between those whom it is for: beside the piece that is under way one of each other source
 * comes before that of a source that waits for nothing else, however many they brought. Of its own the first to come is the first.
 */
export class Turns {
  readonly #mostWaiting: number;
  /** Whose turn is next stands first. */
  readonly #waiting = new Map<string, readonly (() => void)[]>();
  #busy = false;

  /** `mostWaiting` pieces of one source wait. */
  constructor(mostWaiting: number) {
    this.#mostWaiting = mostWaiting;
  }

  /** Does the work in its turn. Rejects with `TurnedAway`, and leaves it undone, where as many of this source wait as may. */
  async take<T>(who: string, work: () => Promise<T>): Promise<T> {
    if (this.#busy) await this.#turn(who);
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#next();
    }
  }

  #turn(who: string): Promise<void> {
    const own = this.#waiting.get(who) ?? [];
    if (own.length >= this.#mostWaiting)
      throw new TurnedAway('full', `${own.length} programs wait to be traced for this peer, which is as many as may`, {
        retrySeconds,
      });
    return new Promise((resolve) => void this.#waiting.set(who, [...own, resolve]));
  }

  #next(): void {
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#busy = false;
      return;
    }
    const [who, [begin, ...rest]] = first;
    this.#waiting.delete(who);
    if (rest.length > 0) this.#waiting.set(who, rest);
    begin!();
  }
}
