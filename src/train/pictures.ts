import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { augmenter, mixing, mixRows, oneHot, pictureBatch } from '../lab/augment/index.ts';
import {
  collectPictures,
  type PictureSet,
  type PictureStream,
  permuted,
  readCifar,
  readIdx,
  readPictureFolder,
  readPictureTar,
} from '../lab/data/index.ts';
import type { Preprocessor } from '../models/preprocess.ts';
import type { Tensor } from '../program/index.ts';
import type { VisionRecipe } from './recipe.ts';
import type { Samples } from './samples.ts';

type PictureData = VisionRecipe['data'];

/** The pictures of a recipe, in memory. `side` resizes coloured ones; grey ones of another size are refused. */
export async function readPictures(data: PictureData, folder: string, side?: number): Promise<PictureSet> {
  const size = side === undefined ? undefined : { width: side, height: side };
  return collectPictures(await openPictures(data, folder), { limit: data.limit, size });
}

function openPictures(data: PictureData, folder: string): Promise<PictureStream> | PictureStream {
  switch (data.format) {
    case 'idx':
      return readIdx(join(folder, data.images), join(folder, data.labels), { classes: data.classes });
    case 'tar':
      return readPictureTar(join(folder, data.file), { under: data.under, classes: data.classes });
    case 'folder':
      return readPictureFolder(join(folder, data.folder), { under: data.under, classes: data.classes });
    default:
      return readCifar(
        data.files.map((file) => join(folder, file)),
        { format: data.format },
      );
  }
}

/** Numbers of pictures to train on and of those held back. */
export interface PictureSplit {
  readonly train: Int32Array;
  readonly heldOut: Int32Array;
}

/** Holds back `heldOut` pictures of all, chosen by the seed alone. */
export function splitPictures(count: number, { heldOut, splitSeed }: Pick<PictureData, 'heldOut' | 'splitSeed'>): PictureSplit {
  if (heldOut >= count)
    throw new SottoError('input', `${heldOut} pictures cannot be held back from ${count}`, {
      place: { field: 'data.heldOut' },
      remedy: 'give more pictures, or hold back fewer',
    });
  const order = Int32Array.from({ length: count }, (_, index) => permuted(index, count, splitSeed, 0x73706c74));
  return { train: order.subarray(heldOut), heldOut: order.subarray(0, heldOut) };
}

type Normalisation = Pick<Preprocessor, 'scale' | 'mean' | 'deviation'>;
type BatchRecipe = Pick<VisionRecipe, 'batch' | 'seed' | 'evaluateRows' | 'augmentation'>;

/**
 * Batches of augmented pictures, each epoch in another order, and the held-back ones as they are. Feeds: `pixels` (batch, C, S, S),
 * `labels` and `positionWeights` (batch), with Mixup `targets` (batch, classes).
 */
export function pictureSamples(
  recipe: BatchRecipe,
  set: PictureSet,
  { train, heldOut }: PictureSplit,
  normalisation: Normalisation,
  classes: number,
): Samples {
  const { batch, seed, augmentation } = recipe;
  const changer = augmentation === undefined ? undefined : augmenter(augmentation, seed);
  const alpha = augmentation?.mixup?.alpha;
  const feeds = (index: number): Map<string, Tensor> => {
    const first = index * batch;
    const indices = Int32Array.from({ length: batch }, (_, row) => {
      const [epoch, at] = [Math.floor((first + row) / train.length), (first + row) % train.length];
      return train[permuted(at, train.length, seed, epoch)]!;
    });
    const change = changer === undefined ? undefined : { augmenter: changer, firstSample: first };
    const { pixels, labels } = pictureBatch(set, indices, normalisation, change);
    const weights = new Float32Array(batch).fill(1 / batch);
    if (alpha === undefined) return pictureFeeds(set, pixels, labels, weights);
    const mixed = mixing(batch, alpha, seed, index);
    const targets = { shape: [batch, classes], values: mixRows(oneHot(labels, classes), batch, mixed) };
    return pictureFeeds(set, mixRows(pixels, batch, mixed), labels, weights).set('targets', targets);
  };
  return { unit: 'pictures', unitsPerBatch: batch, feeds, heldOut: heldOutPictures(recipe, set, heldOut, normalisation) };
}

function heldOutPictures(
  recipe: BatchRecipe,
  set: PictureSet,
  heldOut: Int32Array,
  normalisation: Normalisation,
): NonNullable<Samples['heldOut']> {
  const count = Math.min(recipe.evaluateRows, heldOut.length);
  const batch = Math.min(recipe.batch, count);
  const batches = Math.ceil(count / batch);
  const feeds = Array.from({ length: batches }, (_, at) => {
    // The last batch is filled up with pictures that do not count. Figures are means over batches.
    const indices = Int32Array.from({ length: batch }, (__, row) => heldOut[Math.min(at * batch + row, count - 1)]!);
    const weights = Float32Array.from({ length: batch }, (__, row) => (at * batch + row < count ? batches / count : 0));
    const { pixels, labels } = pictureBatch(set, indices, normalisation);
    return pictureFeeds(set, pixels, labels, weights);
  });
  return { batch, feeds };
}

function pictureFeeds(set: PictureSet, pixels: Float32Array, labels: Int32Array, weights: Float32Array): Map<string, Tensor> {
  const { channels, height, width } = set;
  return new Map<string, Tensor>([
    ['pixels', { shape: [labels.length, channels, height, width], values: pixels }],
    ['labels', { shape: [labels.length], values: labels }],
    ['positionWeights', { shape: [labels.length], values: weights }],
  ]);
}

/** The first `count` training pictures as they are, with their labels, for fits and calibration. */
export function calibrationPictures(
  set: PictureSet,
  { train }: PictureSplit,
  normalisation: Normalisation,
  count: number,
): { readonly pixels: Tensor[]; readonly labels: Int32Array[] } {
  const total = Math.min(count, train.length);
  const batch = Math.min(total, 32);
  const made = Array.from({ length: Math.floor(total / batch) }, (_, at) =>
    pictureBatch(set, train.subarray(at * batch, (at + 1) * batch), normalisation),
  );
  const shape = [batch, set.channels, set.height, set.width];
  return { pixels: made.map(({ pixels }) => ({ shape, values: pixels })), labels: made.map(({ labels }) => labels) };
}
