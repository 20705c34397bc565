/** Connections of which nobody knows yet whose they are. */
export interface Stranger {
  /** Its address: IPv4 whole, IPv6 the /64 that one host or household has; null for a socket of this user's own. */
  readonly source: string | null;
  /** Whether it has said nothing at all. */
  silent(): boolean;
  evict(): void;
}

export interface StrangerLimits {
  readonly total: number;
  /** Of one source. */
  readonly perSource: number;
}

/** Whoever means to speak has said something by then: a newcomer's first bytes are still on the way. */
const silentMilliseconds = 1000;

/** At one address: enough for clients that come at once from behind one address, and bounded memory for those that never speak. */
export const strangerLimits: StrangerLimits = { total: 128, perSource: 32 };

/**
 * A bounded number of strangers, in which a new one always has a place: it takes that of the oldest one of its own source where that has as many as
 * it may, else of the oldest one of whichever source has the most. Those that have said nothing for a second go before those that have.
 */
export class Strangers {
  readonly #limits: StrangerLimits;
  /** The oldest first. */
  readonly #present = new Map<Stranger, number>();
  readonly #now: () => number;

  constructor(limits: StrangerLimits = strangerLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
  }

  get count(): number {
    return this.#present.size;
  }

  /** Takes one in. The result takes it out again, as known or gone; calling twice is allowed. */
  admit(stranger: Stranger): () => void {
    const { total, perSource } = this.#limits;
    const { source } = stranger;
    if (source !== null && this.#of(source).length >= perSource) this.#evictOneOf(this.#of(source));
    else if (this.#present.size >= total) this.#evictOneOf(this.#most());
    this.#present.set(stranger, this.#now());
    return () => void this.#present.delete(stranger);
  }

  /** All of them go. */
  clear(): void {
    for (const stranger of this.#present.keys()) stranger.evict();
    this.#present.clear();
  }

  #of(source: string | null): Stranger[] {
    return [...this.#present.keys()].filter((each) => each.source === source);
  }

  #most(): Stranger[] {
    const sources = new Map<string | null, Stranger[]>();
    for (const each of this.#present.keys()) {
      const of = sources.get(each.source);
      if (of === undefined) sources.set(each.source, [each]);
      else of.push(each);
    }
    return [...sources.values()].reduce((most, each) => (each.length > most.length ? each : most));
  }

  #evictOneOf(strangers: readonly Stranger[]): void {
    const before = this.#now() - silentMilliseconds;
    const gone = strangers.find((each) => this.#present.get(each)! <= before && each.silent()) ?? strangers[0]!;
    this.#present.delete(gone);
    gone.evict();
  }
}

/**
 * The source that a remote address is counted by: a machine by its IPv4 address, a network by the first half of an IPv6 one, which one
 * machine has whole. Null on a Unix socket, where there is no address.
 */
export function sourceOf(remoteAddress: string | undefined): string | null {
  if (remoteAddress === undefined) return null;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(remoteAddress);
  if (mapped) return mapped[1]!;
  if (!remoteAddress.includes(':')) return remoteAddress;
  const [head = '', tail] = remoteAddress.replace(/%.*$/, '').split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  const words = [...before, ...Array.from({ length: zeros }, () => '0'), ...after];
  return `${words.slice(0, 4).join(':')}::/64`;
}
