import { homedir } from 'node:os';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Setting } from '../backends/cost/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { openMeasured } from '../package/measure.ts';
import type { RunShape } from '../party/admission.ts';
import type { AskPolicy, Reveal } from '../party/asking.ts';
import { type Service, serveDealer, serveModel } from '../party/index.ts';
import { errorFields, type Log, type LogFormat, logger } from '../party/log.ts';
import { saying } from './measured.ts';
import {
  fractionOption,
  linkTokenOption,
  number,
  originOption,
  type RingFlags,
  ringOf,
  ringOption,
  settingOption,
  type TlsFlags,
  tlsOf,
  tlsOptions,
  wantedRing,
  whole,
} from './options.ts';
import { modelFolder } from './shipped.ts';
import type { Terminal } from './terminal.ts';

const help = `
These processes stand until SIGTERM or SIGINT: they then admit nobody, give sessions --drain seconds to end, end the rest with a reason and
exit with 0; a second signal ends them at once. Clients come with \`sotto party client\`. docs/operating.md has the whole story.

Examples:
  $ sotto dealer --listen tls:0.0.0.0:7001 --authority certificates/authority.pem \\
      --certificate certificates/dealer.pem --key certificates/dealer-key.pem
  $ sotto serve --model stories-polynomial --listen tls:0.0.0.0:7002 --dealer tls:127.0.0.1:7001 \\
      --authority certificates/authority.pem --certificate certificates/server.pem --key certificates/server-key.pem \\
      --prepare 4 --prepare-tokens 16:16:token --metrics 127.0.0.1:9100
`;

interface StandingFlags extends TlsFlags {
  readonly listen: string[];
  readonly timeout: number;
  readonly handshakeTimeout: number;
  readonly sessionTimeout: number;
  readonly maxSessions: number;
  readonly maxWaiting: number;
  readonly maxPromptTokens: number;
  readonly maxNewTokens: number;
  readonly maxMemory?: number;
  readonly origin?: string[];
  readonly metrics?: string;
  readonly linkToken?: string;
  readonly clientCertificates?: true;
  readonly log: LogFormat;
  readonly drain: number;
}

type Shape = RunShape;

interface ServeFlags extends StandingFlags, RingFlags {
  readonly model: string;
  readonly dealer: string;
  readonly setting: Setting;
  readonly state: string;
  readonly prepare: number;
  readonly prepareTokens: Shape[];
  readonly reveal: 'both' | Reveal;
  readonly tokensPerHour?: number;
  readonly anonymousTokensPerHour?: number;
  readonly flagBitsPerHour: number;
  readonly allowRing?: RingParameters[];
  readonly shape?: Shape[];
}

interface DealFlags extends StandingFlags {
  readonly state: string;
  readonly maxMasked: number;
  readonly maxBundles: number;
}

/** The commands `serve`, `dealer` and `helper`. */
export function registerServe(program: Command, terminal: Terminal): void {
  standingOptions(serveCommand(program, terminal), { maxSessions: 8 }).action((flags: ServeFlags) => serve(flags, terminal));
  registerDeal(
    program,
    terminal,
    'dealer',
    'Makes correlated randomness before runs: sees no prompt, no weight and no message of a run.',
  );
  registerDeal(program, terminal, 'helper', 'Makes it while runs go on, and sees as little. Serve with --setting helper then.');
}

function serveCommand(program: Command, terminal: Terminal): Command {
  return program
    .command('serve')
    .summary('serve a model privately to many clients')
    .description('Stands as the server: owns the weights, learns how long prompts and texts are, and nothing of what they say.')
    .requiredOption('--model <folder>', 'a checkpoint', modelFolder(terminal))
    .addOption(new Option('--dealer <address>', 'where the dealer waits, or the helper').makeOptionMandatory())
    .addOption(settingOption())
    .addOption(stateOption('server'))
    .addOption(
      new Option('--prepare <n>', 'bundles of each shape that are made before clients come')
        .argParser(whole(0, 10_000))
        .default(0),
    )
    .addOption(
      new Option(
        '--prepare-tokens <shape>',
        'a shape to make bundles for: its tokens, with :token where no logits are revealed and :padded for texts of secret length, text:n for texts that are classified, or picture; with :no-flags for clients that want no range flags; may be given again',
      )
        .argParser((text: string, shapes: Shape[]) => [...shapes, shapeOf(text)])
        .default([], 'none'),
    )
    .addOption(
      new Option('--reveal <what>', 'what clients may ask to see of each step: all logits, the likeliest token alone, or either')
        .choices(['both', 'logits', 'token'])
        .default('token'),
    )
    .addOption(
      new Option(
        '--tokens-per-hour <n>',
        'steps that are opened to one client certificate in an hour (default: no bound)',
      ).argParser(whole(1, 1_000_000_000)),
    )
    .addOption(
      new Option(
        '--anonymous-tokens-per-hour <n>',
        'the same for all without a certificate at one address, which is weak (default: no bound)',
      ).argParser(whole(1, 1_000_000_000)),
    )
    .addOption(
      new Option(
        '--flag-bits-per-hour <n>',
        'of range flags, told to one client certificate, or to all without one at one address, in an hour; 0 serves no run with them',
      )
        .argParser(whole(0, 1_000_000_000))
        .default(1000),
    )
    .addOption(
      new Option(
        '--shape <shape>',
        'serve runs of this shape alone, written like those of --prepare-tokens; may be given again (default: all within the lengths)',
      ).argParser((text: string, shapes: Shape[] | undefined) => [...(shapes ?? []), shapeOf(text)]),
    )
    .addOption(
      new Option(
        '--allow-ring <bits:fraction>',
        "serve runs in this ring beside the model's own, 64:16 and that of --ring; may be given again",
      ).argParser((text: string, rings: RingParameters[] | undefined) => [...(rings ?? []), ringFrom(text)]),
    )
    .addOption(ringOption())
    .addOption(fractionOption());
}

async function serve(flags: ServeFlags, terminal: Terminal): Promise<void> {
  const { model, dealer, setting, state, prepareTokens, prepare: count } = flags;
  const measuring = { ring: wantedRing(flags), say: saying(terminal) };
  const ring = ringOf(flags, (await openMeasured(model, measuring)).plan);
  if (count > 0 !== prepareTokens.length > 0)
    throw new SottoError('usage', 'material made ahead needs both a number of bundles and their shapes', {
      place: { field: '--prepare' },
      remedy: 'write --prepare 4 --prepare-tokens 16:32:token',
    });
  const shapes = prepareTokens.map((shape) => ({ ...shape, ring }));
  const common = standing(flags, terminal);
  const limits = { ...common.limits, shapes: flags.shape };
  const rings = [ring, ...(flags.allowRing ?? [])];
  const options = {
    ...common,
    limits,
    rings,
    model,
    dealer,
    setting,
    state,
    policy: policyOf(flags),
    prepare: { count, shapes },
    measuring,
  };
  await untilSignalled(await serveModel(options), flags.drain, options.log);
}

function registerDeal(program: Command, terminal: Terminal, setting: Setting, description: string): void {
  const deal = program
    .command(setting)
    .summary(`stand as the ${setting} of servers and their clients`)
    .description(description)
    .addOption(stateOption(setting))
    .addOption(
      new Option('--max-masked <megabytes>', 'masked weights in memory, of all servers').argParser(number(1, 1e7)).default(4096),
    )
    .addOption(
      new Option('--max-bundles <n>', "clients' halves on disk; the oldest is burned for a new one")
        .argParser(whole(1, 1_000_000))
        .default(1000),
    );
  standingOptions(deal, { maxSessions: 16 }).action(async (flags: DealFlags) => {
    const { state, maxMasked, maxBundles: maximumBundles } = flags;
    const options = { ...standing(flags, terminal), setting, state, maximumMaskedBytes: maxMasked * 1e6, maximumBundles };
    await untilSignalled(await serveDealer(options), flags.drain, options.log);
  });
}

const stateOption = (role: string) =>
  new Option('--state <folder>', 'where bundles and claims are kept').default(
    join(homedir(), '.sotto', role),
    `~/.sotto/${role}`,
  );

function standingOptions(command: Command, { maxSessions }: { maxSessions: number }): Command {
  const seconds = (name: string, description: string, low: number, usual: number): Option =>
    new Option(`--${name} <seconds>`, description).argParser(number(low, 86_400)).default(usual);
  const count = (name: string, description: string, low: number, usual: number): Option =>
    new Option(`--${name} <n>`, description).argParser(whole(low, 1_000_000)).default(usual);
  command.addOption(
    new Option('--listen <address>', 'where this party waits; may be given again')
      .argParser((text: string, all: string[] | undefined) => [...(all ?? []), text])
      .makeOptionMandatory(),
  );
  command.addOption(originOption());
  for (const option of [
    seconds('timeout', 'how long a known peer may be silent', 0.1, 120),
    seconds('handshake-timeout', 'how long a stranger has to become known', 0.1, 10),
    seconds('session-timeout', 'how long a session may last', 1, 3600),
    count('max-sessions', 'sessions side by side', 1, maxSessions),
    count('max-waiting', 'peers that wait for one; more are turned away', 0, 32),
    count('max-prompt-tokens', 'longest prompt of a run', 1, 1024),
    count('max-new-tokens', 'longest text of a run', 1, 256),
    new Option('--max-memory <megabytes>', 'begin no session while the process holds more').argParser(number(1, 1e7)),
    new Option('--metrics <host:port>', 'answer /healthz, /readyz and /metrics over HTTP there'),
    new Option('--log <format>', 'of the lines on stderr').choices(['json', 'text']).default('text'),
    seconds('drain', 'how long sessions have to end after a signal', 0, 30),
    ...tlsOptions(),
    linkTokenOption(),
    new Option('--client-certificates', 'serve nobody without a certificate for client.sotto'),
  ])
    command.addOption(option);
  return command.addHelpText('after', help);
}

function standing(flags: StandingFlags, terminal: Terminal) {
  const { listen, maxSessions, maxWaiting, maxPromptTokens, maxNewTokens, maxMemory, metrics } = flags;
  return {
    listen,
    limits: {
      maximumSessions: maxSessions,
      maximumWaiting: maxWaiting,
      maximumPromptTokens: maxPromptTokens,
      maximumNewTokens: maxNewTokens,
      maximumResidentBytes: maxMemory === undefined ? undefined : maxMemory * 1e6,
    },
    timeoutMilliseconds: flags.timeout * 1000,
    handshakeMilliseconds: flags.handshakeTimeout * 1000,
    maximumSessionMilliseconds: flags.sessionTimeout * 1000,
    metrics,
    origins: flags.origin,
    linkToken: flags.linkToken,
    clientCertificates: flags.clientCertificates,
    log: logger(flags.log, terminal.error, () => new Date()),
    lostLines: terminal.lostLines,
    ...tlsOf(flags),
  };
}

const policyOf = ({
  reveal,
  tokensPerHour,
  anonymousTokensPerHour,
  flagBitsPerHour,
  clientCertificates,
}: ServeFlags): AskPolicy => ({
  reveal: reveal === 'both' ? ['logits', 'token'] : [reveal],
  tokensPerHour,
  anonymousTokensPerHour,
  flagBitsPerHour,
  clientCertificates,
});

function shapeOf(text: string): Shape {
  const flags = text.endsWith(':no-flags') ? {} : ({ rangeFlags: true } as const);
  const rest = text.replace(/:no-flags$/, '');
  if (rest === 'picture') return { task: 'classify', promptTokens: 1, newTokens: 1, ...flags };
  const positions = /^text:(\d{1,6})(:padded)?$/.exec(rest);
  if (positions !== null && Number(positions[1]) >= 1) {
    const padded = positions[2] === undefined ? {} : ({ padded: true } as const);
    return { task: 'classify', promptTokens: Number(positions[1]), newTokens: 1, ...padded, ...flags };
  }
  const parts = /^(\d{1,6}):(\d{1,6})(:token)?(:padded)?$/.exec(rest);
  const [promptTokens, newTokens] = [Number(parts?.[1]), Number(parts?.[2])];
  if (parts === null || promptTokens < 1 || newTokens < 1)
    throw new InvalidArgumentError(
      'Expected the tokens of prompt and text, such as 16:32, the tokens of a text to classify, such as text:32, or picture.',
    );
  const reveal = parts[3] === undefined ? {} : ({ reveal: 'token' } as const);
  const padded = parts[4] === undefined ? {} : ({ padded: true } as const);
  return { task: 'generate', promptTokens, newTokens, ...reveal, ...padded, ...flags };
}

function ringFrom(text: string): RingParameters {
  const parts = /^(\d{1,2}):(\d{1,2})$/.exec(text);
  const [bits, fraction] = [Number(parts?.[1]), Number(parts?.[2])];
  if (parts === null || bits < 4 || bits > 64 || fraction < 1 || fraction > 40)
    throw new InvalidArgumentError('Expected the bits of the ring and of fractions, such as 32:7.');
  return { bits, fraction };
}

/** Stands until a signal has drained the service; a second signal ends the process at once. */
async function untilSignalled(service: Service, drainSeconds: number, log: Log): Promise<void> {
  // A defect in one session must not end the others.
  const survive = (error: unknown): void => log('error', 'unhandled', errorFields(error));
  process.on('unhandledRejection', survive);
  const signals = ['SIGTERM', 'SIGINT'] as const;
  let drain: () => void = () => {};
  let fail: (error: unknown) => void = () => {};
  const signalled = new Promise<void>((resolve) => {
    drain = resolve;
  });
  // One that no session caught leaves nobody to trust: sessions may end, nobody is admitted, and the process ends with the error.
  const failed = new Promise<never>((_, reject) => {
    fail = (error) => {
      survive(error);
      reject(error);
    };
  });
  failed.catch(() => undefined);
  let told = false;
  const onSignal = (): void => {
    if (told) process.exit(1);
    told = true;
    drain();
  };
  for (const signal of signals) process.on(signal, onSignal);
  process.on('uncaughtException', fail);
  try {
    await Promise.race([signalled, failed]);
  } finally {
    await service.drain(drainSeconds * 1000);
    process.off('uncaughtException', fail);
    for (const signal of signals) process.off(signal, onSignal);
    process.off('unhandledRejection', survive);
  }
}
