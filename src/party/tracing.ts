import { deserialize } from 'node:v8';
import type { Worker } from 'node:worker_threads';
import type { RingNode, RingProgram } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { parseModelConfig } from '../models/config.ts';
import { systemAlarm } from '../node/clock.ts';
import { startThread } from '../node/thread.ts';
import { type RunRequest, sameProgram } from './control.ts';
import { type RunProgram, traceRun } from './manifest.ts';
import { TurnedAway } from './refusals.ts';
import type { FromTracing, TableNumber, TracingOrder } from './tracing-worker.ts';
import { Turns } from './turns.ts';

/** What one run's program may cost a standing party. */
export interface TracingLimits {
  readonly milliseconds: number;
  /** Of the thread that traces. */
  readonly heapBytes: number;
  /** Of a program, as it comes from there; in this process it takes some two times as much. */
  readonly programBytes: number;
  /** Of the programs that are kept for the next client. */
  readonly keptBytes: number;
  /**
   * A run of at most so many layers times new tokens, and tokens of the prompt, is traced in this thread: a second's work at most, and less than
   * to start another one. None where absent.
   */
  readonly smallRun?: number | undefined;
}

export const tracingLimits: TracingLimits = {
  milliseconds: 30_000,
  heapBytes: 1024 * 2 ** 20,
  programBytes: 256 * 2 ** 20,
  keptBytes: 256 * 2 ** 20,
};

/** Programs of one peer that wait, where nobody says how many sessions there may be. */
const usualWaiting = 16;
/** The same of a party with so many seats: each session waits for one, and who has gone leaves one behind. */
export const waitingOf = (maximumSessions: number): number => Math.max(usualWaiting, 2 * maximumSessions);

/** Whose turn it is where this party itself asks. */
const ownTurn = 'this party';

/** A thread that has nothing to trace is ended after so long, and gives its memory back. */
const idleMilliseconds = 5000;

/** Of a node as it comes from a thread, tables aside. */
const nodeBytes = 300;

interface Kept {
  readonly program: RunProgram;
  readonly bytes: number;
}

/** Which program a peer says that it runs. */
interface Claim {
  readonly party: string;
  readonly program: string;
  /** Whom turns are counted by, as `whoIs` gives it. */
  readonly who: string;
}

/**
 * The programs of runs that peers ask for, traced one after the other, by turns between peers, in a thread of their own, under a limit of time and of memory: who goes beyond is
 * turned away, and nobody else hears of it. A program is kept for others who ask for the same run once its hash is what the peer said, the
 * ones that were asked for last, up to a number of bytes.
 */
export class Tracing {
  readonly #limits: TracingLimits;
  readonly #kept = new Map<string, Kept>();
  #keptBytes = 0;
  readonly #turns: Turns;
  #thread: Worker | undefined;
  #rest = (): void => {};

  /** `mostWaiting` programs of one peer wait for their turn. */
  constructor(limits: TracingLimits = tracingLimits, mostWaiting: number = usualWaiting) {
    this.#limits = limits;
    this.#turns = new Turns(mostWaiting);
  }

  get keptBytes(): number {
    return this.#keptBytes;
  }

  /**
   * Throws a `peer` error of `party` where the program is not the one that it claims, and `TurnedAway` where it costs too much, or as many wait
   * for `who` as may.
   */
  async trace(config: Record<string, unknown>, run: RunRequest, claim?: Claim): Promise<RunProgram> {
    const key = JSON.stringify([config, run]);
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      if (claim !== undefined) sameProgram(claim.party, claim.program, kept.program.hash);
      return kept.program;
    }
    const traced = await this.#turns.take(
      claim?.who ?? ownTurn,
      async () =>
        this.#kept.get(key) ??
        (await this.#traced({ config, run, claimed: claim?.program, maximumBytes: this.#limits.programBytes }, claim?.party)),
    );
    if (claim !== undefined) sameProgram(claim.party, claim.program, traced.program.hash);
    this.#keep(key, traced);
    return traced.program;
  }

  /** Forgets what is kept: sessions that use it go on. */
  clear(): void {
    this.#kept.clear();
    this.#keptBytes = 0;
  }

  async close(): Promise<void> {
    this.clear();
    await this.#end();
  }

  #keep(key: string, traced: Kept): void {
    if (this.#kept.has(key)) return;
    this.#kept.set(key, traced);
    this.#keptBytes += traced.bytes;
    for (const [oldest, { bytes }] of this.#kept) {
      if (this.#keptBytes <= this.#limits.keptBytes) return;
      this.#kept.delete(oldest);
      this.#keptBytes -= bytes;
    }
  }

  async #end(): Promise<void> {
    this.#rest();
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.terminate();
  }

  #started(): Worker {
    this.#rest();
    if (this.#thread !== undefined) return this.#thread;
    const resourceLimits = { maxOldGenerationSizeMb: this.#limits.heapBytes / 2 ** 20, maxYoungGenerationSizeMb: 32 };
    const thread = startThread(import.meta.url, 'tracing-worker', { resourceLimits });
    thread.unref();
    this.#thread = thread;
    return thread;
  }

  /** In this thread, where little is to be done; undefined where it is not. */
  #tracedHere({ config, run }: TracingOrder): Kept | undefined {
    const { smallRun = 0 } = this.#limits;
    const { numHiddenLayers } = parseModelConfig(config);
    if (Math.max(numHiddenLayers * run.newTokens, run.promptTokens) > smallRun) return undefined;
    const program = traceRun(config, run);
    return { program, bytes: nodeBytes * program.ringProgram.nodes.length };
  }

  async #traced(order: TracingOrder, party: string | undefined): Promise<Kept> {
    const here = this.#tracedHere(order);
    if (here !== undefined) return here;
    const thread = this.#started();
    const { milliseconds } = this.#limits;
    const taken = new Taken(order, party);
    const cancel = systemAlarm(milliseconds, () => taken.fail(tooMuch(`takes longer than ${milliseconds / 1000} s`)));
    thread.on('message', taken.take);
    thread.once('error', taken.broken);
    thread.once('exit', taken.broken);
    thread.postMessage(order);
    try {
      const traced = await taken.whole;
      this.#rest = systemAlarm(idleMilliseconds, () => void this.#end());
      return traced;
    } catch (error) {
      // Whatever it still does is of no use.
      await this.#end();
      throw error;
    } finally {
      cancel();
      thread.off('message', taken.take).off('error', taken.broken).off('exit', taken.broken);
    }
  }
}

const tooMuch = (what: string): TurnedAway =>
  new TurnedAway('limit', `the program of this run ${what}, which is more than may be`);

/** One program as it comes in pieces. */
class Taken {
  readonly whole: Promise<Kept>;
  readonly fail: (error: Error) => void;
  readonly #done: (kept: Kept) => void;
  readonly #nodes: RingNode[] = [];
  readonly #tables: Float64Array[] = [];
  readonly #order: TracingOrder;
  readonly #party: string | undefined;
  #begun: Extract<FromTracing, { type: 'begin' }> | undefined;
  #bytes = 0;

  constructor(order: TracingOrder, party: string | undefined) {
    this.#order = order;
    this.#party = party;
    let done!: (kept: Kept) => void;
    let fail!: (error: Error) => void;
    this.whole = new Promise((resolve, reject) => {
      done = resolve;
      fail = reject;
    });
    this.#done = done;
    this.fail = fail;
  }

  readonly broken = (cause: unknown): void => {
    const full = (cause as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY';
    this.fail(full ? tooMuch('takes more memory to trace') : Object.assign(new Error('the tracing thread ended'), { cause }));
  };

  readonly take = (message: FromTracing): void => {
    if (message.type === 'begin') this.#begun = message;
    else if (message.type === 'piece') this.#add(message);
    else if (message.type === 'end') {
      const { hash, ring } = this.#begun!;
      const ringProgram: RingProgram = { ring, nodes: this.#nodes };
      this.#done({ program: { hash, ringProgram }, bytes: this.#bytes });
    } else if (message.type === 'tooLong') this.fail(tooMuch(`has more than ${this.#order.maximumBytes} bytes`));
    else if (message.type === 'other') this.#refuse(message.hash);
    else {
      const { error } = message;
      this.fail(error === undefined ? new Error('tracing failed') : new SottoError(error.kind, error.reason, error));
    }
  };

  #refuse(hash: string): void {
    try {
      sameProgram(this.#party ?? 'client', this.#order.claimed!, hash);
    } catch (error) {
      this.fail(error as Error);
    }
  }

  #add({ nodes, tables }: Extract<FromTracing, { type: 'piece' }>): void {
    this.#tables.push(...tables);
    this.#bytes += nodes.length + tables.reduce((sum, table) => sum + table.byteLength, 0);
    for (const node of deserialize(nodes) as RingNode[]) this.#nodes.push(this.#withTables(node));
  }

  #withTables(node: RingNode): RingNode {
    const replaced = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.some((each) => typeof each === 'object') ? value.map(replaced) : value;
      return typeof value === 'object' && value !== null && 'table' in value ? this.#tables[(value as TableNumber).table] : value;
    };
    const parameters = Object.entries(node.parameters).map(([name, value]) => [name, replaced(value)]);
    return { ...node, parameters: Object.fromEntries(parameters) } as RingNode;
  }
}
