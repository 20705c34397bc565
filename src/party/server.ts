import { randomBytes } from 'node:crypto';
import type { Setting } from '../backends/cost/index.ts';
import { type Ledger, type ServerRun, serverLive, serverOffline, serverOnline, serverSetup } from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import { openCheckpoint } from '../models/checkpoint.ts';
import { parseModelConfig } from '../models/config.ts';
import { fileLabel, foldWeights, type Plan, planOf } from '../models/index.ts';
import { checkRanges } from '../models/ranges.ts';
import type { Channel, Frame } from '../net/contract.ts';
import { folderFiles } from '../node/files.ts';
import { connect, listen } from '../node/sockets.ts';
import type { TlsFiles } from '../node/tls.ts';
import type { Tensor } from '../program/index.ts';
import { openBundleStore } from './bundles.ts';
import {
  type Control,
  controlFrame,
  greet,
  heedingRefusals,
  parseControl,
  publicReason,
  receiveControl,
  refuse,
  sameProgram,
  sendControl,
} from './control.ts';
import { partyCredentials } from './credentials.ts';
import { acceptBeside, runLive } from './live.ts';
import { readManifest, type TracedRun, traceRun } from './manifest.ts';
import { nodePlatform } from './platform.ts';
import { firstWords, PhaseMeter, type RoleReport, roleReport, watchFirst } from './report.ts';
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

/** The client ended the text before the run's length: no failure. */
export class TextEnded extends Error {
  readonly tokens: number;
  constructor(tokens: number) {
    super(`the text ended after ${tokens} tokens`);
    this.tokens = tokens;
  }
}

/** One private run as the server: owns the weights, learns the run's shape and when a text ends, and nothing of its content. */
export async function runServer(options: ServerOptions): Promise<RoleReport> {
  const credentials = partyCredentials(options.tls, 'server', [options.listen, options.dealer]);
  const checkpoint = await openCheckpoint(folderFiles(options.model));
  const configFile = fileLabel(checkpoint.files, 'config.json');
  const config = parseModelConfig(checkpoint.config, configFile);
  const manifest = await readManifest(checkpoint.files, checkpoint.config);
  const weights = new Map<string, Tensor>();
  for await (const [name, tensor] of foldWeights(config, planOf(config, configFile), (tensor) => checkpoint.read(tensor)))
    weights.set(name, tensor);
  const { timeoutMilliseconds, setting = 'dealer' } = options;
  const listener = await listen({ address: options.listen, peer: 'client', timeoutMilliseconds, credentials });
  const opened: Channel[] = [];
  try {
    options.onListening?.(listener.address);
    const dealer = heedingRefusals(await connect({ address: options.dealer, peer: setting, timeoutMilliseconds, credentials }));
    opened.push(dealer);
    await greet(dealer, 'server', [setting]);
    const client = heedingRefusals(await listener.accept({ peer: 'client', timeoutMilliseconds }));
    opened.push(client);
    await greet(client, 'server', ['client']);
    const beside = (): Promise<Channel> =>
      acceptBeside(client, async () => {
        const material = heedingRefusals(await listener.accept({ peer: 'client', timeoutMilliseconds }));
        opened.push(material);
        return material;
      });
    return await serveOne(options, { client, dealer, beside }, { manifest, plan: planOf(config, configFile) }, weights);
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
  { manifest, plan }: { manifest: Control<'manifest'>; plan: Plan },
  weights: ReadonlyMap<string, Tensor>,
): Promise<RoleReport> {
  const { client, dealer } = channels;
  await sendControl(client, manifest);
  const request = await receiveControl(client, 'request');
  checkRanges(plan, request.run.ring, options.model);
  const traced = traceRun(manifest.config, request.run);
  sameProgram('client', request.program, traced.hash);
  const agreed = await agree(channels, manifest, request, traced);
  const session = sessionOf(traced.ringProgram, agreed);
  const platform = nodePlatform(request.run.ring.bits);
  const weight = async (name: string): Promise<Tensor> => {
    const tensor = weights.get(name);
    if (tensor !== undefined) return tensor;
    throw new SottoError('model', 'the folded checkpoint has no such tensor', {
      place: { tensor: name },
      remedy: 'check that config.json fits the weights',
    });
  };
  const meter = new PhaseMeter([client, dealer], platform.now);
  await meter.measure('setup', () => serverSetup(platform, session, channels, weight));
  let saw = '';
  let revealed = 0;
  const run = {
    channel: watchFirst(client, (payload) => {
      saw = firstWords(payload);
    }),
    weight,
    interrupt: (frame) => interruption(frame, revealed),
    observe: (protocol) => ({
      ...protocol,
      reveal: (node, x) => {
        revealed++;
        return protocol.reveal(node, x);
      },
    }),
  } satisfies Omit<ServerRun, 'bundle'>;
  const fromBundle = async (): Promise<Ledger | undefined> => {
    const store = await openBundleStore(options.state, 'server');
    const { bundle: id, weights } = agreed;
    const header = { id, program: traced.hash, ring: request.run.ring, weights, createdFor: 'server' } as const;
    return await runBundle(store, header, client, TextEnded, {
      fill: async (sink) => {
        await meter.measure('offline', () => serverOffline(platform, session, channels, sink));
        // The dealer is out of it before the first byte of the run.
        await dealer.close();
      },
      run: (bundle) => meter.measure('online', () => serverOnline(platform, session, { ...run, bundle })),
    });
  };
  const withHelper = async (): Promise<Ledger | undefined> => {
    const live = { ...run, helper: dealer, material: await channels.beside() };
    const online = () => meter.on([client]).measure('online', () => serverLive(platform, session, live));
    return await runLive(dealer, TextEnded, online, ({ tokens }) => tokens);
  };
  const ledger = await (options.setting === 'helper' ? withHelper() : fromBundle());
  return roleReport('server', { meter, ledger, peakKernelBytes: platform.kernels.peakBytes, saw });
}

/** A client may stop after any token that it got, and must say which. */
function interruption(frame: Frame, revealed: number): Error {
  const fault = (reason: string): SottoError =>
    new SottoError('peer', reason, { place: { party: 'client' }, remedy: 'run the same version on both sides' });
  if (frame.kind !== controlFrame) return fault(`a frame of kind ${frame.kind} in the middle of a run`);
  const { tokens } = parseControl(frame.payload, 'client', 'stop');
  if (tokens !== revealed) return fault(`stopped after ${tokens} tokens where ${revealed} were opened`);
  return new TextEnded(tokens);
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
  const nonces = { client: request.nonce, server: nonce() };
  const { config } = manifest;
  const order = {
    type: 'order',
    setup: 'here',
    ahead: false,
    config,
    run: request.run,
    program: traced.hash,
    weights,
    nonces,
  } as const;
  await sendControl(dealer, order);
  const agreed = await receiveControl(dealer, 'session');
  sameProgram(dealer.peer, agreed.program, traced.hash);
  if (agreed.weights !== weights || agreed.nonces.client !== nonces.client || agreed.nonces.server !== nonces.server)
    throw new SottoError('peer', 'answered for another run', { place: { party: dealer.peer }, remedy: 'start the run again' });
  await sendControl(client, agreed);
  return agreed;
}
