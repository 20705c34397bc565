import { readFile } from 'node:fs/promises';
import { SottoError } from '../errors/index.ts';
import { loadImage, type RgbImage } from '../pictures/index.ts';

/** A picture file, decoded. Throws an `input` error where it cannot be. */
export async function readImage(image: string): Promise<RgbImage> {
  const bytes = await readFile(image).catch((cause: unknown) => {
    throw new SottoError('input', 'the picture cannot be read', {
      place: { file: image },
      remedy: 'name an existing picture file',
      cause,
    });
  });
  return await loadImage(bytes, image);
}
