import type { Setting } from '../backends/cost/index.ts';
import {
  dealerOffline,
  dealerSetup,
  dealStreams,
  helperLive,
  maskedBytes,
  offlineFrame,
  type Platform,
  type Session as SeedSession,
  StreamWriter,
} from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { checkCertificate, whoIs } from './asking.ts';
import { attending } from './attend.ts';
import { freshBundleId, systemMinutes } from './bundle-id.ts';
import {
  type Control,
  controlFrame,
  longControlBytes,
  parseControl,
  receiveControl,
  receiveEither,
  sameProgram,
  sendControl,
} from './control.ts';
import { partyCredentials } from './credentials.ts';
import { dismiss, firstWordMilliseconds, within } from './doors.ts';
import { Halves, ticketBytes } from './halves.ts';
import { type LinkToken, linkTokenFor } from './link-token.ts';
import { receiveAtAnyTime, untilStopped } from './live.ts';
import type { RunProgram } from './manifest.ts';
import type { OneRun } from './one-run.ts';
import { nodePlatform } from './platform.ts';
import { Objection, TurnedAway } from './refusals.ts';
import { Rendezvous } from './rendezvous.ts';
import { type Service, type ServiceOptions, stand } from './service.ts';
import { commitmentTo, freshTicket, nonce, runName, sessionOf } from './session.ts';
import { type Done, type Session, Sessions } from './sessions.ts';
import { Tracing, type TracingLimits, waitingOf } from './tracing.ts';
import { type HeldLink, notVouched, sendChallenge, takeLink, takeOrder } from './vouchers.ts';

/** A dealer, or helper, that stands for many servers and their clients, and the bounds of what it holds for them. */
export interface DealServiceOptions extends ServiceOptions {
  /** `helper`: makes the correlations while runs go on. */
  readonly setting: Setting;
  /** Where clients' halves of material made ahead are kept. The helper keeps nothing. */
  readonly state: string;
  /** Masked weights in memory, of all servers together. */
  readonly maximumMaskedBytes: number;
  /** Clients' halves on disk; the oldest is burned for a new one. */
  readonly maximumBundles: number;
  /** Nobody without a certificate is a client. */
  readonly clientCertificates?: boolean | undefined;
  /** For servers at a plain address: what both know; the usual file where absent. */
  readonly linkToken?: LinkToken | undefined;
}

/** A dealer, or a helper, for many sessions at once. Each is as `runDealer` has it; masked weights are held by connection and shared. */
export async function serveDealer(options: DealServiceOptions): Promise<Service> {
  const { state, maximumBundles: most } = options;
  return await standDealer({ ...options, halves: options.setting === 'dealer' ? { state, most } : undefined });
}

/** What a dealer is told in either of its lives. */
type StandingOptions = Omit<DealServiceOptions, 'state' | 'maximumBundles'> & {
  /** Where clients' halves are kept, and how many; a party of one run, and a helper, keeps none. */
  readonly halves?: { readonly state: string; readonly most: number } | undefined;
  /** What the program of one run may cost. */
  readonly tracing?: TracingLimits | undefined;
};

/** A dealer that stands, for one run where `once` hears of it. */
export async function standDealer(options: StandingOptions, once?: OneRun): Promise<Service> {
  const { setting, log } = options;
  const credentials = partyCredentials(options.tls, setting, options.listen);
  const token = await linkTokenFor(options.listen, options.linkToken);
  const tracing = new Tracing(options.tracing, waitingOf(options.limits.maximumSessions));
  const now = (): number => performance.now();
  const sessions = new Sessions({ role: setting, ...options, now, reclaim: () => tracing.clear(), watch: once });
  const halves = options.halves === undefined ? undefined : await Halves.open(options.halves, sessions);
  const dealer = new Dealer(options, sessions, halves, { token, tracing, once });
  sessions.metrics.registry.gauge('sotto_bundles_available', "Clients' halves of material made ahead.", () => [
    [{}, halves?.count ?? 0],
  ]);
  sessions.metrics.registry.gauge('sotto_masked_bytes', 'Masked weights in memory.', () => [[{}, dealer.maskedBytes]]);
  if (halves !== undefined) log('info', 'state', { count: halves.count });
  return await stand(options, {
    role: setting,
    peers: ['server', 'client'],
    credentials,
    sessions,
    arrived: (channel, hello) => dealer.arrived(channel, hello),
    unready: () => null,
    close: async () => {
      await dealer.close();
      await halves?.close();
    },
  });
}

type Masked = Map<string, Uint8Array>;

/** A server's connection that stands, and what came over it. Copies have names of their own on each. */
interface Link extends HeldLink {
  /** Of taking its copies. */
  setupSeconds: number;
  readonly channel: Channel;
  readonly copies: Map<string, Masked>;
  /** Sessions that read the copies now. */
  readers: number;
  ended: boolean;
}

class Dealer {
  readonly #options: StandingOptions;
  readonly #sessions: Sessions;
  readonly #halves: Halves | undefined;
  readonly #token: Uint8Array | undefined;
  readonly #tracing: Tracing;
  readonly #once: OneRun | undefined;
  readonly #joins = new Rendezvous();
  /** Sessions whose client is waited for: what its ticket must be the opening of. */
  readonly #awaited = new Map<string, string>();
  readonly #links = new Map<string, Link>();
  #reservedBytes = 0;

  constructor(
    options: StandingOptions,
    sessions: Sessions,
    halves: Halves | undefined,
    {
      token,
      tracing,
      once,
    }: { readonly token: Uint8Array | undefined; readonly tracing: Tracing; readonly once: OneRun | undefined },
  ) {
    this.#once = once;
    this.#tracing = tracing;
    this.#options = options;
    this.#sessions = sessions;
    this.#halves = halves;
    this.#token = token;
  }

  get maskedBytes(): number {
    let sum = 0;
    for (const { copies } of this.#links.values())
      for (const copy of copies.values()) for (const bytes of copy.values()) sum += bytes.length;
    return sum;
  }

  async arrived(channel: Channel, { role }: Control<'hello'>): Promise<void> {
    const { handshakeMilliseconds } = this.#options;
    const known = role === 'client' ? this.#client(channel) : this.#server(channel);
    const begin = await within(handshakeMilliseconds, channel, known);
    begin();
  }

  /** Who shows the ticket of a session gets its client's half, and nobody else: a session's name opens nothing. */
  async #client(channel: Channel): Promise<() => void> {
    checkCertificate(channel, this.#options);
    const join = await receiveControl(channel, 'join');
    const unknown = (): Objection =>
      new Objection('session', 'joined a session that is not known here', {
        party: 'client',
        remedy: `connect to the ${this.#options.setting} that the server named`,
      });
    if (this.#awaited.get(join.bundle) === commitmentTo(join.ticket)) {
      this.#joined.set(channel, join);
      if (await this.#joins.meet(join.bundle, channel)) return () => undefined;
    }
    const halves = this.#halves;
    if (halves?.has(join) !== true) throw unknown();
    return () =>
      void this.#sessions.run('hand', channel, (session) => {
        session.note({ run: runName(join.bundle) });
        return session.phase('offline', async () => {
          if (!(await halves.hand(join, new StreamWriter(channel, offlineFrame)))) throw unknown();
          return { peakKernelBytes: 0 };
        });
      });
  }

  /** A link, or an order with what vouches for it. */
  async #server(channel: Channel): Promise<() => void> {
    const challenge = await sendChallenge(channel);
    const first = await receiveEither<'link' | 'voucher'>(channel, ['link', 'voucher']);
    if (first.type === 'link') {
      const held = await takeLink(channel, first, challenge, this.#token);
      channel.allow?.(longControlBytes);
      return () => void this.#link({ ...held, channel, copies: new Map(), readers: 0, ended: false, setupSeconds: 0 });
    }
    const link = this.#links.get(first.link);
    const order = await takeOrder(channel, first, challenge, link);
    const check = (): void => this.#sessions.admission.check(order.run);
    const kind = order.ahead ? 'ahead' : 'deal';
    return () => void this.#sessions.run(kind, channel, (session) => this.#deal(session, channel, order, link!), check);
  }

  /** What a client that was brought to its session said when it joined. */
  readonly #joined = new WeakMap<Channel, Control<'join'>>();

  async close(): Promise<void> {
    await this.#tracing.close();
    const failure = this.#once?.failure;
    const links = [...this.#links.values()];
    await Promise.all(
      links.map(({ channel }) => (failure === undefined ? channel.close('shutting down') : dismiss(channel, failure))),
    );
  }

  /** Holds the copies that one connection brings, as long as it lives. */
  async #link(link: Link): Promise<void> {
    const { log, timeoutMilliseconds } = this.#options;
    const { channel } = link;
    this.#links.set(link.link, link);
    log('info', 'link-opened', { peer: channel.peer });
    // The server has come; it waits for its client before it orders.
    this.#once?.expect('client', 3 * timeoutMilliseconds);
    try {
      for (;;) {
        const { kind, payload } = await receiveAtAnyTime(channel, { timeoutMilliseconds, now: () => performance.now() });
        const said = parseControl(kind === controlFrame ? payload : new Uint8Array(0), channel.peer, 'copy');
        await this.#hold(link, said);
        await sendControl(channel, { type: 'copied', copy: said.copy });
      }
    } catch (error) {
      log('info', 'link-ended', { peer: channel.peer, reason: error instanceof SottoError ? error.reason : 'it failed' });
      await dismiss(channel, error);
      this.#once?.lost(error);
    } finally {
      link.ended = true;
      this.#clear(link);
    }
  }

  /** The copies of a link that has ended, once no session reads them: cleared before, they would make wrong corrections. */
  #clear(link: Link): void {
    if (!link.ended || link.readers > 0) return;
    for (const copy of link.copies.values()) for (const bytes of copy.values()) bytes.fill(0);
    this.#links.delete(link.link);
  }

  async #hold(link: Link, { config, run, program, copy }: Control<'copy'>): Promise<void> {
    const { channel, copies } = link;
    this.#sessions.admission.check(run);
    const traced = await this.#tracing.trace(config, run, { party: 'server', program, who: whoIs(channel) });
    const held = copies.get(copy) ?? new Map<string, Uint8Array>();
    const release = this.#reserve(traced, held);
    copies.set(copy, held);
    const session = { program: traced.ringProgram, context: [] };
    const platform = nodePlatform(run.ring.bits);
    const start = platform.now();
    await dealerSetup(platform, session, { server: channel }, held).finally(release);
    link.setupSeconds += (platform.now() - start) / 1000;
  }

  /** Room for what is still to come of masked weights; the callee gives it back once they are there, and counted, or gone. */
  #reserve(traced: RunProgram, held: Masked): () => void {
    const { maximumMaskedBytes } = this.#options;
    const needed = maskedBytes(traced.ringProgram, held);
    if (this.maskedBytes + this.#reservedBytes + needed > maximumMaskedBytes)
      throw new TurnedAway(
        'limit',
        `masked weights of ${needed} more bytes do not fit into the ${maximumMaskedBytes} set aside`,
        {
          limit: { of: 'maskedBytes', most: maximumMaskedBytes },
        },
      );
    this.#reservedBytes += needed;
    return () => {
      this.#reservedBytes -= needed;
    };
  }

  async #deal(session: Session, server: Channel, order: Control<'order'>, link: Link): Promise<Done> {
    const { run } = order;
    const claim = { party: 'server', program: order.program, who: whoIs(server) };
    const tracing = this.#tracing.trace(order.config, run, claim);
    const traced = await attending(server, (attention) => attention.guard(tracing));
    const masked = heldBy(link, order.copy, traced);
    session.spent('setup', { seconds: link.setupSeconds, sentBytes: 0 });
    link.readers++;
    try {
      return await this.#dealWith(session, server, order, traced, masked);
    } finally {
      link.readers--;
      this.#clear(link);
    }
  }

  async #dealWith(session: Session, server: Channel, order: Control<'order'>, traced: RunProgram, masked: Masked): Promise<Done> {
    const { setting, timeoutMilliseconds } = this.#options;
    const { run } = order;
    const agreed = {
      type: 'agreed',
      ahead: order.ahead,
      bundle: freshBundleId(systemMinutes()),
      program: traced.hash,
      nonces: { ...order.nonces, dealer: nonce() },
    } as const;
    session.note({ run: runName(agreed.bundle) });
    const platform = nodePlatform(run.ring.bits);
    const seeds = sessionOf(traced.ringProgram, agreed);
    if (order.ahead) return await this.#ahead(session, server, { agreed, platform, run, seeds, masked });
    const client = session.adopt(await this.#clientOf(session, server, agreed));
    sameProgram('client', this.#joined.get(client)!.program, traced.hash);
    session.taken();
    const channels = { client, server };
    await session.phase('offline', () =>
      setting === 'dealer'
        ? dealerOffline(platform, seeds, channels, masked)
        : untilStopped(channels, { timeoutMilliseconds, now: platform.now }, helperLive(platform, seeds, channels, masked)),
    );
    return { peakKernelBytes: platform.kernels.peakBytes };
  }

  /** Tells the server what is agreed, and waits for the client that holds the ticket. */
  async #clientOf(session: Session, server: Channel, agreed: Control<'agreed'>): Promise<Channel> {
    this.#awaited.set(agreed.bundle, agreed.nonces.client);
    try {
      const patience = firstWordMilliseconds(this.#options.handshakeMilliseconds);
      const joining = this.#joins.expect(agreed.bundle, 'client', patience, session.aborted);
      joining.catch(() => undefined);
      await sendControl(server, agreed);
      return await attending(server, (attention) => attention.guard(joining));
    } finally {
      this.#awaited.delete(agreed.bundle);
    }
  }

  /** The server's half goes to the server, the client's to the disk, for whoever joins by the bundle's id. */
  async #ahead(
    session: Session,
    server: Channel,
    made: {
      readonly agreed: Control<'agreed'>;
      readonly platform: Platform;
      readonly run: Control<'order'>['run'];
      readonly seeds: SeedSession;
      readonly masked: Masked;
    },
  ): Promise<Done> {
    const { agreed, platform, run, seeds, masked } = made;
    if (this.#halves === undefined)
      throw new SottoError('peer', 'orders material ahead of a party that keeps none', {
        place: { party: 'server' },
        remedy: 'serve without --prepare, or with a standing dealer',
      });
    const { bundle: id, program, nonces } = agreed;
    const { ticket, nonce: commitment } = freshTicket();
    await sendControl(server, { ...agreed, ticket });
    const header = { id, program, ring: run.ring, createdFor: 'client', nonces, commitment } as const;
    // From here on the server alone has the ticket.
    await this.#halves.make(header, ticketBytes(ticket), (client) =>
      session.phase('offline', () =>
        dealStreams(platform, seeds, { client, server: new StreamWriter(server, offlineFrame) }, masked),
      ),
    );
    await sendControl(server, { type: 'stored', bundle: id });
    return { peakKernelBytes: platform.kernels.peakBytes };
  }
}

/** A copy with all that a program reads. */
function heldBy({ copies, ended }: Link, name: string, { ringProgram }: RunProgram): Masked {
  const copy = ended ? undefined : copies.get(name);
  if (copy !== undefined && maskedBytes(ringProgram, copy) === 0) return copy;
  throw notVouched();
}
