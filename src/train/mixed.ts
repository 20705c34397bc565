import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import {
  openTextPart,
  type TextSource,
  type TokenBatch,
  type TokenPart,
  tokenisedWith,
  tokenMixture,
} from '../lab/data/index.ts';
import type { Files } from '../models/files.ts';
import { openModelFolder } from '../models/folder.ts';
import type { Tensor } from '../program/index.ts';
import type { DistillRecipe } from './recipe.ts';
import { calibrationBatch, cut, type Samples, type StudentText } from './samples.ts';

type MixedRecipe = Pick<DistillRecipe, 'batch' | 'context' | 'seed' | 'evaluateRows' | 'data'> & {
  readonly conversion: Pick<DistillRecipe['conversion'], 'calibrationRows'>;
};

/**
 * A student's text from data sets on disk, mixed in exact proportions of rows: from the tokenizer of `model`, through caches in
 * `caches`. What a batch holds depends on the data, the seed and its number alone.
 */
export async function mixedText(
  recipe: MixedRecipe,
  places: { readonly data: string; readonly caches: string; readonly model: Files },
): Promise<StudentText> {
  const tokenizer = await (await openModelFolder(places.model)).tokenizer();
  const made = await tokenisedWith(places.model, tokenizer, places.caches);
  const opened: TokenPart[] = [];
  const close = (): void => {
    for (const { cache } of opened) cache.close();
  };
  const openAll = async (part: 'train' | 'heldOut'): Promise<TokenPart[]> => {
    const parts: TokenPart[] = [];
    for (const source of sources(recipe, places.data, part)) {
      const found = await openTextPart(source, made);
      opened.push(found);
      parts.push(found);
    }
    return parts;
  };
  try {
    const [train, heldOut] = [await openAll('train'), await openAll('heldOut')];
    return { samples: mixedSamples(recipe, train, heldOut), calibration: calibrationRows(recipe, train), close };
  } catch (error) {
    close();
    throw error;
  }
}

function sources({ data }: MixedRecipe, folder: string, part: 'train' | 'heldOut'): TextSource[] {
  const { mixture = [], holdOutEvery, reserveEvery, separator } = data;
  return mixture.map(({ file, format, field, share }) => ({
    name: file,
    file: join(folder, file),
    weight: share,
    format: format === 'alpaca' ? { kind: 'alpaca' } : { kind: 'text', as: format, field, separator },
    split: { holdOutEvery, reserveEvery, part },
  }));
}

function mixedSamples(recipe: MixedRecipe, train: readonly TokenPart[], heldOut: readonly TokenPart[]): Samples {
  const { batch, context: tokens, seed, evaluateRows } = recipe;
  const mixed = tokenMixture(train, { batch, tokens, seed });
  const held = tokenMixture(heldOut, { batch, tokens, seed });
  return {
    unit: 'tokens',
    unitsPerBatch: batch * tokens,
    feeds: (index) => weightedFeeds(mixed.batch(index)),
    heldOut: {
      batch,
      feeds: Array.from({ length: Math.max(1, Math.floor(evaluateRows / batch)) }, (_, at) => weightedFeeds(held.batch(at))),
    },
  };
}

function weightedFeeds({ ids, labels, weights, batch, tokens }: TokenBatch): Map<string, Tensor> {
  const shape = [batch, tokens];
  return new Map<string, Tensor>([
    ['ids', { shape, values: ids }],
    ['labels', { shape, values: labels }],
    ['positionWeights', { shape, values: weights }],
  ]);
}

/** Full rows of running text where there are any: rows that were filled up would show ranges of what nobody says. */
function calibrationRows(recipe: MixedRecipe, train: readonly TokenPart[]): StudentText['calibration'] {
  const running = train.filter(({ rows }) => rows === 'stream');
  const count = recipe.conversion.calibrationRows;
  const batch = calibrationBatch(recipe, count);
  const { context: tokens, seed } = recipe;
  const mixed = tokenMixture(running.length === 0 ? train : running, { batch, tokens, seed: seed + 1 });
  const rows = Array.from({ length: Math.floor(count / batch) }, (_, at) => cut(mixed.batch(at).ids, tokens)).flat();
  if (rows.length > 0) return { rows, batch };
  throw new SottoError('input', 'no row of text is left to calibrate on', {
    place: { field: 'conversion.calibrationRows' },
    remedy: 'give more rows',
  });
}
