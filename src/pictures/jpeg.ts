import { SottoError } from '../errors/index.ts';
import { badPicture, checkExtent, PictureBytes, type RgbImage } from './image.ts';
import { type DecoderExports, decoder, given, room } from './module.ts';

/** TurboJPEG's calls, as libjpeg-turbo documents them. */
interface TurboJpeg extends DecoderExports {
  tjInitDecompress(): number;
  tjDecompress2(
    handle: number,
    file: number,
    bytes: number,
    to: number,
    width: number,
    pitch: number,
    height: number,
    format: number,
    flags: number,
  ): number;
}
const formats = { rgb: 0, cmyk: 11 } as const;

interface JpegHeader {
  readonly width: number;
  readonly height: number;
  readonly components: number;
}

/** More scans than any writer makes: each is a walk over the whole picture. */
const mostScans = 500;

const frames: Readonly<Record<number, string>> = {
  195: 'lossless',
  197: 'hierarchical',
  198: 'hierarchical',
  199: 'hierarchical',
  201: 'arithmetically coded',
  202: 'arithmetically coded',
  203: 'arithmetically coded',
  205: 'hierarchical',
  206: 'hierarchical',
  207: 'hierarchical',
};

/** Looks through the markers of a JPEG file up to its end, which a file that is cut short does not have; scans are passed over. */
function jpegHeader(file: string, bytes: Uint8Array): JpegHeader {
  const from = new PictureBytes(file, bytes);
  let frame: JpegHeader | undefined;
  let scans = 0;
  for (let at = 2; ; ) {
    // Stray bytes before a marker are passed over, as the decoder does.
    while (from.byte(at) !== 0xff || from.byte(at + 1) === 0 || from.byte(at + 1) === 0xff) at++;
    const code = from.byte(at + 1);
    at += 2;
    if (code === 0xd9) break;
    if ((code >= 0xd0 && code <= 0xd8) || code === 0x01) continue;
    const end = at + from.big(at, 2);
    from.byte(end - 1);
    if (code >= 0xc0 && code <= 0xcf && code !== 0xc4 && code !== 0xc8 && code !== 0xcc) {
      if (frames[code] !== undefined) throw badPicture(file, `is a JPEG that is ${frames[code]}, which is not read`);
      if (frame !== undefined) throw badPicture(file, 'has two frames');
      frame = frameOf(from, at);
    }
    if (code === 0xda && ++scans > mostScans) throw badPicture(file, `has more than ${mostScans} scans`);
    at = end;
  }
  if (frame === undefined || scans === 0) throw badPicture(file, 'is a JPEG without a picture');
  return frame;
}

function frameOf(from: PictureBytes, at: number): JpegHeader {
  const { file } = from;
  const depth = from.byte(at + 2);
  if (depth !== 8) throw badPicture(file, `is a JPEG of ${depth} bits a sample, of which 8 are read`);
  const [height, width, components] = [from.big(at + 3, 2), from.big(at + 5, 2), from.byte(at + 7)];
  checkExtent(file, width, height);
  if (![1, 3, 4].includes(components)) throw badPicture(file, `is a JPEG of ${components} components, where 1, 3 or 4 are due`);
  return { width, height, components };
}

/** A JPEG file → red, green and blue bytes, by libjpeg-turbo's accurate transform and smooth upsampling, as Pillow's `convert('RGB')`. */
export function decodeJpeg(file: string, bytes: Uint8Array): RgbImage {
  const header = jpegHeader(file, bytes);
  const { width, height, components } = header;
  if (components === 4) return { width, height, data: inkToRgb(decompress(file, bytes, header, 'cmyk')) };
  return { width, height, data: decompress(file, bytes, header, 'rgb') };
}

function decompress(file: string, bytes: Uint8Array, { width, height }: JpegHeader, format: keyof typeof formats): Uint8Array {
  const jpeg = decoder<TurboJpeg>('jpeg');
  const said = messages(jpeg);
  const pixel = format === 'rgb' ? 3 : 4;
  try {
    const source = given(jpeg, bytes);
    const target = room(jpeg, pixel * width * height);
    const handle = jpeg.tjInitDecompress();
    const failed = jpeg.tjDecompress2(handle, source, bytes.length, target, width, pixel * width, height, formats[format], 0);
    if (failed !== 0 && !harmless.test(said())) throw badPicture(file, `is damaged: ${said()}`);
    return new Uint8Array(jpeg.memory.buffer, target, pixel * width * height).slice();
  } catch (cause) {
    // Everything else is the decoder's own end, or a trap of WebAssembly.
    if (cause instanceof SottoError) throw cause;
    throw badPicture(file, `cannot be decoded${said() === '' ? '' : `: ${said()}`}`, cause);
  }
}

/** Warnings after which the picture is whole: bytes that nothing reads, and versions of markers. */
const harmless = /extraneous bytes before marker|unknown Adobe color transform|unknown JFIF revision/i;

/** What the decoder says: it keeps its last message where "No error" stands when it starts. */
function messages({ memory }: TurboJpeg): () => string {
  const fresh = new Uint8Array(memory.buffer);
  const none = [...'No error\0'].map((letter) => letter.charCodeAt(0));
  const places: number[] = [];
  for (let at = fresh.indexOf(none[0]!); at >= 0; at = fresh.indexOf(none[0]!, at + 1))
    if (none.every((letter, place) => fresh[at + place] === letter)) places.push(at);
  return () => {
    for (const at of places) {
      const now = new Uint8Array(memory.buffer, at, 200);
      const text = String.fromCharCode(...now.subarray(0, Math.max(0, now.indexOf(0))));
      if (text !== 'No error' && text !== '') return text;
    }
    return '';
  };
}

/**
 * Ink (cyan, magenta, yellow, black), inverted as Adobe writes it, → red, green and blue: (255 − k) − c·(255 − k) / 255, which is how
 * Pillow reads every JPEG of four components, whether it names Adobe or not.
 */
function inkToRgb(ink: Uint8Array): Uint8Array {
  const data = new Uint8Array((ink.length / 4) * 3);
  for (let from = 0, to = 0; from < ink.length; from += 4) {
    const light = ink[from + 3]!;
    for (let colour = 0; colour < 3; colour++) {
      const rounded = (255 - ink[from + colour]!) * light + 128;
      data[to++] = Math.max(0, light - (((rounded >> 8) + rounded) >> 8));
    }
  }
  return data;
}
