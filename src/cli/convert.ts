import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { Initialisation } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { pixelsOf } from '../evaluate/index.ts';
import { isPolynomial } from '../models/index.ts';
import { folderFiles } from '../node/files.ts';
import type { Device } from '../node/onnx.ts';
import { convertModel, type LayerReport, writeConversion } from '../package/conversion.ts';
import { preprocessorOf, readLabelledPictures } from '../package/evaluation.ts';
import { type LoadedModel, openModel } from '../package/model.ts';
import { classifier } from '../package/pictures.ts';
import { splitDocuments } from '../train/index.ts';
import { planFrom } from './cost.ts';
import { deviceOption, jsonOption, number, progressOption, ringOf, ringOption, whole } from './options.ts';
import { progress } from './progress.ts';
import { modelFolder } from './shipped.ts';
import { table } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface ConvertFlags {
  readonly model: string;
  readonly out: string;
  readonly plan?: string;
  readonly text?: string;
  readonly images?: string;
  readonly separator: string;
  readonly rows: number;
  readonly tokens?: number;
  readonly initialisation: Initialisation;
  readonly margin: number;
  readonly ring?: number;
  readonly fraction?: number;
  readonly method?: 'table' | 'newton';
  readonly headRange?: number;
  readonly headSum?: number;
  readonly dtype: 'F32' | 'F16' | 'BF16';
  readonly publicEmbedding?: true;
  readonly seed: number;
  readonly device: Device;
  readonly json?: true;
  readonly progress?: true;
}

const help = `
Replaces activations and softmax layer by layer, each fitted on what its converted predecessors produce, then calibrates ranges
and tables. Nothing is trained: a fully converted model needs distillation (\`sotto train\`) to write as well as its teacher.
Without --text the model writes the calibration text itself. The result is a checkpoint folder with the plan in config.json.

Plans: full-p2, full-p4, full-p8, full-p16 (quadratic activations, centred powers as attention), the same with -quartic at the end
(activations of degree four, where arguments span too much for a parabola), hybrid-K (the last K layers of full-p4),
mpcformer (0.125 x² + 0.25 x + 0.5 and 2Quad), full-2quad, full-l2quad, full-2relu. A model that is polynomial already is calibrated
anew, for another ring say: --ring 32 chooses the fraction bits with which everything that was met fits, --margin included.
--head-range 3 also scales every head so that its powers stay small; the model remains the same function.

Examples:
  $ sotto convert --model stories-teacher --out stories-p2 --plan full-p2
  $ sotto convert --model vit --out vit-p4 --plan full-p4 --images photos
  $ sotto convert --model stories-teacher --out stories-p4 --plan full-p4 --text corpus.txt --rows 32 --margin 1.5
  $ sotto convert --model vit-p4 --out vit-p4-32 --ring 32 --images photos
  $ sotto convert --model stories-teacher --out stories-newton --plan full-p2 --method newton
`;

export function registerConvert(program: Command, terminal: Terminal): void {
  program
    .command('convert')
    .summary('make a polynomial checkpoint of a published one')
    .description('Makes a polynomial checkpoint of a published one, fitted and calibrated, not trained.')
    .requiredOption('--model <folder>', 'a checkpoint in the Hugging Face layout', modelFolder(terminal))
    .requiredOption('--out <folder>', 'where the converted checkpoint goes; must not hold one')
    .option('--plan <name>', 'a name (below) or a file (default: its own where it is polynomial, else full-p2)')
    .option('--text <file>', 'documents for fits and calibration')
    .option('--images <path>', 'pictures for fits and calibration: a folder, or --rows of an IDX or CIFAR file or a tar')
    .option('--separator <text>', 'what stands between documents', '<|endoftext|>')
    .addOption(new Option('--rows <n>', 'rows of text, or pictures of a file').argParser(whole(1, 100_000)).default(16))
    .addOption(new Option('--tokens <n>', 'tokens a row (default: 128, or the context)').argParser(whole(2, 131_072)))
    .addOption(
      new Option('--initialisation <kind>', 'of the polynomials that replace activations')
        .choices(['direct', 'direct-scale', 'hessian', 'scale', 'static', 'naive'])
        .default('direct'),
    )
    .addOption(new Option('--margin <factor>', 'what tables allow beyond what was met').argParser(number(1, 1000)).default(2))
    .addOption(ringOption())
    .addOption(new Option('--fraction <bits>', 'fraction bits (default: the most that fit, 16 at most)').argParser(whole(1, 40)))
    .addOption(
      new Option('--head-range <x>', 'scale heads down whose largest |x| before the power is above this').argParser(
        number(0.1, 1000),
      ),
    )
    .addOption(
      new Option('--head-sum <s>', 'the same where the powers of a row sum up to more: frees fraction bits').argParser(
        number(1, 1e9),
      ),
    )
    .addOption(new Option('--method <name>', 'how norms and denominators are evaluated').choices(['table', 'newton']))
    .option('--public-embedding', 'tokens enter by a table that clients get, embedding.safetensors, and cost no lookup')
    .addOption(new Option('--dtype <type>', 'of the weights written').choices(['F32', 'F16', 'BF16']).default('F32'))
    .addOption(new Option('--seed <n>', 'of the text').argParser(whole(0, 2 ** 32)).default(0))
    .addOption(deviceOption())
    .addOption(jsonOption())
    .addOption(progressOption())
    .addHelpText('after', help)
    .action((flags: ConvertFlags) => convert(flags, terminal));
}

async function convert(flags: ConvertFlags, terminal: Terminal): Promise<void> {
  const start = terminal.now();
  const out = folderFiles(flags.out);
  if (await out.exists('config.json'))
    throw new SottoError('usage', 'the folder already holds a checkpoint', {
      place: { file: flags.out },
      remedy: 'name another folder for --out, or remove it first',
    });
  const model = await openModel(flags.model);
  const { rows, tokens, initialisation, margin, seed, device, fraction, method, headRange, headSum } = flags;
  const own = isPolynomial(model.plan) ? model.plan : 'full-p2';
  const plan = flags.plan === undefined ? own : await planFrom(flags.plan, model.config);
  const ring = { bits: ringOf(flags).bits, fraction: fraction === undefined ? undefined : ringOf(flags).fraction };
  const bar = progress(terminal, flags.progress === true);
  try {
    const conversion = await convertModel(model, {
      plan,
      texts: flags.text === undefined ? undefined : await documents(flags.text, flags.separator),
      pictures: flags.images === undefined ? undefined : await pictures(model, flags.images, rows),
      rows,
      tokens,
      initialisation,
      margin,
      ring,
      method,
      headRange,
      headSum,
      seed,
      device,
      onWriting: () => bar.show('the model writes its calibration text'),
      onLayer: ({ layer }, layers) => bar.show(`layer ${layer + 1} of ${layers}`, layer + 1, layers),
    });
    await writeConversion(out, conversion, model, {
      dtype: flags.dtype,
      ...(flags.publicEmbedding === undefined ? {} : { publishEmbedding: true }),
    });
    bar.end();
    const elapsed = (terminal.now() - start) / 1000;
    const { layers } = conversion;
    if (flags.json) {
      printJson(terminal, { model: flags.model, out: flags.out, plan: conversion.plan, layers, seconds: elapsed });
      return;
    }
    const { name = 'unnamed', ring: chosen } = conversion.plan;
    const calibrated = chosen === undefined ? '' : `, ${chosen.bits} bits with ${chosen.fraction} of fraction`;
    terminal.out(`${flags.model} → ${flags.out}, plan ${name}${calibrated}\n\n${layerTable(layers)}`);
    terminal.out('\nErrors are relative and squared, on the calibration text. Nothing was trained: see `sotto train --help`.\n');
  } finally {
    bar.end();
  }
}

export async function documents(file: string, separator: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new SottoError('input', 'the text cannot be read', { place: { file }, remedy: 'name a readable text file', cause });
  });
  return splitDocuments(text, separator);
}

export async function pictures(model: LoadedModel, folder: string, count: number): Promise<(string | Float32Array)[]> {
  if ((await stat(folder).catch(() => undefined))?.isFile() === true) {
    const [config, preprocessor] = [classifier(model), await preprocessorOf(model)];
    const labelled = await readLabelledPictures(folder, config.labels, count);
    return labelled.map(({ image }) => pixelsOf(image, preprocessor, config.numChannels));
  }
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new SottoError('input', 'the folder cannot be read', {
      place: { file: folder },
      remedy: 'name a folder of pictures',
      cause,
    });
  });
  return names
    .filter((name) => /\.(jpe?g|png|webp|gif|bmp)$/i.test(name))
    .sort()
    .map((name) => join(folder, name));
}

const layerTable = (layers: readonly LayerReport[]): string =>
  table(
    ['layer', 'attention error', 'activation error'],
    layers.map(({ layer, attention, activation }) => [`layers.${layer}`, error(attention), error(activation)]),
  );

const error = (value: number | undefined): string => (value === undefined ? '–' : value.toExponential(2));
