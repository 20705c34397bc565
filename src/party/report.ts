import { bytesToHex } from '@noble/hashes/utils.js';
import type { Costs } from '../backends/cost/index.ts';
import type { Ledger } from '../backends/mpc/index.ts';
import type { Channel } from '../net/contract.ts';
import type { Outcome } from './client-task.ts';

/** A party of a run. The helper is a dealer that makes correlations while the run goes on. */
export type Role = 'client' | 'server' | 'dealer' | 'helper';
/** Setup: handshake, masked weights. Offline: correlations, which depend on lengths alone. Online: from the first input on. */
export type Phase = 'setup' | 'offline' | 'online';

/** One scope of one party's ledger. */
export interface ScopeReport {
  readonly scope: string;
  readonly clientToServerBytes: number;
  readonly serverToClientBytes: number;
  readonly seconds: number;
}

/** What one party measured itself. Nothing in it is secret to the party's own side; words it saw are masked ones. */
export interface RoleReport {
  readonly role: Role;
  readonly processId: number;
  /** Wall clock of each phase. In the helper setting client and server have no offline phase, but bytes of it, sent during the run. */
  readonly seconds: Record<Phase, number>;
  /** Bytes this party sent in each phase, frame headers included. */
  readonly sentBytes: Record<Phase, number>;
  /** Seconds this party computed in the online phase, waiting excluded. */
  readonly onlineComputeSeconds: number;
  readonly hops: number;
  readonly scopes: readonly ScopeReport[];
  readonly peakKernelBytes: number;
  /** The first words of a message from the other side, in hexadecimal: what the secret looks like from here. */
  readonly saw: string;
}

/** The client's report also has the forecast that it made from the public program. */
export interface ClientReport extends RoleReport, Outcome {
  /** The run's name in the logs of all its parties. */
  readonly run: string;
  readonly forecast: Costs;
}

const scopesOf = (ledger: Ledger): ScopeReport[] => [...ledger.scopes].map(([scope, record]) => ({ scope, ...record }));

/** What a party measured, put together; a run that a text's end broke off has no ledger. */
export function roleReport(
  role: Role,
  {
    meter,
    ledger,
    peakKernelBytes,
    saw = '',
  }: {
    meter: Pick<PhaseMeter, 'seconds' | 'sentBytes'>;
    ledger?: Ledger | undefined;
    peakKernelBytes: number;
    saw?: string | undefined;
  },
): RoleReport {
  return {
    role,
    // A page has none.
    processId: typeof process === 'undefined' ? 0 : process.pid,
    seconds: meter.seconds,
    sentBytes: meter.sentBytes,
    onlineComputeSeconds: ledger?.seconds ?? 0,
    hops: ledger?.hops ?? 0,
    scopes: ledger === undefined ? [] : scopesOf(ledger),
    peakKernelBytes,
    saw,
  };
}

/** Measures phases: bytes this party's channels sent since the last call, and the clock. */
export class PhaseMeter {
  readonly seconds: Record<Phase, number>;
  readonly sentBytes: Record<Phase, number>;
  readonly #channels: readonly { counters: { sentBytes: number } }[];
  readonly #now: () => number;

  constructor(channels: readonly { counters: { sentBytes: number } }[], now: () => number, sum?: PhaseMeter) {
    this.#channels = channels;
    this.#now = now;
    this.seconds = sum?.seconds ?? { setup: 0, offline: 0, online: 0 };
    this.sentBytes = sum?.sentBytes ?? { setup: 0, offline: 0, online: 0 };
  }

  /** Counts other channels into the same phases: for phases that go on at once. */
  on(channels: readonly { counters: { sentBytes: number } }[]): PhaseMeter {
    return new PhaseMeter(channels, this.#now, this);
  }

  #sent(): number {
    return this.#channels.reduce((sum, channel) => sum + channel.counters.sentBytes, 0);
  }

  async measure<T>(phase: Phase, work: () => Promise<T>): Promise<T> {
    const start = this.#now();
    try {
      return await this.measureBytes(phase, work);
    } finally {
      this.seconds[phase] = (this.#now() - start) / 1000;
    }
  }

  /** Without the clock. */
  async measureBytes<T>(phase: Phase, work: () => Promise<T>): Promise<T> {
    const sent = this.#sent();
    try {
      return await work();
    } finally {
      this.sentBytes[phase] = this.#sent() - sent;
    }
  }
}

/** The same channel, telling of the first payload that it received. */
export function watchFirst(channel: Channel, first: (payload: Uint8Array) => void): Channel {
  let seen = false;
  return {
    peer: channel.peer,
    counters: channel.counters,
    gone: channel.gone,
    security: channel.security,
    send: (kind, payload) => channel.send(kind, payload),
    close: (reason) => channel.close(reason),
    async receive() {
      const frame = await channel.receive();
      if (!seen) first(frame.payload);
      seen = true;
      return frame;
    },
  };
}

export const firstWords = (bytes: Uint8Array): string => bytesToHex(bytes.subarray(0, 24));
