import { SottoError } from '../errors/index.ts';
import type { Channel, Clock } from './contract.ts';
import { frameHeaderBytes } from './frame.ts';

/** A network: the bandwidth of each direction by itself, and the time of a round trip. */
export interface Network {
  readonly name: string;
  readonly bitsPerSecond: number;
  readonly roundTripSeconds: number;
}

/** The declared shapes: what forecasts and benches call a network. `marill-lan` is that of MARILL's measurements (16 Gbit/s, 0.1 ms each way). */
export const networks = [
  { name: 'lan', bitsPerSecond: 1e9, roundTripSeconds: 0.0003 },
  { name: 'lan-10g', bitsPerSecond: 10e9, roundTripSeconds: 0.0003 },
  { name: 'marill-lan', bitsPerSecond: 16e9, roundTripSeconds: 0.0002 },
  { name: 'metro', bitsPerSecond: 400e6, roundTripSeconds: 0.01 },
  { name: 'wan', bitsPerSecond: 100e6, roundTripSeconds: 0.04 },
] as const satisfies readonly Network[];

const bitUnits: Record<string, number> = { kbit: 1e3, mbit: 1e6, gbit: 1e9 };
const secondUnits: Record<string, number> = { us: 1e-6, ms: 1e-3, s: 1 };

/**
 * A network by its name in `networks`, or as `BANDWIDTH:ROUNDTRIP`, such as `100mbit:40ms`: the bandwidth of each direction (kbit, mbit or
 * gbit a second) and the time there and back (us, ms or s). Undefined where the text is neither.
 *
 * @example
 * ```js
 * import { parseNetwork } from 'sotto/cost';
 *
 * console.log(parseNetwork('100mbit:40ms').bitsPerSecond); // 100000000
 * ```
 */
export function parseNetwork(text: string): Network | undefined {
  const declared = networks.find(({ name }) => name === text);
  if (declared !== undefined) return declared;
  const match = /^(\d{1,9}(?:\.\d{1,9})?)(kbit|mbit|gbit):(\d{1,9}(?:\.\d{1,9})?)(us|ms|s)$/i.exec(text);
  if (match === null) return undefined;
  const bitsPerSecond = Number(match[1]) * bitUnits[match[2]!.toLowerCase()]!;
  const roundTripSeconds = Number(match[3]) * secondUnits[match[4]!.toLowerCase()]!;
  return bitsPerSecond > 0 ? { name: text, bitsPerSecond, roundTripSeconds } : undefined;
}

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
