import type { Command } from 'commander';
import type { Setting } from '../backends/cost/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Classification } from '../models/index.ts';
import { checkRanges } from '../models/ranges.ts';
import { openModel } from '../package/model.ts';
import { classifier, classifyPixels, named } from '../package/pictures.ts';
import { type LaunchResult, launchLocal } from '../party/index.ts';
import { openFor } from './measured.ts';
import {
  type BackendName,
  backendOption,
  fractionOption,
  jsonOption,
  progressOption,
  type RingFlags,
  rangeFlagsOptions,
  ringOf,
  ringOption,
  settingOption,
  timeoutOption,
  transportOption,
} from './options.ts';
import { progress } from './progress.ts';
import { privateFields, runTable } from './run.ts';
import { modelFolder } from './shipped.ts';
import { seconds, table } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface ClassifyFlags extends RingFlags {
  readonly rangeFlags: boolean;
  readonly model: string;
  readonly image: string;
  readonly backend: BackendName;
  readonly setting: Setting;
  readonly transport: 'unix' | 'tcp';
  readonly timeout: number;
  readonly json?: true;
  readonly progress?: true;
}

const help = `
The picture is resized and normalised as the model's preprocessor_config.json says. With --backend mpc the client's process
alone reads it.

Examples:
  $ sotto classify --model vit --image cat.png
  $ sotto classify --model vit-p4 --image cat.png --backend mpc --json
`;

export function registerClassify(program: Command, terminal: Terminal): void {
  program
    .command('classify')
    .summary('name a picture, in the clear or privately')
    .description('Names a picture with a vision transformer, in the clear or privately.')
    .requiredOption('--model <folder>', 'a checkpoint in the Hugging Face layout', modelFolder(terminal))
    .requiredOption('--image <file>', 'a JPEG, PNG, WebP, GIF or BMP picture')
    .addOption(backendOption())
    .addOption(settingOption())
    .addOption(ringOption())
    .addOption(fractionOption())
    .addOption(rangeFlagsOptions()[0]!)
    .addOption(rangeFlagsOptions()[1]!)
    .addOption(transportOption())
    .addOption(timeoutOption())
    .addOption(jsonOption())
    .addOption(progressOption())
    .addHelpText('after', help)
    .action((flags: ClassifyFlags) => classify(flags, terminal));
}

async function classify(flags: ClassifyFlags, terminal: Terminal): Promise<void> {
  const start = terminal.now();
  const bar = progress(terminal, flags.progress === true);
  bar.show(`${flags.backend}: running`);
  const { found, run, ring } = await classifyBy(flags, terminal).finally(() => bar.end());
  const elapsed = (terminal.now() - start) / 1000;
  const { id, label, logits } = found;
  if (flags.json) {
    const { backend, setting } = flags;
    const measured = run === undefined ? {} : { setting, ring, ...privateFields(run) };
    printJson(terminal, { id, label, logits: [...logits], seconds: elapsed, backend, ...measured });
    return;
  }
  const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!).slice(0, 5);
  const labels = (await openModel(flags.model).then(classifier)).labels;
  terminal.out(
    table(
      ['class', 'number', 'logit'],
      order.map((at) => [labels[at]!, String(at), logits[at]!.toFixed(4)]),
    ),
  );
  if (run !== undefined) terminal.error(`\n${runTable(run)}`);
  terminal.error(`${seconds(elapsed)} (${flags.backend})\n`);
}

async function classifyBy(
  flags: ClassifyFlags,
  terminal: Terminal,
): Promise<{ found: Classification; ring: RingParameters; run?: LaunchResult }> {
  const model = await openFor(flags, terminal);
  const config = classifier(model);
  const ring = ringOf(flags, model.plan);
  const { backend } = flags;
  if (backend === 'fixed' || backend === 'mpc') {
    checkRanges(model.plan, ring, model.checkpoint.files.name);
  }
  if (backend !== 'mpc') {
    const { values } = await model.pixels(flags.image);
    return { found: await classifyPixels(model, backend, values, ring), ring };
  }
  const run = await launchLocal({
    model: flags.model,
    task: { kind: 'classify', image: flags.image },
    ring,
    rangeFlags: flags.rangeFlags,
    setting: flags.setting,
    transport: flags.transport,
    timeoutMilliseconds: flags.timeout * 1000,
    // The class is what the user asked this process for.
    keepLogits: true,
  });
  const logits = run.logits[0];
  if (logits === undefined)
    throw new SottoError('peer', 'ended without logits', { place: { party: 'client' }, remedy: 'run it again' });
  return { found: named(config, logits), ring, run };
}
