import { randomBytes } from 'node:crypto';
import type { Setting } from '../backends/cost/index.ts';
import { type Ledger, serverLive, serverOffline, serverOnline, serverSetup } from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import { checkRanges } from '../models/ranges.ts';
import type { Channel } from '../net/contract.ts';
import { connect, listen } from '../node/sockets.ts';
import type { TlsFiles } from '../node/tls.ts';
import { acceptPeer } from './accept.ts';
import { attending, patienceMilliseconds } from './attend.ts';
import { largestFrameBytes, materialFrameBytes } from './bounds.ts';
import { openBundleStore } from './bundles.ts';
import {
  type Control,
  greet,
  heedingRefusals,
  publicReason,
  receiveControl,
  refuse,
  sameProgram,
  sendControl,
  shortControlBytes,
} from './control.ts';
import { partyCredentials } from './credentials.ts';
import { acceptBeside, runLive } from './live.ts';
import { type TracedRun, traceRun } from './manifest.ts';
import { loadModel, type ServedModel } from './model.ts';
import { nodePlatform } from './platform.ts';
import { PhaseMeter, type RoleReport, roleReport } from './report.ts';
import { serverRun, TextEnded } from './server-run.ts';
import { nonce, runBundle, sessionOf } from './session.ts';

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
  readonly onListening?: (address: string) => void;
}

/** One private run as the server: owns the weights, learns the run's shape and when a text ends, and nothing of its content. */
export async function runServer(options: ServerOptions): Promise<RoleReport> {
  const credentials = partyCredentials(options.tls, 'server', [options.listen, options.dealer]);
  const model = await loadModel(options.model);
  const { timeoutMilliseconds, setting = 'dealer' } = options;
  const patience = patienceMilliseconds(timeoutMilliseconds);
  const listener = await listen({ address: options.listen, peer: 'client', timeoutMilliseconds: patience, credentials });
  const opened: Channel[] = [];
  try {
    options.onListening?.(listener.address);
    const dealer = heedingRefusals(await connect({ address: options.dealer, peer: setting, timeoutMilliseconds, credentials }));
    opened.push(dealer);
    dealer.allow?.(materialFrameBytes);
    await greet(dealer, 'server', [setting]);
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
    return await serveOne(options, { client, dealer, beside }, model);
  } catch (error) {
    await Promise.all(opened.map((channel) => refuse(channel, publicReason(error))));
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
  const agreed = await attended((both) => agree(both, model.manifest, request, traced));
  const session = sessionOf(traced.ringProgram, agreed);
  const platform = nodePlatform(request.run.ring.bits);
  const meter = new PhaseMeter([client, dealer], platform.now);
  await meter.measure('setup', () => attended((both) => serverSetup(platform, session, both, model.weight)));
  const { run, saw } = serverRun(client, model);
  const fromBundle = async (): Promise<Ledger | undefined> => {
    const store = await openBundleStore(options.state, 'server');
    const { bundle: id, weights } = agreed;
    const header = { id, program: traced.hash, ring: request.run.ring, weights, createdFor: 'server' } as const;
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

/** The program of what a client asks for, which is that of both, within the ranges that the model was calibrated for. */
export function traceRequest(model: ServedModel, request: Control<'request'>, trace = traceRun): TracedRun {
  checkRanges(model.plan, request.run.ring, model.folder);
  const traced = trace(model.manifest.config, request.run);
  sameProgram('client', request.program, traced.hash);
  return traced;
}

/** The client's request goes to the dealer with the public configuration; the dealer names the bundle; the client gets the same. */
async function agree(
  { client, dealer }: { client: Channel; dealer: Channel },
  manifest: Control<'manifest'>,
  request: Control<'request'>,
  traced: TracedRun,
): Promise<Control<'session'>> {
  // Names this masked copy of the weights: a new A, made in this setup, is a new identity, so old material never fits it.
  const weights = randomBytes(32).toString('hex');
  const order = { setup: 'here', ahead: false, weights, nonces: { client: request.nonce, server: nonce() } } as const;
  const agreed = await placeOrder(dealer, manifest, request.run, traced, order);
  await sendControl(client, agreed);
  return agreed;
}

/** Orders material from a dealer, or a helper's session; its answer must be for this order. */
export async function placeOrder(
  dealer: Channel,
  { config }: Control<'manifest'>,
  run: Control<'request'>['run'],
  traced: TracedRun,
  order: Pick<Control<'order'>, 'setup' | 'ahead' | 'weights' | 'nonces'>,
): Promise<Control<'session'>> {
  await sendControl(dealer, { type: 'order', config, run, program: traced.hash, ...order });
  const agreed = await receiveControl(dealer, 'session');
  sameProgram(dealer.peer, agreed.program, traced.hash);
  const { client, server } = agreed.nonces;
  const same = client === order.nonces.client && server === order.nonces.server;
  if (same && agreed.weights === order.weights && agreed.ahead === order.ahead) return agreed;
  throw new SottoError('peer', 'answered for another run', { place: { party: dealer.peer }, remedy: 'start the run again' });
}
