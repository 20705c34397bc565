import { type Session as SeedSession, serverFromDealer } from '../backends/mpc/index.ts';
import type { Channel } from '../net/contract.ts';
import { systemAlarm } from '../node/clock.ts';
import type { BundleStore, StoredHeader } from './bundles.ts';
import { type Control, type RunRequest, receiveControl } from './control.ts';
import { CopyRecords } from './copies.ts';
import type { HeldCopy } from './link.ts';
import { errorFields, type Log } from './log.ts';
import type { RunProgram } from './manifest.ts';
import type { ServiceMetrics } from './metrics.ts';
import type { ServedModel } from './model.ts';
import { placeOrder } from './orders.ts';
import { nodePlatform } from './platform.ts';
import { nonce, sessionOf } from './session.ts';

export interface PreparedOptions {
  readonly model: ServedModel;
  readonly state: string;
  readonly store: BundleStore;
  /** Run shapes to make material for, and how much of each is kept. */
  readonly shapes: readonly RunRequest[];
  readonly count: number;
  readonly trace: (run: RunRequest) => Promise<RunProgram>;
  /** A copy that the dealer holds now. */
  readonly copyFor: (run: RunRequest, traced: RunProgram) => Promise<HeldCopy>;
  /** A greeted connection to the dealer. */
  readonly connect: () => Promise<Channel>;
  /** Whether nobody is served: making ahead takes from no session. */
  readonly idle: () => boolean;
  readonly metrics: ServiceMetrics;
  readonly log: Log;
}

/** One bundle of the server's, claimed for a run: the dealer's part of its material. */
export interface Half {
  readonly header: StoredHeader;
  readonly agreed: Control<'agreed'>;
  /** Of the A that the material was made with. */
  readonly seed: Uint8Array;
}

const isHalf = ({ nonces, ticket }: StoredHeader): boolean => nonces !== undefined && ticket !== undefined;

/** Of the A that a half was made with. */
const seedOf = (records: CopyRecords, { copy }: StoredHeader): Uint8Array | undefined =>
  copy === undefined ? undefined : records.seed(copy);

/** How soon after a session it is looked whether another one is served. */
const busyMilliseconds = 250;
/** The longest pause after failures. */
const longestMilliseconds = 30_000;

/**
 * The server's halves of material that is made before any client comes: corrections and keys from the dealer. They are made while nobody is
 * served, until there are enough, kept over restarts, and claimed for good before a client hears of them.
 */
export class Prepared {
  readonly #options: PreparedOptions;
  readonly #records: CopyRecords;
  readonly #weights: string;
  /** By program, the oldest first. */
  readonly #available = new Map<string, StoredHeader[]>();
  /** Of the programs of the shapes. */
  readonly #hashes = new Map<RunRequest, string>();
  #stopped = false;
  #wake: () => void = () => {};
  #making: Promise<void> = Promise.resolve();

  private constructor(options: PreparedOptions, records: CopyRecords, weights: string) {
    this.#options = options;
    this.#records = records;
    this.#weights = weights;
  }

  /** Takes up what an earlier process left; what cannot be used any more is burned. */
  static async open(options: PreparedOptions): Promise<Prepared> {
    const { store, model, state } = options;
    const weights = model.hash();
    const records = await CopyRecords.open(state, weights);
    const prepared = new Prepared(options, records, weights);
    const needed = new Set<string>();
    for (const { id, state: is, header } of await store.present()) {
      if (is === 'available' && header !== undefined && isHalf(header) && seedOf(records, header) !== undefined) {
        needed.add(header.copy!);
        prepared.#add(header);
      } else await store.burn(id);
    }
    await records.retain(needed);
    return prepared;
  }

  get count(): number {
    return [...this.#available.values()].reduce((sum, halves) => sum + halves.length, 0);
  }

  /** Begins to make what is missing, and goes on as halves are used. */
  start(): void {
    this.#making = this.#make();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#making;
  }

  /** A half for a run of this program, claimed on disk; undefined where none is there. Burning it is the caller's. */
  async take(traced: RunProgram): Promise<Half | undefined> {
    const { store, metrics, log } = this.#options;
    for (;;) {
      const header = this.#available.get(traced.hash)?.shift();
      if (header === undefined) return undefined;
      this.#wake();
      const { id, program, ring, copy } = header;
      const seed = seedOf(this.#records, header);
      try {
        await store.claim(id, { program, ring, copy });
        metrics.bundles.add({ event: 'claimed' });
        const agreed = {
          type: 'agreed',
          ahead: true,
          bundle: id,
          program,
          nonces: header.nonces!,
          ticket: header.ticket!,
        } as const;
        if (seed !== undefined) return { header, agreed, seed };
      } catch (error) {
        log('warn', 'bundle-refused', errorFields(error));
      }
      await this.burn(id);
    }
  }

  async burn(id: string): Promise<void> {
    await this.#options.store.burn(id);
    this.#options.metrics.bundles.add({ event: 'burned' });
  }

  #add(header: StoredHeader): void {
    const halves = this.#available.get(header.program);
    if (halves) halves.push(header);
    else this.#available.set(header.program, [header]);
  }

  async #make(): Promise<void> {
    const { log, idle } = this.#options;
    for (let pause = 250; !this.#stopped; ) {
      try {
        const missing = await this.#missing();
        if (missing === undefined) await this.#pause(longestMilliseconds);
        else if (idle()) await this.#makeOne(missing);
        else await this.#pause(busyMilliseconds);
        pause = 250;
      } catch (error) {
        if (this.#stopped) return;
        log('warn', 'prepare-failed', errorFields(error));
        await this.#pause(pause);
        pause = Math.min(longestMilliseconds, 2 * pause);
      }
    }
  }

  async #missing(): Promise<RunRequest | undefined> {
    const { shapes, count, trace } = this.#options;
    for (const run of shapes) {
      const hash = this.#hashes.get(run) ?? (await trace(run)).hash;
      this.#hashes.set(run, hash);
      if ((this.#available.get(hash)?.length ?? 0) < count) return run;
    }
    return undefined;
  }

  /** Until the time is over, a half is taken or the party stops. */
  async #pause(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = systemAlarm(milliseconds, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
    this.#wake = () => {};
  }

  async #makeOne(run: RunRequest): Promise<void> {
    const { model, trace, copyFor, connect, store, metrics, log } = this.#options;
    const start = performance.now();
    const traced = await trace(run);
    const { copy, right } = await copyFor(run, traced);
    await this.#records.keep(copy, this.#weights);
    const dealer = await connect();
    try {
      // Nobody has come yet, so the server draws the nonce that a client would.
      const order = { ahead: true, copy: copy.id, nonces: { client: nonce(), server: nonce() } } as const;
      const agreed = await placeOrder(dealer, right, { manifest: model.manifest, run, traced }, order);
      const { bundle: id, program, nonces, ticket } = agreed;
      const writer = await store.write({ id, program, ring: run.ring, copy: copy.id, createdFor: 'server', nonces, ticket });
      try {
        const session: SeedSession = sessionOf(traced.ringProgram, agreed);
        await serverFromDealer(nodePlatform(run.ring.bits), session, dealer, (bytes) => writer.append(bytes));
        await receiveControl(dealer, 'stored');
      } catch (error) {
        await writer.abort();
        throw error;
      }
      const header = await writer.finish();
      this.#add(header);
      metrics.bundles.add({ event: 'made' });
      const { promptTokens, newTokens } = run;
      const seconds = (performance.now() - start) / 1000;
      log('info', 'prepared', { promptTokens, newTokens, receivedBytes: header.materialBytes, seconds, count: this.count });
    } finally {
      await dealer.close();
    }
  }
}
