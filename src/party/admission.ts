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
export type RunShape = Pick<RunRequest, 'task' | 'promptTokens' | 'newTokens' | 'reveal' | 'padded'>;

const sameShape = (a: RunShape, b: RunShape): boolean =>
  a.task === b.task &&
  a.promptTokens === b.promptTokens &&
  a.newTokens === b.newTokens &&
  a.padded === b.padded &&
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
  admit(): void;
  reject(error: TurnedAway): void;
}

/** Who is served, who waits and who is turned away. First come, first served. */
export class Admission {
  readonly #limits: Limits;
  readonly #now: () => number;
  readonly #memory: Memory;
  #reclaimed = Number.NEGATIVE_INFINITY;
  readonly #waiting: Waiter[] = [];
  #active = 0;
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
    const { maximumSessions, maximumWaiting } = this.#limits;
    if (this.#draining) return this.#leaving();
    if (this.#short()) return this.#full('the memory set aside for sessions is in use');
    if (this.#active < maximumSessions || this.#waiting.length < maximumWaiting) return undefined;
    return this.#full(`${this.#active} sessions are served and ${this.#waiting.length} wait, which is as many as may`);
  }

  /** Throws `TurnedAway` where neither a session nor a place to wait is free. */
  enter(): Ticket {
    const refusal = this.refusal();
    if (refusal !== undefined) throw refusal;
    return this.#active < this.#limits.maximumSessions ? this.#seated() : this.#queued();
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

  #seated(): Ticket {
    this.#active++;
    const leave = this.#leave();
    return { seat: Promise.resolve(), ahead: () => 0, leave };
  }

  #queued(): Ticket {
    let leave: (() => void) | undefined;
    let waiter: Waiter | undefined;
    const seat = new Promise<void>((resolve, reject) => {
      waiter = {
        admit: () => {
          this.#active++;
          leave = this.#leave();
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
      },
    };
  }

  #leave(): () => void {
    const start = this.#now();
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#active--;
      this.#sessionSeconds += 0.2 * ((this.#now() - start) / 1000 - this.#sessionSeconds);
      if (!this.#draining) this.#waiting.shift()?.admit();
    };
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
