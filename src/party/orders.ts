import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { type Control, type RunRequest, receiveControl, sameProgram } from './control.ts';
import type { RunProgram } from './manifest.ts';
import { type LinkRight, sendOrder } from './vouchers.ts';

/** What an order is for. */
export interface Ordered {
  readonly manifest: Control<'manifest'>;
  readonly run: RunRequest;
  readonly traced: RunProgram;
}

/** Orders material from a dealer, or a helper's session, on a greeted connection; its answer must be for this order. */
export async function placeOrder(
  dealer: Channel,
  right: LinkRight,
  { manifest, run, traced }: Ordered,
  order: Pick<Control<'order'>, 'ahead' | 'copy' | 'nonces'>,
): Promise<Control<'agreed'>> {
  const { nonce: challenge } = await receiveControl(dealer, 'challenge');
  await sendOrder(dealer, right, challenge, { type: 'order', config: manifest.config, run, program: traced.hash, ...order });
  const agreed = await receiveControl(dealer, 'agreed');
  sameProgram(dealer.peer, agreed.program, traced.hash);
  const { client, server } = agreed.nonces;
  const same = client === order.nonces.client && server === order.nonces.server;
  if (same && agreed.ahead === order.ahead && (agreed.ticket !== undefined) === order.ahead) return agreed;
  throw new SottoError('peer', 'answered for another run', { place: { party: dealer.peer }, remedy: 'start the run again' });
}

/** What the client hears of it. */
export const sessionFor = ({ type: _, ...agreed }: Control<'agreed'>): Control<'session'> => ({ type: 'session', ...agreed });
