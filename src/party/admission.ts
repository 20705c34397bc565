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
}

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
  readonly #residentBytes: () => number;
  readonly #waiting: Waiter[] = [];
  #active = 0;
  #draining = false;
  /** A moving mean. */
  #sessionSeconds = 5;

  /** `now` in milliseconds. */
  constructor(limits: Limits, now: () => number, residentBytes: () => number) {
    this.#limits = limits;
    this.#now = now;
    this.#residentBytes = residentBytes;
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

  /** Throws `TurnedAway` where neither a session nor a place to wait is free. */
  enter(): Ticket {
    const { maximumSessions, maximumWaiting, maximumResidentBytes } = this.#limits;
    if (this.#draining) throw this.#leaving();
    if (maximumResidentBytes !== undefined && this.#residentBytes() > maximumResidentBytes)
      throw new TurnedAway('full', 'the memory set aside for sessions is in use', { retrySeconds: this.#retrySeconds() });
    if (this.#active < maximumSessions) return this.#seated();
    if (this.#waiting.length >= maximumWaiting)
      throw new TurnedAway(
        'full',
        `${this.#active} sessions are served and ${this.#waiting.length} wait, which is as many as may`,
        { retrySeconds: this.#retrySeconds() },
      );
    return this.#queued();
  }

  /** Nobody begins any more: who waits is turned away. */
  drain(): void {
    this.#draining = true;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#leaving());
  }

  /** Throws `TurnedAway` where a run is longer than this party takes. */
  check({ promptTokens, newTokens }: RunRequest): void {
    const { maximumPromptTokens, maximumNewTokens } = this.#limits;
    const over = (of: 'promptTokens' | 'newTokens', what: string, asked: number, most: number): never => {
      const reason = `${asked} ${what} were asked for, at most ${most} are served in one run`;
      throw new TurnedAway('limit', reason, { limit: { of, most } });
    };
    if (promptTokens > maximumPromptTokens) over('promptTokens', 'prompt tokens', promptTokens, maximumPromptTokens);
    if (newTokens > maximumNewTokens) over('newTokens', 'new tokens', newTokens, maximumNewTokens);
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

  #leaving(): TurnedAway {
    return new TurnedAway('draining', 'this party is shutting down and begins no session', { retrySeconds: 30 });
  }
}
