import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { parsePreprocessor, preprocess, type RgbImage } from '../../src/models/preprocess.ts';
import { type ResizeFilter, resizeImage } from '../../src/models/resample.ts';
import { loadImage } from '../../src/node/images.ts';

const shared = process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared');
const noise = (width: number, height: number, channels: number) =>
  Uint8Array.from({ length: width * height * channels }, (_, i) => Math.imul(i, 2654435761) >>> 24);
const encode = (width: number, height: number, channels: 1 | 3 | 4) =>
  sharp(noise(width, height, channels), { raw: { width, height, channels } });

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
  it('come out as red, green and blue bytes, whatever their channels', async () => {
    const colour = await loadImage(await encode(5, 4, 3).png().toBuffer());
    expect(colour).toEqual({ width: 5, height: 4, data: noise(5, 4, 3) });
    const transparent = await loadImage(await encode(5, 4, 4).png().toBuffer());
    expect(transparent.data).toEqual(noise(5, 4, 4).filter((_, i) => i % 4 !== 3));
    const grey = await loadImage(await encode(5, 4, 1).toColourspace('b-w').png().toBuffer());
    expect(grey.data).toEqual(Uint8Array.from({ length: 60 }, (_, i) => noise(5, 4, 1)[Math.floor(i / 3)]!));
  });

  it('that are damaged or no pictures are input errors', async () => {
    const png = await encode(16, 16, 3).png().toBuffer();
    await fc.assert(
      fc.asyncProperty(fc.nat(png.length - 1), fc.nat(255), fc.boolean(), async (position, value, cut) => {
        const bytes = cut ? png.subarray(0, position) : Uint8Array.from(png).fill(value, position, position + 1);
        const outcome = await loadImage(bytes).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toBeInstanceOf(SottoError);
        else expect((outcome as RgbImage).data.length).toBeLessThanOrEqual(3e8);
      }),
      { numRuns: 100 },
    );
    await expect(loadImage(new Uint8Array(0))).rejects.toBeInstanceOf(SottoError);
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
