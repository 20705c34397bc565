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
import { isFlag } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Job, Standing } from '../jobs/job.ts';
import { ringFor } from '../models/ranges.ts';
import type { Channel } from '../net/contract.ts';
import { attending } from './attend.ts';
import { largestFrameBytes, materialFrameBytes } from './bounds.ts';
import { beginTask, type ClientTask, type Outcome, requestOf } from './client-task.ts';
import {
  type Control,
  greet,
  heedingRefusals,
  manifestControlBytes,
  type RunRequest,
  receiveControl,
  refuse,
  sameProgram,
  sendControl,
} from './control.ts';
import { admitted, knock } from './knock.ts';
import { acceptManifest, type KnownManifests } from './known-manifests.ts';
import { openBeside, runLive } from './live.ts';
import { checkManifest, checkSize, manifestHash, openManifest, type TracedRun, traceModel } from './manifest.ts';
import { refusalOf } from './refusals.ts';
import { type ClientReport, firstWords, PhaseMeter, roleReport, watchFirst } from './report.ts';
import { freshTicket, type RunStore, runBundle, runName, sessionOf } from './session.ts';

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
  /**
   * How long the server may take from the request to the session, while it serves others first: ten minutes where absent, or twice the time that a
   * party may be silent where that is more.
   */
  readonly waitMilliseconds?: number | undefined;
  /** Each set of logits as it is opened. */
  readonly onLogits?: (logits: Float64Array) => void;
}

const usualWaitMilliseconds = 600_000;

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
  const { report, job } = await runToItsEnd(host, options);
  try {
    return { ...report, ...job.answer() };
  } catch (error) {
    throw named(error, report.run);
  }
}

type Measured = Omit<ClientReport, keyof Outcome>;

async function runToItsEnd(host: ClientHost, options: ClientOptions): Promise<{ report: Measured; job: Job<Outcome> }> {
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
    const model = openManifest(manifest);
    const { task, onLogits, rangeFlags = true } = options;
    const job = await beginTask(task, model, { trusted: options.manifestHash !== undefined, onLogits });
    const request = requestOf(job, ringFor(options.ring, model.plan), rangeFlags);
    checkSize(model.config, request);
    const traced = traceModel(model, request);
    server.allow?.(largestFrameBytes(traced.ringProgram, 'serverToClient'));
    const { ticket, nonce } = freshTicket();
    await sendControl(server, { type: 'request', run: request, program: traced.hash, nonce });
    // Neither how long a tokenizer takes nor that it fails shows in the request.
    job.read();
    const { waitMilliseconds = Math.max(usualWaitMilliseconds, 2 * host.patienceMilliseconds) } = options;
    const agreed = await admitted(server, { address: options.server, milliseconds: waitMilliseconds });
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
    const report = await runPhases(host, options, { server, dealer, beside }, { agreed, traced, request, job });
    return { report, job };
  } catch (error) {
    named(error, run);
    await Promise.all(opened.map((channel) => refuse(channel, refusalOf(error))));
    throw error;
  } finally {
    over = true;
    await Promise.all(opened.map((channel) => channel.close()));
  }
}

/** The same, with the name of the run in it. */
function named(error: unknown, run: string | undefined): unknown {
  if (error instanceof SottoError) error.run = run;
  return error;
}

/** What was agreed on, and what it is for. */
interface Run {
  readonly agreed: Control<'session'>;
  readonly traced: TracedRun;
  readonly request: RunRequest;
  readonly job: Job<Outcome>;
}

/**
 * The client's side of the run's inputs and outputs. Where the job is done, and the client's policy lets that show, the server is told and the
 * run ends; nowhere else does anything that was opened change what is sent.
 */
function jobRun(job: Job<Outcome>, server: Channel, mayStop: boolean): Pick<ClientRun, 'input' | 'output'> {
  let standing: Standing = 'more';
  /** How many outputs came, shown or not. */
  let tokens = 0;
  return {
    async input(name) {
      if (mayStop && standing === 'done') {
        await sendControl(server, { type: 'stop', tokens });
        throw new TextEnded();
      }
      return job.input(name);
    },
    output(name, value) {
      if (!isFlag(name)) tokens++;
      standing = job.take(name, value);
    },
  };
}

async function runPhases(
  host: ClientHost,
  options: ClientOptions,
  channels: { server: Channel; dealer: Channel; beside: () => Promise<Channel> },
  { agreed, traced, request, job }: Run,
): Promise<Measured> {
  const platform = host.platform(request.ring.bits);
  const session = sessionOf(traced.ringProgram, agreed);
  const meter = new PhaseMeter([channels.server, channels.dealer], platform.now);
  const maskSeed = await meter.measure('setup', () => clientSetup(platform, session, channels));
  let saw = '';
  const { task } = options;
  job.watch(traced.ringProgram);
  const run = {
    channel: watchFirst(channels.server, (payload) => {
      saw = firstWords(payload);
    }),
    ...jobRun(job, channels.server, task.kind === 'generate' && task.earlyStop === true),
  } satisfies Omit<ClientRun, 'bundle'>;
  const fromBundle = async (): Promise<Ledger | undefined> => {
    const store = await host.store();
    const header = { id: agreed.bundle, program: traced.hash, ring: request.ring, createdFor: 'client' } as const;
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
  };
}
