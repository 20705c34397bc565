import { SottoError } from '../errors/index.ts';
import { systemAlarm } from '../node/clock.ts';
import type { RoleReport } from './report.ts';
import type { Service, ServiceOptions } from './service.ts';
import type { SessionWatch } from './sessions.ts';
import { type TracingLimits, tracingLimits } from './tracing.ts';

/** A stranger to a party of one run has as long as one to a standing party to become known, and no longer than anybody else. */
const handshakeMilliseconds = 10_000;
/** The longest that a timer takes, some 24 days. */
const longestMilliseconds = 2 ** 31 - 1;

/** One seat, and no bound but the party's patience. Nothing is logged: the run's report, or its error, is all that a party of one run says. */
export function oneSeat(timeoutMilliseconds: number): Omit<ServiceOptions, 'listen'> {
  return {
    limits: { maximumSessions: 1, maximumWaiting: 4, maximumPromptTokens: 1_000_000, maximumNewTokens: 1_000_000 },
    timeoutMilliseconds,
    handshakeMilliseconds: Math.min(timeoutMilliseconds, handshakeMilliseconds),
    maximumSessionMilliseconds: longestMilliseconds,
    log: () => undefined,
  };
}

/** A run of its own may be larger than one of many: its client waits as long. */
export const oneRunTracing = (timeoutMilliseconds: number): TracingLimits => ({
  milliseconds: Math.max(tracingLimits.milliseconds, timeoutMilliseconds),
  heapBytes: 4 * tracingLimits.heapBytes,
  programBytes: 4 * tracingLimits.programBytes,
  keptBytes: 4 * tracingLimits.keptBytes,
  smallRun: 512,
});

/**
 * What a standing party of one seat lives for: the first session that its peer takes up, whose report or error is the party's own. Whoever comes
 * before that and turns out to be somebody else (another role, another version, garbage, silence) is refused, and the party waits on.
 */
export class OneRun implements SessionWatch {
  /** Rejects with what ended it, also while nobody looks. */
  readonly done: Promise<RoleReport>;
  readonly #needs: string | undefined;
  #resolve: (report: RoleReport) => void = () => {};
  #reject: (error: unknown) => void = () => {};
  #sessions = 0;
  #taken = false;
  #over = false;
  #error: unknown;
  /** Nobody is waited for any more. */
  #closing = false;
  /** The last visitor that was no peer. */
  #refused: SottoError | undefined;
  /** The connection that the run stands on has ended. */
  #lost: { readonly error: unknown } | undefined;
  #expire: () => void = () => {};
  readonly #expired: Promise<void>;
  #cancel = (): void => {};
  /** Who is waited for. */
  #peer = '';
  #late: string | undefined;

  /** `needs`: a party without which there is no run, so that a session that fails of it ends this one. */
  constructor(needs?: string) {
    this.#needs = needs;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => undefined);
    this.#expired = new Promise((resolve) => {
      this.#expire = resolve;
    });
  }

  /** What ends it other than well: for who is told why the party goes. */
  get failure(): unknown {
    return this.#over || !this.#closing ? this.#error : this.#missing();
  }

  /** From now on this peer has so long to come; it counts anew where it is called again. */
  expect(peer: string, milliseconds: number): void {
    this.#cancel();
    this.#peer = peer;
    this.#cancel = systemAlarm(milliseconds, () => {
      this.#late = `did not connect within ${milliseconds} ms`;
      this.#expire();
    });
  }

  /** Nobody comes any more: the party ends with the session that it is in, or else with what the last visitor met. */
  nobodyElse(): void {
    this.#expire();
  }

  began(): void {
    this.#sessions++;
  }

  taken(): void {
    this.#taken = true;
    this.#cancel();
  }

  ended(report: RoleReport): void {
    this.#sessions--;
    this.#over = true;
    this.#resolve(report);
  }

  failed(error: unknown): void {
    this.#sessions--;
    const needed = error instanceof SottoError && error.place.party === this.#needs;
    if (this.#taken || needed || this.#lost !== undefined) this.#end(error);
    else this.strange(error);
  }

  strange(error: unknown): void {
    if (error instanceof SottoError) this.#refused = error;
  }

  /** The connection that the run stands on came to nothing, or has ended: so has the run, where no session is under way that says why. */
  lost(error: unknown): void {
    this.#lost ??= { error };
    if (this.#sessions === 0) this.#end(error);
  }

  /** The run's report, once the party has ended. */
  async outcome(service: Service, timeoutMilliseconds: number): Promise<RoleReport> {
    try {
      const early = await Promise.race([this.done.then(() => false), this.#expired.then(() => true)]);
      // A session under way may still be the one.
      if (early) {
        this.#closing = true;
        await service.drain(2 * timeoutMilliseconds);
        this.#end(this.#missing());
      }
      return await this.done;
    } finally {
      this.#cancel();
      await service.drain(0);
    }
  }

  #end(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#reject(error);
  }

  #missing(): SottoError {
    const peer = this.#peer;
    const late = this.#late ?? 'did not connect';
    const refused = this.#refused;
    if (refused !== undefined && this.#late === undefined) return refused;
    const remedy = refused?.remedy ?? `start the ${peer}, and check address and firewall`;
    const said = refused === undefined ? late : `${late}; the last connection that was refused: ${refused.reason}`;
    return new SottoError('peer', said, { place: { party: peer }, remedy, cause: refused });
  }
}
