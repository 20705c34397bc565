import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { systemAlarm } from './clock.ts';

/** Connections that nobody accepted yet; more are turned away. */
const maximumWaiting = 16;

/** A connection that came and was not accepted yet. */
export interface Arrival {
  /** Makes the handshakes that are left. Rejects with a `peer` error where it is none of `peers`. */
  open(expected: { readonly peer: string; readonly peers: readonly string[] }): Promise<Channel>;
  discard(): void;
}

export interface AcceptOptions {
  readonly peer?: string;
  readonly peers?: readonly string[];
  readonly timeoutMilliseconds?: number;
}

/** What lies between the connections that come, at one address or at several, and those who accept them: a bounded queue for each. */
export class Arrivals {
  readonly #waiting: Arrival[] = [];
  readonly #acceptors: ((arrival: Arrival | null) => void)[] = [];
  #closed = false;

  /** Whether another connection would be turned away. */
  get full(): boolean {
    return this.#closed || (this.#acceptors.length === 0 && this.#waiting.length >= maximumWaiting);
  }

  /** Gives a connection to who waits for one, keeps it, or discards it where too many are kept. */
  arrived(arrival: Arrival): void {
    const acceptor = this.#acceptors.shift();
    if (acceptor) acceptor(arrival);
    else if (this.full) arrival.discard();
    else this.#waiting.push(arrival);
  }

  /** The next connection to `address`. Rejects with a `peer` error at the timeout and with a `usage` error once this is closed. */
  async next(address: string, peer: string, timeoutMilliseconds: number | undefined): Promise<Arrival> {
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) return waiting;
    if (this.#closed) throw closedListener(peer);
    return await new Promise((resolve, reject) => {
      let cancel = () => {};
      const acceptor = (arrival: Arrival | null) => {
        cancel();
        if (arrival === null) reject(closedListener(peer));
        else resolve(arrival);
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
    for (const arrival of this.#waiting.splice(0)) arrival.discard();
  }
}

function closedListener(peer: string): SottoError {
  return new SottoError('usage', 'the listener is closed', { place: { party: peer }, remedy: 'listen again' });
}
