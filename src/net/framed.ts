import { SottoError } from '../errors/index.ts';
import type { Checksum } from './checksum.ts';
import {
  type Channel,
  type ChannelSecurity,
  defaultMaximumPayloadBytes,
  type Frame,
  type Pipe,
  type Timeout,
} from './contract.ts';
import { encodeFrameHeader, FrameDecoder, frameHeaderBytes } from './frame.ts';

export interface FramedOptions {
  readonly peer: string;
  readonly maximumPayloadBytes?: number;
  /** A faster CRC-32 than the portable one, where the platform has it. */
  readonly checksum?: Checksum | undefined;
  /** Without it the channel waits for ever: for tests in one process only. */
  readonly timeout?: Timeout;
  readonly security?: ChannelSecurity | undefined;
  readonly source?: string | undefined;
}

interface Waiter {
  resolve(frame: Frame): void;
  reject(error: SottoError): void;
  cancel(): void;
}

/** What one waiting frame is taken to occupy beside its payload, so that a flood of empty frames is bounded too. */
const frameOverheadBytes = 256;

/** A channel over a pipe. It takes the pipe over: nobody else reads, writes or closes it. */
export function framedChannel(pipe: Pipe, options: FramedOptions): Channel {
  return new FramedChannel(pipe, options);
}

class FramedChannel implements Channel {
  readonly peer: string;
  readonly counters = { sentBytes: 0, sentFrames: 0, receivedBytes: 0, receivedFrames: 0 };
  readonly #pipe: Pipe;
  readonly #timeout: Timeout | undefined;
  readonly #maximumPayloadBytes: number;
  readonly #checksum: Checksum | undefined;
  /** What it takes; at first what it sends. */
  #takenBytes: number;
  readonly #decoder: FrameDecoder;
  readonly #inbox: Frame[] = [];
  #inboxBytes = 0;
  #roomWanted: (() => void) | null = null;
  readonly #waiters: Waiter[] = [];
  readonly #sends = new Set<Promise<void>>();
  readonly gone: Promise<SottoError>;
  readonly security: ChannelSecurity | undefined;
  readonly source: string | undefined;
  #lost: (error: SottoError) => void = () => {};
  #sequence = 0;
  #failure: SottoError | null = null;
  #closing: Promise<void> | null = null;
  #closed: SottoError | null = null;

  constructor(pipe: Pipe, options: FramedOptions) {
    this.#pipe = pipe;
    this.gone = new Promise((resolve) => {
      this.#lost = resolve;
    });
    this.peer = options.peer;
    this.security = options.security;
    this.source = options.source;
    this.#timeout = options.timeout;
    this.#maximumPayloadBytes = options.maximumPayloadBytes ?? defaultMaximumPayloadBytes;
    this.#takenBytes = this.#maximumPayloadBytes;
    this.#checksum = options.checksum;
    this.#decoder = new FrameDecoder(options.peer, this.#takenBytes, options.checksum);
    void this.#readAhead();
  }

  async send(kind: number, payload: Uint8Array): Promise<void> {
    const refusal = this.#closed ?? this.#failure;
    if (refusal) throw refusal;
    if (payload.length > this.#maximumPayloadBytes) {
      throw new SottoError(
        'usage',
        `a frame of ${payload.length} bytes is longer than the ${this.#maximumPayloadBytes} of this channel`,
        {
          place: { party: this.peer },
          remedy: 'split it into several frames',
        },
      );
    }
    const header = encodeFrameHeader(kind, payload, this.#sequence++, this.#checksum);
    const write = this.#pipe.write(payload.length > 0 ? [header, payload] : [header]);
    this.#sends.add(write);
    try {
      await this.#withinTimeout(write);
    } catch (error) {
      // A frame that was accepted in part cannot be taken back: the channel ends here.
      this.#fail(error instanceof SottoError ? error : this.#error('closed the connection while it was being sent to', error));
      throw this.#closed ?? this.#failure;
    } finally {
      this.#sends.delete(write);
    }
    this.counters.sentFrames++;
    this.counters.sentBytes += frameHeaderBytes + payload.length;
  }

  receive(): Promise<Frame> {
    if (this.#closed) return Promise.reject(this.#closed);
    const frame = this.#inbox.shift();
    if (frame) {
      this.#inboxBytes -= frame.payload.length + frameOverheadBytes;
      this.#roomWanted?.();
      this.#count(frame);
      return Promise.resolve(frame);
    }
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { resolve, reject, cancel: () => {} };
      this.#waiters.push(waiter);
      if (!this.#timeout) return;
      waiter.cancel = this.#timeout.alarm(this.#timeout.milliseconds, () => {
        const place = this.#waiters.indexOf(waiter);
        if (place < 0) return;
        this.#waiters.splice(place, 1);
        reject(this.#silent('sent nothing'));
      });
    });
  }

  allow(maximumPayloadBytes: number): void {
    this.#takenBytes = maximumPayloadBytes;
    this.#decoder.maximumPayloadBytes = maximumPayloadBytes;
    this.#roomWanted?.();
  }

  close(reason?: string): Promise<void> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async #close(reason: string | undefined): Promise<void> {
    this.#closed = new SottoError('usage', `the channel is closed here${reason ? `: ${reason}` : ''}`, {
      place: { party: this.peer },
      remedy: 'open a new channel',
    });
    this.#rejectWaiters(this.#closed);
    this.#roomWanted?.();
    await Promise.allSettled([...this.#sends].map((write) => this.#withinTimeout(write)));
    try {
      if (!this.#failure) await this.#withinTimeout(this.#pipe.end());
    } catch {
      // The peer is gone or stuck; the caller wanted the end and gets it.
    } finally {
      this.#pipe.destroy();
    }
  }

  async #readAhead(): Promise<void> {
    try {
      for (;;) {
        const chunk = await this.#pipe.read();
        // Once closed here, what still comes is read and thrown away, so that the peer is not held up.
        if (chunk === null)
          return this.#fail(this.#error(this.#decoder.midFrame ? 'closed in the middle of a frame' : 'closed the connection'));
        if (this.#closed) continue;
        for (const frame of this.#decoder.push(chunk)) this.#deliver(frame);
        if (this.#inboxBytes > this.#takenBytes && !this.#closed) {
          await new Promise<void>((resolve) => {
            this.#roomWanted = () => {
              if (this.#inboxBytes > this.#takenBytes && !this.#closed) return;
              this.#roomWanted = null;
              resolve();
            };
          });
        }
      }
    } catch (error) {
      this.#fail(error instanceof SottoError ? error : this.#error('broke the connection', error));
    }
  }

  #deliver(frame: Frame): void {
    const waiter = this.#waiters.shift();
    if (waiter) {
      waiter.cancel();
      this.#count(frame);
      waiter.resolve(frame);
    } else {
      this.#inbox.push(frame);
      this.#inboxBytes += frame.payload.length + frameOverheadBytes;
    }
  }

  #count(frame: Frame): void {
    this.counters.receivedFrames++;
    this.counters.receivedBytes += frameHeaderBytes + frame.payload.length;
  }

  #fail(error: SottoError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#lost(error);
    this.#rejectWaiters(error);
    this.#pipe.destroy();
  }

  #rejectWaiters(error: SottoError): void {
    for (const waiter of this.#waiters.splice(0)) {
      waiter.cancel();
      waiter.reject(error);
    }
  }

  /** The promise itself, or a `peer` error where it takes longer than the timeout. */
  #withinTimeout(work: Promise<void>): Promise<void> {
    const timeout = this.#timeout;
    if (!timeout) return work;
    return new Promise((resolve, reject) => {
      const cancel = timeout.alarm(timeout.milliseconds, () => reject(this.#silent('took nothing')));
      work.then(
        () => {
          cancel();
          resolve();
        },
        (error) => {
          cancel();
          reject(error);
        },
      );
    });
  }

  #silent(what: string): SottoError {
    return new SottoError('peer', `the ${this.peer} is silent: it ${what} for ${this.#timeout?.milliseconds} ms`, {
      place: { party: this.peer },
      remedy: `look at the ${this.peer}'s log, or allow more time`,
    });
  }

  #error(what: string, cause?: unknown): SottoError {
    return new SottoError('peer', `the ${this.peer} ${what}`, {
      place: { party: this.peer },
      remedy: `look at the ${this.peer}'s log for the reason`,
      cause,
    });
  }
}
