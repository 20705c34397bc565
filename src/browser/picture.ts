import { SottoError } from '../errors/index.ts';
import { loadImage, pixelLimit, type RgbImage } from '../pictures/index.ts';

/**
 * A picture file (`Blob`, `File`), decoded as in Node, or anything that a canvas draws (`ImageBitmapSource`: an image's element, a canvas, an
 * `ImageData`, a frame of a video), taken as the browser shows it. By structure, so that it compiles without the DOM's types.
 */
export type Picture =
  | {
      /** The bytes of a PNG, JPEG or WebP file. */
      arrayBuffer(): Promise<ArrayBuffer>;
    }
  | { readonly width: unknown; readonly height: unknown }
  | { readonly displayWidth: number; readonly displayHeight: number };

/** The picture's colours: files are decoded by the same code as in Node. */
export async function pageImage(picture: Picture): Promise<RgbImage> {
  if (picture instanceof Blob) return await loadImage(new Uint8Array(await picture.arrayBuffer()));
  return picture instanceof ImageData ? opaque(picture) : await drawn(picture);
}

async function drawn(picture: Picture): Promise<RgbImage> {
  // As the bytes lie in the picture: neither its colour profile nor a premultiplied alpha may change them.
  const options = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' } as const;
  const bitmap = await createImageBitmap(picture as ImageBitmapSource, options).catch((cause: unknown) => {
    throw new SottoError('input', 'the picture cannot be drawn', {
      remedy: 'give a picture file, or a picture that is loaded',
      cause,
    });
  });
  const { width, height } = bitmap;
  if (width * height > pixelLimit)
    throw new SottoError('input', `the picture is too large: ${width} × ${height} pixels`, {
      remedy: `give a picture of at most ${pixelLimit} pixels`,
    });
  const context = new OffscreenCanvas(width, height).getContext('2d')!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return opaque(context.getImageData(0, 0, width, height));
}

function opaque({ width, height, data: rgba }: ImageData): RgbImage {
  const data = new Uint8Array(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel++)
    for (let channel = 0; channel < 3; channel++) data[3 * pixel + channel] = rgba[4 * pixel + channel]!;
  return { width, height, data };
}
