import type { Setting } from '../backends/cost/index.ts';
import { sendMaskSeed, serverFromClient, serverFromDealer, serverLive, serverOnline } from '../backends/mpc/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { checkRanges } from '../models/ranges.ts';
import type { Channel } from '../net/contract.ts';
import { connect } from '../node/sockets.ts';
import type { TlsCredentials } from '../node/tls.ts';
import { type Ahead, makingAhead } from './ahead.ts';
import { Asking, type AskPolicy, checkCertificate, isRevealed, logPolicy, usualPolicy, whoIs } from './asking.ts';
import { attending, patienceMilliseconds } from './attend.ts';
import { largestFrameBytes, materialFrameBytes } from './bounds.ts';
import { freshBundleId, systemMinutes } from './bundle-id.ts';
import type { BundleStore } from './bundles.ts';
import type { Measuring } from './calibration.ts';
import {
  type Control,
  controlFrame,
  encodeControl,
  greet,
  heedingRefusals,
  type RunRequest,
  receiveControl,
  sendControl,
} from './control.ts';
import { partyCredentials } from './credentials.ts';
import { firstWordMilliseconds, within } from './doors.ts';
import { knock } from './knock.ts';
import { DealerLink } from './link.ts';
import { type LinkToken, linkTokenFor } from './link-token.ts';
import { runLive } from './live.ts';
import type { RunProgram } from './manifest.ts';
import { loadModel, type ServedModel } from './model.ts';
import type { OneRun } from './one-run.ts';
import { placeOrder, sessionFor } from './orders.ts';
import { nodePlatform } from './platform.ts';
import type { Half } from './prepared.ts';
import { Rendezvous } from './rendezvous.ts';
import { openRunStore, serverKeptBytes } from './run-store.ts';
import { serverRun, TextEnded } from './server-run.ts';
import { type Service, type ServiceOptions, stand } from './service.ts';
import { nonce, type RunStore, runBundle, runName, sessionOf } from './session.ts';
import { type Done, type Session, Sessions } from './sessions.ts';
import { Tracing, type TracingLimits, tracingLimits, waitingOf } from './tracing.ts';

/** A server that stands for many clients: its model, its dealer, what may be asked of it, and where it keeps claims. */
export interface ServeOptions extends ServiceOptions {
  readonly model: string;
  /** Where the dealer waits, or the helper. */
  readonly dealer: string;
  readonly setting: Setting;
  /** For a dealer on a plain address: what both know; the usual file where absent. */
  readonly linkToken?: LinkToken | undefined;
  /** What clients may ask for; of texts the likeliest tokens alone where absent. */
  readonly policy?: AskPolicy | undefined;
  /** Bundles, claims, seeds of masked copies. One process at a time. */
  readonly state: string;
  /** Rings that runs may be in, beside the one that the plan is calibrated for and 64 bits with 16 of fraction. */
  readonly rings?: readonly RingParameters[] | undefined;
  /** Material that is made before clients come: how many bundles of each shape. */
  readonly prepare: { readonly count: number; readonly shapes: readonly RunRequest[] };
  /** How a model is measured that was never calibrated. */
  readonly measuring?: Measuring | undefined;
  /** What the program of one run may cost; its client, which traces it as well, is waited for as long. */
  readonly tracing?: TracingLimits | undefined;
}

const usualRing: RingParameters = { bits: 64, fraction: 16 };

/** A server for many clients at once. */
export async function serveModel(options: ServeOptions): Promise<Service> {
  if (options.setting === 'helper' && options.prepare.count > 0)
    throw new SottoError('usage', 'a helper makes nothing ahead', {
      place: { field: '--prepare' },
      remedy: 'leave it out, or use a dealer',
    });
  const { policy = usualPolicy } = options;
  const idle = options.prepare.shapes.find((shape) => !isRevealed(policy, shape));
  if (idle !== undefined)
    throw new SottoError(
      'usage',
      `${idle.reveal ?? 'logits'} are not revealed, and material for runs that reveal them would lie idle`,
      {
        place: { field: '--prepare-tokens' },
        remedy: `name shapes ${idle.reveal === 'token' ? 'without' : 'with'} :token, or change --reveal`,
      },
    );
  return await standServer(options);
}

/**
 * A server that stands. With `once` it stands for one run: it takes every ring that its model does, opens one link to its dealer, which it closes before
 * the run, and makes nothing ahead, so that it need not have its state to itself.
 */
export async function standServer(options: ServeOptions, once?: OneRun): Promise<Service> {
  const { timeoutMilliseconds, setting, log } = options;
  const credentials = partyCredentials(options.tls, 'server', [...options.listen, options.dealer]);
  const token = await linkTokenFor([options.dealer], options.linkToken);
  const model = await loadModel(options.model, options.measuring);
  const tracing = new Tracing(options.tracing, waitingOf(options.limits.maximumSessions));
  const rings = [...(model.plan.ring === undefined ? [] : [model.plan.ring]), usualRing, ...(options.rings ?? [])];
  const limits = once === undefined ? { ...options.limits, rings } : options.limits;
  const now = (): number => performance.now();
  const reclaim = (): void => tracing.clear();
  const sessions = new Sessions({ role: 'server', ...options, limits, now, reclaim, watch: once });
  const { registry } = sessions.metrics;
  registry.gauge('sotto_programs_kept_bytes', 'Programs that are kept for clients that ask for the same run.', () => [
    [{}, tracing.keptBytes],
  ]);
  const toDealer = connectorTo(options, credentials, once === undefined ? options.handshakeMilliseconds : timeoutMilliseconds);
  const opened = (): void => once?.expect('client', patienceMilliseconds(timeoutMilliseconds));
  const watched = once === undefined ? undefined : { opened, lost: (error: unknown) => once.lost(error) };
  const link = new DealerLink({ model, connect: toDealer, token, timeoutMilliseconds, log, once: watched });
  registry.gauge('sotto_dealer_linked', '1 while the dealer holds masked weights for this server.', () => [
    [{}, Number(link.up)],
  ]);
  const parts = { options, model, sessions, link, toDealer, tracing };
  const ahead = once === undefined ? await makingAhead(parts) : undefined;
  const runs = await openRunStore({ state: options.state, party: 'server', keptBytes: serverKeptBytes });
  log('info', 'manifest', { manifest: `sha256:${model.manifestHash}` });
  const { policy = usualPolicy } = options;
  if (once === undefined) await logPolicy(log, { policy, model, setting }, (run) => tracing.trace(model.manifest.config, run));
  const asking = new Asking(policy, now, { file: ahead?.budgets });
  const server = new Server({ ...parts, policy, asking, ahead, runs, forOneRun: once !== undefined });
  const service = await stand(options, {
    role: 'server',
    peers: ['client'],
    credentials,
    sessions,
    patienceMilliseconds: patienceMilliseconds(timeoutMilliseconds),
    arrived: (channel, hello) => server.arrived(channel, hello),
    connects: [options.dealer],
    unready: () => (link.up ? null : `no ${setting}`),
    close: async () => {
      await ahead?.prepared.stop();
      await link.close(once?.failure);
      await tracing.close();
      await ahead?.close();
    },
  });
  void link.keep();
  ahead?.prepared.start();
  return {
    ...service,
    async drain(milliseconds) {
      const stopped = ahead?.prepared.stop();
      await service.drain(milliseconds);
      await stopped;
    },
  };
}

/** Gives greeted connections to the dealer, waiting so long for one that is not up. */
function connectorTo(options: ServeOptions, credentials: TlsCredentials | undefined, connectMilliseconds: number) {
  const { dealer: address, setting, timeoutMilliseconds, handshakeMilliseconds } = options;
  const knocking = { milliseconds: connectMilliseconds, now: () => performance.now() };
  return async (): Promise<Channel> => {
    const opened: Channel[] = [];
    try {
      const { channel } = await knock(
        async () => {
          const connected = await connect({ address, peer: setting, timeoutMilliseconds, connectMilliseconds, credentials });
          const opening = heedingRefusals(connected);
          opened.push(opening);
          opening.allow?.(materialFrameBytes);
          return opening;
        },
        (greeted) => within(handshakeMilliseconds, greeted, greet(greeted, 'server', [setting])),
        knocking,
      );
      return channel;
    } catch (error) {
      await opened.at(-1)?.close();
      throw error;
    }
  };
}

/** What a server's parts have in common. */
interface SharedParts {
  readonly options: ServeOptions;
  readonly model: ServedModel;
  readonly sessions: Sessions;
  readonly link: DealerLink;
  readonly toDealer: () => Promise<Channel>;
  readonly tracing: Tracing;
}

interface ServerParts extends SharedParts {
  readonly policy: AskPolicy;
  readonly asking: Asking;
  /** Absent where nothing is made ahead. */
  readonly ahead: Ahead | undefined;
  /** What comes with a session. */
  readonly runs: RunStore;
  readonly forOneRun: boolean;
}

/** A client's request as far as it is agreed on. */
interface Asked {
  readonly run: RunRequest;
  readonly clientNonce: string;
  readonly traced: RunProgram;
}

class Server {
  readonly #parts: ServerParts;
  readonly #besides = new Rendezvous();
  /** The same bytes for every client, however many are told at once. */
  readonly #manifest: Uint8Array;

  constructor(parts: ServerParts) {
    this.#parts = parts;
    this.#manifest = encodeControl(parts.model.manifest);
  }

  async arrived(channel: Channel, { beside }: Control<'hello'>): Promise<void> {
    const { sessions, options, policy, asking } = this.#parts;
    checkCertificate(channel, policy);
    if (beside === undefined) {
      const { farewell } = sessions.admission;
      if (farewell !== undefined) throw farewell;
      // Until it has asked for a run that it may have it is a stranger among strangers, and sits nowhere.
      const request = await this.#requested(channel);
      const check = (): void => {
        sessions.admission.check(request.run);
        asking.check(request.run);
      };
      void sessions.run(options.setting, channel, (session) => this.#serve(session, channel, request), check);
      return;
    }
    // The word of it may come later than the connection itself.
    if (await this.#besides.meet(beside, channel, options.handshakeMilliseconds)) return;
    throw new SottoError('peer', 'opened a second connection that belongs to no session', {
      place: { party: 'client' },
      remedy: 'start the run again',
    });
  }

  async #serve(session: Session, client: Channel, request: Control<'request'>): Promise<Done> {
    const { options, asking, ahead } = this.#parts;
    const { run } = request;
    session.note({ promptTokens: run.promptTokens, newTokens: run.newTokens });
    const asked = { run, clientNonce: request.nonce, traced: await this.#trace(client, request) };
    await asking.take(client, run);
    client.allow?.(largestFrameBytes(asked.traced.ringProgram, 'clientToServer'));
    if (options.setting === 'helper') return await this.#withHelper(session, client, asked);
    const half = await ahead?.prepared.take(asked.traced);
    if (ahead === undefined || half === undefined) return await this.#fromDealer(session, client, asked);
    try {
      return await this.#fromHalf(session, client, asked, half, ahead.store);
    } finally {
      await ahead.prepared.burn(half.header.id);
    }
  }

  /** The client reads the manifest, traces its run and asks for it; a silent one goes. */
  #requested(client: Channel): Promise<Control<'request'>> {
    const { handshakeMilliseconds, tracing: { milliseconds } = tracingLimits } = this.#parts.options;
    const asked = client.send(controlFrame, this.#manifest).then(() => receiveControl(client, 'request'));
    return within(firstWordMilliseconds(handshakeMilliseconds) + milliseconds, client, asked, 'ask for a run');
  }

  /** The program of what a client asks for, which is that of both, within the ranges that the model was calibrated for. */
  #trace(client: Channel, { run, program }: Control<'request'>): Promise<RunProgram> {
    const { model, tracing } = this.#parts;
    checkRanges(model.plan, run.ring, model.folder);
    const traced = tracing.trace(model.manifest.config, run, { party: 'client', program, who: whoIs(client) });
    return attending(client, (attention) => attention.guard(traced));
  }

  /** Orders by the copy that the dealer holds, on a connection of the session's own. */
  #order(session: Session, client: Channel, asked: Asked) {
    // While the dealer is waited for the client may go, and has nothing to say.
    return attending(client, (attention) => attention.guard(this.#ordered(session, asked)));
  }

  async #ordered(session: Session, { run, traced, clientNonce }: Asked) {
    const { link, toDealer, model } = this.#parts;
    const { copy, right } = await Promise.race([link.copyFor(run, traced), session.aborted]);
    const dealer = session.adopt(await toDealer(), 'offline');
    const order = { ahead: false, copy: copy.id, nonces: { client: clientNonce, server: nonce() } } as const;
    const ordered = { manifest: model.manifest, run, traced };
    session.spent('setup', copy.spent);
    return { dealer, agreed: await placeOrder(dealer, right, ordered, order), copy };
  }

  async #fromDealer(session: Session, client: Channel, asked: Asked): Promise<Done> {
    const { model, runs } = this.#parts;
    const { dealer, agreed, copy } = await this.#order(session, client, asked);
    const { platform, seeds } = await this.#begin(session, client, asked, agreed, copy.seed);
    const { run, saw } = serverRun(client, model);
    const { bundle: id, program } = agreed;
    const header = { id, program, ring: asked.run.ring, copy: copy.id, createdFor: 'server' } as const;
    const ledger = await runBundle(runs, header, client, TextEnded, {
      fill: async (sink) => {
        await session.phase('offline', async () => {
          await attending(client, (attention) => serverFromDealer(platform, seeds, attention.guarded(dealer), sink));
          await serverFromClient(seeds, client, sink);
        });
        // The dealer is out of it before the first byte of the run.
        await dealer.close();
        await this.#noMoreOrders();
      },
      run: (bundle) => session.phase('online', () => serverOnline(platform, seeds, { ...run, bundle })),
    });
    return { ledger, saw: saw(), peakKernelBytes: Math.max(copy.spent.peakKernelBytes, platform.kernels.peakBytes) };
  }

  /** A server of one run leaves its dealer once it has what it needs. */
  async #noMoreOrders(): Promise<void> {
    const { link, forOneRun } = this.#parts;
    if (forOneRun) await link.close();
  }

  /** The dealer's part is here; the client's, which nobody else can make, comes now. */
  async #fromHalf(
    session: Session,
    client: Channel,
    asked: Asked,
    { header, agreed, seed }: Half,
    store: BundleStore,
  ): Promise<Done> {
    const { model, runs } = this.#parts;
    const { platform, seeds } = await this.#begin(session, client, asked, agreed, seed);
    const { program, ring, copy, materialBytes: bytes } = header;
    const { run, saw } = serverRun(client, model);
    const source = await store.open(header.id);
    try {
      const ledger = await runBundle(
        runs,
        { id: freshBundleId(systemMinutes()), program, ring, copy, createdFor: 'server' },
        client,
        TextEnded,
        {
          ahead: { id: header.id, bytes, source },
          fill: (sink) => session.phase('offline', () => serverFromClient(seeds, client, sink)),
          run: (bundle) => session.phase('online', () => serverOnline(platform, seeds, { ...run, bundle })),
        },
      );
      return { ledger, saw: saw(), peakKernelBytes: platform.kernels.peakBytes };
    } finally {
      await source.close();
    }
  }

  async #withHelper(session: Session, client: Channel, asked: Asked): Promise<Done> {
    const { model, options } = this.#parts;
    const { dealer, agreed, copy } = await this.#order(session, client, asked);
    const { platform, seeds } = await this.#begin(session, client, asked, agreed, copy.seed);
    const patience = firstWordMilliseconds(options.handshakeMilliseconds);
    const { token } = await within(patience, client, receiveControl(client, 'beside'), 'announce its second connection');
    const beside = await attending(client, (attention) =>
      attention.guard(this.#besides.expect(token, 'client', patience, session.aborted)),
    );
    beside.allow?.(largestFrameBytes(asked.traced.ringProgram, 'clientToServer'));
    const { run, saw } = serverRun(client, model);
    const live = { ...run, helper: dealer, material: session.adopt(beside, 'offline') };
    await this.#noMoreOrders();
    const ledger = await session.phase('online', () =>
      runLive(
        dealer,
        TextEnded,
        () => serverLive(platform, seeds, live),
        ({ tokens }) => tokens,
      ),
    );
    return { ledger, saw: saw(), peakKernelBytes: Math.max(copy.spent.peakKernelBytes, platform.kernels.peakBytes) };
  }

  /** The client hears what was agreed, and gets the seed of A. */
  async #begin(session: Session, client: Channel, { run, traced }: Asked, agreed: Control<'agreed'>, seed: Uint8Array) {
    session.note({ run: runName(agreed.bundle) });
    await sendControl(client, sessionFor(agreed));
    session.taken();
    await session.phase('setup', () => sendMaskSeed(client, seed));
    return { platform: nodePlatform(run.ring.bits), seeds: sessionOf(traced.ringProgram, agreed) };
  }
}
