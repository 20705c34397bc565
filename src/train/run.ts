import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import type { Files } from '../models/files.ts';
import { openModelFolder } from '../models/folder.ts';
import { jsonBytes, readJson } from '../models/json.ts';
import { folderFiles } from '../node/files.ts';
import { encodeDocuments, splitDocuments, splitItems } from './data.ts';
import { distill } from './distill.ts';
import { openRunFolder, type RunFolder } from './folder.ts';
import type { Trainer } from './loop.ts';
import { mixedText } from './mixed.ts';
import { pretrain } from './pretrain.ts';
import type { DistillRecipe, TextRecipe } from './recipe.ts';
import type { RunOptions } from './run-options.ts';
import { documentText } from './samples.ts';
import { runVision } from './vision.ts';
import { writeTexts } from './write.ts';

const textLimitBytes = 2 ** 30;

/**
 * Runs a recipe to its end, or to `stop`. Continuing a stopped run gives the same weights, bit for bit, as one that never stopped.
 * Errors: `usage` for a folder in use or of another run, `input` for texts, `range` where a loss or gradient is no number.
 */
export async function runRecipe(options: RunOptions): Promise<Trainer> {
  const { recipe, directory, resume = false } = options;
  const work =
    recipe.kind === 'pretrain' || recipe.kind === 'distill' ? await textWork(recipe, options) : await runVision(recipe, options);
  const folder = await openRunFolder(directory, recipe, resume);
  try {
    return await work(folder);
  } finally {
    await folder.close();
  }
}

/** Reads the texts, so that no folder is made where they are missing; then trains on them. */
async function textWork(recipe: TextRecipe, options: RunOptions): Promise<(folder: RunFolder) => Promise<Trainer>> {
  if (recipe.kind === 'distill' && recipe.data.mixture !== undefined) return mixedWork(recipe, options);
  const texts = splitItems(await readTexts(recipe, options.data), recipe.data);
  return async (folder) => {
    const train = [...texts.train, ...(await writtenTexts(recipe, options, folder))];
    if (recipe.kind === 'pretrain') return pretrain(recipe, folder, { train, heldOut: texts.heldOut }, options);
    const tokenizer = await (await openModelFolder(options.models(recipe.teacher))).tokenizer();
    const [own, held] = [train, texts.heldOut].map((some) => encodeDocuments(some, tokenizer)) as [Int32Array[], Int32Array[]];
    const text = documentText(recipe, { train: own, heldOut: held }, recipe.conversion.calibrationRows);
    return distill(recipe, folder, text, options);
  };
}

async function mixedWork(recipe: DistillRecipe, options: RunOptions): Promise<(folder: RunFolder) => Promise<Trainer>> {
  const { pictures: data } = options;
  if (data === undefined)
    throw new SottoError('usage', 'the recipe learns from data sets on disk, and no folder of them is named', {
      place: { field: 'pictures' },
      remedy: 'name the data folder',
    });
  for (const { file } of recipe.data.mixture ?? []) await folderFiles(data).size(file);
  return async (folder) => {
    const caches = join(folder.directory, 'tokens');
    const text = await mixedText(recipe, { data, caches, model: options.models(recipe.teacher) });
    try {
      return await distill(recipe, folder, text, options);
    } finally {
      text.close();
    }
  };
}

/** What the recipe's writer writes, kept in the run's folder: a run that resumes trains on the very same texts. */
async function writtenTexts(recipe: TextRecipe, { models, backend }: RunOptions, folder: RunFolder): Promise<string[]> {
  if (recipe.written === undefined) return [];
  const path = 'written.json';
  if (!(await folder.files.exists(path))) {
    const { model, ...writing } = recipe.written;
    await folder.files.write(path, jsonBytes(await writeTexts(models(model), { ...writing, backend })));
  }
  const texts = await readJson(folder.files, path, textLimitBytes);
  if (Array.isArray(texts) && texts.every((text) => typeof text === 'string')) return texts;
  throw new SottoError('input', 'the file is not a list of texts', {
    place: { file: `${folder.directory}/${path}` },
    remedy: 'start the run again in a new folder',
  });
}

/** The documents of a recipe, in order. */
export async function readTexts(recipe: Pick<TextRecipe, 'data'>, files: Files): Promise<string[]> {
  const documents: string[] = [];
  for (const path of recipe.data.text ?? []) {
    const sizeBytes = await files.size(path);
    if (sizeBytes > textLimitBytes)
      throw new SottoError('resource', `the text has ${sizeBytes} bytes, more than the ${textLimitBytes} held in memory`, {
        place: { file: `${files.name}/${path}` },
        remedy: 'give less text',
      });
    documents.push(...splitDocuments(new TextDecoder().decode(await files.read(path)), recipe.data.separator));
  }
  return documents;
}
