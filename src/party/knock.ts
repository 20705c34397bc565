import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { type Control, receiveSession } from './control.ts';

/** How long a client that was closed before it was heard goes on coming, and time. */
interface Knocking {
  readonly milliseconds: number;
  readonly now: () => number;
  /** Nobody waits for an answer any more. */
  readonly over?: () => boolean;
}

/**
 * Opens a channel and waits for the other side's first answer on it. A standing party closes the oldest strangers where too many come at
 * once: a channel that is closed without a word is none of its refusals, and is opened again until the time is over.
 */
export async function knock<T>(
  open: () => Promise<Channel>,
  answered: (channel: Channel) => Promise<T>,
  { milliseconds, now, over = () => false }: Knocking,
): Promise<{ channel: Channel; answer: T }> {
  const until = now() + milliseconds;
  for (let pause = 50; ; pause = Math.min(2 * pause, 1000)) {
    const channel = await open();
    try {
      // Who has left takes nothing that comes after.
      if (over()) await channel.close();
      return { channel, answer: await answered(channel) };
    } catch (error) {
      const left = until - now();
      if (left <= 0 || over() || !closedWithoutAWord(error)) throw error;
      await channel.close();
      await new Promise((resolve) => setTimeout(resolve, Math.min(pause, left)));
    }
  }
}

/** Longest that a timer takes. */
const longestMilliseconds = 2 ** 31 - 1;

/**
 * The session that a server answers a request with, within so long of the call whatever else the server says meanwhile: each of its notes that others
 * come first is a word, so that no timeout of silence ends a wait that such notes fill. Throws a `peer` error that names the address; the
 * caller closes the channel.
 */
export async function admitted(
  server: Channel,
  { address, milliseconds }: { readonly address: string; readonly milliseconds: number },
): Promise<Control<'session'>> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new SottoError('peer', `began no session at ${address} within the ${milliseconds / 1000} s of --wait`, {
      place: { party: 'server' },
      remedy: 'come again later, wait longer (--wait, waitSeconds in a page), or take another server',
    });
    timer = setTimeout(() => reject(error), Math.min(milliseconds, longestMilliseconds));
  });
  const session = receiveSession(server);
  session.catch(() => undefined);
  try {
    return await Promise.race([session, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The end of the connection itself: neither a refusal nor words that make no sense, of which there is no use in trying again. */
const closedWithoutAWord = (error: unknown): boolean =>
  error instanceof SottoError && error.kind === 'peer' && /^the \S+ (closed|broke) the connection/.test(error.reason);
