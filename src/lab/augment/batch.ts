import { SottoError } from '../../errors/index.ts';
import type { Preprocessor } from '../../models/preprocess.ts';
import { type PictureSet, pictureAt } from '../data/pictures.ts';
import type { Augmenter } from './augment.ts';

/** Pictures as a model takes them: pixels (batch, C, S, S) and their labels. */
export interface PictureBatch {
  readonly pixels: Float32Array;
  readonly labels: Int32Array;
}

/**
 * The pictures `indices` of a set, changed by the augmenter as the samples `firstSample`, …, then scaled and normalised as the
 * preprocessor says, one plane per channel. Grey pictures take its first channel's figures.
 */
export function pictureBatch(
  set: PictureSet,
  indices: ArrayLike<number>,
  preprocessor: Pick<Preprocessor, 'scale' | 'mean' | 'deviation'>,
  change?: { readonly augmenter: Augmenter; readonly firstSample: number },
): PictureBatch {
  const { width, height, channels } = set;
  const plane = width * height;
  const pixels = new Float32Array(indices.length * channels * plane);
  const labels = new Int32Array(indices.length);
  const bytes = new Uint8Array(channels * plane);
  for (let row = 0; row < indices.length; row++) {
    const index = indices[row]!;
    if (!(Number.isInteger(index) && index >= 0 && index < set.count))
      throw new SottoError('usage', `picture ${index} of ${set.count}`, { remedy: 'ask for pictures that are there' });
    const picture = pictureAt(set, index);
    labels[row] = picture.label;
    if (change === undefined) bytes.set(picture.data);
    else change.augmenter.apply(picture, change.firstSample + row, bytes);
    for (let channel = 0; channel < channels; channel++) {
      const scale = preprocessor.scale / preprocessor.deviation[channel]!;
      const offset = preprocessor.mean[channel]! / preprocessor.deviation[channel]!;
      const start = (row * channels + channel) * plane;
      for (let pixel = 0; pixel < plane; pixel++) pixels[start + pixel] = bytes[pixel * channels + channel]! * scale - offset;
    }
  }
  return { pixels, labels };
}
