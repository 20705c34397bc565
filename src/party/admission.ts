import type { RingParameters } from '../backends/ring/index.ts';
import type { RunRequest } from './control.ts';
import { TurnedAway } from './refusals.ts';

/** What a standing party takes on. */
export interface Limits {
  /** Sessions side by side. */
  readonly maximumSessions: number;
  /** Who waits for one of them to end; more are turned away. */
  readonly maximumWaiting: number;
  readonly maximumPromptTokens: number;
  readonly maximumNewTokens: number;
  /** No session begins while the process holds more than this. */
  readonly maximumResidentBytes?: number | undefined;
  /** The rings that runs may be in; any where absent. */
  readonly rings?: readonly RingParameters[] | undefined;
  /** The runs that are served, and no others; every one within the lengths where absent. */
  readonly shapes?: readonly RunShape[] | undefined;
}

/** What a run's program follows from, beside its ring. */
export type RunShape = Pick<RunRequest, 'task' | 'promptTokens' | 'newTokens' | 'reveal' | 'padded' | 'rangeFlags'>;

const sameShape = (a: RunShape, b: RunShape): boolean =>
  a.task === b.task &&
  a.promptTokens === b.promptTokens &&
  a.newTokens === b.newTokens &&
  a.padded === b.padded &&
  a.rangeFlags === b.rangeFlags &&
  (a.reveal ?? 'logits') === (b.reveal ?? 'logits');

/** Memory as the process sees it, and a way to get some of it back. */
export interface Memory {
  readonly residentBytes: () => number;
  /** Gives back what is kept for later, and what nobody uses any more. */
  readonly reclaim: () => void;
}

/** How often memory is asked to be given back while it is short. */
const reclaimMilliseconds = 5000;

/** A place among those who are served or wait. */
export interface Ticket {
  /** Resolves once this session may begin; rejects with `TurnedAway` where it never will. */
  readonly seat: Promise<void>;
  /** How many are before it. */
  ahead(): number;
  /** Gives the place back, whether it was served or still waits. Calling twice is allowed. */
  leave(): void;
}

interface Waiter {
  readonly who: string;
  admit(): void;
  reject(error: TurnedAway): void;
}

/** Whose places they are that nobody told the owner of. */
const anybody = '';

/**
 * Who is served, who waits and who is turned away. First come, first served, and by turns where peers are told apart: a seat goes to who
 * has the fewest, then to who had none for the longest, and where all places are taken who has the most gives one up. So a visitor that
 * takes every place holds up another one for a turn, and does not keep it out.
 */
export class Admission {
  readonly #limits: Limits;
  readonly #now: () => number;
  readonly #memory: Memory;
  #reclaimed = Number.NEGATIVE_INFINITY;
  readonly #waiting: Waiter[] = [];
  #active = 0;
  /** Of those who are served or wait: how many seats they have, and when they were last given one. */
  readonly #seats = new Map<string, number>();
  readonly #turns = new Map<string, number>();
  #turn = 0;
  #draining = false;
  /** A moving mean. */
  #sessionSeconds = 5;

  /** `now` in milliseconds. */
  constructor(limits: Limits, now: () => number, memory: Memory) {
    this.#limits = limits;
    this.#now = now;
    this.#memory = memory;
  }

  get active(): number {
    return this.#active;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Why the next peer would be turned away; undefined where it would not. This is also what readiness says. */
  refusal(): TurnedAway | undefined {
    return this.#closed() ?? (this.#room ? undefined : this.#crowded());
  }

  /** What who comes now is told before it says what it wants; undefined where this party is not shutting down. */
  get farewell(): TurnedAway | undefined {
    return this.#draining ? this.#leaving() : undefined;
  }

  /** Throws `TurnedAway` where neither a session nor a place to wait is free, nor one that another peer has too many of. */
  enter(who = anybody): Ticket {
    const closed = this.#closed();
    if (closed !== undefined) throw closed;
    if (!this.#room) this.#displace(who);
    return this.#active < this.#limits.maximumSessions ? this.#seated(who) : this.#queued(who);
  }

  #closed(): TurnedAway | undefined {
    if (this.#draining) return this.#leaving();
    return this.#short() ? this.#full('the memory set aside for sessions is in use') : undefined;
  }

  get #room(): boolean {
    const { maximumSessions, maximumWaiting } = this.#limits;
    return this.#active < maximumSessions || this.#waiting.length < maximumWaiting;
  }

  #crowded(): TurnedAway {
    return this.#full(`${this.#active} sessions are served and ${this.#waiting.length} wait, which is as many as may`);
  }

  #places(who: string): number {
    return (this.#seats.get(who) ?? 0) + this.#waiting.filter((waiter) => waiter.who === who).length;
  }

  /** The last to come of whoever has the most places gives its own up. Throws where nobody has two more than `who`. */
  #displace(who: string): void {
    const most = this.#waiting.reduce((sum, waiter) => Math.max(sum, this.#places(waiter.who)), 0);
    const at = this.#waiting.findLastIndex((waiter) => this.#places(waiter.who) === most);
    if (at < 0 || most < this.#places(who) + 2) throw this.#crowded();
    this.#waiting.splice(at, 1)[0]!.reject(this.#crowded());
  }

  /** The next to be served: of those with the fewest seats whoever had none for the longest, of its own the first to come. */
  #next(): Waiter | undefined {
    const rank = ({ who }: Waiter): number => (this.#seats.get(who) ?? 0) * 2 ** 32 + (this.#turns.get(who) ?? 0);
    const ranks = this.#waiting.map(rank);
    const at = ranks.indexOf(Math.min(...ranks));
    return at < 0 ? undefined : this.#waiting.splice(at, 1)[0];
  }

  /** Whether memory is short, also once what nobody needs is given back. */
  #short(): boolean {
    const { maximumResidentBytes = Number.POSITIVE_INFINITY } = this.#limits;
    if (this.#memory.residentBytes() <= maximumResidentBytes) return false;
    if (this.#now() - this.#reclaimed < reclaimMilliseconds) return true;
    this.#reclaimed = this.#now();
    this.#memory.reclaim();
    return this.#memory.residentBytes() > maximumResidentBytes;
  }

  /** Nobody begins any more: who waits is turned away. */
  drain(): void {
    this.#draining = true;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#leaving());
  }

  /** Throws `TurnedAway` where a run is none that this party takes. */
  check(run: RunRequest): void {
    const { promptTokens, newTokens, ring } = run;
    const { maximumPromptTokens, maximumNewTokens, rings, shapes } = this.#limits;
    const over = (of: 'promptTokens' | 'newTokens', what: string, asked: number, most: number): never => {
      const reason = `${asked} ${what} were asked for, at most ${most} are served in one run`;
      throw new TurnedAway('limit', reason, { limit: { of, most } });
    };
    if (promptTokens > maximumPromptTokens) over('promptTokens', 'prompt tokens', promptTokens, maximumPromptTokens);
    if (newTokens > maximumNewTokens) over('newTokens', 'new tokens', newTokens, maximumNewTokens);
    if (rings !== undefined && !rings.some(({ bits, fraction }) => bits === ring.bits && fraction === ring.fraction))
      throw new TurnedAway('limit', `a ring of ${ring.bits} bits with ${ring.fraction} of fraction is not served`);
    if (shapes !== undefined && !shapes.some((shape) => sameShape(shape, run)))
      throw new TurnedAway('limit', `a run of ${promptTokens} and ${newTokens} tokens is none of those that are served`);
  }

  #seated(who: string): Ticket {
    return { seat: Promise.resolve(), ahead: () => 0, leave: this.#sit(who) };
  }

  #queued(who: string): Ticket {
    let leave: (() => void) | undefined;
    let waiter: Waiter | undefined;
    const seat = new Promise<void>((resolve, reject) => {
      waiter = {
        who,
        admit: () => {
          leave = this.#sit(who);
          resolve();
        },
        reject,
      };
      this.#waiting.push(waiter);
    });
    seat.catch(() => undefined);
    return {
      seat,
      ahead: () => Math.max(0, this.#waiting.indexOf(waiter!)),
      leave: () => {
        const place = this.#waiting.indexOf(waiter!);
        if (place >= 0) this.#waiting.splice(place, 1);
        leave?.();
        this.#forget(who);
      },
    };
  }

  /** Gives a seat; the result takes it back. */
  #sit(who: string): () => void {
    this.#active++;
    this.#seats.set(who, (this.#seats.get(who) ?? 0) + 1);
    this.#turns.set(who, ++this.#turn);
    const start = this.#now();
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#active--;
      this.#seats.set(who, this.#seats.get(who)! - 1);
      this.#forget(who);
      this.#sessionSeconds += 0.2 * ((this.#now() - start) / 1000 - this.#sessionSeconds);
      if (!this.#draining) this.#next()?.admit();
    };
  }

  /** Nothing is kept of who is not there. */
  #forget(who: string): void {
    if (this.#places(who) > 0) return;
    this.#seats.delete(who);
    this.#turns.delete(who);
  }

  #retrySeconds(): number {
    const rounds = (this.#waiting.length + 1) / Math.max(1, this.#limits.maximumSessions);
    return Math.min(3600, Math.max(1, Math.ceil(rounds * this.#sessionSeconds)));
  }

  #full(reason: string): TurnedAway {
    return new TurnedAway('full', reason, { retrySeconds: this.#retrySeconds() });
  }

  #leaving(): TurnedAway {
    return new TurnedAway('draining', 'this party is shutting down and begins no session', { retrySeconds: 30 });
  }
}
