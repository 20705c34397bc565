import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import type { RgbImage } from '../pictures/index.ts';
import { type ResizeFilter, resizeImage } from './resample.ts';

export type { RgbImage };

/**
 * How preprocessor_config.json makes a picture into pixel values: resized, scaled, less the mean and over the deviation of each
 * channel.
 */
export interface Preprocessor {
  /** Pixels, or null where pictures keep their size. */
  readonly resize: { readonly width: number; readonly height: number; readonly filter: ResizeFilter } | null;
  /** What a byte is multiplied by; 1 where bytes are taken as they are. */
  readonly scale: number;
  readonly mean: readonly [number, number, number];
  readonly deviation: readonly [number, number, number];
}

/** A picture as a model reads it. */
export interface PixelValues {
  /** (channels, height, width), row-major. */
  readonly shape: readonly [1 | 3, number, number];
  readonly values: Float32Array;
}

const pixels = z.number().int().min(1).max(8192);
const triple = z.tuple([z.number(), z.number(), z.number()]);
const deviations = z.tuple([z.number().gt(0), z.number().gt(0), z.number().gt(0)]);
const filters: Readonly<Record<number, ResizeFilter>> = {
  0: 'nearest',
  1: 'lanczos3',
  2: 'linear',
  3: 'cubic',
  4: 'box',
  5: 'hamming',
};

const schema = z.object({
  do_resize: z.boolean().default(true),
  size: z
    .union([pixels, z.object({ height: pixels, width: pixels })], { error: 'only a height and width are supported' })
    .default(224),
  resample: z
    .number()
    .refine((code) => Object.hasOwn(filters, code), {
      error: 'the filter is none of the codes 0 to 5 of Pillow',
    })
    .default(2),
  do_rescale: z.boolean().default(true),
  rescale_factor: z
    .number()
    .gt(0)
    .max(1e6)
    .default(1 / 255),
  do_normalize: z.boolean().default(true),
  image_mean: triple.default([0.5, 0.5, 0.5]),
  image_std: deviations.default([0.5, 0.5, 0.5]),
  do_center_crop: z.literal(false, { error: 'cropping is not supported' }).nullish(),
});

/** preprocessor_config.json with the published defaults; what sotto does not do is a `model` error naming the field. */
export function parsePreprocessor(raw: unknown, file = 'preprocessor_config.json'): Preprocessor {
  const result = schema.safeParse(raw);
  if (!result.success) {
    const issue = result.error.issues[0]!;
    throw new SottoError('model', issue.message, {
      place: { file, field: issue.path.join('.') || '(whole)' },
      remedy: 'correct the field, or take a checkpoint that sotto supports',
      cause: result.error,
    });
  }
  const fields = result.data;
  const { height, width } = typeof fields.size === 'number' ? { height: fields.size, width: fields.size } : fields.size;
  return {
    resize: fields.do_resize ? { width, height, filter: filters[fields.resample]! } : null,
    scale: fields.do_rescale ? fields.rescale_factor : 1,
    mean: fields.do_normalize ? fields.image_mean : [0, 0, 0],
    deviation: fields.do_normalize ? fields.image_std : [1, 1, 1],
  };
}

/**
 * A picture → what a vision model takes: resized, scaled, normalised per colour, one plane per colour. A model of one channel takes the
 * luminance (ITU-R BT.601, as Pillow's mode L), which is the picture itself where it is grey.
 */
export function preprocess(image: RgbImage, preprocessor: Preprocessor, channels = 3): PixelValues {
  if (image.data.length !== 3 * image.width * image.height || image.data.length === 0) {
    throw new SottoError(
      'input',
      `the picture has ${image.data.length} bytes, not 3 for each of its ${image.width} × ${image.height} pixels`,
      {
        remedy: 'give a picture of red, green and blue bytes',
      },
    );
  }
  const wanted = preprocessor.resize;
  const fits = wanted === null || (image.width === wanted.width && image.height === wanted.height);
  const { width, height, data } = fits ? image : resizeImage(image, wanted.width, wanted.height, wanted.filter);
  const plane = width * height;
  if (channels !== 3 && channels !== 1)
    throw new SottoError('model', `pictures of ${channels} channels are not read`, {
      place: { field: 'num_channels' },
      remedy: 'use a model of 1 or 3 channels',
    });
  const values = new Float32Array(channels * plane);
  for (let colour = 0; colour < channels; colour++) {
    const { scale } = preprocessor;
    const mean = preprocessor.mean[colour]!;
    const deviation = preprocessor.deviation[colour]!;
    for (let pixel = 0; pixel < plane; pixel++)
      values[colour * plane + pixel] =
        ((channels === 1 ? luminance(data, 3 * pixel) : data[3 * pixel + colour]!) * scale - mean) / deviation;
  }
  return { shape: [channels, height, width], values };
}

const luminance = (data: Uint8Array, at: number): number =>
  Math.round((299 * data[at]! + 587 * data[at + 1]! + 114 * data[at + 2]!) / 1000);
