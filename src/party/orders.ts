import { SottoError } from '../errors/index.ts';
import { checkRanges } from '../models/ranges.ts';
import type { Channel } from '../net/contract.ts';
import { type Control, type RunRequest, receiveControl, sameProgram } from './control.ts';
import { type RunProgram, type TracedRun, traceRun } from './manifest.ts';
import type { ServedModel } from './model.ts';
import { type LinkRight, sendOrder } from './vouchers.ts';

/** The program of what a client asks for, which is that of both, within the ranges that the model was calibrated for. */
export function traceRequest(model: ServedModel, request: Control<'request'>): TracedRun {
  checkRanges(model.plan, request.run.ring, model.folder);
  const traced = traceRun(model.manifest.config, request.run);
  sameProgram('client', request.program, traced.hash);
  return traced;
}

/** What an order is for. */
export interface Ordered {
  readonly manifest: Control<'manifest'>;
  readonly run: RunRequest;
  readonly traced: RunProgram;
}

/** Orders material from a dealer, or a helper's session; its answer must be for this order. `challenge`: the dealer's of this connection, where it came already. */
export async function placeOrder(
  dealer: Channel,
  right: LinkRight,
  { manifest, run, traced }: Ordered,
  order: Pick<Control<'order'>, 'setup' | 'ahead' | 'copy' | 'nonces'>,
  challenge?: string,
): Promise<Control<'agreed'>> {
  const bound = challenge ?? (await receiveControl(dealer, 'challenge')).nonce;
  await sendOrder(dealer, right, bound, { type: 'order', config: manifest.config, run, program: traced.hash, ...order });
  const agreed = await receiveControl(dealer, 'agreed');
  sameProgram(dealer.peer, agreed.program, traced.hash);
  const { client, server } = agreed.nonces;
  const same = client === order.nonces.client && server === order.nonces.server;
  if (same && agreed.ahead === order.ahead && (agreed.ticket !== undefined) === order.ahead) return agreed;
  throw new SottoError('peer', 'answered for another run', { place: { party: dealer.peer }, remedy: 'start the run again' });
}

/** What the client hears of it. */
export const sessionFor = ({ type: _, ...agreed }: Control<'agreed'>): Control<'session'> => ({ type: 'session', ...agreed });
