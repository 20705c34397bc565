import type { Socket } from 'node:net';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { systemAlarm } from './clock.ts';
import { Strangers, sourceOf } from './strangers.ts';

/** Whom a handshake may show, and the name of whoever comes for error messages. */
export interface Expected {
  readonly peer: string;
  readonly peers: readonly string[];
}

/** A connection that came. It is a stranger, with a place among the bounded number of them, until it is known or has gone. */
export interface Visitor {
  /** Makes the handshakes that are left. Rejects with a `peer` error where it is none of `peers`. */
  open(expected: Expected): Promise<Channel>;
  /** It has said who it is: its place is another's. */
  known(): void;
  /** Closes it at once. */
  discard(): void;
}

/** Who is waited for, and how long. */
export interface AcceptOptions {
  readonly peer?: string;
  readonly peers?: readonly string[];
  readonly timeoutMilliseconds?: number;
}

/** What lies between the connections that come, at one address or at several, and those who take them. */
export class Arrivals {
  readonly strangers = new Strangers();
  readonly #waiting = new Set<Visitor>();
  readonly #acceptors: ((visitor: Visitor | null) => void)[] = [];
  #receive: ((visitor: Visitor) => void) | undefined;
  #closed = false;

  /** A connection, from its first moment on: the stranger's place. It may have to go for another one at any time. */
  came(socket: Socket): () => void {
    const leave = this.strangers.admit({
      source: sourceOf(socket.remoteAddress),
      silent: () => socket.bytesRead === 0,
      evict: () => socket.destroy(),
    });
    socket.once('close', leave);
    return leave;
  }

  /** Gives a connection that came to who waits for one, or keeps it as long as it has its place. */
  arrived(socket: Socket, visitor: Visitor): void {
    const taker = this.#closed ? () => visitor.discard() : (this.#receive ?? this.#acceptors.shift());
    if (taker !== undefined) {
      taker(visitor);
      return;
    }
    this.#waiting.add(visitor);
    socket.once('close', () => this.#waiting.delete(visitor));
  }

  /** From now on each connection goes to `receive` as it comes. */
  receive(receive: (visitor: Visitor) => void): void {
    this.#receive = receive;
    for (const visitor of this.#waiting) receive(visitor);
    this.#waiting.clear();
  }

  /** The next connection to `address`. Rejects with a `peer` error at the timeout and with a `usage` error once this is closed. */
  async next(address: string, peer: string, timeoutMilliseconds: number | undefined): Promise<Visitor> {
    const [waiting] = this.#waiting;
    if (waiting !== undefined) {
      this.#waiting.delete(waiting);
      return waiting;
    }
    if (this.#closed) throw closedListener(peer);
    return await new Promise((resolve, reject) => {
      let cancel = () => {};
      const acceptor = (visitor: Visitor | null) => {
        cancel();
        if (visitor === null) reject(closedListener(peer));
        else resolve(visitor);
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
    for (const visitor of this.#waiting) visitor.discard();
    this.#waiting.clear();
    this.strangers.clear();
  }
}

function closedListener(peer: string): SottoError {
  return new SottoError('usage', 'the listener is closed', { place: { party: peer }, remedy: 'listen again' });
}
