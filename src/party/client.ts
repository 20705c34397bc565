import { forecast, type Setting } from '../backends/cost/index.ts';
import {
  type ClientRun,
  clientLive,
  clientOffline,
  clientOnline,
  clientSetup,
  type Ledger,
  type Platform,
} from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import { type ModelConfig, parseModelConfig } from '../models/config.ts';
import { greedy, type LlamaConfig, planOf, type Sampler } from '../models/index.ts';
import type { PublicEmbedding } from '../models/plan.ts';
import type { EmbeddingTable } from '../models/public-embedding.ts';
import { ringFor } from '../models/ranges.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import type { Channel } from '../net/contract.ts';
import type { Tensor } from '../program/index.ts';
import { attending } from './attend.ts';
import { largestFrameBytes, materialFrameBytes } from './bounds.ts';
import {
  type Control,
  greet,
  heedingRefusals,
  manifestControlBytes,
  type RunRequest,
  receiveControl,
  receiveSession,
  refuse,
  sameProgram,
  sendControl,
} from './control.ts';
import { knock } from './knock.ts';
import { acceptManifest, type KnownManifests } from './known-manifests.ts';
import { openBeside, runLive } from './live.ts';
import { checkManifest, checkSize, manifestHash, manifestTokenizer, type TracedRun, traceRun } from './manifest.ts';
import { type Fault, Opened } from './opened.ts';
import { type PaddingPolicy, preparePrompt, type ReadPrompt } from './prompt.ts';
import { refusalOf } from './refusals.ts';
import { type ClientReport, firstWords, PhaseMeter, roleReport, watchFirst } from './report.ts';
import { freshTicket, type RunStore, runBundle, runName, sessionOf } from './session.ts';

/** What the client wants: a text continued, or a picture named. */
export type ClientTask =
  | {
      readonly kind: 'generate';
      readonly prompt: { readonly text: string } | { readonly ids: readonly number[] };
      readonly newTokens: number;
      /** `token`: the likeliest token of each step is all that is opened; no sampler then. `logits` where absent. */
      readonly reveal?: 'logits' | 'token' | undefined;
      /** What shows of the prompt's length. `steps` where absent, unless the manifest's hash is given or the prompt is ids: `none`. */
      readonly padding?: PaddingPolicy | undefined;
      /** The table of a model whose embedding is public. */
      readonly embedding?: EmbeddingSource | undefined;
      readonly sample?: Sampler;
      /**
       * Ends the run where the text ends, which then shows to the server: how many tokens it has, by rules that the server's own
       * configuration makes. Absent or false, the run goes to its scheduled end, whatever was opened.
       */
      readonly earlyStop?: boolean | undefined;
      /** The prompt's tokens, before the run. */
      readonly onPrompt?: (ids: readonly number[], tokenizer: Tokenizer) => void;
      /** Each new token as it is opened. */
      readonly onToken?: (id: number) => void;
    }
  | {
      readonly kind: 'classify';
      /** The picture as the manifest's preprocessor makes it, (1, C, S, S). */
      readonly pixels: (manifest: Control<'manifest'>) => Promise<Tensor>;
    };

/**
 * Where a client has the public table of embeddings from; what it gives is checked against the hash that the manifest declares.
 */
export type EmbeddingSource = (config: LlamaConfig, declared: PublicEmbedding) => Promise<EmbeddingTable>;

/** One private run as its client: who with, in which ring, and what for. */
export interface ClientOptions {
  readonly server: string;
  /** Where the dealer waits, or the helper. */
  readonly dealer: string;
  readonly setting?: Setting | undefined;
  /** What the model was calibrated for where absent. */
  readonly ring?: { readonly bits?: number | undefined; readonly fraction?: number | undefined } | undefined;
  /** SHA-256 of the manifest, in hexadecimal, from somebody who knows the model: another manifest is refused. */
  readonly manifestHash?: string | undefined;
  readonly task: ClientTask;
  /**
   * A bit with every output: whether a value left the range in which the run is exact. The run then shows nothing more, goes on to its end and
   * rejects with a `range` error. Asked for unless false: such a value then gives a wrong answer without a sign of it.
   */
  readonly rangeFlags?: boolean | undefined;
  /** Each set of logits as it is opened. */
  readonly onLogits?: (logits: Float64Array) => void;
}

/** Where a client runs: a process or a page. This module, and what it imports, knows neither. */
export interface ClientHost {
  readonly platform: (ringBits: number) => Platform;
  readonly connect: (address: string, peer: string) => Promise<Channel>;
  /** How long it comes again where it is closed before it is heard. */
  readonly patienceMilliseconds: number;
  /** Where material lies between its making and the run. */
  readonly store: () => Promise<RunStore>;
  readonly manifests: KnownManifests;
}

/** The text ended, and the client's policy lets that show: the rest of the run is not needed. */
class TextEnded extends Error {}

/**
 * One private run as the client: gets the public manifest, owns the input, learns the output. It never sees a weight. What it opens changes
 * nothing of what it sends, nor does an input of a secret length: a value that cannot be right, and whatever a callback throws, is an
 * error only when the run has ended as it would have without.
 */
export async function runClientOn(host: ClientHost, options: ClientOptions): Promise<ClientReport> {
  const { report, fault } = await runToItsEnd(host, options);
  if (fault !== undefined) throw fault.error;
  return report;
}

async function runToItsEnd(
  host: ClientHost,
  options: ClientOptions,
): Promise<{ report: ClientReport; fault: Fault | undefined }> {
  const { setting = 'dealer' } = options;
  const opened: Channel[] = [];
  let over = false;
  const knocking = { milliseconds: host.patienceMilliseconds, now: () => performance.now(), over: () => over };
  let run: string | undefined;
  const enter = async (address: string, peer: string, largestBytes?: number): Promise<Channel> => {
    const channel = heedingRefusals(await host.connect(address, peer));
    opened.push(channel);
    if (largestBytes !== undefined) channel.allow?.(largestBytes);
    return channel;
  };
  try {
    const { channel: server, answer: manifest } = await knock(
      () => enter(options.server, 'server', manifestControlBytes),
      async (channel) => {
        await greet(channel, 'client', ['server']);
        return await receiveControl(channel, 'manifest');
      },
      knocking,
    );
    checkManifest(manifest);
    await acceptManifest({ server: options.server, given: options.manifestHash }, manifestHash(manifest), host.manifests);
    const prepared = await prepareTask(options, manifest);
    checkSize(manifest.config, prepared.run);
    const traced = traceRun(manifest.config, prepared.run);
    server.allow?.(largestFrameBytes(traced.ringProgram, 'serverToClient'));
    const { ticket, nonce } = freshTicket();
    await sendControl(server, { type: 'request', run: prepared.run, program: traced.hash, nonce });
    await prepared.begin();
    const agreed = await receiveSession(server);
    run = runName(agreed.bundle);
    sameProgram('server', agreed.program, traced.hash);
    // Material made ahead knew no client: what keeps it fresh is the claim of its id, here and at the other two.
    if (!agreed.ahead && agreed.nonces.client !== nonce)
      throw new SottoError('peer', 'answered another request', { place: { party: 'server' }, remedy: 'start the run again' });
    const shown = agreed.ahead ? agreed.ticket : ticket;
    if (shown === undefined || agreed.ahead !== (agreed.ticket !== undefined))
      throw new SottoError('peer', 'passed on no ticket, or one too many', {
        place: { party: 'server' },
        remedy: 'start the run again',
      });
    const knockingAtDealer = () =>
      knock(
        () => enter(options.dealer, setting, materialFrameBytes),
        (channel) => greet(channel, 'client', [setting]),
        knocking,
      );
    // A server that goes meanwhile, or says that the dealer has gone, is heard at once.
    const { channel: dealer } = await attending(server, (attention) => attention.guard(knockingAtDealer()));
    await sendControl(dealer, { type: 'join', bundle: agreed.bundle, program: traced.hash, ticket: shown });
    const beside = (): Promise<Channel> => openBeside(server, () => enter(options.server, 'server'));
    const report = await runPhases(host, options, { server, dealer, beside }, agreed, traced, prepared);
    return { report, fault: named(prepared.opened.fault, run) };
  } catch (error) {
    named({ error }, run);
    await Promise.all(opened.map((channel) => refuse(channel, refusalOf(error))));
    throw error;
  } finally {
    over = true;
    await Promise.all(opened.map((channel) => channel.close()));
  }
}

/** The same, with the name of the run in it. */
function named(fault: Fault | undefined, run: string | undefined): Fault | undefined {
  if (fault?.error instanceof SottoError) fault.error.run = run;
  return fault;
}

/** The client's inputs by name, and what its outputs do. */
interface Prepared {
  readonly run: RunRequest;
  /** Reads what the request must not wait for. */
  readonly begin: () => Promise<void>;
  readonly promptIds: () => readonly number[];
  readonly input: (name: string) => Promise<Tensor>;
  readonly opened: Opened;
}

async function prepareTask(options: ClientOptions, manifest: Control<'manifest'>): Promise<Prepared> {
  const { task } = options;
  const ring = ringFor(options.ring, planOf(parseModelConfig(manifest.config)));
  const watched = options.rangeFlags === false ? {} : ({ rangeFlags: true } as const);
  if (task.kind === 'classify') {
    const pixels = await task.pixels(manifest);
    const run: RunRequest = { task: 'classify', promptTokens: 1, newTokens: 1, ring, ...watched };
    const opened = new Opened((logits) => ({ show: () => options.onLogits?.(logits) }));
    return { run, begin: async () => undefined, promptIds: () => [], input: async () => pixels, opened };
  }
  const config = parseModelConfig(manifest.config);
  if (config.family !== 'llama')
    throw new SottoError('usage', `a ${config.family} does not generate`, { remedy: 'use classify' });
  const tokenizer = await manifestTokenizer(manifest);
  const table = await publicTable(task.embedding, manifest);
  const { reveal = 'logits', newTokens } = task;
  const trusted = options.manifestHash !== undefined || 'ids' in task.prompt;
  const padding = task.padding ?? (trusted ? 'none' : 'steps');
  const prompt = await preparePrompt({ prompt: task.prompt, newTokens, padding, config, tokenizer });
  if (reveal === 'token' && task.sample !== undefined)
    throw new SottoError('usage', 'a token is drawn from logits, and none are revealed', {
      place: { field: 'reveal' },
      remedy: 'leave the temperature out, or reveal logits',
    });
  const asked = { ...prompt.asked, newTokens, ring, ...watched, ...(reveal === 'token' ? { reveal } : {}) };
  const run: RunRequest = { task: 'generate', ...asked };
  const ends = endIds(config);
  const opened = new Opened((values) => {
    const id = reveal === 'logits' ? (task.sample ?? greedy)(values) : values[0]!;
    if (!isToken(id, config)) throw noToken();
    const show = (): void => {
      if (reveal === 'logits') options.onLogits?.(values);
      task.onToken?.(id);
    };
    return { id, last: ends.has(id), show };
  });
  let read: ReadPrompt = { ids: [], fed: [], input: () => undefined };
  const begin = async (): Promise<void> => {
    read = await prompt.read();
    if (read.fault !== undefined) return opened.fail(read.fault);
    try {
      task.onPrompt?.(read.ids, tokenizer);
    } catch (error) {
      // The server's decoder failed on the text, which must show no more than if its encoder had.
      if (padding === 'none') throw error;
      opened.fail({ error });
    }
  };
  // A length that shows may as well be wrong before anything is asked for.
  if (padding === 'none') await begin();
  const input = async (name: string): Promise<Tensor> => {
    const padded = read.input(name);
    if (padded !== undefined) return padded;
    const ids = name === 'prompt' ? read.fed : [opened.next];
    return table?.rows(ids) ?? { shape: [ids.length], values: Int32Array.from(ids) };
  };
  return { run, begin: async () => (padding === 'none' ? undefined : await begin()), promptIds: () => read.ids, input, opened };
}

const isToken = (id: number, { vocabSize }: LlamaConfig): boolean => Number.isInteger(id) && id >= 0 && id < vocabSize;

/** Says nothing of the value: who wrote a model so that it opens this may read the error. */
const noToken = (): SottoError =>
  new SottoError('peer', 'gave a result that is no token of its vocabulary', {
    place: { party: 'server' },
    remedy: 'check the ranges of the plan; the server may also have lied',
  });

/** The table that the client feeds rows of, where the manifest says that it is public. */
async function publicTable(
  source: EmbeddingSource | undefined,
  manifest: Control<'manifest'>,
): Promise<EmbeddingTable | undefined> {
  const config = parseModelConfig(manifest.config);
  const { embedding } = planOf(config);
  if (config.family !== 'llama' || embedding === undefined) return undefined;
  if (source !== undefined) return await source(config, embedding);
  throw new SottoError('usage', "the model's embedding is public, and the client has no table", {
    place: { party: 'client', field: '--embedding' },
    remedy: 'name the safetensors file that was published with the model',
  });
}

async function runPhases(
  host: ClientHost,
  options: ClientOptions,
  channels: { server: Channel; dealer: Channel; beside: () => Promise<Channel> },
  agreed: Control<'session'>,
  traced: TracedRun,
  prepared: Prepared,
): Promise<ClientReport> {
  const platform = host.platform(prepared.run.ring.bits);
  const session = sessionOf(traced.ringProgram, agreed);
  const meter = new PhaseMeter([channels.server, channels.dealer], platform.now);
  const maskSeed = await meter.measure('setup', () => clientSetup(platform, session, channels));
  let saw = '';
  const { opened, input, promptIds } = prepared;
  const { task } = options;
  opened.begin(traced.ringProgram);
  const mayStop = task.kind === 'generate' && task.earlyStop === true;
  const run = {
    channel: watchFirst(channels.server, (payload) => {
      saw = firstWords(payload);
    }),
    input: async (name) => {
      if (mayStop && opened.ended) {
        await sendControl(channels.server, { type: 'stop', tokens: opened.count });
        throw new TextEnded();
      }
      return await input(name);
    },
    output: (name, value) => opened.take(name, value),
  } satisfies Omit<ClientRun, 'bundle'>;
  const fromBundle = async (): Promise<Ledger | undefined> => {
    const store = await host.store();
    const header = { id: agreed.bundle, program: traced.hash, ring: prepared.run.ring, createdFor: 'client' } as const;
    return await runBundle(store, header, channels.server, TextEnded, {
      fill: async (sink) => {
        try {
          await meter.measure('offline', () => clientOffline(platform, session, channels, maskSeed, sink));
        } finally {
          maskSeed.fill(0);
        }
        // The dealer is out of it before the first byte of the run.
        await channels.dealer.close();
      },
      run: (bundle) => meter.measure('online', () => clientOnline(platform, session, { ...run, bundle })),
    });
  };
  const withHelper = async (): Promise<Ledger | undefined> => {
    try {
      const helper = channels.dealer;
      const material = await channels.beside();
      const live = { ...run, helper, material, maskSeed };
      const online = () => meter.on([channels.server]).measure('online', () => clientLive(platform, session, live));
      return await runLive(helper, TextEnded, () => meter.on([material]).measureBytes('offline', online));
    } finally {
      maskSeed.fill(0);
    }
  };
  const ledger = await (options.setting === 'helper' ? withHelper() : fromBundle());
  return {
    run: runName(agreed.bundle),
    ...roleReport('client', { meter, ledger, peakKernelBytes: platform.kernels.peakBytes, saw }),
    forecast: forecast(traced.ringProgram, options.setting).total,
    promptIds: promptIds(),
    newIds: opened.newIds,
    stopped: opened.ended ? 'eos' : 'length',
  };
}

const endIds = (config: ModelConfig): ReadonlySet<number> => new Set(config.family === 'llama' ? config.eosTokenIds : []);
