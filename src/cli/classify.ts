import type { Command } from 'commander';
import type { Setting } from '../backends/cost/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { type Classification, classOf } from '../jobs/index.ts';
import { checkRanges } from '../models/ranges.ts';
import { classifyTexts, classifyTextsFixed, encoder } from '../package/encoders.ts';
import type { LoadedModel } from '../package/model.ts';
import { classifier, classifyPixels, pixelsOf } from '../package/pictures.ts';
import type { ClearBackend } from '../package/text.ts';
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
import { givenTexts, type TextFlags, textOptions } from './prompt.ts';
import { privateFields, runTable } from './run.ts';
import { modelFolder } from './shipped.ts';
import { seconds, table } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface ClassifyFlags extends RingFlags, TextFlags {
  readonly rangeFlags: boolean;
  readonly model: string;
  readonly image?: string;
  readonly backend: BackendName;
  readonly setting: Setting;
  readonly transport: 'unix' | 'tcp';
  readonly timeout: number;
  readonly json?: true;
  readonly progress?: true;
}

const help = `
The picture is resized and normalised as the model's preprocessor_config.json says; a text, or a pair of texts, is encoded by the model's
tokenizer. With --backend mpc the client's process alone reads it.

Examples:
  $ sotto classify --model vit --image cat.png
  $ sotto classify --model vit-p4 --image cat.png --backend mpc --json
  $ sotto classify --model bert-sst2 --text "An old man's last voyage, told well."
  $ sotto classify --model bert-sst2 --text-file review.txt --backend mpc --ring 32
`;

export function registerClassify(program: Command, terminal: Terminal): void {
  program
    .command('classify')
    .summary('name a picture or classify a text, in the clear or privately')
    .description('Names a picture with a vision transformer, or classifies a text with a BERT, in the clear or privately.')
    .requiredOption('--model <folder>', 'a checkpoint in the Hugging Face layout', modelFolder(terminal))
    .option('--image <file>', 'a JPEG, PNG, WebP, GIF or BMP picture')
    .addOption(textOptions('image')[0]!)
    .addOption(textOptions('image')[1]!)
    .addOption(textOptions('image')[2]!)
    .addOption(textOptions('image')[3]!)
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
    .action((flags: ClassifyFlags, command: Command) => {
      const texts = givenTexts(flags);
      if (texts !== undefined) return classify(flags, texts, terminal);
      if (flags.image === undefined)
        command.error("error: required option '--image <file>', '--text <text>' or '--text-file <file>' not specified", {
          exitCode: 2,
        });
      return classify(flags, { image: flags.image! }, terminal);
    });
}

type Given = { readonly image: string } | NonNullable<ReturnType<typeof givenTexts>>;

async function classify(flags: ClassifyFlags, given: Given, terminal: Terminal): Promise<void> {
  const start = terminal.now();
  const bar = progress(terminal, flags.progress === true);
  bar.show(`${flags.backend}: running`);
  const { found, labels, run, ring } = await classifyBy(flags, given, terminal).finally(() => bar.end());
  const elapsed = (terminal.now() - start) / 1000;
  const { id, label, logits } = found;
  if (flags.json) {
    const { backend, setting } = flags;
    const measured = run === undefined ? {} : { setting, ring, ...privateFields(run) };
    printJson(terminal, { id, label, logits: [...logits], seconds: elapsed, backend, ...measured });
    return;
  }
  const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!).slice(0, 5);
  terminal.out(
    table(
      ['class', 'number', 'logit'],
      order.map((at) => [labels[at]!, String(at), logits[at]!.toFixed(4)]),
    ),
  );
  if (run !== undefined) terminal.error(`\n${runTable(run)}`);
  terminal.error(`${seconds(elapsed)} (${flags.backend})\n`);
}

interface Found {
  readonly found: Classification;
  readonly labels: readonly string[];
  readonly ring: RingParameters;
  readonly run?: LaunchResult;
}

async function classifyBy(flags: ClassifyFlags, given: Given, terminal: Terminal): Promise<Found> {
  const model = await openFor(flags, terminal);
  const { labels } = 'image' in given ? classifier(model) : encoder(model);
  const ring = ringOf(flags, model.plan);
  const { backend } = flags;
  if (backend === 'fixed' || backend === 'mpc') checkRanges(model.plan, ring, model.checkpoint.files.name);
  if (backend !== 'mpc') return { found: await clearly(model, backend, given, ring), labels, ring };
  const run = await launchLocal({
    model: flags.model,
    task: { kind: 'classify', ...given },
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
  return { found: classOf(labels, logits), labels, ring, run };
}

async function clearly(model: LoadedModel, backend: ClearBackend, given: Given, ring: RingParameters): Promise<Classification> {
  if ('image' in given) return await classifyPixels(model, backend, await pixelsOf(model, given.image), ring);
  const text = [given.text, given.pair] as const;
  const [found] =
    backend === 'fixed' ? await classifyTextsFixed(model, [text], ring) : await classifyTexts(model, [text], { backend });
  return found!;
}
