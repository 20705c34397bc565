import sharp from 'sharp';
import { SottoError } from '../errors/index.ts';
import type { RgbImage } from '../models/preprocess.ts';

/** Larger pictures are refused before they are unpacked. */
const pixelLimit = 100_000_000;

/** The bytes of a picture file (JPEG, PNG, WebP, …) → red, green and blue bytes; transparency is dropped, rotation marks ignored. */
export async function loadImage(bytes: Uint8Array, file = 'picture'): Promise<RgbImage> {
  try {
    const image = sharp(bytes, { limitInputPixels: pixelLimit, failOn: 'error', animated: false });
    return await rgb(image.toColourspace('srgb').removeAlpha());
  } catch (cause) {
    throw new SottoError('input', `the picture cannot be read: ${String((cause as Error)?.message ?? cause).slice(0, 200)}`, {
      place: { file },
      remedy: `give a JPEG, PNG or WebP picture of at most ${pixelLimit} pixels`,
      cause,
    });
  }
}

async function rgb(image: ReturnType<typeof sharp>): Promise<RgbImage> {
  const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  if (channels === 3) return { width, height, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
  // Grey pictures may keep a single channel.
  const tripled = new Uint8Array(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel++) tripled.fill(data[pixel * channels]!, 3 * pixel, 3 * pixel + 3);
  return { width, height, data: tripled };
}
