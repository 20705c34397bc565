import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { parsePreprocessor, preprocess, type RgbImage } from '../../src/models/preprocess.ts';
import { type ResizeFilter, resizeImage } from '../../src/models/resample.ts';
import { encodePng, loadImage } from '../../src/pictures/index.ts';
import { golden, hashOf, unread } from './golden-pictures.ts';

const shared = process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared');
const noise = (width: number, height: number, channels: number) =>
  Uint8Array.from({ length: width * height * channels }, (_, i) => Math.imul(i, 2654435761) >>> 24);

/** A PNG file of 8-bit colour (kind 2), or of another kind, whose data is given packed. */
function pngOf({ width, height, kind = 2 }: { width: number; height: number; kind?: number }, data: Buffer): Buffer {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, kind, 0, 0, 0]);
  header.writeUInt32BE(width);
  header.writeUInt32BE(height, 4);
  const part = (name: string, content: Buffer): Buffer => {
    const named = Buffer.concat([Buffer.from(name), content]);
    const ends = Buffer.alloc(8);
    ends.writeUInt32BE(content.length);
    ends.writeUInt32BE(crc32(named), 4);
    return Buffer.concat([ends.subarray(0, 4), named, ends.subarray(4)]);
  };
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    part('IHDR', header),
    part('IDAT', data),
    part('IEND', Buffer.alloc(0)),
  ]);
}

/** Pillow 12.3: the picture of 5 × 4 pixels of `noise`, resized by each of its filters. */
const pillow: [string, string][] = [
  ['nearest 3x2', '45e381fa9836af4eeccf6d0c8523c13ad876'],
  [
    'nearest 7x6',
    '009e3cda7817da7817b553f18f2ecc8f2ecc6a08a745e3811fbe5c1fbe5cfa9836d57311d57311af4eec45e3811fbe5c1fbe5cfa9836d57311d57311af4eec8a28c66503a16503a13fde7c1ab8561ab856f593318a28c66503a16503a13fde7c1ab8561ab856f59331cf6d0caa48e6aa48e68523c15ffd9c5ffd9c3ad876',
  ],
  ['lanczos3 3x2', '44a45bb57f6ba23b9b9741966187947bcc5d'],
  [
    'lanczos3 7x6',
    '009440838109ff614da94fff8a37ff7314b56402971ed35544c333ac964ae86797dd50799c349c7a20e45bd29b17ba8541aa57e6b128da9200bb6a64c85aeb8044d76113b64c4c8153ec6319d0458d8d3eff8446b63f60ab209e8422d5517dad22d6975ad86498b93ed67a00c2727ca42bff9110c57dc4a948ff8f23d480',
  ],
  ['linear 3x2', '509b5da97c789c4a958e508b7084907cb76a'],
  [
    'linear 7x6',
    '009e3c7d8827cf6d55b553f19a39d77f1ebc6a08a723c15f56ab4a979053d87694bd5c7aa241968d2bca51c48d3baf785da05ddba442c18a28b86f68bb5acd7e47ba6932a55b558a5ed27044b755859c4de98750ad4b6998369d7d40b962819f48c18464cb6998b654cf6d0cba58899f3ddb8523c16abfa74fed8c3ad876',
  ],
  ['cubic 3x2', '48a359b37d72a03f9a95459166859479c463'],
  [
    'cubic 7x6',
    '009b39828613eb684ab04efd9534ec7716be63019f1dcb5a4cb83d9e9549e06f95cb5575a137998423d853d29225bc7d4aa859e7a733d18b06be6b65bd58e5813dcc6819af53468952e16d27c250849943ff8644b54462a227a17f2fc9597fa534ce8b5cd7659aba48d67400c26185a436f48a17c670caac49ff8e2bdb79',
  ],
  ['box 3x2', '50ae4dd87694a03e9d9b399762819f6bc967'],
  [
    'box 7x6',
    '009e3cda7817da7817b553f18f2ecc8f2ecc6a08a745e3811fbe5c1fbe5cfa9836d57311d57311af4eec45e3811fbe5c1fbe5cfa9836d57311d57311af4eec8a28c66503a16503a13fde7c1ab8561ab856f59331cf6d0caa48e6aa48e68523c15ffd9c5ffd9c3ad876cf6d0caa48e6aa48e68523c15ffd9c5ffd9c3ad876',
  ],
  ['hamming 3x2', '47ac55c078819b3da39a438a67819a78bf64'],
  [
    'hamming 7x6',
    '009e3c908524d6742fb553f19332d08221bf6a08a723c15f5ea847879744d87694b65573a5448d8d2bca47de832ec66b38b55af59a38d47917c5685ab150e7882dc47015ac60209b44dc7a23ba5867a94af39136ad4b699533a58430c062819f41d17d5bce6c98b654cf6d0cb7559ca644e28523c163e5a052f08f3ad876',
  ],
];

describe('pictures', () => {
  it.each(Object.entries(golden.pictures))('have the bytes that Pillow gives, or are refused: %s', async (name, [file, hash]) => {
    const read = loadImage(Buffer.from(file!, 'base64'), name).then(hashOf);
    if (hash === null || unread.test(name)) await expect(read).rejects.toMatchObject({ kind: 'input', place: { file: name } });
    else expect(await read).toBe(hash);
  });

  it('are written without loss', async () => {
    const image = { width: 5, height: 4, data: noise(5, 4, 3) };
    expect(await loadImage(await encodePng(image))).toEqual(image);
  });

  it('that are damaged are input errors or pictures of the extent that they name', async () => {
    const files = Object.values(golden.pictures).map(([file]) => Buffer.from(file!, 'base64'));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...files), fc.nat(2 ** 30), fc.nat(255), fc.boolean(), async (file, at, value, cut) => {
        const position = at % file.length;
        const bytes = cut ? file.subarray(0, position) : Uint8Array.from(file).fill(value, position, position + 1);
        const outcome = await loadImage(bytes).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toMatchObject({ name: 'SottoError', kind: 'input' });
        else expect((outcome as RgbImage).data.length).toBe(3 * (outcome as RgbImage).width * (outcome as RgbImage).height);
      }),
      { numRuns: 400 },
    );
    await expect(loadImage(new Uint8Array(0))).rejects.toMatchObject({ kind: 'input' });
  });

  it('that would take too much memory are refused before they take it', async () => {
    const before = process.memoryUsage().rss;
    const of = (name: string) => Buffer.from(golden.pictures[name]![0]!, 'base64');
    const patched = (name: string, at: number, bytes: number[]) => {
      const file = of(name);
      file.set(bytes, at);
      return file;
    };
    const jpeg = 'jpeg-11x9-q92-s0-baseline.jpg';
    const large = [
      patched(jpeg, of(jpeg).indexOf(Buffer.from([0xff, 0xc0])) + 5, [0xff, 0xdc, 0xff, 0xdc]),
      pngOf({ width: 100_000, height: 100_000 }, deflateSync(Buffer.alloc(100))),
      patched('gif-11x9-16.gif', 6, [0xff, 0xff, 0xff, 0xff]),
      patched('bmp-11x9-RGB.bmp', 18, [0xff, 0xff, 0, 0, 0xff, 0xff]),
      patched('webp-11x9-lossless.webp', 21, [0xff, 0xff, 0xff, 0x0f]),
      patched('webp-11x9-moving.webp', 24, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (const bytes of large) await expect(loadImage(bytes)).rejects.toThrow(/too large: \d+ × \d+ pixels/);
    // A stream that unpacks to a gigabyte behind a picture of four pixels: no more than the picture is unpacked.
    const bomb = pngOf({ width: 2, height: 2 }, deflateSync(Buffer.alloc(2 ** 28)));
    expect((await loadImage(bomb)).data).toEqual(new Uint8Array(12));
    expect(process.memoryUsage().rss - before).toBeLessThan(600e6);
  });

  it('of too many scans, of other formats, or of colours that PNG does not know, are refused by name', async () => {
    const progressive = Buffer.from(golden.pictures['jpeg-11x9-q92-s0-progressive.jpg']![0]!, 'base64');
    const scan = progressive.subarray(progressive.lastIndexOf(Buffer.from([0xff, 0xda])), -2);
    const endless = Buffer.concat([
      progressive.subarray(0, -2),
      ...Array.from({ length: 600 }, () => scan),
      progressive.subarray(-2),
    ]);
    await expect(loadImage(endless)).rejects.toThrow(/more than 500 scans/);
    const heads = {
      TIFF: 'II*\0',
      AVIF: '\0\0\0\x1cftypavif',
      HEIF: '\0\0\0\x1cftypheic',
      'JPEG 2000': '\xff\x4f\xff\x51',
      SVG: '<svg xmlns',
    };
    for (const [name, head] of Object.entries(heads))
      await expect(loadImage(Buffer.from(head.padEnd(40), 'latin1'))).rejects.toThrow(`a ${name} file, which is not read`);
    await expect(loadImage(pngOf({ width: 1, height: 1, kind: 5 }, deflateSync(Buffer.alloc(9))))).rejects.toThrow(
      /does not know/,
    );
  });

  it('shrink and grow to the very bytes that Pillow makes, with each of its filters', () => {
    for (const [name, golden] of pillow) {
      const [filter, width, height] = name.split(/[ x](?=\d)/) as [ResizeFilter, string, string];
      const resized = resizeImage({ width: 5, height: 4, data: noise(5, 4, 3) }, Number(width), Number(height), filter);
      expect(Buffer.from(resized.data).toString('hex'), name).toBe(golden);
    }
  });

  it('become one normalised plane per colour', () => {
    const image: RgbImage = { width: 2, height: 1, data: Uint8Array.from([0, 51, 102, 255, 204, 153]) };
    const preprocessor = parsePreprocessor({
      size: { height: 1, width: 2 },
      image_mean: [0.5, 0.4, 0],
      image_std: [0.5, 0.2, 1],
    });
    const { shape, values } = preprocess(image, preprocessor);
    expect(shape).toEqual([3, 1, 2]);
    [-1, 1, -1, 2, 0.4, 0.6].forEach((expected, i) => {
      expect(values[i]).toBeCloseTo(expected, 6);
    });
    const raw = preprocess(image, parsePreprocessor({ do_resize: false, do_rescale: false, do_normalize: false }));
    expect([...raw.values]).toEqual([0, 255, 51, 204, 102, 153]);
  });

  it('become their luminance for a model of one channel, and no other number of channels is read', () => {
    const image: RgbImage = { width: 2, height: 1, data: Uint8Array.from([0, 51, 102, 77, 77, 77]) };
    const plain = parsePreprocessor({ do_resize: false, do_rescale: false, do_normalize: false });
    const grey = preprocess(image, plain, 1);
    expect(grey.shape).toEqual([1, 1, 2]);
    // 0.587 · 51 + 0.114 · 102 = 41.565
    expect([...grey.values]).toEqual([42, 77]);
    expect(() => preprocess(image, plain, 4)).toThrow(/4 channels/);
  });

  it('follow preprocessor_config.json, and what it asks beyond that is named', () => {
    expect(parsePreprocessor({})).toEqual({
      resize: { width: 224, height: 224, filter: 'linear' },
      scale: 1 / 255,
      mean: [0.5, 0.5, 0.5],
      deviation: [0.5, 0.5, 0.5],
    });
    expect(parsePreprocessor({ size: 32, resample: 3 }).resize).toEqual({ width: 32, height: 32, filter: 'cubic' });
    expect(() => parsePreprocessor({ size: { shortest_edge: 224 } })).toThrow(/field size: only a height and width/);
    expect(() => parsePreprocessor({ do_center_crop: true })).toThrow(/cropping/);
    expect(() => parsePreprocessor({ image_std: [1, 0, 1] })).toThrow(/image_std/);
    expect(() => parsePreprocessor({ resample: 6 })).toThrow(/filter/);
    expect(() => parsePreprocessor({ size: 1e9 })).toThrow(SottoError);
    expect(() => parsePreprocessor(null)).toThrow(SottoError);
  });

  it.skipIf(!existsSync(join(shared, 'data/images')))('of the world fit a published preprocessor', async () => {
    const config = JSON.parse(readFileSync(join(shared, 'models/tiny-vit/preprocessor_config.json'), 'utf8'));
    const image = await loadImage(readFileSync(join(shared, 'data/images/n02123045_tabby.JPEG')));
    expect(image.data.length).toBe(3 * image.width * image.height);
    const { shape, values } = preprocess(image, parsePreprocessor(config));
    expect(shape).toEqual([3, 32, 32]);
    expect(values.every((value) => value >= -1 && value <= 1)).toBe(true);
  });
});
