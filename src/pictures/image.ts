import { SottoError } from '../errors/index.ts';

/** A picture in memory: rows of pixels, three bytes (red, green, blue) each. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/**
 * Pictures of more pixels are refused before anything is taken for them. A decoder's memory is at most 20 bytes a pixel (a progressive
 * JPEG of four components) and the file twice.
 */
export const pixelLimit = 100_000_000;

const remedy = `give a JPEG, PNG, WebP, GIF or BMP picture of at most ${pixelLimit} pixels`;

/** An `input` error of a picture: `reason` completes "the picture …". */
export function badPicture(file: string, reason: string, cause?: unknown): SottoError {
  return new SottoError('input', `the picture ${reason}`, { place: { file }, remedy, cause });
}

/** Throws where a picture has no pixels or more than are read. */
export function checkExtent(file: string, width: number, height: number): void {
  if (width < 1 || height < 1) throw badPicture(file, `has no pixels: ${width} × ${height}`);
  if (width * height > pixelLimit) throw badPicture(file, `is too large: ${width} × ${height} pixels`);
}

/** Whole numbers of a file's bytes, in either order. Past the end they throw, as a picture that is cut short. */
export class PictureBytes {
  readonly file: string;
  readonly bytes: Uint8Array;
  constructor(file: string, bytes: Uint8Array) {
    this.file = file;
    this.bytes = bytes;
  }

  byte(at: number): number {
    if (at < 0 || at >= this.bytes.length) throw badPicture(this.file, 'is cut short');
    return this.bytes[at]!;
  }

  /** Least significant byte first. */
  little(at: number, size: 2 | 3 | 4): number {
    let value = 0;
    for (let place = size - 1; place >= 0; place--) value = value * 256 + this.byte(at + place);
    return value;
  }

  /** Most significant byte first. */
  big(at: number, size: 2 | 4): number {
    let value = 0;
    for (let place = 0; place < size; place++) value = value * 256 + this.byte(at + place);
    return value;
  }

  /** Four or so letters, as they stand. */
  letters(at: number, count: number): string {
    return String.fromCharCode(...Array.from({ length: count }, (_, place) => this.byte(at + place)));
  }

  part(start: number, end: number): Uint8Array {
    if (end > this.bytes.length) throw badPicture(this.file, 'is cut short');
    return this.bytes.subarray(start, end);
  }
}
