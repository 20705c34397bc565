import { badPicture, checkExtent, PictureBytes, type RgbImage } from './image.ts';

/** The first frame of a GIF file → red, green and blue bytes. Where no frame is, the transparent colour, or the first one. */
export function decodeGif(file: string, bytes: Uint8Array): RgbImage {
  const from = new PictureBytes(file, bytes);
  const flags = from.byte(10);
  let at = 13;
  let palette: Uint8Array | undefined;
  if ((flags & 0x80) !== 0) {
    palette = paletteOf(from, at, flags);
    at += 3 * 2 ** ((flags & 7) + 1);
  }
  let transparent = 0;
  for (;;) {
    const block = from.byte(at++);
    if (block === 0x2c) break;
    if (block !== 0x21) throw badPicture(file, 'has no frame');
    // A graphic control extension names the transparent colour.
    if (from.byte(at) === 0xf9 && (from.byte(at + 2) & 1) !== 0) transparent = from.byte(at + 5);
    for (at++; from.byte(at) !== 0; ) at += 1 + from.byte(at);
    at++;
  }
  const frame = {
    left: from.little(at, 2),
    top: from.little(at + 2, 2),
    width: from.little(at + 4, 2),
    height: from.little(at + 6, 2),
  };
  const own = from.byte(at + 8);
  at += 9;
  if ((own & 0x80) !== 0) {
    palette = paletteOf(from, at, own);
    at += 3 * 2 ** ((own & 7) + 1);
  }
  // A frame beyond the canvas widens it, as in Pillow.
  const width = Math.max(from.little(6, 2), frame.left + frame.width);
  const height = Math.max(from.little(8, 2), frame.top + frame.height);
  checkExtent(file, width, height);
  const numbers = new Uint8Array(width * height).fill(transparent);
  const rows = (own & 0x40) === 0 ? undefined : interlaced(frame.height);
  const pixels = frame.width * frame.height;
  unpack(from, at, pixels, (pixel, value) => {
    const row = Math.floor(pixel / frame.width);
    numbers[(frame.top + (rows?.[row] ?? row)) * width + frame.left + (pixel % frame.width)] = value;
  });
  const data = new Uint8Array(3 * width * height);
  for (let pixel = 0; pixel < numbers.length; pixel++)
    for (let colour = 0; colour < 3; colour++)
      data[3 * pixel + colour] = palette === undefined ? numbers[pixel]! : palette[3 * numbers[pixel]! + colour]!;
  return { width, height, data };
}

/** 256 colours; those that the file does not name are black, as in Pillow. */
function paletteOf(from: PictureBytes, at: number, flags: number): Uint8Array {
  const palette = new Uint8Array(768);
  palette.set(from.part(at, at + 3 * 2 ** ((flags & 7) + 1)));
  return palette;
}

/** The rows of an interlaced frame in the order of the file. */
function interlaced(height: number): number[] {
  const rows: number[] = [];
  for (const [first, step] of [
    [0, 8],
    [4, 8],
    [2, 4],
    [1, 2],
  ] as const)
    for (let row = first; row < height; row += step) rows.push(row);
  return rows;
}

/** Codes have at most 12 bits. */
const mostCodes = 4096;

/** Lempel, Ziv and Welch's codes in blocks of at most 255 bytes → exactly `count` numbers. */
function unpack(from: PictureBytes, start: number, count: number, put: (pixel: number, value: number) => void): void {
  const { file } = from;
  const firstBits = from.byte(start);
  if (firstBits < 1 || firstBits > 8) throw badPicture(file, `is damaged: its codes begin with ${firstBits} bits`);
  const clear = 2 ** firstBits;
  const before = new Uint16Array(mostCodes);
  const last = new Uint8Array(mostCodes);
  const stack = new Uint8Array(mostCodes);
  for (let code = 0; code < clear; code++) last[code] = code;
  let [at, inBlock, held, bits] = [start + 1, 0, 0, 0];
  let [size, known, previous, first] = [firstBits + 1, clear + 2, -1, 0];
  for (let pixel = 0; pixel < count; ) {
    while (bits < size) {
      if (inBlock === 0) {
        inBlock = from.byte(at++);
        if (inBlock === 0) throw badPicture(file, 'is cut short');
      }
      held |= from.byte(at++) << bits;
      bits += 8;
      inBlock--;
    }
    const code = held & (2 ** size - 1);
    held >>>= size;
    bits -= size;
    if (code === clear) {
      [size, known, previous] = [firstBits + 1, clear + 2, -1];
      continue;
    }
    if (code === clear + 1) throw badPicture(file, 'is cut short');
    if (code > known || (code === known && previous < 0) || (previous < 0 && code >= clear))
      throw badPicture(file, 'is damaged: a code stands for nothing');
    let depth = 0;
    let walk = code;
    if (code === known) {
      stack[depth++] = first;
      walk = previous;
    }
    for (; walk >= clear; walk = before[walk]!) stack[depth++] = last[walk]!;
    first = last[walk]!;
    stack[depth++] = first;
    while (depth > 0 && pixel < count) put(pixel++, stack[--depth]!);
    if (previous >= 0 && known < mostCodes) {
      before[known] = previous;
      last[known++] = first;
      if (known === 2 ** size && size < 12) size++;
    }
    previous = code;
  }
}
