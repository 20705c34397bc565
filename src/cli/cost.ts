import { stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Command, Option } from 'commander';
import { z } from 'zod';
import { type MachineProfile, parseMachine, type Setting } from '../backends/cost/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { type Files, loadShape, type ModelShape, type Plan, type PlannedModel, parsePlan } from '../models/index.ts';
import { readJson } from '../models/json.ts';
import { type Network, networks, parseNetwork } from '../net/shaped.ts';
import { folderFiles } from '../node/files.ts';
import {
  forecastModel,
  forecastShape,
  networkSeconds,
  type RunForecast,
  type RunLength,
  type Timing,
} from '../package/forecast.ts';
import { measureMachine } from '../package/machine.ts';
import { openModel } from '../package/model.ts';
import { openFor } from './measured.ts';
import {
  fractionOption,
  jsonOption,
  type RingFlags,
  rangeFlagsOptions,
  revealOption,
  ringOf,
  ringOption,
  settingOption,
  whole,
} from './options.ts';
import { progress } from './progress.ts';
import { modelFolder } from './shipped.ts';
import { megabytes, seconds, table } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface CostFlags extends RingFlags {
  readonly rangeFlags: boolean;
  readonly model?: string;
  readonly shape?: string;
  readonly plan?: string;
  readonly promptTokens?: number;
  readonly newTokens: number;
  readonly padded?: true;
  readonly reveal: 'logits' | 'token';
  readonly setting: Setting;
  readonly network?: string;
  readonly machine?: string;
  readonly measureMachine?: string;
  readonly json?: true;
}

const help = `
A shape is a file of dimensions; bert-base, vit-base, gpt2 and llama2-7b come with the package. A plan is full-p2, full-p4,
full-p8, full-p16, another name of \`sotto convert\` or a file; a model brings its own. Bytes are those of frames, headers included; handshakes are not.
With a network, seconds are forecast: the parties' programs are walked through with the network's latency and bandwidth, the same in
both directions, and a machine's measured speeds, a core for every party. Networks: ${networks.map(({ name }) => name).join(', ')};
BANDWIDTH:ROUNDTRIP such as 100mbit:40ms; or a JSON file such as
  { "name": "home", "bitsPerSecond": 1e8, "roundTripSeconds": 0.03 }
The machine is the one that the package was measured on; --measure-machine measures yours, in about half a minute.

Examples:
  $ sotto cost --shape bert-base --plan full-p8 --prompt-tokens 128 --network wan
  $ sotto cost --model stories-polynomial --prompt-tokens 16 --new-tokens 32
  $ sotto cost --measure-machine mine.json
  $ sotto cost --shape gpt2 --prompt-tokens 128 --network 100mbit:40ms --machine mine.json
  $ sotto cost --shape ./my-shape.json --plan full-p2 --prompt-tokens 64 --json
`;

export function registerCost(program: Command, terminal: Terminal): void {
  program
    .command('cost')
    .summary('forecast bytes, hops and seconds of a private run')
    .description('Forecasts what a private run sends, from the program alone: no weight is read, nothing is run.')
    .addOption(new Option('--model <folder>', 'a checkpoint').argParser(modelFolder(terminal)).conflicts('shape'))
    .option('--shape <name>', 'dimensions without weights: a name or a file')
    .option('--plan <name>', "replacements: a name or a file (default: the model's own; full-p2 for shapes)")
    .addOption(new Option('--prompt-tokens <n>', 'tokens of the prompt').argParser(whole(1, 1_000_000)))
    .addOption(new Option('--new-tokens <n>', 'tokens to write').argParser(whole(1, 1_000_000)).default(1))
    .option('--padded', 'a text of secret length stands in the prompt tokens, which costs masks')
    .addOption(revealOption())
    .addOption(settingOption())
    .addOption(ringOption())
    .addOption(fractionOption())
    .addOption(rangeFlagsOptions()[0]!)
    .addOption(rangeFlagsOptions()[1]!)
    .option('--network <name>', 'a name, BANDWIDTH:ROUNDTRIP or a file: adds seconds')
    .option('--machine <file>', 'a measured machine (default: the one that sotto was measured on)')
    .option('--measure-machine <file>', 'time the engine on this machine and write what was measured')
    .addOption(jsonOption())
    .addHelpText('after', help)
    .action((flags: CostFlags) => cost(flags, terminal));
}

async function cost(flags: CostFlags, terminal: Terminal): Promise<void> {
  if (flags.measureMachine !== undefined) {
    await measure(flags.measureMachine, terminal);
    if (flags.model === undefined && flags.shape === undefined) return;
  }
  const { promptTokens, setting } = flags;
  if (promptTokens === undefined)
    throw new SottoError('usage', 'the number of tokens was not given', {
      place: { field: '--prompt-tokens' },
      remedy: 'say how long the prompt is',
    });
  const padded = flags.padded === true ? { padded: true } : {};
  const run: RunLength = { promptTokens, newTokens: flags.newTokens, reveal: flags.reveal, ...padded };
  const network = flags.network === undefined ? undefined : await networkOf(flags.network);
  const timing = network === undefined ? undefined : { network, machine: await machineOf(flags, terminal) };
  const bar = progress(terminal, false);
  bar.show('tracing the program');
  const { subject, plan, ring, forecast } = await forecastOf(flags, terminal, run, timing).finally(() => bar.end());
  if (flags.json) {
    const { seconds: expected, ...bytes } = forecast;
    const timed =
      timing === undefined
        ? {}
        : {
            network,
            machine: timing.machine.name,
            seconds: { ...expected, firstRun: timing.machine.firstRun },
            networkSeconds: networkSeconds(forecast.total, timing.network),
          };
    printJson(terminal, { subject, plan, setting, ring, ...run, ...bytes, ...timed });
    return;
  }
  const length = run.newTokens > 1 ? `${run.promptTokens} + ${run.newTokens} tokens` : `${run.promptTokens} tokens`;
  terminal.out(
    `${subject}, plan ${plan}, ${length}, ring ${ring.bits} with ${ring.fraction} fraction bits, setting ${setting}\n\n`,
  );
  terminal.out(costTable(forecast));
  if (timing !== undefined) terminal.out(secondsText(forecast, timing));
}

async function measure(file: string, terminal: Terminal): Promise<void> {
  const bar = progress(terminal, false);
  const machine = await measureMachine((step) => bar.show(`measuring ${step}`)).finally(() => bar.end());
  await writeFile(file, `${JSON.stringify(machine, null, 2)}\n`);
  terminal.error(`sotto cost: measured ${machine.name}, written to ${file}\n`);
}

async function machineOf({ machine }: CostFlags, terminal: Terminal): Promise<MachineProfile> {
  const path = machine ?? join(terminal.packageFolder, 'artefacts', 'machine.json');
  return parseMachine(await readJson(folderFiles(dirname(path)), basename(path), 2 ** 20), path);
}

function secondsText({ seconds: expected }: RunForecast, { network, machine }: Timing): string {
  if (expected === undefined) return '';
  const { setup, offline, online } = expected;
  const name = /^[\d.]+[kmg]bit:/i.test(network.name) ? '' : `${network.name}: `;
  return (
    `\nOn ${name}${network.bitsPerSecond / 1e6} Mbit/s, ${network.roundTripSeconds * 1e3} ms round trip, and ${machine.name}:\n` +
    `  setup ${seconds(setup)} (once a model), offline ${seconds(offline)}, online ${seconds(online.seconds)}\n` +
    `  online: the network ${seconds(online.networkSeconds)}, the client computes ${seconds(online.clientComputeSeconds)}, the server ` +
    `${seconds(online.serverComputeSeconds)}; a process's first run takes about ${seconds(machine.firstRun.onlineSeconds)} more\n`
  );
}

async function forecastOf(
  flags: CostFlags,
  terminal: Terminal,
  run: RunLength,
  timing: Timing | undefined,
): Promise<{ subject: string; plan: string; ring: RingParameters; forecast: RunForecast }> {
  const options = {
    run,
    setting: flags.setting,
    rangeFlags: flags.rangeFlags,
    ...(timing === undefined ? {} : { timing }),
  };
  if (flags.model !== undefined) {
    // Another plan is a forecast of a model that does not exist yet: nothing of it can be measured.
    const measured =
      flags.plan === undefined ? await openFor({ ...flags, model: flags.model, backend: 'fixed' }, terminal) : undefined;
    const model = measured ?? (await openModel(flags.model));
    const plan = flags.plan === undefined ? model.plan : await planFrom(flags.plan, model.config);
    const ring = ringOf(flags, plan);
    return {
      subject: flags.model,
      plan: plan.name ?? 'unnamed',
      ring,
      forecast: forecastModel(model, { ...options, ring, plan }),
    };
  }
  if (flags.shape === undefined)
    throw new SottoError('usage', 'neither --model nor --shape was given', { remedy: 'name what the forecast is for' });
  const shape: ModelShape = /[/\\]|\.json$/.test(flags.shape)
    ? await loadShape(folderFiles(dirname(flags.shape)), basename(flags.shape).replace(/\.json$/, ''))
    : await shippedShape(folderFiles(join(terminal.packageFolder, 'shapes')), flags.shape);
  const plan = await planFrom(flags.plan ?? 'full-p2', shape);
  const ring = ringOf(flags, plan);
  return { subject: shape.name, plan: plan.name ?? 'unnamed', ring, forecast: forecastShape(shape, { ...options, ring, plan }) };
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
  const known = parseNetwork(text);
  if (known !== undefined) return known;
  const result = networkSchema.safeParse(await readJson(folderFiles(dirname(text)), basename(text), 2 ** 16));
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new SottoError('input', issue.message, {
    place: { file: text, field: issue.path.join('.') || '(whole)' },
    remedy: `give a name, bitsPerSecond and roundTripSeconds; or use ${networks.map(({ name }) => name).join(', ')}`,
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
