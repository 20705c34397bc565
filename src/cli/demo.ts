import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { printable, printableJson } from '../errors/index.ts';
import { writesText } from '../models/families/index.ts';
import type { Files } from '../models/index.ts';
import { folderFiles } from '../node/files.ts';
import { loadModel, type Model } from '../package/index.ts';
import { type LaunchResult, launchLocal } from '../party/index.ts';
import { browserDemo } from './browser-demo.ts';
import { jsonOption, timeoutOption, transportOption, whole } from './options.ts';
import { progress } from './progress.ts';
import { contextNotice } from './prompt.ts';
import { measuredCosts, privateFields, runTable } from './run.ts';
import { modelFolder } from './shipped.ts';
import { bytes, seconds } from './table.ts';
import { painter, printJson, type Terminal } from './terminal.ts';

interface DemoFlags {
  readonly model?: string;
  readonly teacher?: string;
  readonly prompt: string;
  readonly maxNewTokens: number;
  readonly transport: 'unix' | 'tcp';
  readonly timeout: number;
  readonly browser?: true;
  readonly port: number;
  readonly json?: true;
}

const ring = { bits: 64, fraction: 16 };
const help = `
Examples:
  $ sotto demo
  $ sotto demo --prompt "Once upon a time" --max-new-tokens 80 --transport tcp
  $ sotto demo --browser
`;

export function registerDemo(program: Command, terminal: Terminal): void {
  program
    .command('demo')
    .summary('a private text between three processes, beside the same text in the clear')
    .description(
      'The shipped polynomial Llama continues a prompt privately between three processes; then the same in the clear, ' +
        'what each scope cost, and what each party saw.',
    )
    .option('--model <folder>', 'another polynomial checkpoint', modelFolder(terminal))
    .option('--teacher <folder>', 'the checkpoint that it was converted from', modelFolder(terminal))
    .option('--prompt <text>', 'the text to continue', 'One day, a dog named Max')
    .addOption(new Option('--max-new-tokens <n>', 'tokens to write').argParser(whole(1, 10_000)).default(48))
    .addOption(transportOption())
    .addOption(timeoutOption())
    .addOption(new Option('--browser', 'serve a page that is the client, until Ctrl-C').conflicts('json'))
    .addOption(new Option('--port <n>', 'where the page is').argParser(whole(0, 65_535)).default(8080))
    .addOption(jsonOption())
    .addHelpText('after', help)
    .action((flags: DemoFlags) => demo(flags, terminal));
}

interface Clear {
  readonly name: string;
  readonly text: string;
  readonly ids: readonly number[];
  readonly seconds: number;
}

async function demo(flags: DemoFlags, terminal: Terminal): Promise<void> {
  const artefact = (name: string): string => join(terminal.packageFolder, 'artefacts', name);
  const folder = flags.model ?? artefact('stories-polynomial');
  if (flags.browser) return await browserDemo({ model: folder, port: flags.port }, terminal);
  const model = await loadModel(folder);
  const newTokens = Math.min(flags.maxNewTokens, roomFor(model));
  if (newTokens < flags.maxNewTokens) terminal.error(contextNotice(flags.maxNewTokens, newTokens));
  const talk = !flags.json;
  const paint = painter(terminal);
  const say = (text: string): void => {
    if (talk) terminal.styled(text);
  };
  say(introduction(flags, model, paint));
  const bar = progress(terminal, false);
  bar.show('  setup and offline phase');
  let prompted = false;
  const write = wrapper(terminal, say, (piece) => (prompted ? paint('green', piece) : printable(piece)));
  const run = await launchLocal({
    model: folder,
    task: { kind: 'generate', prompt: { text: flags.prompt }, newTokens },
    ring,
    transport: flags.transport,
    timeoutMilliseconds: flags.timeout * 1000,
    onText: (piece) => {
      bar.end();
      write(piece);
      // The prompt comes first, whole.
      prompted = true;
    },
  }).finally(() => bar.end());
  say('\n\n');
  const texts: Clear[] = [
    await inTheClear('the same model in the clear', folderFiles(folder), flags.prompt, newTokens, terminal),
  ];
  const teacher = flags.teacher ?? (flags.model === undefined ? artefact('stories-teacher') : undefined);
  if (teacher !== undefined)
    texts.push(await inTheClear('the model it was made from', folderFiles(teacher), flags.prompt, newTokens, terminal));
  if (flags.json) {
    const { client } = run;
    const clear = texts.map(({ name, text, ids, seconds: took }) => ({ name, text, ids: [...ids], seconds: took }));
    printJson(terminal, { ids: [...client.promptIds, ...client.newIds], text: run.text, ring, ...privateFields(run), clear });
    return;
  }
  const { client } = run;
  const online = client.seconds.online;
  const ids = [...client.promptIds, ...client.newIds];
  say(
    paint(
      'dim',
      `  ${client.newIds.length} tokens in ${seconds(online)} online, ${seconds(online / client.newIds.length)} a token\n`,
    ),
  );
  for (const { name, text, ids: theirs, seconds: took } of texts) {
    const same = name === texts[0]!.name ? (sameIds(ids, theirs) ? ', the same tokens' : ', other tokens') : '';
    say(`\n${paint('bold', name)} ${paint('dim', `(ONNX Runtime, ${seconds(took)}${same})`)}\n`);
    wrapper(terminal, say, printable)(text);
    say('\n');
  }
  say(`\n${paint('bold', 'what it cost')}\n${runTable(run)}`);
  say(forecastLine(run));
  say(`\n${paint('bold', 'what each party saw')}\n${views(run, terminal)}`);
}

const sameIds = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((id, at) => id === b[at]);

function roomFor({ config }: Model): number {
  return writesText(config) ? config.maxPositionEmbeddings : 1;
}

function introduction({ transport, prompt }: DemoFlags, model: Model, paint: ReturnType<typeof painter>): string {
  const { config, plan } = model;
  const size = writesText(config) ? `${config.numHiddenLayers} layers, width ${config.hiddenSize}` : '';
  const socket = transport === 'unix' ? 'Unix sockets' : 'TCP';
  return [
    `${paint('bold', 'sotto')} continues ${printableJson(prompt)} between three processes on ${socket}:`,
    `  ${paint('cyan', 'client')}  has the prompt, learns the text`,
    `  ${paint('magenta', 'server')}  has the weights (a Llama of ${size}, plan ${printable(plan.name ?? 'unnamed')}), learns only lengths`,
    `  ${paint('yellow', 'dealer')}  has neither; hands out correlated randomness and leaves before the run`,
    '',
    `${paint('bold', 'privately')} ${paint('dim', `(secret shares modulo 2^${ring.bits}, setup first)`)}`,
    '',
  ].join('\n');
}

async function inTheClear(name: string, files: Files, prompt: string, newTokens: number, terminal: Terminal): Promise<Clear> {
  const start = terminal.now();
  const { text, ids } = await (await loadModel(files)).generate(prompt, { newTokens });
  return { name, text, ids, seconds: (terminal.now() - start) / 1000 };
}

/** Writes a text that comes in pieces, indented by two, with line breaks where a piece begins with a space. */
function wrapper(terminal: Terminal, say: (text: string) => void, dress: (text: string) => string): (piece: string) => void {
  const width = Math.min(terminal.columns, 100) - 4;
  // Room for what is left of a word whose pieces are still to come.
  const slack = 6;
  let column = 0;
  let begun = false;
  return (piece) => {
    if (!begun) say('  ');
    begun = true;
    for (const part of piece.split(/(?=\s)/)) {
      if (part.startsWith('\n') || (/^\s/.test(part) && column + part.length > width - slack)) {
        say('\n  ');
        column = 0;
      }
      const shown = column === 0 ? part.trimStart() : part;
      if (shown !== '') say(dress(shown));
      column += shown.length;
    }
  };
}

function forecastLine(run: LaunchResult): string {
  const measured = measuredCosts(run);
  const { forecast } = run.client;
  const equal = JSON.stringify(measured) === JSON.stringify(forecast);
  const { clientToServerBytes, serverToClientBytes, hops } = forecast.online;
  const said = `${bytes(clientToServerBytes)} to the server, ${bytes(serverToClientBytes)} to the client, ${hops} hops`;
  if (equal) return `forecast from the program alone: ${said}: equal to the byte in every phase\n`;
  return `forecast for the whole length: ${said}${run.client.stopped === 'eos' ? '; the text ended earlier' : ''}\n`;
}

function views({ client, server, dealer, text }: LaunchResult, terminal: Terminal): string {
  const paint = painter(terminal);
  const words = (hex: string): string => (hex.match(/.{1,16}/g) ?? []).join(' ');
  const quoted = printableJson(text.length > 60 ? `${text.slice(0, 57)}…` : text);
  const line = (role: string, style: 'cyan' | 'magenta' | 'yellow', processId: number, lines: readonly string[]): string =>
    `  ${paint(style, role)} ${paint('dim', `(process ${processId})`)}\n${lines.map((it) => `    ${it}\n`).join('')}`;
  return [
    line('client', 'cyan', client.processId, [`its own text: ${quoted}`, `from the server: ${words(client.saw)} … masked words`]),
    line('server', 'magenta', server.processId, [
      `${client.promptIds.length} prompt tokens, ${client.newIds.length} written: lengths alone`,
      `from the client: ${words(server.saw)} … the one-hot prompt, masked`,
    ]),
    line('dealer', 'yellow', dealer.processId, [
      dealer.saw === '' ? 'masked weights and the run’s shape; no message of the run' : `ERROR: it received ${words(dealer.saw)}`,
    ]),
  ].join('');
}
