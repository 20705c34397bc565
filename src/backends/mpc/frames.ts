import { mostFrameBytes } from '../ring/index.ts';

/** Puts the messages of one hop into its frames: one frame at a time in memory. */
export class FrameWriter {
  readonly #send: (frame: Uint8Array) => Promise<void>;
  #left: number;
  #frame: Uint8Array;
  #filled = 0;

  /** `buffer` has the bytes of the hop's first frame at least; a channel that has accepted a frame reads it no more. */
  constructor(hopBytes: number, buffer: Uint8Array, send: (frame: Uint8Array) => Promise<void>) {
    this.#send = send;
    this.#left = hopBytes;
    this.#frame = buffer.subarray(0, Math.min(hopBytes, mostFrameBytes));
  }

  /** A promise where a frame became full and must go first. */
  write(bytes: Uint8Array): Promise<void> | undefined {
    const room = this.#frame.length - this.#filled;
    if (bytes.length >= room) return this.#writeOn(bytes);
    this.#frame.set(bytes, this.#filled);
    this.#filled += bytes.length;
    return undefined;
  }

  async #writeOn(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + this.#frame.length - this.#filled);
      this.#frame.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled < this.#frame.length) continue;
      await this.#send(this.#frame);
      this.#left -= this.#filled;
      this.#filled = 0;
      // The last frame is shorter; the others reuse the bytes that were sent.
      if (this.#left < this.#frame.length) this.#frame = this.#frame.subarray(0, this.#left);
    }
  }
}

/** Takes the messages of one hop out of its frames: one frame at a time in memory, and a message that goes on in the next one. */
export class FrameReader {
  readonly #next: (bytes: number) => Promise<Uint8Array>;
  #left: number;
  #frame: Uint8Array = new Uint8Array(0);

  constructor(hopBytes: number, next: (bytes: number) => Promise<Uint8Array>) {
    this.#next = next;
    this.#left = hopBytes;
  }

  /** The next message where it is in the frame at hand. */
  held(bytes: number): Uint8Array | undefined {
    if (bytes > this.#frame.length) return undefined;
    const message = this.#frame.subarray(0, bytes);
    this.#frame = this.#frame.subarray(bytes);
    return message;
  }

  async read(bytes: number): Promise<Uint8Array> {
    if (this.#frame.length === 0) await this.#advance();
    const whole = this.held(bytes);
    if (whole !== undefined) return whole;
    const message = new Uint8Array(bytes);
    for (let at = 0; at < bytes; ) {
      if (this.#frame.length === 0) await this.#advance();
      const part = this.held(Math.min(bytes - at, this.#frame.length))!;
      message.set(part, at);
      at += part.length;
    }
    return message;
  }

  async #advance(): Promise<void> {
    this.#frame = await this.#next(Math.min(this.#left, mostFrameBytes));
    this.#left -= this.#frame.length;
  }
}
