import { dealerOffline, dealerSetup } from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { listen } from '../node/sockets.ts';
import { greet, heedingRefusals, publicReason, receiveControl, refuse, sameProgram, sendControl } from './control.ts';
import { traceRun } from './manifest.ts';
import { nodePlatform } from './platform.ts';
import { PhaseMeter, type RoleReport } from './report.ts';
import { nonce, sessionOf } from './session.ts';

export interface DealerOptions {
  readonly listen: string;
  readonly timeoutMilliseconds: number;
  /** How long the server may take to come, which loads its weights first; the timeout where it is not given. */
  readonly startMilliseconds?: number;
  readonly onListening?: (address: string) => void;
}

/**
 * One private run as the dealer: learns the public configuration and the lengths, holds masked weights and all pads, and leaves before
 * the run: it has no channel between client and server and closes its own before either sends a byte of the run.
 */
export async function runDealer(options: DealerOptions): Promise<RoleReport> {
  const { timeoutMilliseconds } = options;
  const listener = await listen({ address: options.listen, peer: 'server', timeoutMilliseconds });
  const opened: Channel[] = [];
  try {
    options.onListening?.(listener.address);
    const server = heedingRefusals(
      await listener.accept({ peer: 'server', timeoutMilliseconds: options.startMilliseconds ?? timeoutMilliseconds }),
    );
    opened.push(server);
    await greet(server, 'dealer', ['server']);
    const order = await receiveControl(server, 'order');
    const traced = traceRun(order.config, order.run);
    sameProgram('server', order.program, traced.hash);
    const agreed = {
      type: 'session',
      bundle: nonce(),
      program: traced.hash,
      weights: order.weights,
      nonces: { ...order.nonces, dealer: nonce() },
    } as const;
    await sendControl(server, agreed);
    const client = heedingRefusals(await listener.accept({ peer: 'client', timeoutMilliseconds }));
    opened.push(client);
    await greet(client, 'dealer', ['client']);
    const join = await receiveControl(client, 'join');
    sameProgram('client', join.program, traced.hash);
    if (join.bundle !== agreed.bundle)
      throw new SottoError('peer', 'joined another session', {
        place: { party: 'client' },
        remedy: 'connect to the dealer that the server named',
      });
    const platform = nodePlatform(order.run.ring.bits);
    const session = sessionOf(traced.ringProgram, agreed);
    const meter = new PhaseMeter([client, server], platform.now);
    const masked = await meter.measure('setup', () => dealerSetup(platform, session, { server }));
    await meter.measure('offline', () => dealerOffline(platform, session, { client, server }, masked));
    return {
      role: 'dealer',
      processId: process.pid,
      seconds: meter.seconds,
      sentBytes: meter.sentBytes,
      onlineComputeSeconds: 0,
      hops: 0,
      scopes: [],
      peakKernelBytes: platform.kernels.peakBytes,
      saw: '',
    };
  } catch (error) {
    await Promise.all(opened.map((channel) => refuse(channel, publicReason(error))));
    throw error;
  } finally {
    await Promise.all(opened.map((channel) => channel.close()));
    await listener.close();
  }
}
