import { readFile } from 'node:fs/promises';
import { SottoError } from '../errors/index.ts';
import { parseModelConfig } from '../models/config.ts';
import { readJson } from '../models/json.ts';
import { parsePreprocessor, preprocess } from '../models/preprocess.ts';
import { loadImage } from '../node/images.ts';
import type { Tensor } from '../program/index.ts';
import type { Control } from './control.ts';
import { manifestFiles } from './manifest.ts';

/** A picture's pixel values (C, H, W) as the model's preprocessor makes them: the client does this from the public manifest. */
export async function readPixels(image: string, manifest: Control<'manifest'>): Promise<Tensor> {
  const files = manifestFiles(manifest);
  const preprocessor = parsePreprocessor(await readJson(files, 'preprocessor_config.json', 2 ** 20));
  const bytes = await readFile(image).catch((cause: unknown) => {
    throw new SottoError('input', 'the picture cannot be read', {
      place: { file: image },
      remedy: 'name an existing JPEG or PNG file',
      cause,
    });
  });
  const config = parseModelConfig(manifest.config);
  return preprocess(await loadImage(bytes, image), preprocessor, config.family === 'vit' ? config.numChannels : 3);
}
