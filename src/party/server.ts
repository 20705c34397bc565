import { randomBytes } from 'node:crypto';
import type { Setting } from '../backends/cost/index.ts';
import { type Ledger, serverLive, serverOffline, serverOnline, serverSetup } from '../backends/mpc/index.ts';
import type { Channel } from '../net/contract.ts';
import { connect, listen } from '../node/sockets.ts';
import type { TlsFiles } from '../node/tls.ts';
import { acceptPeer } from './accept.ts';
import { attending, patienceMilliseconds } from './attend.ts';
import { largestFrameBytes, materialFrameBytes } from './bounds.ts';
import type { Measuring } from './calibration.ts';
import { type Control, greet, heedingRefusals, receiveControl, refuse, sendControl, shortControlBytes } from './control.ts';
import { partyCredentials } from './credentials.ts';
import { type LinkToken, linkTokenFor } from './link-token.ts';
import { acceptBeside, runLive } from './live.ts';
import { loadModel, type ServedModel } from './model.ts';
import { type Ordered, placeOrder, sessionFor, traceRequest } from './orders.ts';
import { nodePlatform } from './platform.ts';
import { refusalOf } from './refusals.ts';
import { PhaseMeter, type RoleReport, roleReport } from './report.ts';
import { openRunStore, serverKeptBytes } from './run-store.ts';
import { serverRun, TextEnded } from './server-run.ts';
import { nonce, runBundle, sessionOf } from './session.ts';
import { openLink } from './vouchers.ts';

/** A server of one run. */
export interface ServerOptions {
  readonly model: string;
  readonly listen: string;
  /** Where the dealer waits, or the helper. */
  readonly dealer: string;
  readonly setting?: Setting | undefined;
  /** Where bundles and claims are kept. */
  readonly state: string;
  readonly timeoutMilliseconds: number;
  /** For `tls:` addresses: the certificates of this party and its authority. */
  readonly tls?: TlsFiles | undefined;
  /** For a dealer on a plain address. */
  readonly linkToken?: LinkToken | undefined;
  /** Pages of which origins may come to `ws:` and `wss:` addresses; none where absent, any for `*`. */
  readonly origins?: readonly string[] | undefined;
  /** Once it listens, with the port that the system chose. */
  readonly onListening?: (address: string) => void;
  /** How a model is measured that was never calibrated. */
  readonly measuring?: Measuring | undefined;
}

/** One private run as the server: owns the weights, learns the run's shape and when a text ends, and nothing of its content. */
export async function runServer(options: ServerOptions): Promise<RoleReport> {
  const credentials = partyCredentials(options.tls, 'server', [options.listen, options.dealer]);
  const token = await linkTokenFor([options.dealer], options.linkToken);
  const model = await loadModel(options.model, options.measuring);
  const { timeoutMilliseconds, setting = 'dealer' } = options;
  const patience = patienceMilliseconds(timeoutMilliseconds);
  const listener = await listen({
    address: options.listen,
    peer: 'client',
    timeoutMilliseconds: patience,
    credentials,
    origins: options.origins,
  });
  const opened: Channel[] = [];
  try {
    options.onListening?.(listener.address);
    const dealer = heedingRefusals(await connect({ address: options.dealer, peer: setting, timeoutMilliseconds, credentials }));
    opened.push(dealer);
    dealer.allow?.(materialFrameBytes);
    await greet(dealer, 'server', [setting]);
    const right = await openLink(dealer, token);
    const client = heedingRefusals(await acceptPeer(listener, { peer: 'client', timeoutMilliseconds }));
    opened.push(client);
    client.allow?.(shortControlBytes);
    await greet(client, 'server', ['client']);
    const beside = (): Promise<Channel> =>
      acceptBeside(client, async () => {
        const material = heedingRefusals(await acceptPeer(listener, { peer: 'client', timeoutMilliseconds }));
        opened.push(material);
        material.allow?.(shortControlBytes);
        return material;
      });
    return await serveOne(options, { client, dealer, beside }, model, right);
  } catch (error) {
    await Promise.all(opened.map((channel) => refuse(channel, refusalOf(error))));
    throw error;
  } finally {
    await Promise.all(opened.map((channel) => channel.close()));
    await listener.close();
  }
}

async function serveOne(
  options: ServerOptions,
  channels: { client: Channel; dealer: Channel; beside: () => Promise<Channel> },
  model: ServedModel,
  right: Awaited<ReturnType<typeof openLink>>,
): Promise<RoleReport> {
  const { client, dealer } = channels;
  await sendControl(client, model.manifest);
  const request = await receiveControl(client, 'request');
  const traced = traceRequest(model, request);
  const mostBytes = largestFrameBytes(traced.ringProgram, 'clientToServer');
  client.allow?.(mostBytes);
  // While the dealer is waited for the client may go, and has nothing to say.
  const attended = <T>(work: (both: { client: Channel; dealer: Channel }) => Promise<T>): Promise<T> =>
    attending(client, (attention) => work({ client, dealer: attention.guarded(dealer) }));
  // Names this masked copy of the weights: a new A, made in this setup, is a new identity, so old material never fits it.
  const copy = randomBytes(32).toString('hex');
  const ordered = { manifest: model.manifest, run: request.run, traced };
  const agreed = await attended((both) => agree(both, ordered, { copy, right, clientNonce: request.nonce }));
  const session = sessionOf(traced.ringProgram, agreed);
  const platform = nodePlatform(request.run.ring.bits);
  const meter = new PhaseMeter([client, dealer], platform.now);
  await meter.measure('setup', () => attended((both) => serverSetup(platform, session, both, model.weight)));
  const { run, saw } = serverRun(client, model);
  const fromBundle = async (): Promise<Ledger | undefined> => {
    const store = await openRunStore({ state: options.state, party: 'server', keptBytes: serverKeptBytes });
    const header = { id: agreed.bundle, program: traced.hash, ring: request.run.ring, copy, createdFor: 'server' } as const;
    return await runBundle(store, header, client, TextEnded, {
      fill: async (sink) => {
        await meter.measure('offline', () => attended((both) => serverOffline(platform, session, both, sink)));
        // The dealer is out of it before the first byte of the run.
        await dealer.close();
      },
      run: (bundle) => meter.measure('online', () => serverOnline(platform, session, { ...run, bundle })),
    });
  };
  const withHelper = async (): Promise<Ledger | undefined> => {
    const material = await attending(client, (attention) => attention.guard(channels.beside()));
    material.allow?.(mostBytes);
    const live = { ...run, helper: dealer, material };
    const online = () => meter.on([client]).measure('online', () => serverLive(platform, session, live));
    return await runLive(dealer, TextEnded, online, ({ tokens }) => tokens);
  };
  const ledger = await (options.setting === 'helper' ? withHelper() : fromBundle());
  return roleReport('server', { meter, ledger, peakKernelBytes: platform.kernels.peakBytes, saw: saw() });
}

/** The client's request goes to the dealer with the public configuration; the dealer names the bundle; the client hears of it. */
async function agree(
  { client, dealer }: { client: Channel; dealer: Channel },
  ordered: Ordered,
  by: { readonly copy: string; readonly right: Awaited<ReturnType<typeof openLink>>; readonly clientNonce: string },
): Promise<Control<'agreed'>> {
  const { copy, right, clientNonce } = by;
  const order = { setup: 'here', ahead: false, copy, nonces: { client: clientNonce, server: nonce() } } as const;
  const agreed = await placeOrder(dealer, right, ordered, order, right.challenge);
  await sendControl(client, sessionFor(agreed));
  return agreed;
}
