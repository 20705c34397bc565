import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { systemClock } from '../node/clock.ts';
import type { Listener } from '../node/sockets.ts';

/**
 * The next connection whose handshake succeeds. Others, of strangers and of peers with a wrong certificate, end alone: they saw why. Where
 * nobody else has come in time, the `peer` error says what the last of them was.
 */
export async function acceptPeer(
  listener: Pick<Listener, 'accept'>,
  { peer, timeoutMilliseconds }: { readonly peer: string; readonly timeoutMilliseconds: number },
): Promise<Channel> {
  const until = systemClock.now() + timeoutMilliseconds;
  let refused: SottoError | undefined;
  for (;;) {
    const left = Math.max(1, until - systemClock.now());
    try {
      return await listener.accept({ peer, timeoutMilliseconds: Math.ceil(left) });
    } catch (error) {
      if (!(error instanceof SottoError) || error.kind !== 'peer') throw error;
      if (systemClock.now() < until) refused = error;
      else if (refused === undefined) throw error;
      else {
        const { reason, remedy } = refused;
        const said = `did not connect within ${timeoutMilliseconds} ms; the last connection that was refused: ${reason}`;
        throw new SottoError('peer', said, { place: { party: peer }, remedy, cause: refused });
      }
    }
  }
}
