import { SottoError } from '../errors/index.ts';
import type { Channel, Clock } from './contract.ts';
import { frameHeaderBytes } from './frame.ts';

/** A network: the bandwidth of each direction by itself, and the time of a round trip. */
export interface Network {
  readonly name: string;
  readonly bitsPerSecond: number;
  readonly roundTripSeconds: number;
}

export const lan: Network = { name: 'lan', bitsPerSecond: 16e9, roundTripSeconds: 0.0001 };
export const wan: Network = { name: 'wan', bitsPerSecond: 400e6, roundTripSeconds: 0.02 };

/** As much as the link's send buffer holds before `send` waits. */
const bufferBytes = 4 * 2 ** 20;

interface Departure {
  readonly arrival: number;
  readonly kind: number;
  readonly payload: Uint8Array;
}

/**
 * Slows down what this side sends, so wrap both ends: a frame leaves when the frames before it have (bytes · 8 / bandwidth, headers
 * included) and arrives half a round trip later. Frames are copied; `send` resolves once the frame fits the send buffer of 4 MiB.
 */
export function shaped(channel: Channel, network: Network, clock: Clock): Channel {
  return new ShapedChannel(channel, network, clock);
}

class ShapedChannel implements Channel {
  readonly peer: string;
  readonly counters = { sentBytes: 0, sentFrames: 0, receivedBytes: 0, receivedFrames: 0 };
  readonly #channel: Channel;
  readonly #network: Network;
  readonly #clock: Clock;
  readonly #queue: Departure[] = [];
  #queuedBytes = 0;
  #linkFree = 0;
  #delivering: Promise<void> | null = null;
  #roomWanted: (() => void)[] = [];
  #failure: unknown = null;
  #closed: SottoError | null = null;

  constructor(channel: Channel, network: Network, clock: Clock) {
    this.#channel = channel;
    this.#network = network;
    this.#clock = clock;
    this.peer = channel.peer;
  }

  async send(kind: number, payload: Uint8Array): Promise<void> {
    if (this.#closed) throw this.#closed;
    if (this.#failure) throw this.#failure;
    const bytes = frameHeaderBytes + payload.length;
    const start = Math.max(this.#clock.now(), this.#linkFree);
    this.#linkFree = start + (bytes * 8000) / this.#network.bitsPerSecond;
    const arrival = this.#linkFree + this.#network.roundTripSeconds * 500;
    this.#queue.push({ arrival, kind, payload: new Uint8Array(payload) });
    this.#queuedBytes += bytes;
    this.#delivering ??= this.#deliver();
    while (this.#queuedBytes > bufferBytes && this.#queuedBytes > bytes && !this.#failure) {
      await new Promise<void>((resolve) => this.#roomWanted.push(resolve));
    }
    if (this.#failure) throw this.#failure;
    this.counters.sentFrames++;
    this.counters.sentBytes += bytes;
  }

  async receive() {
    if (this.#closed) throw this.#closed;
    const frame = await this.#channel.receive();
    this.counters.receivedFrames++;
    this.counters.receivedBytes += frameHeaderBytes + frame.payload.length;
    return frame;
  }

  async close(reason?: string): Promise<void> {
    this.#closed ??= new SottoError('usage', `the channel is closed here${reason ? `: ${reason}` : ''}`, {
      place: { party: this.peer },
      remedy: 'open a new channel',
    });
    await this.#delivering;
    await this.#channel.close(reason);
  }

  async #deliver(): Promise<void> {
    try {
      for (let frame = this.#queue.shift(); frame; frame = this.#queue.shift()) {
        const wait = frame.arrival - this.#clock.now();
        if (wait > 0) await this.#clock.sleep(wait);
        await this.#channel.send(frame.kind, frame.payload);
        this.#queuedBytes -= frameHeaderBytes + frame.payload.length;
        this.#wake();
      }
    } catch (error) {
      this.#failure = error;
      this.#queue.length = 0;
      this.#wake();
    } finally {
      this.#delivering = null;
    }
  }

  #wake(): void {
    for (const waiting of this.#roomWanted.splice(0)) waiting();
  }
}
