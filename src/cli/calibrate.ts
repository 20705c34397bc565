import { type Command, Option } from 'commander';
import { SottoError } from '../errors/index.ts';
import { servedHash } from '../package/inspection.ts';
import { calibrationSamples, measuredModel } from '../package/measure.ts';
import { openModel } from '../package/model.ts';
import { documents, pictures } from './convert.ts';
import { saying } from './measured.ts';
import { fractionOption, jsonOption, type RingFlags, ringOption, wantedRing, whole } from './options.ts';
import { modelFolder } from './shipped.ts';
import { printJson, type Terminal } from './terminal.ts';

interface CalibrateFlags extends RingFlags {
  readonly model: string;
  readonly text?: string;
  readonly images?: string;
  readonly separator: string;
  readonly samples: number;
  readonly json?: true;
}

const help = `
A private run computes with integers of one size, so it must know how large a model's values get. A converted model knows; a published one is
measured once: on text of its own where it writes (any command that needs it does so by itself), on samples where it does not. What was found
is kept as sotto-calibration-….json beside the model, or under ~/.sotto/calibrations where its folder cannot be written; its name is a hash of
weights, configuration and ring, so that it is never used for another model.

Examples:
  $ sotto calibrate --model stories-teacher
  $ sotto calibrate --model vit --images photos
  $ sotto calibrate --model bert-sst2 --text reviews.txt --separator "\\n" --ring 32
`;

export function registerCalibrate(program: Command, terminal: Terminal): void {
  program
    .command('calibrate')
    .summary('measure the values of a model for private runs')
    .description('Measures which values a published model computes with, once, for private runs.')
    .requiredOption('--model <folder>', 'a checkpoint in the Hugging Face layout', modelFolder(terminal))
    .addOption(new Option('--text <file>', 'texts of the kind that the model reads').conflicts('images'))
    .option('--separator <text>', 'what stands between two texts', '<|endoftext|>')
    .option('--images <folder>', 'pictures of the kind that it names')
    .addOption(new Option('--samples <n>', 'samples at most').argParser(whole(1, 100_000)).default(64))
    .addOption(ringOption())
    .addOption(fractionOption())
    .addOption(jsonOption())
    .addHelpText('after', help)
    .action((flags: CalibrateFlags) => calibrate(flags, terminal));
}

async function calibrate(flags: CalibrateFlags, terminal: Terminal): Promise<void> {
  const model = await openModel(flags.model);
  const texts = flags.text === undefined ? undefined : (await documents(flags.text, separatorOf(flags))).slice(0, flags.samples);
  const given =
    flags.images === undefined ? undefined : (await pictures(model, flags.images, flags.samples)).slice(0, flags.samples);
  if (texts?.length === 0 || given?.length === 0)
    throw new SottoError('input', 'there are no samples', {
      place: { file: flags.text ?? flags.images ?? '' },
      remedy: 'name a file with texts, or a folder with pictures',
    });
  const samples = await calibrationSamples(model, { texts, pictures: given });
  const { plan } = await measuredModel(model, { ring: wantedRing(flags), samples, say: saying(terminal) });
  const manifest = `sha256:${await servedHash(model, plan)}`;
  if (flags.json) return printJson(terminal, { model: flags.model, ring: plan.ring, domains: plan.domains, manifest });
  terminal.out(`${flags.model}: ${plan.ring?.bits} bits with ${plan.ring?.fraction} of fraction\n`);
  terminal.out(`manifest hash of a server in this ring: ${manifest}, which clients may pin (--manifest-hash)\n`);
}

/** As a shell gives it: a backslash and an n are a line's end. */
const separatorOf = ({ separator }: CalibrateFlags): string => separator.replaceAll('\\n', '\n');
