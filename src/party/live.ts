import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { controlFrame, greet, parseControl, sendControl } from './control.ts';
import { nonce } from './session.ts';

/** What the helper setting adds to a session: a second connection between client and server, and the end of a text told to the helper. */

/** The client names its second connection by a token that only the server hears of. */
export async function openBeside(server: Channel, connect: () => Promise<Channel>): Promise<Channel> {
  const token = nonce();
  await sendControl(server, { type: 'beside', token });
  const material = await connect();
  await greet(material, 'client', ['server'], { beside: token });
  return material;
}

/**
 * Runs, and returns undefined where the text ended early. The server then tells the helper; the client waits until the helper, which was
 * told, has closed, so that nobody takes the end of a text for the end of a party.
 */
export async function runLive<T, E extends Error>(
  helper: Channel,
  ended: new (...parameters: never[]) => E,
  run: () => Promise<T>,
  tokens?: (error: E) => number,
): Promise<T | undefined> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof ended)) throw error;
    if (tokens !== undefined) await sendControl(helper, { type: 'stop', tokens: tokens(error) }).catch(() => undefined);
    await closed(helper);
    return undefined;
  }
}

/** Reads until the other side closes or is silent. */
async function closed(channel: Channel): Promise<void> {
  try {
    for (;;) await channel.receive();
  } catch {
    // That is what was waited for.
  }
}

/** What the helper sends with `work`, until that is done, a party goes, or the server says that the text has ended. */
export async function untilStopped(
  channels: { readonly client: Channel; readonly server: Channel },
  patience: { readonly timeoutMilliseconds: number; readonly now: () => number },
  work: Promise<void>,
): Promise<void> {
  const gone = async (channel: Channel): Promise<void> => {
    const frame = await receiveAtAnyTime(channel, patience);
    if (channel === channels.server && frame.kind === controlFrame) void parseControl(frame.payload, channel.peer, 'stop');
    else
      throw new SottoError('peer', `sent a frame of kind ${frame.kind} to the helper, which takes none`, {
        place: { party: channel.peer },
        remedy: 'check that all parties run the same version of sotto',
      });
  };
  const stopped = Promise.race([gone(channels.client), gone(channels.server)]);
  stopped.catch(() => undefined);
  work.catch(() => undefined);
  await Promise.race([work, stopped]);
}

/** A party has nothing to say to the helper, so its silence is no fault. */
export async function receiveAtAnyTime(
  channel: Channel,
  { timeoutMilliseconds, now }: { readonly timeoutMilliseconds: number; readonly now: () => number },
): ReturnType<Channel['receive']> {
  for (;;) {
    const start = now();
    try {
      return await channel.receive();
    } catch (error) {
      // A closed channel rejects at once; a timeout loses nothing.
      if (now() - start < timeoutMilliseconds / 2) throw error;
    }
  }
}
