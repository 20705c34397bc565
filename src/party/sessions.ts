import { randomBytes } from 'node:crypto';
import type { Ledger } from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { systemAlarm } from '../node/clock.ts';
import { collectGarbage } from '../node/memory.ts';
import { Admission, type Limits, type Ticket } from './admission.ts';
import { whoIs } from './asking.ts';
import { sendControl } from './control.ts';
import { dismiss } from './doors.ts';
import { errorFields, type Log, type LogFields } from './log.ts';
import { type ServiceMetrics, serviceMetrics } from './metrics.ts';
import { Refused, TurnedAway } from './refusals.ts';
import { type Phase, type Role, type RoleReport, roleReport } from './report.ts';

/** How often a client that waits hears how many are before it. */
const waitingMilliseconds = 2000;

/** One session of a standing party: its channels, what they carried, and a way to end it from outside. */
export interface Session {
  readonly id: string;
  /** Makes a channel this session's: counted, and closed with it. `phase`: what its bytes belong to whatever the time. */
  adopt(channel: Channel, phase?: Phase): Channel;
  /** Measures a phase. */
  phase<T>(name: Phase, work: () => Promise<T>): Promise<T>;
  /** Adds to a phase what was spent for this session elsewhere. */
  spent(name: Phase, costs: { readonly seconds: number; readonly sentBytes: number }): void;
  /** Its peer has taken it up: from here on it is no visitor's that may have mistaken the address. */
  taken(): void;
  /** Rejects once the session is ended from outside: for waits on something that is no channel. */
  readonly aborted: Promise<never>;
  /** Adds to the line that is written when the session ends. */
  note(fields: LogFields): void;
}

/** What a session's work has to say at its end, beside what the session measures. */
export interface Done {
  readonly peakKernelBytes: number;
  readonly ledger?: Ledger | undefined;
  /** The first words that came in the run. */
  readonly saw?: string;
}

/** Who hears of every session and of every visitor: a party of one run. */
export interface SessionWatch {
  /** A peer has its seat. Then it ends well or not; only what is said of who never had one is `strange`. */
  began(): void;
  taken(): void;
  ended(report: RoleReport): void;
  failed(error: unknown): void;
  strange(error: unknown): void;
}

export interface SessionsOptions {
  readonly role: Role;
  readonly limits: Limits;
  readonly watch?: SessionWatch | undefined;
  /** A session that lasts longer is ended. */
  readonly maximumSessionMilliseconds: number;
  readonly log: Log;
  readonly lostLines?: (() => number) | undefined;
  /** Forgets what is kept for later, where memory is short. */
  readonly reclaim?: () => void;
  readonly now: () => number;
}

/** Sessions side by side. What befalls one ends that one. */
export class Sessions {
  readonly admission: Admission;
  readonly metrics: ServiceMetrics;
  readonly #options: SessionsOptions;
  readonly #running = new Map<Running, Promise<void>>();

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.admission = new Admission(options.limits, options.now, {
      residentBytes: () => process.memoryUsage.rss(),
      reclaim: () => {
        options.reclaim?.();
        collectGarbage();
      },
    });
    this.metrics = serviceMetrics(options.role, {
      active: () => this.admission.active,
      waiting: () => this.admission.waiting,
      draining: () => this.admission.draining,
      lostLines: options.lostLines ?? (() => 0),
    });
  }

  /**
   * Admits a peer, whose words `check` may throw at before it takes a place, and serves it. Resolves when the session is over, well or not; the
   * channels are closed then.
   */
  run(kind: string, first: Channel, work: (session: Session) => Promise<Done>, check?: () => void): Promise<void> {
    const session = new Running(this.metrics, this.#options.now, this.#options.watch);
    session.adopt(first);
    const done = this.#served(kind, first, session, { work, check }).finally(() => this.#running.delete(session));
    this.#running.set(session, done);
    return done;
  }

  /** Ends every session that is left after so long, with a reason for both its sides. Nobody is admitted meanwhile. */
  async drain(milliseconds: number): Promise<void> {
    this.admission.drain();
    const all = Promise.all(this.#running.values());
    const cancel = systemAlarm(milliseconds, () => {
      for (const session of this.#running.keys())
        session.abort(new TurnedAway('draining', 'this party is shutting down and ends its sessions', { retrySeconds: 30 }));
    });
    await all;
    cancel();
  }

  /** Ends a peer that came to nothing before any session. */
  strange(error: unknown): void {
    this.metrics.connections.add({ outcome: 'failed' });
    this.#options.watch?.strange(error);
    this.#options.log('warn', 'connection-failed', errorFields(error));
  }

  async #served(
    kind: string,
    first: Channel,
    session: Running,
    { work, check }: { work: (session: Session) => Promise<Done>; check: (() => void) | undefined },
  ): Promise<void> {
    const { log, now, maximumSessionMilliseconds, watch } = this.#options;
    const { id } = session;
    let start = now();
    let ticket: Ticket | undefined;
    let cancel = (): void => {};
    let began = false;
    try {
      check?.();
      ticket = this.admission.enter(whoIs(first));
      await Promise.race([seated(ticket, this.#options.role === 'server' ? first : undefined), session.aborted]);
      start = now();
      watch?.began();
      began = true;
      cancel = systemAlarm(maximumSessionMilliseconds, () => session.abort(tooLong(maximumSessionMilliseconds)));
      log('info', 'session-began', { session: id, task: kind });
      const done = await work(session);
      this.metrics.sessions.add({ kind, outcome: 'done' });
      log('info', 'session-ended', { session: id, task: kind, seconds: (now() - start) / 1000, ...session.totals() });
      await session.close();
      watch?.ended(roleReport(this.#options.role, { meter: session, ...done }));
    } catch (thrown) {
      const error = session.reason ?? thrown;
      const turned = error instanceof TurnedAway || (error instanceof Refused && error.turnedAway);
      if (turned) this.metrics.refusals.add({ code: String(error.code) });
      this.metrics.sessions.add({ kind, outcome: turned ? 'refused' : error instanceof SottoError ? error.kind : 'unexpected' });
      const level = turned ? 'info' : error instanceof SottoError ? 'warn' : 'error';
      const fields = { session: id, task: kind, seconds: (now() - start) / 1000, ...session.totals(), ...errorFields(error) };
      log(level, turned ? 'session-refused' : 'session-failed', fields);
      await session.dismiss(error);
      if (began) watch?.failed(error);
      else watch?.strange(error);
    } finally {
      cancel();
      ticket?.leave();
      this.metrics.sessionSeconds.observe({ kind }, (now() - start) / 1000);
      session.settle();
    }
  }
}

const tooLong = (milliseconds: number): SottoError =>
  new SottoError('resource', `a session lasts at most ${milliseconds / 1000} s here`, { remedy: 'ask for fewer tokens' });

/** Waits for the seat; a server's client hears of it meanwhile, which also shows when it has gone. */
async function seated(ticket: Ticket, client: Channel | undefined): Promise<void> {
  const seat = ticket.seat.then(() => true);
  const gone = (client?.gone ?? new Promise<never>(() => {})).then((error): never => {
    throw error;
  });
  gone.catch(() => undefined);
  for (let first = true; ; first = false) {
    let cancel = (): void => {};
    const pause = new Promise<false>((resolve) => {
      cancel = systemAlarm(first ? 0 : waitingMilliseconds, () => resolve(false));
    });
    const ready = await Promise.race([seat, pause, gone]).finally(() => cancel());
    if (ready) return;
    if (client !== undefined) await sendControl(client, { type: 'waiting', ahead: ticket.ahead() });
  }
}

interface Adopted {
  readonly channel: Channel;
  readonly phase: Phase | undefined;
  /** Bytes that are counted already. */
  sentBytes: number;
  receivedBytes: number;
}

class Running implements Session {
  readonly id = randomBytes(6).toString('hex');
  readonly aborted: Promise<never>;
  reason: Error | undefined;
  readonly #metrics: ServiceMetrics;
  readonly #now: () => number;
  readonly seconds: Record<Phase, number> = { setup: 0, offline: 0, online: 0 };
  readonly sentBytes: Record<Phase, number> = { setup: 0, offline: 0, online: 0 };
  readonly #channels: Adopted[] = [];
  readonly #watch: SessionWatch | undefined;
  #notes: LogFields = {};
  #reject: (error: Error) => void = () => {};

  constructor(metrics: ServiceMetrics, now: () => number, watch: SessionWatch | undefined) {
    this.#metrics = metrics;
    this.#now = now;
    this.#watch = watch;
    this.aborted = new Promise((_, reject) => {
      this.#reject = reject;
    });
    this.aborted.catch(() => undefined);
  }

  adopt(channel: Channel, phase?: Phase): Channel {
    this.#channels.push({ channel, phase, sentBytes: 0, receivedBytes: 0 });
    // One that comes after the end is let go like the others.
    if (this.reason !== undefined) void dismiss(channel, this.reason);
    return channel;
  }

  async phase<T>(name: Phase, work: () => Promise<T>): Promise<T> {
    this.#count('control');
    const start = this.#now();
    try {
      const result = await work();
      this.#metrics.phaseSeconds.observe({ phase: name }, (this.#now() - start) / 1000);
      return result;
    } finally {
      this.seconds[name] += (this.#now() - start) / 1000;
      this.#count(name);
    }
  }

  spent(name: Phase, { seconds, sentBytes }: { readonly seconds: number; readonly sentBytes: number }): void {
    this.seconds[name] += seconds;
    this.sentBytes[name] += sentBytes;
  }

  taken(): void {
    this.#watch?.taken();
  }

  note(fields: LogFields): void {
    this.#notes = { ...this.#notes, ...fields };
  }

  totals(): LogFields {
    const sum = (name: 'sentBytes' | 'receivedBytes') =>
      this.#channels.reduce((total, { channel }) => total + channel.counters[name], 0);
    return { ...this.#notes, sentBytes: sum('sentBytes'), receivedBytes: sum('receivedBytes') };
  }

  abort(reason: Error): void {
    if (this.reason !== undefined) return;
    this.reason = reason;
    this.#reject(reason);
    void this.dismiss(reason);
  }

  async dismiss(error: unknown): Promise<void> {
    await Promise.all(this.#channels.map(({ channel }) => dismiss(channel, error)));
  }

  async close(): Promise<void> {
    await Promise.all(this.#channels.map(({ channel }) => channel.close()));
  }

  settle(): void {
    this.#count('control');
  }

  #count(during: Phase | 'control'): void {
    for (const adopted of this.#channels) {
      const { sentBytes, receivedBytes } = adopted.channel.counters;
      const phase = during === 'control' ? during : (adopted.phase ?? during);
      const labels = { phase, peer: adopted.channel.peer };
      if (phase !== 'control') this.sentBytes[phase] += sentBytes - adopted.sentBytes;
      this.#metrics.bytes.add({ ...labels, direction: 'sent' }, sentBytes - adopted.sentBytes);
      this.#metrics.bytes.add({ ...labels, direction: 'received' }, receivedBytes - adopted.receivedBytes);
      adopted.sentBytes = sentBytes;
      adopted.receivedBytes = receivedBytes;
    }
  }
}
