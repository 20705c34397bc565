import { stat } from 'node:fs/promises';
import { SottoError } from '../../errors/index.ts';
import { asError } from '../../node/files.ts';
import { ByteReader, brokenRow, fileBytes } from './bytes.ts';
import { checkLabel, type Picture, type PictureStream } from './pictures.ts';

const extentLimit = 2 ** 14;
const countLimit = 2 ** 28;

/**
 * MNIST's format: a file of pictures (count, height, width) and one of labels (count), each IDX with unsigned bytes, packed with gzip
 * or not. Grey pictures. Files of different lengths, a label beyond `classes` and a file that ends early are `input` errors.
 */
export function readIdx(images: string, labels: string, { classes = 10 }: { classes?: number } = {}): PictureStream {
  return { file: images, classes: numbered(classes), pictures: () => idxPictures(images, labels, classes) };
}

async function* idxPictures(images: string, labels: string, classes: number): AsyncGenerator<Picture> {
  const [pixels, names] = [new ByteReader(fileBytes(images), images), new ByteReader(fileBytes(labels), labels)];
  try {
    const [count, height, width] = (await idxHeader(images, pixels, 3)) as [number, number, number];
    const [named] = await idxHeader(labels, names, 1);
    if (named !== count) throw brokenRow(labels, '(header)', `${named} labels for ${count} pictures`);
    for (let index = 0; index < count; index++) {
      const place = `picture ${index}`;
      const data = await pixels.need(height * width, place);
      const label = checkLabel(labels, `label ${index}`, (await names.need(1, `label ${index}`))[0]!, classes);
      yield { width, height, channels: 1, data, label, place };
    }
    if ((await pixels.take(1, '(end)')) !== null) throw brokenRow(images, '(end)', `bytes follow the ${count} pictures`);
    if ((await names.take(1, '(end)')) !== null) throw brokenRow(labels, '(end)', `bytes follow the ${count} labels`);
  } finally {
    await pixels.close();
    await names.close();
  }
}

async function idxHeader(file: string, reader: ByteReader, rank: number): Promise<number[]> {
  const magic = await reader.need(4, '(header)');
  if (magic[0] !== 0 || magic[1] !== 0) throw brokenRow(file, '(header)', 'the file is not in IDX format');
  if (magic[2] !== 8) throw brokenRow(file, '(header)', `values of type ${magic[2]} where unsigned bytes (8) are due`);
  if (magic[3] !== rank) throw brokenRow(file, '(header)', `${magic[3]} dimensions where ${rank} are due`);
  const bytes = await reader.need(4 * rank, '(header)');
  const extents = Array.from({ length: rank }, (_, at) => new DataView(bytes.buffer).getUint32(4 * at));
  const sound = extents.every((extent, at) => (at === 0 ? extent <= countLimit : extent >= 1 && extent <= extentLimit));
  if (!sound) throw brokenRow(file, '(header)', `dimensions of ${extents.join(' × ')}`);
  return extents;
}

/** How the bytes of a CIFAR file are read. */
export interface CifarOptions {
  /** Bytes before the pixels: 1 for CIFAR-10; 2 (coarse, fine) for CIFAR-100. */
  readonly format: 'cifar10' | 'cifar100';
  /** CIFAR-100's label: 100 fine classes unless told. */
  readonly labels?: 'fine' | 'coarse' | undefined;
  readonly classes?: readonly string[] | undefined;
}

const side = 32;
const plane = side * side;

/** The binary batches of CIFAR-10 or CIFAR-100, one after the other: label bytes and three planes of 32 × 32 bytes a record. */
export function readCifar(files: readonly string[], options: CifarOptions): PictureStream {
  const fine = options.labels !== 'coarse';
  const count = options.format === 'cifar10' ? 10 : fine ? 100 : 20;
  const classes = options.classes ?? numbered(count);
  if (classes.length !== count)
    throw new SottoError('usage', `${classes.length} names for ${count} classes`, {
      place: { field: 'classes' },
      remedy: 'name every class once',
    });
  const [labelBytes, labelAt] = options.format === 'cifar10' ? [1, 0] : [2, fine ? 1 : 0];
  return {
    file: files.join(', '),
    classes,
    pictures: async function* () {
      for (const file of files) yield* cifarRecords(file, labelBytes!, labelAt!, count);
    },
  };
}

async function* cifarRecords(file: string, labelBytes: number, labelAt: number, classes: number): AsyncGenerator<Picture> {
  await stat(file).catch((cause) => Promise.reject(asError('.', file, cause)));
  const reader = new ByteReader(fileBytes(file), file);
  try {
    for (let index = 0; ; index++) {
      const place = `record ${index}`;
      const record = await reader.take(labelBytes + 3 * plane, place);
      if (record === null) return;
      const label = checkLabel(file, place, record[labelAt]!, classes);
      const data = new Uint8Array(3 * plane);
      for (let colour = 0; colour < 3; colour++) {
        const start = labelBytes + colour * plane;
        for (let pixel = 0; pixel < plane; pixel++) data[3 * pixel + colour] = record[start + pixel]!;
      }
      yield { width: side, height: side, channels: 3, data, label, place };
    }
  } finally {
    await reader.close();
  }
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, id) => String(id));
