import { maskedBytes, sendMasked } from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import { systemAlarm } from '../node/clock.ts';
import { type Control, controlFrame, parseControl, type RunRequest, sendControl } from './control.ts';
import { freshCopy, type MaskedCopy, ringKey } from './copies.ts';
import { dismiss } from './doors.ts';
import { receiveAtAnyTime } from './live.ts';
import { errorFields, type Log } from './log.ts';
import type { RunProgram } from './manifest.ts';
import type { ServedModel } from './model.ts';
import { nodePlatform } from './platform.ts';
import { type LinkRight, openLink } from './vouchers.ts';

export interface LinkOptions {
  readonly model: ServedModel;
  /** A greeted connection to the dealer. */
  readonly connect: () => Promise<Channel>;
  /** For a dealer on a plain address. */
  readonly token: Uint8Array | undefined;
  readonly timeoutMilliseconds: number;
  readonly log: Log;
  /** Of a party of one run, which opens the connection once: that it is there, and that it came to nothing or has ended. */
  readonly once?: { opened(): void; lost(error: unknown): void } | undefined;
}

/** How soon a connection that ended is tried again. */
const againMilliseconds = 3000;

interface Link {
  readonly channel: Channel;
  readonly right: LinkRight;
  readonly copies: Map<string, MaskedCopy>;
  /** The dealer's next word, or the link's failure. */
  copied: { resolve(message: Control<'copied'>): void; reject(error: unknown): void } | undefined;
}

/** A copy that the dealer holds, and what vouches for orders by it. */
export interface HeldCopy {
  readonly copy: MaskedCopy;
  readonly right: LinkRight;
}

/**
 * The server's standing connection to its dealer, which holds masked copies of the weights for it: V = W − A, one copy for each ring, made with a fresh seed
 * whenever a connection begins, and sent once. All sessions read it, whoever their client is (docs/protocols/dealer.md says why they may).
 */
export class DealerLink {
  readonly #options: LinkOptions;
  #link: Promise<Link> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #up = false;
  #closed = false;
  #wake: () => void = () => {};

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  get up(): boolean {
    return this.#up;
  }

  /** A copy that the dealer holds with everything that a program reads. One sender at a time. */
  copyFor(run: RunRequest, traced: RunProgram): Promise<HeldCopy> {
    const turn = this.#last.then(() => this.#copyFor(run, traced));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** Opens the connection, and opens it again whenever it has ended, unless it is for one run. */
  async keep(): Promise<void> {
    const { log, once } = this.#options;
    while (!this.#closed) {
      await this.#opened().catch((error: unknown) => {
        if (this.#closed) return;
        log('warn', 'link-failed', errorFields(error));
        once?.lost(error);
      });
      if (once !== undefined) return;
      await new Promise<void>((resolve) => {
        const cancel = systemAlarm(againMilliseconds, resolve);
        this.#wake = () => {
          cancel();
          resolve();
        };
      });
    }
  }

  /** Where it ends for an `error` the dealer hears which party's. */
  async close(error?: unknown): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake();
    const link = await this.#link?.catch(() => undefined);
    if (link === undefined) return;
    await (error === undefined ? link.channel.close() : dismiss(link.channel, error));
  }

  async #copyFor(run: RunRequest, traced: RunProgram): Promise<HeldCopy> {
    const { model } = this.#options;
    const link = await this.#opened();
    const key = ringKey(run.ring);
    const copy = link.copies.get(key) ?? freshCopy();
    const { right } = link;
    if (link.copies.has(key) && maskedBytes(traced.ringProgram, copy.held) === 0) return { copy, right };
    const held = new Set(copy.held);
    const answer = new Promise<Control<'copied'>>((resolve, reject) => {
      link.copied = { resolve, reject };
    });
    answer.catch(() => undefined);
    const { config } = model.manifest;
    // Broken off anywhere, the stream of masks has no next word: the connection goes.
    const broken = async (error: unknown): Promise<never> => {
      await link.channel.close();
      throw error;
    };
    const sent = async (): Promise<Control<'copied'>> => {
      await sendControl(link.channel, { type: 'copy', config, run, program: traced.hash, copy: copy.id });
      const session = { program: traced.ringProgram, context: [] };
      const platform = nodePlatform(run.ring.bits);
      const { spent } = copy;
      const before = { at: platform.now(), sentBytes: link.channel.counters.sentBytes };
      await sendMasked(platform, session, link.channel, copy.seed, model.weight, held);
      spent.sentBytes += link.channel.counters.sentBytes - before.sentBytes;
      spent.peakKernelBytes = Math.max(spent.peakKernelBytes, platform.kernels.peakBytes);
      const copied = await this.#inTime(answer, link.channel.peer);
      spent.seconds += (platform.now() - before.at) / 1000;
      return copied;
    };
    // Where the dealer gives up in the middle, its reason is the error, not the broken connection.
    const refused = answer.then(() => new Promise<never>(() => {}));
    const { copy: name } = await Promise.race([sent(), refused]).catch(broken);
    if (name !== copy.id)
      throw new SottoError('peer', 'holds another copy than it was sent', {
        place: { party: link.channel.peer },
        remedy: 'run the same version of sotto on both sides',
      });
    copy.held = held;
    link.copies.set(key, copy);
    return { copy, right };
  }

  async #opened(): Promise<Link> {
    this.#link ??= this.#open();
    return await this.#link.catch((error: unknown) => {
      this.#link = undefined;
      throw error;
    });
  }

  async #open(): Promise<Link> {
    const channel = await this.#options.connect();
    const right = await openLink(channel, this.#options.token).catch(async (error: unknown) => {
      await channel.close();
      throw error;
    });
    const link: Link = { channel, right, copies: new Map(), copied: undefined };
    this.#up = true;
    this.#options.log('info', 'link-opened', { peer: channel.peer });
    this.#options.once?.opened();
    void this.#listen(link);
    return link;
  }

  /** The dealer speaks when it has a copy; otherwise this waits for the connection's end. */
  async #listen(link: Link): Promise<void> {
    const { timeoutMilliseconds, log } = this.#options;
    try {
      for (;;) {
        const frame = await receiveAtAnyTime(link.channel, { timeoutMilliseconds, now: () => performance.now() });
        if (frame.kind !== controlFrame || link.copied === undefined)
          throw new SottoError('peer', `sent a frame of kind ${frame.kind} that was not asked for`, {
            place: { party: link.channel.peer },
            remedy: 'run the same version of sotto on both sides',
          });
        link.copied.resolve(parseControl(frame.payload, link.channel.peer, 'copied'));
        link.copied = undefined;
      }
    } catch (error) {
      this.#up = false;
      this.#link = undefined;
      link.copied?.reject(error);
      if (!this.#closed)
        log('warn', 'link-ended', { peer: link.channel.peer, reason: error instanceof SottoError ? error.reason : 'it failed' });
      if (!this.#closed) this.#options.once?.lost(error);
      for (const copy of link.copies.values()) copy.held.clear();
      link.right.key.fill(0);
      await link.channel.close();
    }
  }

  async #inTime<T>(work: Promise<T>, party: string): Promise<T> {
    const { timeoutMilliseconds } = this.#options;
    let cancel = (): void => {};
    const late = new Promise<never>((_, reject) => {
      cancel = systemAlarm(timeoutMilliseconds, () =>
        reject(
          new SottoError('peer', `the ${party} is silent: it did not take the masked weights within ${timeoutMilliseconds} ms`, {
            place: { party },
            remedy: `look at the ${party}'s log`,
          }),
        ),
      );
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      cancel();
    }
  }
}
