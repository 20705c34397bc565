import type { CalibrationIds } from '../convert/index.ts';
import { mixing } from '../lab/augment/index.ts';
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

/** Text as a student needs it: samples of its training, and rows to fit and calibrate on. */
export interface StudentText {
  readonly samples: Samples;
  readonly calibration: CalibrationIds;
  /** Lets go of files that were opened. */
  close(): void;
}

type Rows = Pick<TextRecipe, 'batch' | 'context' | 'seed' | 'evaluateRows'>;
interface Split {
  readonly train: Documents;
  readonly heldOut: Documents;
}

/** Rows of documents; of those held back, rows of one document's begin or middle. */
function textSamples(recipe: Rows, documents: Split): Samples {
  const { batch, context: tokens, seed } = recipe;
  const batchAt = batches(documents.train, { batch, tokens, seed });
  return {
    unit: 'tokens',
    unitsPerBatch: batch * tokens,
    feeds: (index) => batchFeeds(batchAt(index)),
    heldOut: heldOutRows(recipe, documents.heldOut),
  };
}

/** A student's text from documents in memory: calibration takes training rows of the recipe's full context, spread by its seed. */
export function documentText(recipe: Rows, documents: Split, calibrationRows: number): StudentText {
  const { context: tokens, seed } = recipe;
  const size = calibrationBatch(recipe, calibrationRows);
  const batchAt = batches(documents.train, { batch: size, tokens, seed: seed + 1 });
  const rows = Array.from({ length: Math.floor(calibrationRows / size) }, (_, at) => batchAt(at).ids);
  return {
    samples: textSamples(recipe, documents),
    calibration: { rows: rows.flatMap((ids) => cut(ids, tokens)), batch: size },
    close: () => {},
  };
}

/** Rows that calibration runs at once. */
export const calibrationBatch = ({ batch }: Pick<Rows, 'batch'>, rows: number): number => Math.min(batch, rows, 4);

/** The rows of a batch, each in an array of its own. */
export const cut = (ids: Int32Array, tokens: number): Int32Array[] =>
  Array.from({ length: ids.length / tokens }, (_, i) => ids.slice(i * tokens, (i + 1) * tokens));

function heldOutRows({ batch: atOnce, context: tokens, seed, evaluateRows }: Rows, documents: Documents): Samples['heldOut'] {
  const total = documents.reduce((sum, document) => sum + document.length, 0);
  const batch = Math.min(atOnce, Math.floor(total / (2 * tokens)));
  if (batch === 0) return undefined;
  const rows = Math.min(evaluateRows, Math.floor(total / tokens));
  const batchAt = batches(documents, { batch, tokens, seed });
  const feeds = Array.from({ length: Math.max(1, Math.floor(rows / batch)) }, (_, i) => batchFeeds(batchAt(i)));
  return { batch, feeds };
}

/** Mixup of text: where tokens have no numbers between them, their embeddings are mixed, in a teacher as in its student. */
export interface TextMixup {
  /** A weight from Beta(alpha, alpha) for each batch. */
  readonly alpha: number;
}

/** Samples whose rows are paired at random within their batch; `partnerLabels` are the partners' next tokens. */
export function mixedSamples(samples: Samples, { alpha }: TextMixup, seed: number): Samples {
  return {
    ...samples,
    feeds: (index) => {
      const feeds = samples.feeds(index);
      const [batch, tokens] = feeds.get('ids')!.shape as [number, number];
      const { weight, partners } = mixing(batch, alpha, seed, index);
      const paired = (name: string): Tensor => {
        const values = feeds.get(name)!.values as Int32Array;
        const rows = new Int32Array(values.length);
        partners.forEach((partner, row) => {
          rows.set(values.subarray(partner * tokens, (partner + 1) * tokens), row * tokens);
        });
        return { shape: [batch, tokens], values: rows };
      };
      return new Map([
        ...feeds,
        ['partners', paired('ids')],
        ['partnerLabels', paired('labels')],
        ['share', { shape: [], values: Float32Array.of(weight) }],
      ]);
    },
  };
}
