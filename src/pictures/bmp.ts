import { badPicture, checkExtent, PictureBytes, type RgbImage } from './image.ts';

/** Positions of red, green and blue in a pixel of 16 or 32 bits. */
type Masks = readonly [number, number, number];
const usual: Readonly<Record<number, Masks>> = { 16: [0x7c00, 0x3e0, 0x1f], 32: [0xff0000, 0xff00, 0xff] };

/** An uncompressed BMP file of 1, 4, 8, 16, 24 or 32 bits a pixel → red, green and blue bytes. */
export function decodeBmp(file: string, bytes: Uint8Array): RgbImage {
  const from = new PictureBytes(file, bytes);
  const size = from.little(14, 4);
  const early = size === 12;
  if (!early && (size < 40 || size > 124)) throw badPicture(file, `has a header of ${size} bytes, which is not read`);
  const signed = (at: number): number => from.little(at, 4) | 0;
  const [width, tall] = early ? [from.little(18, 2), from.little(20, 2)] : [signed(18), signed(22)];
  const [height, upward] = [Math.abs(tall), tall > 0];
  checkExtent(file, width, height);
  const bits = from.little(early ? 24 : 28, 2);
  const packing = early ? 0 : from.little(30, 4);
  const fields = packing === 3 || packing === 6;
  if (packing !== 0 && !(fields && (bits === 16 || bits === 32)))
    throw badPicture(file, `is a BMP file that is packed (${packing}), which is not read`);
  if (![1, 4, 8, 16, 24, 32].includes(bits)) throw badPicture(file, `has ${bits} bits a pixel`);
  const masks: Masks | undefined = fields ? [from.little(54, 4), from.little(58, 4), from.little(62, 4)] : usual[bits];
  const colours =
    bits > 8 ? undefined : paletteOf(from, { at: 14 + size, count: early ? 0 : from.little(46, 4), bits, entry: early ? 3 : 4 });
  const row = 4 * Math.ceil((width * bits) / 32);
  const start = from.little(10, 4);
  from.part(start, start + row * height);
  const data = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    const line = start + row * (upward ? height - 1 - y : y);
    for (let x = 0, to = 3 * y * width; x < width; x++, to += 3) {
      if (colours !== undefined) {
        const number = (bytes[line + ((x * bits) >> 3)]! >> (8 - bits - ((x * bits) & 7))) & (2 ** bits - 1);
        for (let colour = 0; colour < 3; colour++) data[to + colour] = colours[3 * number + colour]!;
      } else if (masks === undefined) {
        for (let colour = 0; colour < 3; colour++) data[to + colour] = bytes[line + 3 * x + 2 - colour]!;
      } else {
        const at = line + (x * bits) / 8;
        const pixel = bits === 16 ? bytes[at]! + 256 * bytes[at + 1]! : from.little(at, 4);
        for (let colour = 0; colour < 3; colour++) data[to + colour] = field(pixel, masks[colour]!);
      }
    }
  }
  return { width, height, data };
}

/** A field of some bits of a pixel → 8 bits. */
function field(pixel: number, mask: number): number {
  if (mask === 0) return 0;
  const lowest = mask & -mask;
  const most = (mask >>> 0) / (lowest >>> 0);
  return Math.floor((((pixel & mask) >>> 0) / (lowest >>> 0)) * (255 / most));
}

function paletteOf(
  from: PictureBytes,
  { at, count, bits, entry }: { at: number; count: number; bits: number; entry: number },
): Uint8Array {
  const known = count === 0 ? 2 ** bits : count;
  if (known > 256) throw badPicture(from.file, `has a palette of ${known} colours`);
  const palette = new Uint8Array(768);
  for (let number = 0; number < known; number++)
    for (let colour = 0; colour < 3; colour++) palette[3 * number + colour] = from.byte(at + entry * number + 2 - colour);
  return palette;
}
