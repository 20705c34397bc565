import type { Setting } from '../backends/cost/index.ts';
import { dealerOffline, dealerSetup, helperLive } from '../backends/mpc/index.ts';
import type { Channel } from '../net/contract.ts';
import { listen } from '../node/sockets.ts';
import type { TlsFiles } from '../node/tls.ts';
import { acceptPeer } from './accept.ts';
import { attending } from './attend.ts';
import {
  greet,
  heedingRefusals,
  longControlBytes,
  receiveControl,
  refuse,
  sameProgram,
  sendControl,
  shortControlBytes,
} from './control.ts';
import { partyCredentials } from './credentials.ts';
import { type LinkToken, linkTokenFor } from './link-token.ts';
import { untilStopped } from './live.ts';
import { traceRun } from './manifest.ts';
import { nodePlatform } from './platform.ts';
import { Objection, refusalOf } from './refusals.ts';
import { PhaseMeter, type RoleReport, roleReport } from './report.ts';
import { commitmentTo, nonce, sessionOf } from './session.ts';
import { notVouched, sendChallenge, takeLink, takeOrder } from './vouchers.ts';

/** A dealer, or helper, of one run. */
export interface DealerOptions {
  readonly listen: string;
  /** `helper`: makes the correlations while the run goes on; `dealer` where absent. */
  readonly setting?: Setting | undefined;
  readonly timeoutMilliseconds: number;
  /** For `tls:` addresses: the certificates of this party and its authority. */
  readonly tls?: TlsFiles | undefined;
  /** For servers at a plain address: what both know; the usual file where absent. */
  readonly linkToken?: LinkToken | undefined;
  /** How long the server may take to come, which loads its weights first; the timeout where it is not given. */
  readonly startMilliseconds?: number;
  /** Pages of which origins may come to `ws:` and `wss:` addresses; none where absent, any for `*`. */
  readonly origins?: readonly string[] | undefined;
  /** Once it listens, with the port that the system chose. */
  readonly onListening?: (address: string) => void;
}

/**
 * One private run as the dealer: learns the public configuration and the lengths, holds masked weights and all pads, and leaves before
 * the run: it has no channel between client and server and closes its own before either sends a byte of the run. As the helper it does
 * the same while the run goes on, and leaves when its last message is sent or the text has ended.
 */
export async function runDealer(options: DealerOptions): Promise<RoleReport> {
  const { timeoutMilliseconds, setting = 'dealer' } = options;
  const credentials = partyCredentials(options.tls, setting, [options.listen]);
  const token = await linkTokenFor([options.listen], options.linkToken);
  const listener = await listen({
    address: options.listen,
    peer: 'server',
    timeoutMilliseconds,
    credentials,
    origins: options.origins,
  });
  const opened: Channel[] = [];
  try {
    options.onListening?.(listener.address);
    const server = heedingRefusals(
      await acceptPeer(listener, { peer: 'server', timeoutMilliseconds: options.startMilliseconds ?? timeoutMilliseconds }),
    );
    opened.push(server);
    server.allow?.(shortControlBytes);
    await greet(server, setting, ['server']);
    const challenge = await sendChallenge(server);
    const link = await takeLink(server, await receiveControl(server, 'link'), challenge, token);
    server.allow?.(longControlBytes);
    const voucher = await receiveControl(server, 'voucher');
    const order = await takeOrder(server, voucher, challenge, voucher.link === link.link ? link : undefined);
    // The copy comes with the order: nothing is held, and nothing is made ahead.
    if (order.setup !== 'here' || order.ahead) throw notVouched();
    const traced = traceRun(order.config, order.run);
    sameProgram('server', order.program, traced.hash);
    const agreed = {
      type: 'agreed',
      ahead: false,
      bundle: nonce(),
      program: traced.hash,
      nonces: { ...order.nonces, dealer: nonce() },
    } as const;
    await sendControl(server, agreed);
    const client = heedingRefusals(
      await attending(server, (attention) => attention.guard(acceptPeer(listener, { peer: 'client', timeoutMilliseconds }))),
    );
    opened.push(client);
    client.allow?.(shortControlBytes);
    await greet(client, setting, ['client']);
    const join = await receiveControl(client, 'join');
    sameProgram('client', join.program, traced.hash);
    if (join.bundle !== agreed.bundle || commitmentTo(join.ticket) !== order.nonces.client)
      throw new Objection('session', 'joined another session', {
        party: 'client',
        remedy: `connect to the ${setting} that the server named`,
      });
    const platform = nodePlatform(order.run.ring.bits);
    const session = sessionOf(traced.ringProgram, agreed);
    const meter = new PhaseMeter([client, server], platform.now);
    const masked = await meter.measure('setup', () =>
      attending(client, (attention) => dealerSetup(platform, session, { server: attention.guarded(server) })),
    );
    const channels = { client, server };
    await meter.measure('offline', () =>
      setting === 'dealer'
        ? dealerOffline(platform, session, channels, masked)
        : untilStopped(channels, { timeoutMilliseconds, now: platform.now }, helperLive(platform, session, channels, masked)),
    );
    return roleReport(setting, { meter, peakKernelBytes: platform.kernels.peakBytes, saw: '' });
  } catch (error) {
    await Promise.all(opened.map((channel) => refuse(channel, refusalOf(error))));
    throw error;
  } finally {
    await Promise.all(opened.map((channel) => channel.close()));
    await listener.close();
  }
}
