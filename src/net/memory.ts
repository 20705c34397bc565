import type { Channel, Pipe, Timeout } from './contract.ts';
import { framedChannel } from './framed.ts';

export interface MemoryPairOptions {
  /** The two parties: the first channel belongs to `names[0]` and its peer is `names[1]`. */
  readonly names: readonly [string, string];
  readonly maximumPayloadBytes?: number;
  readonly timeout?: Timeout;
}

/** Two ends of a channel in one process, through the same codec and with the same counters as a socket. */
export function memoryPair(options: MemoryPairOptions): [Channel, Channel] {
  const { names, ...rest } = options;
  const [first, second] = memoryPipes();
  return [framedChannel(first, { ...rest, peer: names[1] }), framedChannel(second, { ...rest, peer: names[0] })];
}

/** The pipes below `memoryPair`, for wrapping them. */
export function memoryPipes(): [Pipe, Pipe] {
  const there = new Queue();
  const back = new Queue();
  return [queuePipe(there, back), queuePipe(back, there)];
}

function queuePipe(outgoing: Queue, incoming: Queue): Pipe {
  return {
    write: (parts) => outgoing.push(parts),
    read: () => incoming.shift(),
    async end() {
      outgoing.end();
    },
    destroy() {
      outgoing.end();
      incoming.end();
    },
  };
}

/** As much as a queue holds before a writer waits for the reader. */
const queueBytes = 2 ** 20;

class Queue {
  readonly #chunks: Uint8Array[] = [];
  #bytes = 0;
  #ended = false;
  #reader: ((chunk: Uint8Array | null) => void) | null = null;
  #writers: (() => void)[] = [];

  async push(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#ended) throw new Error('the queue is closed');
    for (const part of parts) {
      const copy = new Uint8Array(part);
      if (this.#reader) {
        const reader = this.#reader;
        this.#reader = null;
        reader(copy);
      } else {
        this.#chunks.push(copy);
        this.#bytes += copy.length;
      }
    }
    while (this.#bytes > queueBytes && !this.#ended) await new Promise<void>((resolve) => this.#writers.push(resolve));
  }

  shift(): Promise<Uint8Array | null> {
    const chunk = this.#chunks.shift();
    if (chunk) {
      this.#bytes -= chunk.length;
      if (this.#bytes <= queueBytes) this.#wakeWriters();
      return Promise.resolve(chunk);
    }
    if (this.#ended) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#reader = resolve;
    });
  }

  end(): void {
    this.#ended = true;
    this.#reader?.(null);
    this.#reader = null;
    this.#wakeWriters();
  }

  #wakeWriters(): void {
    for (const writer of this.#writers.splice(0)) writer();
  }
}
