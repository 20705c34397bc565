import { SottoError } from '../errors/index.ts';
import { badPicture, checkExtent, PictureBytes, type RgbImage } from './image.ts';
import { type DecoderExports, decoder, given, room } from './module.ts';

interface LibWebp extends DecoderExports {
  /** → the address of width × height × 4 bytes, or 0. Width and height go to the two addresses. */
  WebPDecodeRGBA(file: number, bytes: number, width: number, height: number): number;
}

interface Chunk {
  readonly name: string;
  /** Of its data. */
  readonly start: number;
  readonly end: number;
}

/** A WebP file → red, green and blue bytes, transparency dropped. Of an animation, the canvas with its first frame. */
export function decodeWebp(file: string, bytes: Uint8Array): RgbImage {
  const from = new PictureBytes(file, bytes);
  const end = 8 + from.little(4, 4);
  if (end > bytes.length) throw badPicture(file, 'is cut short');
  const chunks = chunksOf(from, 12, end);
  const extended = chunks[0]!.name === 'VP8X' ? chunks[0]! : undefined;
  const animated = extended !== undefined && (from.byte(extended.start) & 2) !== 0;
  if (!animated) return still(from, chunks, bytes);
  const [width, height] = [1 + from.little(extended.start + 4, 3), 1 + from.little(extended.start + 7, 3)];
  checkExtent(file, width, height);
  const first = chunks.find(({ name }) => name === 'ANMF');
  if (first === undefined) throw badPicture(file, 'is an animation without a frame');
  const frameChunks = chunksOf(from, first.start + 16, first.end);
  const frame = still(from, frameChunks, alone(from, frameChunks));
  return placed(file, frame, { left: 2 * from.little(first.start, 3), top: 2 * from.little(first.start + 3, 3), width, height });
}

function chunksOf(from: PictureBytes, start: number, end: number): Chunk[] {
  const chunks: Chunk[] = [];
  for (let at = start; at + 8 <= end; ) {
    const data = at + 8;
    const size = from.little(at + 4, 4);
    if (data + size > end) throw badPicture(from.file, 'is cut short');
    chunks.push({ name: from.letters(at, 4), start: data, end: data + size });
    at = data + size + (size % 2);
  }
  if (chunks.length === 0) throw badPicture(from.file, 'is a WebP file without a picture');
  return chunks;
}

/** Decodes one picture whose extent has been looked at before anything is taken for it. */
function still(from: PictureBytes, chunks: readonly Chunk[], bytes: Uint8Array): RgbImage {
  const { file } = from;
  const image = chunks.find(({ name }) => name === 'VP8 ' || name === 'VP8L');
  if (image === undefined) throw badPicture(file, 'is a WebP file without a picture');
  const [width, height] = extent(from, image);
  checkExtent(file, width, height);
  const webp = decoder<LibWebp>('webp');
  try {
    const source = given(webp, bytes);
    const found = room(webp, 8);
    const at = webp.WebPDecodeRGBA(source, bytes.length, found, found + 4) >>> 0;
    if (at === 0) throw badPicture(file, 'cannot be decoded');
    const [foundWidth, foundHeight] = new Uint32Array(webp.memory.buffer, found, 2);
    if (foundWidth !== width || foundHeight !== height) throw badPicture(file, 'names two different extents');
    return { width, height, data: opaque(new Uint8Array(webp.memory.buffer, at, 4 * width * height)) };
  } catch (cause) {
    if (cause instanceof SottoError) throw cause;
    throw badPicture(file, 'cannot be decoded', cause);
  }
}

function extent(from: PictureBytes, { name, start }: Chunk): [number, number] {
  if (name === 'VP8 ') return [from.little(start + 6, 2) & 0x3fff, from.little(start + 8, 2) & 0x3fff];
  const packed = from.little(start + 1, 4);
  return [1 + (packed % 2 ** 14), 1 + (Math.floor(packed / 2 ** 14) % 2 ** 14)];
}

/** A frame of an animation as a file of its own. */
function alone(from: PictureBytes, chunks: readonly Chunk[]): Uint8Array {
  const image = chunks.find(({ name }) => name === 'VP8 ' || name === 'VP8L');
  if (image === undefined) throw badPicture(from.file, 'is a WebP file without a picture');
  const alpha = image.name === 'VP8 ' ? chunks.find(({ name }) => name === 'ALPH') : undefined;
  const [width, height] = extent(from, image);
  const parts: Uint8Array[] = [];
  const add = (name: string, data: Uint8Array): void => {
    const head = Uint8Array.from([...name].map((letter) => letter.charCodeAt(0)));
    parts.push(head, little32(data.length), data, new Uint8Array(data.length % 2));
  };
  if (alpha !== undefined) {
    const flags = new Uint8Array(10);
    flags[0] = 0x10;
    flags.set(little32(width - 1).subarray(0, 3), 4);
    flags.set(little32(height - 1).subarray(0, 3), 7);
    add('VP8X', flags);
    add('ALPH', from.part(alpha.start, alpha.end));
  }
  add(image.name, from.part(image.start, image.end));
  const size = parts.reduce((sum, { length }) => sum + length, 0);
  const whole = new Uint8Array(12 + size);
  whole.set([0x52, 0x49, 0x46, 0x46, ...little32(4 + size), 0x57, 0x45, 0x42, 0x50]);
  let at = 12;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const little32 = (value: number): Uint8Array =>
  Uint8Array.of(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, (value >>> 24) & 255);

function opaque(rgba: Uint8Array): Uint8Array {
  const data = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    data[to++] = rgba[from]!;
    data[to++] = rgba[from + 1]!;
    data[to++] = rgba[from + 2]!;
  }
  return data;
}

/** A frame on a canvas of nothing, whose colour is black. */
function placed(
  file: string,
  frame: RgbImage,
  { left, top, width, height }: { left: number; top: number; width: number; height: number },
): RgbImage {
  if (left + frame.width > width || top + frame.height > height) throw badPicture(file, 'has a frame beyond its canvas');
  const data = new Uint8Array(3 * width * height);
  for (let y = 0; y < frame.height; y++)
    data.set(frame.data.subarray(3 * y * frame.width, 3 * (y + 1) * frame.width), 3 * ((top + y) * width + left));
  return { width, height, data };
}
