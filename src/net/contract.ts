import type { SottoError } from '../errors/index.ts';

/** Contracts for what lies between two parties: frames on channels, the pipes of bytes below them, and time as an argument. */

/** One message: a kind in 0 … 255 whose meaning belongs to the caller, and bytes that belong to the receiver. */
export interface Frame {
  readonly kind: number;
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** What a channel has carried, frame headers included. A frame counts as sent once it is accepted, as received once `receive` has returned it. */
export interface ChannelCounters {
  readonly sentBytes: number;
  readonly sentFrames: number;
  readonly receivedBytes: number;
  readonly receivedFrames: number;
}

/** What an authenticated transport knows of itself and of its peer. */
export interface ChannelSecurity {
  /** SHA-256 of the peer's certificate, in hexadecimal; absent where it showed none. */
  readonly certificate: string | undefined;
  /** 32 bytes of keying material of this very connection: both its ends get the same, nobody else does (RFC 8446, 7.5). */
  exported(label: string): Uint8Array;
}

/**
 * An ordered, reliable two-way channel to one party. It reads ahead up to its stated bound, so that two parties may each send
 * that much before either receives. All errors are `SottoError`s that name `peer`.
 */
export interface Channel {
  /** 'server', 'client', 'dealer', …: the name in error messages. */
  readonly peer: string;
  /** Live: the same object is updated. */
  readonly counters: ChannelCounters;
  /** Resolves when the frame is accepted (back-pressure); the payload may be reused then. Frames go out in the order of the calls. */
  send(kind: number, payload: Uint8Array): Promise<void>;
  /**
   * The next frame. Rejects with a `peer` error where the peer is silent for longer than the channel's timeout, has closed, or broke
   * the framing. A timeout loses nothing: a later call may still receive. Any other failure is final.
   */
  receive(): Promise<Frame>;
  /** Takes payloads up to this from now on, and reads ahead as much: little from a stranger, more from a known peer. Channels over pipes have it. */
  allow?(maximumPayloadBytes: number): void;
  /**
   * Resolves, with the error, once nothing more can come: the peer has closed, or broke the framing or the connection. What came before can
   * still be received. For who waits for somebody else in the meantime.
   */
  readonly gone?: Promise<SottoError> | undefined;
  /** Of TLS between parties; absent where the channel is plain, or its TLS is somebody else's (a browser's, a proxy's). */
  readonly security?: ChannelSecurity | undefined;
  /** The network address that an accepted connection came from; absent for one of this machine alone. */
  readonly source?: string | undefined;
  /** Flushes what was sent, then closes; later calls reject, and `reason` tells why. Closing twice is allowed. */
  close(reason?: string): Promise<void>;
}

/** A two-way stream of bytes below a channel: a socket, a pair of queues, or one of these with faults. */
export interface Pipe {
  /** Sends the parts, in order, as one frame. Resolves when they may be reused. Rejects once the pipe is broken or closed. */
  write(parts: readonly Uint8Array[]): Promise<void>;
  /** The next bytes, which then belong to the caller, or null at the end. Never called twice at once. */
  read(): Promise<Uint8Array | null>;
  /** Flushes, then closes. */
  end(): Promise<void>;
  /** Closes at once, discarding what is under way. */
  destroy(): void;
}

/** Milliseconds from an arbitrary start, and waiting. */
export interface Clock {
  /** Milliseconds since a start of its own; never goes back. */
  now(): number;
  /** Resolves that many milliseconds later. */
  sleep(milliseconds: number): Promise<void>;
}

/** Calls `expired` once after so long, unless the function it returned was called first. */
export type Alarm = (milliseconds: number, expired: () => void) => () => void;

/** How long a channel waits for its peer, for each receive and for each send. */
export interface Timeout {
  readonly milliseconds: number;
  readonly alarm: Alarm;
}

/** 64 MiB: the largest payload a channel takes or sends unless it is told otherwise. */
export const defaultMaximumPayloadBytes = 64 * 2 ** 20;
