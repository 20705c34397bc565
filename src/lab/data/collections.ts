import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SottoError } from '../../errors/index.ts';
import { asError } from '../../node/files.ts';
import { loadImage } from '../../pictures/index.ts';
import type { Picture, PictureStream } from './pictures.ts';
import { readTar } from './tar.ts';

/** Which pictures of a folder or archive are read, and how their classes are numbered. */
export interface CollectionOptions {
  /** Only entries below this folder: `train`. All where absent. */
  readonly under?: string | undefined;
  /** Class names by id; those found where absent: in numeric order where all are numbers, else in alphabetic order. */
  readonly classes?: readonly string[] | undefined;
}

const pictureName = /\.(jpe?g|png|webp|gif|bmp)$/i;
/** Files that are read ahead of the picture that is being decoded. */
const decodedAtOnce = 16;

/** Pictures in `…/class/name.jpg` (JPEG, PNG, WebP, GIF or BMP), decoded to colour, in alphabetic order. Other files are passed over. */
export async function readPictureFolder(folder: string, options: CollectionOptions = {}): Promise<PictureStream> {
  const listed = await readdir(folder, { recursive: true, withFileTypes: true }).catch((cause) =>
    Promise.reject(asError('.', folder, cause)),
  );
  const names = listed
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(join(folder, '/').length).replaceAll('\\', '/'))
    .filter((name) => wanted(name, options))
    .sort();
  const classes = options.classes ?? classesOf(folder, names);
  const ids = idsOf(classes);
  return {
    file: folder,
    classes,
    pictures: () =>
      decodedInOrder(folder, async function* () {
        for (const name of names) {
          const label = labelOf(folder, name, ids);
          yield {
            name,
            label,
            bytes: readFile(join(folder, name)).catch((cause) => Promise.reject(asError(folder, name, cause))),
          };
        }
      }),
  };
}

/** The same out of a .tar or .tar.gz, in its order. Without `classes` the archive is read once more, for their names. */
export async function readPictureTar(path: string, options: CollectionOptions = {}): Promise<PictureStream> {
  let { classes } = options;
  if (classes === undefined) {
    const names: string[] = [];
    for await (const { name } of readTar(path)) if (wanted(name, options)) names.push(name);
    classes = classesOf(path, names);
  }
  const ids = idsOf(classes);
  return {
    file: path,
    classes,
    pictures: () =>
      decodedInOrder(path, async function* () {
        for await (const entry of readTar(path)) {
          if (!wanted(entry.name, options)) continue;
          yield { name: entry.name, label: labelOf(path, entry.name, ids), bytes: Promise.resolve(await entry.read()) };
        }
      }),
  };
}

interface Encoded {
  readonly name: string;
  readonly label: number;
  readonly bytes: Promise<Uint8Array>;
}

async function* decodedInOrder(file: string, encoded: () => AsyncGenerator<Encoded>): AsyncGenerator<Picture> {
  const waiting: Promise<Picture>[] = [];
  const decode = async ({ name, label, bytes }: Encoded): Promise<Picture> => {
    const { width, height, data } = await loadImage(await bytes, `${file}: ${name}`);
    return { width, height, channels: 3, data, label, place: name };
  };
  for await (const one of encoded()) {
    const made = decode(one);
    // Whoever waits for it sees the failure; until then it must not count as unhandled.
    made.catch(() => undefined);
    waiting.push(made);
    if (waiting.length >= decodedAtOnce) yield await waiting.shift()!;
  }
  for (const made of waiting) yield await made;
}

const parts = (name: string): string[] => name.split('/').filter((part) => part !== '' && part !== '.');

function wanted(name: string, { under }: CollectionOptions): boolean {
  const folders = parts(name);
  if (!pictureName.test(name) || folders.at(-1)!.startsWith('._') || folders.length < 2) return false;
  const above = under === undefined ? [] : parts(under);
  return above.every((part, at) => folders[at] === part);
}

const classOf = (name: string): string => parts(name).at(-2)!;

function classesOf(file: string, names: readonly string[]): string[] {
  const found = [...new Set(names.map(classOf))].sort();
  // Where all are numbers, 10 comes behind 9, not behind 1.
  if (found.every((name) => /^\d+$/.test(name))) found.sort((one, other) => Number(one) - Number(other));
  if (found.length > 0 && found.length <= 2 ** 16) return found;
  throw new SottoError('input', found.length === 0 ? 'there are no pictures in folders of classes' : 'too many classes', {
    place: { file },
    remedy: 'pictures are expected as class/name.jpg, below the folder asked for',
  });
}

const idsOf = (classes: readonly string[]): Map<string, number> => new Map(classes.map((name, id) => [name, id]));

function labelOf(file: string, name: string, ids: ReadonlyMap<string, number>): number {
  const label = ids.get(classOf(name));
  if (label !== undefined) return label;
  throw new SottoError('input', `the folder ${JSON.stringify(classOf(name))} is none of the ${ids.size} classes`, {
    place: { file, field: name },
    remedy: 'name all classes, or only the part of the data that has them',
  });
}
