import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import type { Visitor } from '../node/arrivals.ts';
import { systemAlarm } from '../node/clock.ts';
import { type Listener, listen, severalAddresses } from '../node/sockets.ts';
import type { TlsCredentials } from '../node/tls.ts';
import { type Control, greet, heedingRefusals, refuse, shortControlBytes } from './control.ts';
import { Objection, refusalOf } from './refusals.ts';

export interface DoorOptions {
  readonly addresses: readonly string[];
  readonly role: Control<'hello'>['role'];
  /** Who may come. */
  readonly peers: readonly ('client' | 'server')[];
  readonly credentials: TlsCredentials | undefined;
  /** Pages of which origins may come; none where absent, any for `*`. */
  readonly origins?: readonly string[] | undefined;
  /** A stranger has this long for its handshake, and as long again to say who it is. */
  readonly handshakeMilliseconds: number;
  /** Of a channel, once its peer is known. */
  readonly timeoutMilliseconds: number;
  /** A peer that said who it is. Resolves once it is known what it comes for, and the channel is the callee's; where it rejects, it is closed. */
  readonly arrived: (channel: Channel, hello: Control<'hello'>) => Promise<void>;
  /** A connection that came to nothing. */
  readonly failed: (error: unknown) => void;
}

export interface Doors {
  readonly addresses: readonly string[];
  close(): Promise<void>;
}

/**
 * Listens at several addresses and greets whoever comes, all at once: one that is slow, lies about itself or speaks another language
 * holds up nobody else, and has to go for a newcomer where too many are strangers. A connection may send frames of 4 KiB until its party
 * allows more.
 */
export async function openDoors(options: DoorOptions): Promise<Doors> {
  const { addresses, credentials, origins, timeoutMilliseconds, handshakeMilliseconds } = options;
  const listeners: Listener[] = [];
  try {
    // Who may come by an address follows from its kind, so that each is a door of its own, also where one word names several.
    for (const address of addresses.flatMap(severalAddresses))
      listeners.push(await listen({ address, peer: 'client', timeoutMilliseconds, handshakeMilliseconds, credentials, origins }));
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close()));
    throw error;
  }
  const state = { closed: false };
  const strangers = new Set<Channel>();
  for (const listener of listeners)
    listener.receive((visitor) => void greetOne(visitor, listener.address, options, { state, strangers }));
  return {
    addresses: listeners.map((listener) => listener.address),
    async close() {
      state.closed = true;
      await Promise.all([...strangers].map((channel) => channel.close('shutting down')));
      await Promise.all(listeners.map((listener) => listener.close()));
    },
  };
}

interface Standing {
  readonly state: { readonly closed: boolean };
  readonly strangers: Set<Channel>;
}

async function greetOne(visitor: Visitor, address: string, options: DoorOptions, { state, strangers }: Standing): Promise<void> {
  const { peers, role, handshakeMilliseconds } = options;
  const certified = /^(tls|wss):/.test(address);
  let channel: Channel | undefined;
  try {
    channel = await visitor.open({ peer: 'client', peers });
    channel.allow?.(shortControlBytes);
    strangers.add(channel);
    // A certificate has said who this is; without any the hello does.
    const { peer } = channel;
    const expected = certified ? peers.filter((each) => each === peer) : peers;
    const heeding = heedingRefusals(channel);
    const hello = await within(handshakeMilliseconds, channel, greet(heeding, role, expected));
    await options.arrived(hello.role === peer ? heeding : knownAs(heeding, hello.role), hello);
    visitor.known();
    strangers.delete(channel);
  } catch (error) {
    if (state.closed) return;
    options.failed(error);
    if (channel === undefined) return;
    strangers.delete(channel);
    void dismiss(channel, error);
  }
}

/** How long a peer that is let go may take to hear why. */
const farewellMilliseconds = 2000;

/** Tells a peer why it is let go, and lets it go. One that reads nothing is not waited for: its connection ends by itself. */
export async function dismiss(channel: Channel, error: unknown): Promise<void> {
  let cancel = (): void => {};
  const pause = new Promise<void>((resolve) => {
    cancel = systemAlarm(farewellMilliseconds, resolve);
  });
  await Promise.race([refuse(channel, refusalOf(error)), pause]);
  await Promise.race([channel.close(), pause]);
  cancel();
}

/**
 * How long a peer that sits in a session has for the first word that is due from it, beside what it has to compute for it: a connection and a
 * greeting of its own take as long as a stranger's may.
 */
export const firstWordMilliseconds = (handshakeMilliseconds: number): number => 2 * handshakeMilliseconds;

/** The promise, or after so long an error that says what is `due`. The caller lets the channel go. */
export async function within<T>(
  milliseconds: number,
  channel: Channel,
  work: Promise<T>,
  due = 'finish its handshake',
): Promise<T> {
  let cancel = (): void => {};
  const late = new Promise<never>((_, reject) => {
    cancel = systemAlarm(milliseconds, () =>
      reject(
        new Objection('late', `did not ${due} within ${milliseconds} ms`, {
          party: channel.peer,
          remedy: "look at that party's log, or allow more time",
        }),
      ),
    );
  });
  work.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    cancel();
  }
}

/** The same channel under the name that its peer gave: errors then say that name. */
function knownAs(channel: Channel, peer: string): Channel {
  const renamed = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      if (!(error instanceof SottoError) || error.place.party !== channel.peer || error.constructor !== SottoError) throw error;
      const { kind, reason, place, remedy } = error;
      const named = reason.replace(`the ${channel.peer} `, `the ${peer} `);
      throw new SottoError(kind, named, { place: { ...place, party: peer }, remedy, cause: error });
    }
  };
  return {
    peer,
    counters: channel.counters,
    gone: channel.gone,
    security: channel.security,
    source: channel.source,
    send: (kind, payload) => renamed(channel.send(kind, payload)),
    receive: () => renamed(channel.receive()),
    close: (reason) => channel.close(reason),
    allow: (bytes) => channel.allow?.(bytes),
  };
}
