import { SottoError } from '../errors/index.ts';
import type { RgbImage } from '../models/index.ts';
import type { Control } from '../party/control.ts';
import { manifestPixels } from '../party/manifest.ts';
import type { Tensor } from '../program/index.ts';

/** A picture file, or anything that a canvas draws. */
export type Picture = ImageBitmapSource;

/** The pixel values that the public manifest asks for. The browser decodes; resizing is the library's own, as in Node. */
export async function picturePixels(picture: Picture, manifest: Control<'manifest'>): Promise<Tensor> {
  return await manifestPixels(manifest, await decode(picture));
}

async function decode(picture: Picture): Promise<RgbImage> {
  // The bytes as they lie in the file: neither its colour profile nor a premultiplied alpha may change them.
  const options = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' } as const;
  const bitmap = await createImageBitmap(picture, options).catch((cause: unknown) => {
    throw new SottoError('input', 'the picture cannot be decoded', { remedy: 'give a JPEG or PNG file', cause });
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d')!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel++)
    for (let channel = 0; channel < 3; channel++) data[3 * pixel + channel] = rgba[4 * pixel + channel]!;
  return { width, height, data };
}
