import { SottoError } from '../errors/index.ts';
import { systemAlarm } from './clock.ts';

/** Connections that nobody accepted yet; more are turned away. */
const maximumWaiting = 16;

export interface Awaited {
  /** Who is waited for, and where: for the error. */
  readonly peer: string;
  readonly address: string;
  readonly timeoutMilliseconds?: number | undefined;
}

/** What a listener has between the connections that come and those who accept them: a bounded queue in each direction of time. */
export class Arrivals<T> {
  readonly #discard: (connection: T) => void;
  readonly #waiting: T[] = [];
  readonly #acceptors: ((connection: T | null) => void)[] = [];
  #closed = false;

  constructor(discard: (connection: T) => void) {
    this.#discard = discard;
  }

  /** Whether another connection would be turned away. */
  get full(): boolean {
    return this.#closed || (this.#acceptors.length === 0 && this.#waiting.length >= maximumWaiting);
  }

  /** Gives a connection to who waits for one, keeps it, or discards it where too many are kept. */
  arrived(connection: T): void {
    const acceptor = this.#acceptors.shift();
    if (acceptor) acceptor(connection);
    else if (this.full) this.#discard(connection);
    else this.#waiting.push(connection);
  }

  /** The next connection. Rejects with a `peer` error at the timeout and with a `usage` error once this is closed. */
  next({ peer, address, timeoutMilliseconds }: Awaited): Promise<T> {
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) return Promise.resolve(waiting);
    if (this.#closed) return Promise.reject(closedListener(peer));
    return new Promise((resolve, reject) => {
      let cancel = () => {};
      const acceptor = (connection: T | null) => {
        cancel();
        if (connection === null) reject(closedListener(peer));
        else resolve(connection);
      };
      this.#acceptors.push(acceptor);
      if (timeoutMilliseconds === undefined) return;
      cancel = systemAlarm(timeoutMilliseconds, () => {
        this.#acceptors.splice(this.#acceptors.indexOf(acceptor), 1);
        reject(
          new SottoError('peer', `the ${peer} did not connect to ${address} within ${timeoutMilliseconds} ms`, {
            place: { party: peer },
            remedy: `start the ${peer}, and check address and firewall`,
          }),
        );
      });
    });
  }

  close(): void {
    this.#closed = true;
    for (const acceptor of this.#acceptors.splice(0)) acceptor(null);
    for (const connection of this.#waiting.splice(0)) this.#discard(connection);
  }
}

function closedListener(peer: string): SottoError {
  return new SottoError('usage', 'the listener is closed', { place: { party: peer }, remedy: 'listen again' });
}
