import { checkSum } from './crc.ts';
import { badPicture, checkExtent, PictureBytes, type RgbImage } from './image.ts';
import { type Inflated, inflated } from './inflate.ts';

interface Header {
  readonly width: number;
  readonly height: number;
  readonly depth: 1 | 2 | 4 | 8 | 16;
  readonly kind: Kind;
  readonly interlaced: boolean;
}
const kinds = { 0: 'grey', 2: 'colour', 3: 'palette', 4: 'greyAlpha', 6: 'colourAlpha' } as const;
type Kind = (typeof kinds)[keyof typeof kinds];
const samples: Readonly<Record<Kind, number>> = { grey: 1, colour: 3, palette: 1, greyAlpha: 2, colourAlpha: 4 };
const depths: Readonly<Record<Kind, readonly number[]>> = {
  grey: [1, 2, 4, 8, 16],
  colour: [8, 16],
  palette: [1, 2, 4, 8],
  greyAlpha: [8, 16],
  colourAlpha: [8, 16],
};

/** Adam7's passes: first column and row, and the steps between. */
const passes = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

/**
 * A PNG file → red, green and blue bytes as Pillow's `convert('RGB')` has them: gamma, profile and transparency are passed over, 16 bits
 * keep the upper 8 (grey of 16 bits without alpha is cut off at 255). Rows are unpacked one by one, so that nothing beyond the
 * picture's own bytes is ever held, whatever the stream would unpack to.
 *
 * Of our own, because the libraries that a page can use unpack the whole stream before they look at its length.
 */
export async function decodePng(file: string, bytes: Uint8Array): Promise<RgbImage> {
  const { header, palette, data } = chunksOf(new PictureBytes(file, bytes));
  const { width, height } = header;
  if (header.kind === 'palette' && palette === undefined) throw badPicture(file, 'has no palette');
  const image = new Uint8Array(3 * width * height);
  const rows = inflated(file, data);
  try {
    await unpackRows(file, header, palette, rows, image);
  } finally {
    await rows.end();
  }
  return { width, height, data: image };
}

async function unpackRows(
  file: string,
  header: Header,
  palette: Uint8Array | undefined,
  rows: Inflated,
  image: Uint8Array,
): Promise<void> {
  const { width, height, interlaced } = header;
  for (const [left, top, across, down] of interlaced ? passes : [[0, 0, 1, 1] as const]) {
    const columns = Math.ceil((width - left) / across);
    if (columns <= 0) continue;
    const bits = header.depth * samples[header.kind];
    let [row, above] = [new Uint8Array(1 + Math.ceil((columns * bits) / 8)), new Uint8Array(1 + Math.ceil((columns * bits) / 8))];
    for (let y = top; y < height; y += down) {
      await rows.fill(row);
      unfilter(file, row, above, Math.max(1, bits >> 3));
      spread(row, header, palette, image, { at: 3 * (y * width + left), step: 3 * across, columns });
      [row, above] = [above, row];
    }
  }
}

function chunksOf(from: PictureBytes): { header: Header; palette: Uint8Array | undefined; data: Uint8Array[] } {
  const { file, bytes } = from;
  let header: Header | undefined;
  let palette: Uint8Array | undefined;
  const data: Uint8Array[] = [];
  for (let at = 8; ; ) {
    // What follows the picture's data may be missing.
    if (data.length > 0 && at + 12 > bytes.length) break;
    const [length, name] = [from.big(at, 4), from.letters(at + 4, 4)];
    const content = from.part(at + 8, at + 8 + length);
    if (data.length > 0 && name !== 'IDAT') break;
    if (checkSum(bytes.subarray(at + 4, at + 8 + length)) !== from.big(at + 8 + length, 4))
      throw badPicture(file, `is damaged: the check sum of the part at byte ${at} is wrong`);
    if (header === undefined && name !== 'IHDR') throw badPicture(file, 'does not begin with its header');
    if (name === 'IHDR') header = headerOf(from, at + 8, length);
    else if (name === 'PLTE') palette = paletteOf(file, content);
    else if (name === 'IDAT') data.push(content);
    else if (name === 'IEND') break;
    at += 12 + length;
  }
  if (header === undefined || data.length === 0) throw badPicture(file, 'has no data');
  return { header, palette, data };
}

function headerOf(from: PictureBytes, at: number, length: number): Header {
  const { file } = from;
  if (length !== 13) throw badPicture(file, 'has a header of the wrong length');
  const [width, height, depth, code] = [from.big(at, 4), from.big(at + 4, 4), from.byte(at + 8), from.byte(at + 9)];
  checkExtent(file, width, height);
  const kind = Object.hasOwn(kinds, code) ? kinds[code as keyof typeof kinds] : undefined;
  if (kind === undefined || !depths[kind].includes(depth))
    throw badPicture(file, `has ${depth} bits a sample in the colours of number ${code}, which PNG does not know`);
  const [compression, filter, interlace] = [from.byte(at + 10), from.byte(at + 11), from.byte(at + 12)];
  if (compression !== 0 || filter !== 0 || interlace > 1)
    throw badPicture(file, 'has a compression, filter or order that PNG does not know');
  return { width, height, depth: depth as Header['depth'], kind, interlaced: interlace === 1 };
}

/** 256 colours; those that the file does not name are black, as in Pillow. */
function paletteOf(file: string, content: Uint8Array): Uint8Array {
  if (content.length % 3 !== 0 || content.length > 768) throw badPicture(file, `has a palette of ${content.length} bytes`);
  const palette = new Uint8Array(768);
  palette.set(content);
  return palette;
}

/** Undoes a row's filter; the first byte of `row` and `above` is the filter's number, `pixel` the bytes of a pixel. */
function unfilter(file: string, row: Uint8Array, above: Uint8Array, pixel: number): void {
  const filter = row[0]!;
  if (filter > 4) throw badPicture(file, `is damaged: no filter has the number ${filter}`);
  for (let at = 1; at < row.length; at++) {
    const left = at > pixel ? row[at - pixel]! : 0;
    const up = above[at]!;
    if (filter === 1) row[at]! += left;
    else if (filter === 2) row[at]! += up;
    else if (filter === 3) row[at]! += (left + up) >> 1;
    else if (filter === 4) row[at]! += nearest(left, up, at > pixel ? above[at - pixel]! : 0);
  }
}

/** Paeth's predictor. */
function nearest(left: number, up: number, corner: number): number {
  const [toLeft, toUp, toCorner] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

interface Places {
  readonly at: number;
  readonly step: number;
  readonly columns: number;
}

/** One row's samples to their places in the picture. */
function spread(
  row: Uint8Array,
  { depth, kind }: Header,
  palette: Uint8Array | undefined,
  image: Uint8Array,
  places: Places,
): void {
  const { step, columns } = places;
  const stride = samples[kind];
  const coloured = kind === 'colour' || kind === 'colourAlpha';
  for (let column = 0, to = places.at; column < columns; column++, to += step) {
    const from = 1 + ((column * depth * stride) >> 3);
    if (coloured) {
      for (let colour = 0; colour < 3; colour++) image[to + colour] = row[from + (colour * depth) / 8]!;
      continue;
    }
    const value = sample(row, from, column, depth, kind);
    if (kind === 'palette') for (let colour = 0; colour < 3; colour++) image[to + colour] = palette![3 * value + colour]!;
    else image.fill(value, to, to + 3);
  }
}

/** A grey of 8 bits, or the number of a colour. */
function sample(row: Uint8Array, from: number, column: number, depth: Header['depth'], kind: Kind): number {
  if (depth === 16) return kind === 'grey' && row[from] !== 0 ? 255 : row[kind === 'grey' ? from + 1 : from]!;
  if (depth === 8) return row[from]!;
  const most = 2 ** depth - 1;
  const value = (row[from]! >> (8 - depth - ((column * depth) & 7))) & most;
  return kind === 'palette' ? value : (value * 255) / most;
}
