import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RgbImage } from '../../src/pictures/index.ts';

/** Written by pillow.py: a picture file in base64, and SHA-256 of what Pillow reads of it; null where Pillow refuses it. */
export const golden: { readonly pillow: string; readonly pictures: Readonly<Record<string, readonly [string, string | null]>> } =
  JSON.parse(readFileSync(join(import.meta.dirname, 'pictures.golden.json'), 'utf8'));

/** What Pillow reads and sotto refuses by name (docs/pictures.md). */
export const unread = /arithmetic|^tiff|\bbmp.*-rle/;

/** Width and height (32 bits each, least byte first), then red, green and blue bytes. */
export function rgbFile({ width, height, data }: RgbImage): Uint8Array {
  const bytes = new Uint8Array(8 + data.length);
  new Uint32Array(bytes.buffer, 0, 2).set([width, height]);
  bytes.set(data, 8);
  return bytes;
}

export const hashOf = (image: RgbImage): string => createHash('sha256').update(rgbFile(image)).digest('hex');
