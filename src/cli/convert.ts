import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { Initialisation } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { folderFiles } from '../node/files.ts';
import type { Device } from '../node/onnx.ts';
import { convertModel, type LayerReport, writeConversion } from '../package/conversion.ts';
import { openModel } from '../package/model.ts';
import { splitDocuments } from '../train/index.ts';
import { planFrom } from './cost.ts';
import { deviceOption, jsonOption, number, progressOption, whole } from './options.ts';
import { progress } from './progress.ts';
import { table } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface ConvertFlags {
  readonly model: string;
  readonly out: string;
  readonly plan: string;
  readonly text?: string;
  readonly images?: string;
  readonly separator: string;
  readonly rows: number;
  readonly tokens?: number;
  readonly initialisation: Initialisation;
  readonly margin: number;
  readonly dtype: 'F32' | 'F16' | 'BF16';
  readonly seed: number;
  readonly device: Device;
  readonly json?: true;
  readonly progress?: true;
}

const help = `
Replaces activations and softmax layer by layer, each fitted on what its converted predecessors produce, then calibrates ranges
and tables. Nothing is trained: a fully converted model needs distillation (\`sotto train\`) to write as well as its teacher.
Without --text the model writes the calibration text itself. The result is a checkpoint folder with the plan in config.json.

Examples:
  $ sotto convert --model stories --out stories-p2 --plan full-p2
  $ sotto convert --model vit --out vit-p4 --plan full-p4 --images photos
  $ sotto convert --model stories --out stories-p4 --plan full-p4 --text corpus.txt --rows 32 --margin 1.5
`;

export function registerConvert(program: Command, terminal: Terminal): void {
  program
    .command('convert')
    .summary('make a polynomial checkpoint of a published one')
    .description('Makes a polynomial checkpoint of a published one, fitted and calibrated, not trained.')
    .requiredOption('--model <folder>', 'a checkpoint in the Hugging Face layout')
    .requiredOption('--out <folder>', 'where the converted checkpoint goes; must not hold one')
    .option('--plan <name>', 'full-p2, full-p4, full-p8, full-p16, hybrid-K or a file', 'full-p2')
    .option('--text <file>', 'documents for fits and calibration')
    .option('--images <folder>', 'pictures for fits and calibration: a vision transformer needs them')
    .option('--separator <text>', 'what stands between documents', '<|endoftext|>')
    .addOption(new Option('--rows <n>', 'rows of text').argParser(whole(1, 100_000)).default(16))
    .addOption(new Option('--tokens <n>', 'tokens a row (default: 128, or the context)').argParser(whole(2, 131_072)))
    .addOption(
      new Option('--initialisation <kind>', 'of the quadratics')
        .choices(['direct', 'direct-scale', 'hessian', 'scale', 'static', 'naive'])
        .default('direct'),
    )
    .addOption(new Option('--margin <factor>', 'what tables allow beyond what was met').argParser(number(1, 1000)).default(2))
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
  const { rows, tokens, initialisation, margin, seed, device } = flags;
  const plan = await planFrom(flags.plan, model.config);
  const bar = progress(terminal, flags.progress === true);
  try {
    const conversion = await convertModel(model, {
      plan,
      texts: flags.text === undefined ? undefined : await documents(flags.text, flags.separator),
      pictures: flags.images === undefined ? undefined : await pictures(flags.images),
      rows,
      tokens,
      initialisation,
      margin,
      seed,
      device,
      onWriting: () => bar.show('the model writes its calibration text'),
      onLayer: ({ layer }, layers) => bar.show(`layer ${layer + 1} of ${layers}`, layer + 1, layers),
    });
    await writeConversion(out, conversion, model, flags.dtype);
    bar.end();
    const elapsed = (terminal.now() - start) / 1000;
    const { layers } = conversion;
    if (flags.json) {
      printJson(terminal, { model: flags.model, out: flags.out, plan: conversion.plan, layers, seconds: elapsed });
      return;
    }
    terminal.out(`${flags.model} → ${flags.out}, plan ${conversion.plan.name ?? 'unnamed'}\n\n${layerTable(layers)}`);
    terminal.out('\nErrors are relative and squared, on the calibration text. Nothing was trained: see `sotto train --help`.\n');
  } finally {
    bar.end();
  }
}

async function documents(file: string, separator: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new SottoError('input', 'the text cannot be read', { place: { file }, remedy: 'name a readable text file', cause });
  });
  return splitDocuments(text, separator);
}

async function pictures(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new SottoError('input', 'the folder cannot be read', {
      place: { file: folder },
      remedy: 'name a folder of pictures',
      cause,
    });
  });
  return names
    .filter((name) => /\.(jpe?g|png|webp)$/i.test(name))
    .sort()
    .map((name) => join(folder, name));
}

const layerTable = (layers: readonly LayerReport[]): string =>
  table(
    ['layer', 'attention error', 'activation error'],
    layers.map(({ layer, attention, activation }) => [`layers.${layer}`, error(attention), error(activation)]),
  );

const error = (value: number | undefined): string => (value === undefined ? '–' : value.toExponential(2));
