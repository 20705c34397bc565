import type { Tensor } from '../program/index.ts';
import { batches, batchFeeds, type Documents } from './data.ts';
import type { TextRecipe } from './recipe.ts';

/** What a training learns from: feeds of whole batches that depend on their number alone, so that a run resumes anywhere. */
export interface Samples {
  readonly unit: 'tokens' | 'pictures';
  readonly unitsPerBatch: number;
  /** The batch of this number, counted from 0: the program's inputs that are neither weights nor the optimiser's. */
  readonly feeds: (index: number) => ReadonlyMap<string, Tensor>;
  /** Batches held back from training, all of one size; absent where there is too little. */
  readonly heldOut: { readonly batch: number; readonly feeds: readonly ReadonlyMap<string, Tensor>[] } | undefined;
}

type Rows = Pick<TextRecipe, 'batch' | 'context' | 'seed' | 'evaluateRows'>;

/** Rows of documents; of those held back, rows of one document's begin or middle. */
export function textSamples(recipe: Rows, documents: { readonly train: Documents; readonly heldOut: Documents }): Samples {
  const { batch, context: tokens, seed } = recipe;
  const batchAt = batches(documents.train, { batch, tokens, seed });
  return {
    unit: 'tokens',
    unitsPerBatch: batch * tokens,
    feeds: (index) => batchFeeds(batchAt(index)),
    heldOut: heldOutRows(recipe, documents.heldOut),
  };
}

function heldOutRows({ batch: atOnce, context: tokens, seed, evaluateRows }: Rows, documents: Documents): Samples['heldOut'] {
  const total = documents.reduce((sum, document) => sum + document.length, 0);
  const batch = Math.min(atOnce, Math.floor(total / (2 * tokens)));
  if (batch === 0) return undefined;
  const rows = Math.min(evaluateRows, Math.floor(total / tokens));
  const batchAt = batches(documents, { batch, tokens, seed });
  const feeds = Array.from({ length: Math.max(1, Math.floor(rows / batch)) }, (_, i) => batchFeeds(batchAt(i)));
  return { batch, feeds };
}
