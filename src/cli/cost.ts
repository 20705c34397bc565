import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Command, Option } from 'commander';
import { z } from 'zod';
import type { Setting } from '../backends/cost/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { type Files, loadShape, type ModelShape, type Plan, type PlannedModel, parsePlan } from '../models/index.ts';
import { readJson } from '../models/json.ts';
import { lan, type Network, wan } from '../net/shaped.ts';
import { folderFiles } from '../node/files.ts';
import { forecastModel, forecastShape, networkSeconds, type RunForecast, type RunLength } from '../package/forecast.ts';
import { openModel } from '../package/model.ts';
import { fractionOption, jsonOption, type RingFlags, ringOf, ringOption, settingOption, whole } from './options.ts';
import { progress } from './progress.ts';
import { megabytes, seconds, table } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface CostFlags extends RingFlags {
  readonly model?: string;
  readonly shape?: string;
  readonly plan?: string;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly setting: Setting;
  readonly network?: string;
  readonly json?: true;
}

const help = `
A shape is a file of dimensions; bert-base, vit-base, gpt2 and llama2-7b come with the package. A plan is full-p2, full-p4,
full-p8, full-p16 or a file; a model brings its own. Bytes are those of frames, headers included; handshakes are not.
Seconds are bytes over the bandwidth plus half a round trip for every hop: what the parties compute comes on top.

A network is lan (16 Gbit/s, 0.1 ms round trip), wan (400 Mbit/s, 20 ms) or a JSON file such as
  { "name": "home", "bitsPerSecond": 1e8, "roundTripSeconds": 0.03 }

Examples:
  $ sotto cost --shape bert-base --plan full-p8 --prompt-tokens 128 --network wan
  $ sotto cost --model converted --prompt-tokens 16 --new-tokens 32
  $ sotto cost --shape ./my-shape.json --plan full-p2 --prompt-tokens 64 --json
`;

export function registerCost(program: Command, terminal: Terminal): void {
  program
    .command('cost')
    .summary('forecast bytes, hops and seconds of a private run')
    .description('Forecasts what a private run sends, from the program alone: no weight is read, nothing is run.')
    .addOption(new Option('--model <folder>', 'a checkpoint').conflicts('shape'))
    .option('--shape <name>', 'dimensions without weights: a name or a file')
    .option('--plan <name>', "replacements: a name or a file (default: the model's own; full-p2 for shapes)")
    .requiredOption('--prompt-tokens <n>', 'tokens of the prompt', whole(1, 1_000_000))
    .addOption(new Option('--new-tokens <n>', 'tokens to write').argParser(whole(1, 1_000_000)).default(1))
    .addOption(settingOption())
    .addOption(ringOption())
    .addOption(fractionOption())
    .option('--network <name>', 'lan, wan or a file: adds seconds')
    .addOption(jsonOption())
    .addHelpText('after', help)
    .action((flags: CostFlags) => cost(flags, terminal));
}

async function cost(flags: CostFlags, terminal: Terminal): Promise<void> {
  const ring = ringOf(flags);
  const run: RunLength = { promptTokens: flags.promptTokens, newTokens: flags.newTokens };
  const bar = progress(terminal, false);
  bar.show('tracing the program');
  const { subject, plan, forecast } = await forecastOf(flags, terminal, ring, run).finally(() => bar.end());
  const network = flags.network === undefined ? undefined : await networkOf(flags.network);
  const expected = network === undefined ? undefined : networkSeconds(forecast.total, network);
  const { setting } = flags;
  if (flags.json) {
    const timing = network === undefined ? {} : { network, seconds: { ...expected, computing: 'excluded' } };
    printJson(terminal, { subject, plan, setting, ring, ...run, ...forecast, ...timing });
    return;
  }
  const length = run.newTokens > 1 ? `${run.promptTokens} + ${run.newTokens} tokens` : `${run.promptTokens} tokens`;
  terminal.out(
    `${subject}, plan ${plan}, ${length}, ring ${ring.bits} with ${ring.fraction} fraction bits, setting ${setting}\n\n`,
  );
  terminal.out(costTable(forecast));
  if (network === undefined || expected === undefined) return;
  terminal.out(
    `\nOn ${network.name} (${network.bitsPerSecond / 1e6} Mbit/s, ${network.roundTripSeconds * 1e3} ms round trip), computing excluded:\n` +
      `  setup ${seconds(expected.setup)} (once a model), offline ${seconds(expected.offline)}, online ${seconds(expected.online)}\n`,
  );
}

async function forecastOf(
  flags: CostFlags,
  terminal: Terminal,
  ring: RingParameters,
  run: RunLength,
): Promise<{ subject: string; plan: string; forecast: RunForecast }> {
  const { setting } = flags;
  if (flags.model !== undefined) {
    const model = await openModel(flags.model);
    const plan = flags.plan === undefined ? model.plan : await planFrom(flags.plan, model.config);
    return { subject: flags.model, plan: plan.name ?? 'unnamed', forecast: forecastModel(model, { ring, run, plan, setting }) };
  }
  if (flags.shape === undefined)
    throw new SottoError('usage', 'neither --model nor --shape was given', { remedy: 'name what the forecast is for' });
  const shape: ModelShape = /[/\\]|\.json$/.test(flags.shape)
    ? await loadShape(folderFiles(dirname(flags.shape)), basename(flags.shape).replace(/\.json$/, ''))
    : await shippedShape(folderFiles(join(terminal.packageFolder, 'shapes')), flags.shape);
  const plan = await planFrom(flags.plan ?? 'full-p2', shape);
  return { subject: shape.name, plan: plan.name ?? 'unnamed', forecast: forecastShape(shape, { ring, run, plan, setting }) };
}

const shippedShapes = ['bert-base', 'vit-base', 'gpt2', 'llama2-7b'];

async function shippedShape(files: Files, name: string): Promise<ModelShape> {
  if (await files.exists(`${name}.json`)) return await loadShape(files, name);
  throw new SottoError('usage', `there is no shape ${JSON.stringify(name.slice(0, 80))}`, {
    place: { field: '--shape' },
    remedy: `name ${shippedShapes.join(', ')} or a JSON file`,
  });
}

/** A plan by its name, or from a JSON file. */
export async function planFrom(text: string, model: PlannedModel): Promise<Plan> {
  const isFile = /[/\\]|\.json$/.test(text) || (await stat(text).catch(() => undefined))?.isFile() === true;
  if (!isFile) return parsePlan(text, model, '--plan');
  return parsePlan(await readJson(folderFiles(dirname(text)), basename(text), 2 ** 24), model, text);
}

const networkSchema = z.strictObject({
  name: z.string().min(1).max(80),
  bitsPerSecond: z.number().gt(0).max(1e15),
  roundTripSeconds: z.number().min(0).max(1e4),
});

async function networkOf(text: string): Promise<Network> {
  if (text === 'lan') return lan;
  if (text === 'wan') return wan;
  const result = networkSchema.safeParse(await readJson(folderFiles(dirname(text)), basename(text), 2 ** 16));
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new SottoError('input', issue.message, {
    place: { file: text, field: issue.path.join('.') || '(whole)' },
    remedy: 'give a name, bitsPerSecond and roundTripSeconds; or use lan or wan',
    cause: result.error,
  });
}

function costTable({ perLayer, total }: RunForecast): string {
  const row = (name: string, { setup, offline, online }: Omit<RunForecast['perLayer'][number], 'scope'>): string[] => [
    name,
    megabytes(setup.clientSentBytes + setup.serverSentBytes + setup.dealerSentBytes),
    megabytes(offline.dealerSentBytes),
    megabytes(offline.clientSentBytes),
    megabytes(online.clientToServerBytes),
    megabytes(online.serverToClientBytes),
    String(online.hops),
  ];
  const header = ['MB', 'setup', 'dealer offline', 'client offline', 'to server', 'to client', 'hops'];
  const rows = perLayer.map(({ scope, ...costs }) => row(scope, costs));
  return table(header, [...rows, row('total', total)], [rows.length]);
}
