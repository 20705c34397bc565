import { SottoError } from '../../errors/index.ts';
import { resizeImage } from '../../models/resample.ts';
import { brokenRow } from './bytes.ts';

/** A picture of bytes in rows of pixels, one (grey) or three (red, green, blue) bytes each, with its class. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly data: Uint8Array;
  readonly label: number;
  /** How errors name it: `record 17`, `train/cat/0001.jpg`. */
  readonly place: string;
}

/** Pictures as they come off a file, and the names of their classes where the file has them. */
export interface PictureStream {
  readonly file: string;
  readonly classes: readonly string[];
  /** From the first picture on, at every call. Throws an `input` error where the file is damaged. */
  pictures(): AsyncGenerator<Picture>;
}

/** Pictures of one size, packed: `pixels` (count, height, width, channels) bytes, `labels` (count). */
export interface PictureSet {
  readonly count: number;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly pixels: Uint8Array;
  readonly labels: Uint16Array;
  readonly classes: readonly string[];
}

/** Throws an `input` error where a label is not one of `classes` classes. */
export function checkLabel(file: string, place: string, label: number, classes: number): number {
  if (Number.isInteger(label) && label >= 0 && label < classes) return label;
  throw new SottoError('input', `the label ${label} is not one of the classes 0 to ${classes - 1}`, {
    place: { file, field: place },
    remedy: 'correct the label, or name the right number of classes',
  });
}

/** How many pictures are held in memory, and in which size. */
export interface CollectOptions {
  /** Takes the first ones only. */
  readonly limit?: number | undefined;
  /** Pictures of another size are resized (colour) or refused (grey); the first picture's size where absent. */
  readonly size?: { readonly width: number; readonly height: number } | undefined;
  /** The most memory the pixels may take, 2 GiB unless told. */
  readonly limitBytes?: number | undefined;
}

/** Reads pictures into one packed set. Throws a `resource` error where they would take more memory than allowed. */
export async function collectPictures(stream: PictureStream, options: CollectOptions = {}): Promise<PictureSet> {
  const { limit = Infinity, limitBytes = 2 ** 31 } = options;
  const labels: number[] = [];
  let pixels = new Uint8Array(0);
  let first: Picture | undefined;
  for await (const read of limit > 0 ? stream.pictures() : []) {
    const picture = fitted(stream.file, read, options.size ?? first ?? read);
    first ??= picture;
    if (picture.channels !== first.channels) throw brokenRow(stream.file, picture.place, 'grey and coloured pictures are mixed');
    const bytes = picture.data.length;
    const end = (labels.length + 1) * bytes;
    if (end > limitBytes)
      throw new SottoError('resource', `the pictures take more than ${limitBytes} bytes`, {
        place: { file: stream.file, field: picture.place },
        remedy: 'limit their number, or raise the limit',
      });
    if (end > pixels.length) {
      const grown = new Uint8Array(Math.min(Math.max(2 * pixels.length, 1024 * bytes), Math.max(end, limitBytes)));
      grown.set(pixels);
      pixels = grown;
    }
    pixels.set(picture.data, end - bytes);
    labels.push(picture.label);
    if (labels.length >= limit) break;
  }
  if (first === undefined)
    throw new SottoError('input', 'there are no pictures', {
      place: { file: stream.file },
      remedy: 'check the path and the part of the archive that was asked for',
    });
  const { width, height, channels } = first;
  const kept = pixels.slice(0, labels.length * first.data.length);
  return {
    count: labels.length,
    width,
    height,
    channels,
    pixels: kept,
    labels: Uint16Array.from(labels),
    classes: stream.classes,
  };
}

/** One picture of a set; its bytes are a view. */
export function pictureAt(set: PictureSet, index: number): Picture {
  const bytes = set.width * set.height * set.channels;
  const { width, height, channels } = set;
  const data = set.pixels.subarray(index * bytes, (index + 1) * bytes);
  return { width, height, channels, data, label: set.labels[index]!, place: `picture ${index}` };
}

function fitted(file: string, picture: Picture, { width, height }: { width: number; height: number }): Picture {
  if (picture.width === width && picture.height === height) return picture;
  const found = `${picture.width} × ${picture.height} pixels where ${width} × ${height} are due`;
  if (picture.channels === 1) throw brokenRow(file, picture.place, found);
  return { ...picture, ...resizeImage(picture, width, height, 'linear') };
}
