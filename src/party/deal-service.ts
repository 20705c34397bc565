import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Setting } from '../backends/cost/index.ts';
import {
  dealerOffline,
  dealerSetup,
  dealStreams,
  helperLive,
  maskedBytes,
  offlineFrame,
  type Session as SeedSession,
  StreamWriter,
} from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { TurnedAway } from './admission.ts';
import { attending } from './attend.ts';
import { type BundleStore, openBundleStore, type StoredHeader } from './bundles.ts';
import { type Control, parseControl, receiveControl, receiveEither, sameProgram, sendControl } from './control.ts';
import { partyCredentials } from './credentials.ts';
import { dismiss, within } from './doors.ts';
import { receiveAtAnyTime, untilStopped } from './live.ts';
import { lockState } from './lock.ts';
import type { TracedRun } from './manifest.ts';
import { nodePlatform } from './platform.ts';
import { Rendezvous } from './rendezvous.ts';
import { type Service, type ServiceOptions, stand, traceCache } from './service.ts';
import { nonce, sessionOf } from './session.ts';
import { type Session, Sessions } from './sessions.ts';

export interface DealServiceOptions extends ServiceOptions {
  /** `helper`: makes the correlations while runs go on. */
  readonly setting: Setting;
  /** Where clients' halves of material made ahead are kept. The helper keeps nothing. */
  readonly state: string;
  /** Masked weights in memory, of all servers together. */
  readonly maximumMaskedBytes: number;
  /** Clients' halves on disk; the oldest is burned for a new one. */
  readonly maximumBundles: number;
}

/** A dealer, or a helper, for many sessions at once. Each is as `runDealer` has it; masked weights are held by connection and shared. */
export async function serveDealer(options: DealServiceOptions): Promise<Service> {
  const { setting, log } = options;
  const credentials = partyCredentials(options.tls, setting, options.listen);
  const sessions = new Sessions({ role: setting, ...options, now: () => performance.now() });
  const halves = setting === 'dealer' ? await Halves.open(options.state, options.maximumBundles, sessions) : undefined;
  const dealer = new Dealer(options, sessions, halves);
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

class Dealer {
  readonly #options: DealServiceOptions;
  readonly #sessions: Sessions;
  readonly #halves: Halves | undefined;
  readonly #trace = traceCache();
  readonly #joins = new Rendezvous();
  /** V by the name that the server gave it: whoever knows the name was told by that server. */
  readonly #copies = new Map<string, Masked>();
  readonly #links = new Set<Channel>();
  #reservedBytes = 0;

  constructor(options: DealServiceOptions, sessions: Sessions, halves: Halves | undefined) {
    this.#options = options;
    this.#sessions = sessions;
    this.#halves = halves;
  }

  get maskedBytes(): number {
    let sum = 0;
    for (const copy of this.#copies.values()) for (const bytes of copy.values()) sum += bytes.length;
    return sum;
  }

  async arrived(channel: Channel, { role }: Control<'hello'>): Promise<void> {
    const { handshakeMilliseconds } = this.#options;
    if (role === 'client') {
      const join = await within(handshakeMilliseconds, channel, receiveControl(channel, 'join'));
      this.#joined.set(channel, join);
      if (await this.#joins.meet(join.bundle, channel)) return;
      const half = this.#halves?.take(join.bundle);
      if (half === undefined)
        throw new SottoError('peer', 'joined a session that is not known here', {
          place: { party: 'client' },
          remedy: `connect to the ${this.#options.setting} that the server named`,
        });
      sameProgram('client', join.program, half.program);
      void this.#sessions.run('hand', channel, (session) => this.#hand(session, channel, half));
      return;
    }
    const first = await within(handshakeMilliseconds, channel, receiveEither<'order' | 'link'>(channel, ['order', 'link']));
    if (first.type === 'link') void this.#link(channel);
    else void this.#sessions.run(first.ahead ? 'ahead' : 'deal', channel, (session) => this.#deal(session, channel, first));
  }

  /** What a client that was brought to its session said when it joined. */
  readonly #joined = new WeakMap<Channel, Control<'join'>>();

  async close(): Promise<void> {
    await Promise.all([...this.#links].map((channel) => channel.close('shutting down')));
  }

  /** Holds the copies that one connection brings, as long as it lives. */
  async #link(channel: Channel): Promise<void> {
    const { log, timeoutMilliseconds } = this.#options;
    const own = new Map<string, Masked>();
    this.#links.add(channel);
    log('info', 'link-opened', { peer: channel.peer });
    try {
      for (;;) {
        const frame = await receiveAtAnyTime(channel, { timeoutMilliseconds, now: () => performance.now() });
        const copy = parseControl(frame.payload, channel.peer, 'copy');
        await this.#hold(channel, copy, own);
        await sendControl(channel, { type: 'copied', weights: copy.weights });
      }
    } catch (error) {
      log('info', 'link-ended', { peer: channel.peer, reason: error instanceof SottoError ? error.reason : 'it failed' });
      await dismiss(channel, error);
    } finally {
      this.#links.delete(channel);
      for (const [name, copy] of own) {
        this.#copies.delete(name);
        for (const bytes of copy.values()) bytes.fill(0);
      }
    }
  }

  async #hold(channel: Channel, copy: Control<'copy'>, own: Map<string, Masked>): Promise<void> {
    this.#sessions.admission.check(copy.run);
    const traced = this.#trace(copy.config, copy.run);
    sameProgram('server', copy.program, traced.hash);
    const held = own.get(copy.weights) ?? new Map<string, Uint8Array>();
    if (!own.has(copy.weights) && this.#copies.has(copy.weights))
      throw new SottoError('peer', 'names a copy as another connection does', {
        place: { party: 'server' },
        remedy: 'start that server again',
      });
    const release = this.#reserve(traced, held);
    own.set(copy.weights, held);
    this.#copies.set(copy.weights, held);
    const session = { program: traced.ringProgram, context: [] };
    await dealerSetup(nodePlatform(copy.run.ring.bits), session, { server: channel }, held).finally(release);
  }

  /** Room for what is still to come of masked weights; the callee gives it back once they are there, and counted, or gone. */
  #reserve(traced: TracedRun, held: Masked): () => void {
    const { maximumMaskedBytes } = this.#options;
    const needed = maskedBytes(traced.ringProgram, held);
    if (this.maskedBytes + this.#reservedBytes + needed > maximumMaskedBytes)
      throw new TurnedAway('limit', `masked weights of ${needed} more bytes do not fit into the ${maximumMaskedBytes} set aside`);
    this.#reservedBytes += needed;
    return () => {
      this.#reservedBytes -= needed;
    };
  }

  async #deal(session: Session, server: Channel, order: Control<'order'>): Promise<void> {
    const { run } = order;
    this.#sessions.admission.check(run);
    const traced = this.#trace(order.config, run);
    sameProgram('server', order.program, traced.hash);
    const held = order.setup === 'held' ? this.#held(order.weights) : undefined;
    const release = held === undefined ? this.#reserve(traced, new Map()) : () => undefined;
    try {
      await this.#dealWith(session, server, order, traced, held);
    } finally {
      release();
    }
  }

  async #dealWith(
    session: Session,
    server: Channel,
    order: Control<'order'>,
    traced: TracedRun,
    held: Masked | undefined,
  ): Promise<void> {
    const { setting, timeoutMilliseconds } = this.#options;
    const { run } = order;
    const agreed = {
      type: 'session',
      ahead: order.ahead,
      bundle: nonce(),
      program: traced.hash,
      weights: order.weights,
      nonces: { ...order.nonces, dealer: nonce() },
    } as const;
    const platform = nodePlatform(run.ring.bits);
    const seeds = sessionOf(traced.ringProgram, agreed);
    const setup = (): Promise<Masked> => session.phase('setup', () => dealerSetup(platform, seeds, { server }));
    if (order.ahead) {
      const masked = held ?? (await setup());
      return await this.#ahead(session, server, { agreed, run, seeds, masked });
    }
    const joining = this.#joins.expect(agreed.bundle, 'client', timeoutMilliseconds, session.aborted);
    joining.catch(() => undefined);
    await sendControl(server, agreed);
    const client = session.adopt(await attending(server, (attention) => attention.guard(joining)));
    sameProgram('client', this.#joined.get(client)!.program, traced.hash);
    const masked = held ?? (await setup());
    const channels = { client, server };
    await session.phase('offline', () =>
      setting === 'dealer'
        ? dealerOffline(platform, seeds, channels, masked)
        : untilStopped(channels, { timeoutMilliseconds, now: platform.now }, helperLive(platform, seeds, channels, masked)),
    );
  }

  #held(weights: string): Masked {
    const copy = this.#copies.get(weights);
    if (copy !== undefined) return copy;
    throw new SottoError('peer', 'orders by a masked copy that is not held here', {
      place: { party: 'server' },
      remedy: 'connect again: the copy is sent anew',
    });
  }

  /** The server's half goes to the server, the client's to the disk, for whoever joins by the bundle's id. */
  async #ahead(
    session: Session,
    server: Channel,
    made: {
      readonly agreed: Control<'session'>;
      readonly run: Control<'order'>['run'];
      readonly seeds: SeedSession;
      readonly masked: Masked;
    },
  ): Promise<void> {
    const { agreed, run, seeds, masked } = made;
    if (this.#halves === undefined)
      throw new SottoError('peer', 'orders material ahead of a helper', {
        place: { party: 'server' },
        remedy: 'serve without --prepare, or with a dealer',
      });
    const { bundle: id, program, weights, nonces } = agreed;
    await sendControl(server, agreed);
    await this.#halves.make({ id, program, ring: run.ring, weights, createdFor: 'client', nonces }, (client) =>
      session.phase('offline', () =>
        dealStreams(nodePlatform(run.ring.bits), seeds, { client, server: new StreamWriter(server, offlineFrame) }, masked),
      ),
    );
    await sendControl(server, { type: 'stored', bundle: id });
  }

  /** A client's half, made ahead: claimed for good, sent, burned. */
  async #hand(session: Session, client: Channel, half: StoredHeader): Promise<void> {
    await session.phase('offline', () => this.#halves!.hand(half, new StreamWriter(client, offlineFrame)));
  }
}

/** Clients' halves of material made ahead, in the store of bundles: claimed before the first byte leaves, burned after it. */
class Halves {
  readonly #store: BundleStore;
  readonly #most: number;
  readonly #sessions: Sessions;
  readonly #available: Map<string, StoredHeader>;
  readonly close: () => Promise<void>;

  private constructor(
    store: BundleStore,
    most: number,
    sessions: Sessions,
    { unlock, available }: { unlock: () => Promise<void>; available: Map<string, StoredHeader> },
  ) {
    this.close = unlock;
    this.#store = store;
    this.#most = most;
    this.#sessions = sessions;
    this.#available = available;
  }

  /** Burns what a crash left half made or half used; the rest is there, the oldest first. */
  static async open(state: string, most: number, sessions: Sessions): Promise<Halves> {
    const store = await openBundleStore(state, 'client');
    const unlock = await lockState(state, 'dealer');
    const found: { header: StoredHeader; at: number }[] = [];
    for (const { id, state: is, header } of await store.list()) {
      if (is === 'available' && header !== undefined)
        found.push({ header, at: (await lstat(join(state, 'bundles', id))).mtimeMs });
      else if (is !== 'burned') await store.burn(id);
    }
    found.sort((a, b) => a.at - b.at);
    return new Halves(store, most, sessions, { unlock, available: new Map(found.map(({ header }) => [header.id, header])) });
  }

  get count(): number {
    return this.#available.size;
  }

  /** Takes a half out of what is there, once. */
  take(id: string): StoredHeader | undefined {
    const half = this.#available.get(id);
    this.#available.delete(id);
    return half;
  }

  async make(header: Parameters<BundleStore['write']>[0], deal: (client: Sink) => Promise<void>): Promise<void> {
    const { bundles } = this.#sessions.metrics;
    for (const oldest of this.#available.keys()) {
      if (this.#available.size < this.#most) break;
      this.#available.delete(oldest);
      await this.#store.burn(oldest);
      bundles.add({ event: 'burned' });
    }
    const writer = await this.#store.write(header);
    try {
      await deal({ write: (bytes) => writer.append(bytes), finish: async () => {} });
    } catch (error) {
      await writer.abort();
      throw error;
    }
    this.#available.set(header.id, await writer.finish());
    bundles.add({ event: 'made' });
  }

  async hand({ id, program, ring, weights, materialBytes }: StoredHeader, client: StreamWriter): Promise<void> {
    const { bundles } = this.#sessions.metrics;
    try {
      await this.#store.claim(id, { program, ring, weights });
      bundles.add({ event: 'claimed' });
      const reader = await this.#store.open(id);
      try {
        for (let at = 0; at < materialBytes; at += blockBytes)
          await client.write(await reader.read(at, Math.min(blockBytes, materialBytes - at)));
        await client.finish();
      } finally {
        await reader.close();
      }
    } finally {
      await this.#store.burn(id);
      bundles.add({ event: 'burned' });
    }
  }
}

const blockBytes = 2 ** 18;
interface Sink {
  write(bytes: Uint8Array): Promise<void>;
  finish(): Promise<void>;
}
