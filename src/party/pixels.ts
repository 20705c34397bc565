import { readFile } from 'node:fs/promises';
import { SottoError } from '../errors/index.ts';
import { loadImage } from '../pictures/index.ts';
import type { Tensor } from '../program/index.ts';
import type { Control } from './control.ts';
import { manifestPixels } from './manifest.ts';

/** The same of a file: the client does this from the public manifest. */
export async function readPixels(image: string, manifest: Control<'manifest'>): Promise<Tensor> {
  const bytes = await readFile(image).catch((cause: unknown) => {
    throw new SottoError('input', 'the picture cannot be read', {
      place: { file: image },
      remedy: 'name an existing picture file',
      cause,
    });
  });
  return await manifestPixels(manifest, await loadImage(bytes, image));
}
