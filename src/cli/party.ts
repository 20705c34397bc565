import { homedir } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { Setting } from '../backends/cost/index.ts';
import { sampler, streamingDecoder } from '../models/index.ts';
import { plainBeyondThisMachine, severalAddresses } from '../node/sockets.ts';
import {
  type ClientTask,
  embeddingFrom,
  parseManifestHash,
  plainWarning,
  type RoleReport,
  readImage,
  runClient,
  runDealer,
  runServer,
} from '../party/index.ts';
import { saying } from './measured.ts';
import {
  checkReveal,
  earlyStopOptions,
  fractionOption,
  jsonOption,
  linkTokenOption,
  number,
  originOption,
  type RingFlags,
  rangeFlagsOptions,
  ringOption,
  type SamplingFlags,
  samplingOf,
  seedOption,
  settingOption,
  type TlsFlags,
  temperatureOption,
  timeoutOption,
  tlsOf,
  tlsOptions,
  tokenIds,
  topPOption,
  wantedRing,
  whole,
} from './options.ts';
import {
  contextNotice,
  givenTexts,
  type PromptFlags,
  promptFileOption,
  promptOption,
  promptText,
  requirePrompt,
  type TextFlags,
  textOptions,
} from './prompt.ts';
import { modelFolder } from './shipped.ts';
import { bytes, seconds } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

const help = `
Each party is a process of its own and serves one run: start the dealer, then the server, then the client. The client also comes to
\`sotto serve\` and \`sotto dealer\`, which stand for many. Addresses are unix:/path/to/socket, tcp:host:port and tls:host:port; ws: and
wss:host:port/path for browsers. unix, tcp and ws are neither encrypted nor authenticated; tls and wss are TLS 1.3 with
certificates of one authority, each naming its party's role (\`sotto certificates\` makes a set to try it with). A client of a vision
transformer gives --image FILE in place of a prompt, one of a BERT --text TEXT.

Examples:
  $ sotto party dealer --listen tcp:127.0.0.1:7001
  $ sotto party server --listen tcp:127.0.0.1:7002 --dealer tcp:127.0.0.1:7001 --model stories-polynomial
  $ sotto party client --server tcp:127.0.0.1:7002 --dealer tcp:127.0.0.1:7001 --prompt "Once upon a time"
  $ sotto party dealer --listen tls:0.0.0.0:7001 --authority certificates/authority.pem \\
      --certificate certificates/dealer.pem --key certificates/dealer-key.pem
`;

type OptionOf = () => Option;

interface CommonFlags extends TlsFlags {
  readonly timeout: number;
  readonly json?: true;
}

export function registerParty(program: Command, terminal: Terminal): void {
  const party = program
    .command('party')
    .summary('be one party of a private run')
    .description('Runs one party as this process, for one private run.')
    .addHelpText('after', help);
  registerDealer(
    party,
    terminal,
    'dealer',
    'Makes correlated randomness before the run: sees neither prompt nor weights, and no message of it.',
  );
  registerDealer(
    party,
    terminal,
    'helper',
    'Makes it while the run goes on, and sees as little. Server and client then take --setting helper.',
  );
  registerServer(party, terminal);
  registerClient(party, terminal);
}

const listenOption = () => new Option('--listen <address>', 'where this party waits').makeOptionMandatory();
const dealerOption = () => new Option('--dealer <address>', 'where the dealer waits, or the helper').makeOptionMandatory();
const [authorityOption, certificateOption, keyOption] = [0, 1, 2].map((at) => () => tlsOptions()[at]!) as [
  OptionOf,
  OptionOf,
  OptionOf,
];
const stateOption = (role: string) =>
  new Option('--state <folder>', 'where bundles and claims are kept').default(
    join(homedir(), '.sotto', role),
    `~/.sotto/${role}`,
  );

const waitOption = () =>
  new Option(
    '--wait <seconds>',
    'how long a server may serve others first (default: 600, or twice --timeout where that is more)',
  ).argParser(number(0.1, 86_400));

function registerDealer(party: Command, terminal: Terminal, setting: Setting, description: string): void {
  party
    .command(setting)
    .description(description)
    .addOption(listenOption())
    .addOption(timeoutOption())
    .addOption(authorityOption())
    .addOption(certificateOption())
    .addOption(keyOption())
    .addOption(linkTokenOption())
    .addOption(originOption())
    .addOption(jsonOption())
    .action(async (flags: CommonFlags & { listen: string; linkToken?: string; origin?: string[] }) => {
      const { listen, linkToken, origin: origins } = flags;
      const options = { listen, setting, linkToken, origins, ...common(flags), onListening: announce(setting, terminal) };
      finish(await runDealer(options), flags, terminal);
    });
}

interface ServerFlags extends CommonFlags, RingFlags {
  readonly model: string;
  readonly listen: string;
  readonly dealer: string;
  readonly setting: Setting;
  readonly state: string;
  readonly linkToken?: string;
  readonly origin?: string[];
}

function registerServer(party: Command, terminal: Terminal): void {
  party
    .command('server')
    .description('Owns the weights: learns how long the prompt and the text are, and nothing of what they say.')
    .requiredOption('--model <folder>', 'a polynomial checkpoint', modelFolder(terminal))
    .addOption(listenOption())
    .addOption(dealerOption())
    .addOption(settingOption())
    .addOption(stateOption('server'))
    .addOption(ringOption())
    .addOption(fractionOption())
    .addOption(timeoutOption())
    .addOption(authorityOption())
    .addOption(certificateOption())
    .addOption(keyOption())
    .addOption(linkTokenOption())
    .addOption(originOption())
    .addOption(jsonOption())
    .action(async (flags: ServerFlags) => {
      const { model, listen, dealer, setting, state, linkToken, origin: origins } = flags;
      warnOfPlain('server', [dealer], terminal);
      const measuring = { ring: wantedRing(flags), say: saying(terminal) };
      const own = { model, listen, dealer, setting, state, linkToken, origins, measuring };
      finish(await runServer({ ...own, ...common(flags), onListening: announce('server', terminal) }), flags, terminal);
    });
}

interface ClientFlags extends CommonFlags, RingFlags, SamplingFlags, PromptFlags, TextFlags {
  readonly rangeFlags: boolean;
  readonly server: string;
  readonly dealer: string;
  readonly setting: Setting;
  readonly state: string;
  readonly image?: string;
  readonly maxNewTokens: number;
  readonly reveal: 'logits' | 'token';
  readonly earlyStop: boolean;
  readonly embedding?: string;
  readonly manifestHash?: string;
  readonly padding?: 'steps' | 'none';
  readonly wait?: number;
}

function registerClient(party: Command, terminal: Terminal): void {
  party
    .command('client')
    .description('Owns the prompt, the picture or the text and learns the answer. Needs no file of the model.')
    .requiredOption('--server <address>', 'where the server waits')
    .addOption(dealerOption())
    .addOption(settingOption())
    .addOption(stateOption('client'))
    .addOption(promptOption('image'))
    .addOption(promptFileOption('image'))
    .addOption(new Option('--prompt-ids <ids>', 'the same as token numbers').argParser(tokenIds).conflicts('image'))
    .addOption(new Option('--image <file>', 'the picture to name').conflicts(['text', 'textFile', 'pair', 'pairFile']))
    .addOption(textOptions(...prompts)[0]!)
    .addOption(textOptions(...prompts)[1]!)
    .addOption(textOptions(...prompts)[2]!)
    .addOption(textOptions(...prompts)[3]!)
    .addOption(new Option('--max-new-tokens <n>', 'tokens to write at most').argParser(whole(1, 1_000_000)).default(16))
    .addOption(
      new Option(
        '--reveal <what>',
        'of each step to this client: all logits, or the likeliest token alone (default: token, and logits where a temperature draws from them)',
      ).choices(['logits', 'token']),
    )
    .addOption(earlyStopOptions()[0]!)
    .addOption(earlyStopOptions()[1]!)
    .addOption(
      new Option(
        '--manifest-hash <sha256>',
        'of the tokenizer and configuration that the server must show; without it the first are remembered',
      ).argParser((text) => parseManifestHash(text, '--manifest-hash')),
    )
    .addOption(
      new Option(
        '--padding <policy>',
        "what shows of a text's length: steps of its bytes, or the number of its tokens (default: steps, none with --manifest-hash)",
      ).choices(['steps', 'none']),
    )
    .option('--embedding <file>', 'the table of a model whose embedding is public, as published with it')
    .addOption(temperatureOption())
    .addOption(topPOption())
    .addOption(seedOption())
    .addOption(ringOption())
    .addOption(fractionOption())
    .addOption(rangeFlagsOptions()[0]!)
    .addOption(rangeFlagsOptions()[1]!)
    .addOption(timeoutOption())
    .addOption(waitOption())
    .addOption(authorityOption())
    .addOption(certificateOption())
    .addOption(keyOption())
    .addOption(jsonOption())
    .action((flags: Omit<ClientFlags, 'reveal'> & Partial<ClientFlags>, command: Command) => {
      const texts = givenTexts(flags);
      if (flags.image === undefined && texts === undefined)
        requirePrompt(flags, command, "--image <file>', '--text <text>', '--text-file <file>");
      // What a server reveals unless it is told otherwise.
      const { reveal = flags.temperature > 0 ? 'logits' : 'token' } = flags;
      return client({ ...flags, reveal, prompt: promptText(flags) }, texts, terminal);
    });
}

const prompts = ['prompt', 'promptFile', 'promptIds'];

async function client(flags: ClientFlags, texts: ReturnType<typeof givenTexts>, terminal: Terminal): Promise<void> {
  const { server, dealer, setting, state } = flags;
  checkReveal(flags);
  warnOfPlain('client', [server, dealer], terminal);
  const text: string[] = [];
  const logits: Float64Array[] = [];
  const say = (piece: string): void => {
    text.push(piece);
    if (!flags.json) terminal.out(piece);
  };
  const { task, end } = await taskOf(flags, texts, say);
  const onLogits = task.kind === 'classify' ? { onLogits: (opened: Float64Array) => void logits.push(opened) } : {};
  const given = flags.manifestHash === undefined ? {} : { manifestHash: flags.manifestHash };
  const options = {
    server,
    dealer,
    setting,
    state,
    ring: { bits: flags.ring, fraction: flags.fraction },
    rangeFlags: flags.rangeFlags,
    waitMilliseconds: flags.wait === undefined ? undefined : 1000 * flags.wait,
    ...common(flags),
    ...given,
  };
  const report = await runClient({ ...options, task, ...onLogits });
  end();
  if (report.stopped === 'context') terminal.error(contextNotice(flags.maxNewTokens, report.newIds.length));
  if (flags.json)
    return printJson(terminal, {
      ...report,
      ids: [...report.promptIds, ...report.newIds],
      text: text.join(''),
      logits: logits.map((it) => [...it]),
    });
  const found = report.class === undefined ? '' : `${report.class.label}\n`;
  terminal.out(logits[0] === undefined ? '\n' : `${found}logits ${[...logits[0]].map((value) => value.toFixed(4)).join(' ')}\n`);
  finish(report, flags, terminal);
}

async function taskOf(
  flags: ClientFlags,
  texts: ReturnType<typeof givenTexts>,
  say: (piece: string) => void,
): Promise<{ task: ClientTask; end: () => void }> {
  const { image, padding } = flags;
  if (texts !== undefined) return { task: { kind: 'classify', ...texts, padding }, end: () => undefined };
  if (image !== undefined) return { task: { kind: 'classify', image: await readImage(image) }, end: () => undefined };
  let decoder: ReturnType<typeof streamingDecoder> | undefined;
  const task: ClientTask = {
    kind: 'generate',
    prompt: flags.promptIds === undefined ? { text: flags.prompt! } : { ids: flags.promptIds },
    newTokens: flags.maxNewTokens,
    reveal: flags.reveal,
    earlyStop: flags.earlyStop,
    padding,
    ...(flags.embedding === undefined ? {} : { embedding: embeddingFrom(flags.embedding) }),
    ...(flags.temperature > 0 ? { sample: sampler(samplingOf(flags)) } : {}),
    onPrompt: (ids, tokenizer) => {
      decoder = streamingDecoder(tokenizer);
      for (const id of ids) say(decoder.push(id));
    },
    onToken: (id) => say(decoder!.push(id)),
  };
  return { task, end: () => say(decoder?.end() ?? '') };
}

/** What every party is told: its patience, and its certificates where there are any. */
const common = (flags: CommonFlags) => ({ timeoutMilliseconds: flags.timeout * 1000, ...tlsOf(flags) });

const announce =
  (role: string, terminal: Terminal) =>
  (address: string): void => {
    terminal.error(`sotto ${role}: waiting on ${address}\n`);
    warnOfPlain(role, severalAddresses(address), terminal);
  };

function warnOfPlain(role: string, addresses: readonly string[], terminal: Terminal): void {
  for (const address of addresses)
    if (plainBeyondThisMachine(address)) terminal.error(`sotto ${role}: ${address} is ${plainWarning}\n`);
}

function finish(report: RoleReport, { json }: CommonFlags, terminal: Terminal): void {
  if (json) {
    printJson(terminal, report);
    return;
  }
  const { role, sentBytes, seconds: took } = report;
  const phases = (['setup', 'offline', 'online'] as const).map(
    (phase) => `${phase} ${bytes(sentBytes[phase])} in ${seconds(took[phase])}`,
  );
  terminal.error(`sotto ${role}: sent ${phases.join(', ')}\n`);
}
