import { decodeBmp } from './bmp.ts';
import { decodeGif } from './gif.ts';
import { badPicture, type RgbImage } from './image.ts';
import { decodeJpeg } from './jpeg.ts';
import { decodePng } from './png.ts';
import { decodeWebp } from './webp.ts';

export { encodePng } from './encode-png.ts';
export { pixelLimit, type RgbImage } from './image.ts';

/** What a file is, by its first bytes; names of what is not read, so that the refusal can say it. */
const signatures: readonly (readonly [name: string, at: number, bytes: string])[] = [
  ['JPEG', 0, '\xff\xd8\xff'],
  ['PNG', 0, '\x89PNG\r\n\x1a\n'],
  ['WebP', 8, 'WEBP'],
  ['GIF', 0, 'GIF87a'],
  ['GIF', 0, 'GIF89a'],
  ['BMP', 0, 'BM'],
  ['TIFF', 0, 'II*\0'],
  ['TIFF', 0, 'MM\0*'],
  ['AVIF', 4, 'ftypavi'],
  ['HEIF', 4, 'ftyp'],
  ['JPEG 2000', 4, 'jP  '],
  ['JPEG 2000', 0, '\xff\x4f\xff\x51'],
  ['JPEG XL', 4, 'JXL '],
  ['JPEG XL', 0, '\xff\x0a'],
  ['Photoshop', 0, '8BPS'],
  ['SVG', 0, '<svg'],
  ['Git LFS pointer', 0, 'version https://git-lfs'],
];

/**
 * The bytes of a picture file → red, green and blue bytes: what Pillow's `Image.open(file).convert('RGB')` gives, in Node and in a page
 * by the same code. Colour profiles, gamma and rotation marks (Exif) are passed over and transparency is dropped, not blended; of an animation the
 * first frame is taken. Throws an `input` error for anything damaged, cut short, too large or of another format.
 */
export async function loadImage(bytes: Uint8Array, file = 'picture'): Promise<RgbImage> {
  const found = signatures.find(([, at, letters]) =>
    [...letters].every((letter, place) => bytes[at + place] === letter.charCodeAt(0)),
  );
  switch (found?.[0]) {
    case 'JPEG':
      return decodeJpeg(file, bytes);
    case 'PNG':
      return await decodePng(file, bytes);
    case 'WebP':
      return decodeWebp(file, bytes);
    case 'GIF':
      return decodeGif(file, bytes);
    case 'BMP':
      return decodeBmp(file, bytes);
    default:
      throw badPicture(file, found === undefined ? 'is of no known format' : `is a ${found[0]} file, which is not read`);
  }
}
