import { Trouble } from '../backends/mpc/index.ts';
import type { Channel } from '../net/contract.ts';

/**
 * How long client and server wait for each other: longer than for a dealer or helper, which the other one may be waiting for. So who misses
 * a party is the one who says so, and the one who waits for that one hears it.
 */
export const patienceMilliseconds = (timeoutMilliseconds: number): number => Math.ceil(1.25 * timeoutMilliseconds);

/**
 * For who waits for one party while another one may go, which has no business to go before `work` is done. What is guarded ends as soon as
 * that channel has ended, with the reason that its peer gave where it gave one: not after a timeout, and not with the name of the party
 * that was waited for.
 */
export async function attending<T>(channel: Channel, work: (attention: Trouble) => Promise<T>): Promise<T> {
  const trouble = new Trouble();
  let busy = true;
  void parting(channel, () => busy).catch((error: unknown) => trouble.raise(error));
  try {
    return await work(trouble);
  } finally {
    busy = false;
  }
}

/** Rejects once the channel has ended: with a refusal, which came before the end, or with the end itself. */
async function parting(channel: Channel, busy: () => boolean): Promise<void> {
  if (channel.gone === undefined) return;
  await channel.gone;
  while (busy()) await channel.receive();
}
