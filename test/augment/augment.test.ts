import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  applyOperation,
  augmenter,
  betaSample,
  cropAndFlip,
  mixing,
  mixRows,
  type OperationName,
  oneHot,
  operationNames,
  type Pixels,
  pictureBatch,
} from '../../src/lab/augment/index.ts';
import { pseudorandom } from '../../src/math/index.ts';

/** A picture as rows of pixels of channels: what the definitions below are written on. */
type Grid = number[][][];
const [width, height] = [9, 7];
const picture = (seed: number, channels: 1 | 3 = 3): Pixels => {
  const random = pseudorandom(seed);
  const data = Uint8Array.from({ length: width * height * channels }, (_, at) => (random.integer(200) + at) % 256);
  return { width, height, channels, data };
};
const grid = ({ data, channels }: Pixels): Grid =>
  Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => [...data.subarray((y * width + x) * channels, (y * width + x + 1) * channels)]),
  );
const each = (pixels: Grid, change: (value: number, y: number, x: number, c: number) => number): Grid =>
  pixels.map((row, y) => row.map((pixel, x) => pixel.map((value, c) => change(value, y, x, c))));
const byte = (value: number) => Math.max(0, Math.min(255, Math.trunc(value)));
const channelOf = (pixels: Grid, c: number) => pixels.flatMap((row) => row.map((pixel) => pixel[c]!));
const grey = (pixel: number[]) =>
  pixel.length === 1 ? pixel[0]! : Math.floor((pixel[0]! * 19595 + pixel[1]! * 38470 + pixel[2]! * 7471) / 65536 + 0.5);
/** Which way places exactly between two pixels fall depends on the last bit: the definitions are tried with every nudge. */
let nudge: readonly [number, number] = [0, 0];
const nudges = [-1e-9, 1e-9].flatMap((x) => [-1e-9, 1e-9].map((y) => [x, y] as const));
const moved = (pixels: Grid, from: (x: number, y: number) => [number, number]): Grid =>
  each(pixels, (_, y, x, c) => {
    const [fromX, fromY] = from(x + 0.5, y + 0.5).map((place, axis) => Math.floor(place + nudge[axis]!)) as [number, number];
    return pixels[fromY]?.[fromX]?.[c] ?? 128;
  });

/** Each operation again, from its definition: `m` in [0, 1], `s` the sign. Blends may differ by one where Pillow cuts off floats. */
const definitions: Record<OperationName, (pixels: Grid, m: number, s: number) => Grid> = {
  identity: (pixels) => pixels,
  autoContrast: (pixels) =>
    each(pixels, (value, _y, _x, c) => {
      const all = channelOf(pixels, c);
      const [low, high] = [Math.min(...all), Math.max(...all)];
      return high === low ? value : byte(((value - low) * 255) / (high - low));
    }),
  equalize: (pixels) =>
    each(pixels, (value, _y, _x, c) => {
      const all = channelOf(pixels, c).sort((a, b) => a - b);
      const brightest = all.filter((other) => other === all.at(-1)).length;
      const step = Math.floor((all.length - brightest) / 255);
      return step === 0 ? value : byte(Math.floor((Math.floor(step / 2) + all.filter((other) => other < value).length) / step));
    }),
  rotate: (pixels, m, s) => {
    const angle = (s * m * 30 * Math.PI) / 180;
    return moved(pixels, (x, y) => {
      const [dx, dy] = [x - width / 2, y - height / 2];
      return [dx * Math.cos(angle) + dy * Math.sin(angle) + width / 2, -dx * Math.sin(angle) + dy * Math.cos(angle) + height / 2];
    });
  },
  solarize: (pixels, m) => each(pixels, (value) => (value >= 256 - Math.floor(256 * m) ? 255 - value : value)),
  color: (pixels, m, s) => each(pixels, (value, y, x) => byte(grey(pixels[y]![x]!) * (-s * 0.9 * m) + value * (1 + s * 0.9 * m))),
  posterize: (pixels, m) => each(pixels, (value) => value - (value % 2 ** Math.round(4 * m))),
  contrast: (pixels, m, s) => {
    const all = pixels.flat().map(grey);
    const mean = Math.floor(all.reduce((a, b) => a + b) / all.length + 0.5);
    return each(pixels, (value) => byte(mean * (-s * 0.9 * m) + value * (1 + s * 0.9 * m)));
  },
  brightness: (pixels, m, s) => each(pixels, (value) => byte(value * (1 + s * 0.9 * m))),
  sharpness: (pixels, m, s) =>
    each(pixels, (value, y, x, c) => {
      if (y === 0 || x === 0 || y === height - 1 || x === width - 1) return value;
      const around = [-1, 0, 1].flatMap((dy) =>
        [-1, 0, 1].map((dx) => pixels[y + dy]![x + dx]![c]! * (dy === 0 && dx === 0 ? 5 : 1)),
      );
      const smooth = Math.round(around.reduce((a, b) => a + b) / 13);
      return byte(smooth * (-s * 0.9 * m) + value * (1 + s * 0.9 * m));
    }),
  shearX: (pixels, m, s) => moved(pixels, (x, y) => [x + s * 0.3 * m * y, y]),
  shearY: (pixels, m, s) => moved(pixels, (x, y) => [x, y + s * 0.3 * m * x]),
  translateX: (pixels, m, s) => moved(pixels, (x, y) => [x + s * Math.floor(m * width * 0.5), y]),
  translateY: (pixels, m, s) => moved(pixels, (x, y) => [x, y + s * Math.floor(m * height * 0.5)]),
};

const run = (name: OperationName, source: Pixels, magnitude: number, sign: 1 | -1): Uint8Array => {
  const out = new Uint8Array(source.data.length);
  applyOperation(name, source, out, { magnitude, sign, fill: 128, translation: 0.5 });
  return out;
};

describe('RandAugment', () => {
  it('has the fourteen operations of the paper', () => {
    expect(new Set(operationNames).size).toBe(14);
  });

  it.each(operationNames)('%s is what its definition says, at every magnitude and sign', (name) => {
    const blend = ['color', 'contrast', 'brightness', 'sharpness', 'autoContrast'].includes(name);
    fc.assert(
      fc.property(
        fc.nat(99),
        fc.nat(10),
        fc.constantFrom(1 as const, -1 as const),
        fc.constantFrom(1 as const, 3 as const),
        (seed, m, s, channels) => {
          const source = picture(seed, channels);
          const before = source.data.slice();
          const made = run(name, source, m, s);
          const all = nudges.map((one) => {
            nudge = one;
            return definitions[name](grid(source), m / 10, s).flat(2);
          });
          made.forEach((value, at) => {
            const difference = Math.min(...all.map((due) => Math.abs(due[at]! - value)));
            expect(difference).toBeLessThanOrEqual(blend ? 1 : 0);
          });
          expect(source.data).toEqual(before);
        },
      ),
      { numRuns: 80 },
    );
  });

  it('equalizes a picture with enough pixels into a flat histogram', () => {
    const data = Uint8Array.from({ length: 256 * 64 }, (_, at) => Math.floor((at % 256) ** 2 / 256));
    const out = new Uint8Array(data.length);
    applyOperation('equalize', { width: 256, height: 64, channels: 1, data }, out, {
      magnitude: 0,
      sign: 1,
      fill: 0,
      translation: 0,
    });
    const counts = new Array<number>(4).fill(0);
    for (const value of out) counts[value >> 6]!++;
    for (const count of counts) expect(Math.abs(count / out.length - 0.25)).toBeLessThan(0.05);
  });

  it.each(operationNames.filter((name) => !['autoContrast', 'equalize'].includes(name)))(
    '%s changes nothing at magnitude 0',
    (name) => {
      expect(run(name, picture(4), 0, -1)).toEqual(picture(4).data);
    },
  );

  it('draws all operations alike, and gives the same picture for the same seed and sample', () => {
    const source = picture(1);
    const change = augmenter({ randAugment: { operations: 1, magnitude: 9 } }, 5);
    const counts = new Map<string, number>();
    const out = new Uint8Array(source.data.length);
    for (let sample = 0; sample < 5600; sample++) {
      change.apply(source, sample, out);
      counts.set(out.join(), (counts.get(out.join()) ?? 0) + 1);
    }
    // Identity and equalize of so few pixels are alike; five operations have no sign.
    const expected = 5600 / 14;
    expect(Math.abs(counts.get(source.data.join())! - 2 * expected)).toBeLessThan(5 * Math.sqrt(2 * expected));
    expect(counts.size).toBe(1 + 3 + 2 * 9);
    const [again, other] = [out.slice(), out.slice()];
    change.apply(source, 5599, again);
    expect(again).toEqual(out);
    augmenter({ randAugment: { operations: 3, magnitude: 9 } }, 6).apply(source, 5599, other);
    expect(other).not.toEqual(out);
  });

  it('refuses settings out of their range by name', () => {
    for (const [field, wrong] of [
      ['magnitude', { randAugment: { operations: 1, magnitude: 11 } }],
      ['operations', { randAugment: { operations: 1.5, magnitude: 1 } }],
      ['fill', { fill: -1 }],
    ] as const)
      expect(() => augmenter(wrong, 0)).toThrow(expect.objectContaining({ kind: 'usage', place: { field } }));
  });

  it('changes thousands of pictures of 32 × 32 a second', () => {
    const source: Pixels = { width: 32, height: 32, channels: 3, data: new Uint8Array(3072).map((_, at) => (at * 31) % 256) };
    const change = augmenter({ randAugment: { operations: 2, magnitude: 9 }, cropPadding: 4, flip: true }, 1);
    const out = new Uint8Array(3072);
    for (let sample = 0; sample < 300; sample++) change.apply(source, sample, out);
    // The best of several rounds: other work on the machine only ever slows one down.
    let perSecond = 0;
    for (let round = 0; round < 8; round++) {
      const start = performance.now();
      for (let sample = 0; sample < 250; sample++) change.apply(source, 300 + 250 * round + sample, out);
      perSecond = Math.max(perSecond, 250e3 / (performance.now() - start));
    }
    expect(perSecond).toBeGreaterThan(2000);
  });
});

describe('random crops and flips', () => {
  it('move the picture, black where nothing is, and mirror it', () => {
    const source = picture(3);
    const out = new Uint8Array(source.data.length);
    cropAndFlip(source, out, { left: 2, top: -1, mirrored: true });
    const cells = grid(source);
    const due = each(cells, (_, y, x, c) => cells[y - 1]?.[width - 1 - x + 2]?.[c] ?? 0);
    expect([...out]).toEqual(due.flat(2));
  });

  it('cover every place and both sides', () => {
    const data = Uint8Array.from({ length: 9 }, (_, at) => at + 1);
    const change = augmenter({ cropPadding: 1, flip: true }, 2);
    const seen = new Set<string>();
    const out = new Uint8Array(9);
    for (let sample = 0; sample < 400; sample++) {
      change.apply({ width: 3, height: 3, channels: 1, data }, sample, out);
      seen.add(out.join());
    }
    expect(seen.size).toBe(18);
  });
});

describe('Mixup', () => {
  it.each([0.2, 0.4, 1, 2.5])('draws weights from Beta(α, α) with α = %d', (alpha) => {
    const random = pseudorandom(7);
    const samples = Array.from({ length: 20_000 }, () => betaSample(random, alpha, alpha)).sort((a, b) => a - b);
    const mean = samples.reduce((a, b) => a + b) / samples.length;
    const variance = samples.reduce((sum, value) => sum + (value - mean) ** 2, 0) / samples.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.012);
    expect(Math.abs(variance / (1 / (4 * (2 * alpha + 1))) - 1)).toBeLessThan(0.04);
    // Against the distribution function, integrated numerically with the ends' singularities substituted away (x = t^(1/α)).
    const integral = (to: number) => {
      const steps = 20_000;
      const end = to ** alpha;
      let sum = 0;
      for (let k = 0; k < steps; k++) sum += (1 - (((k + 0.5) / steps) * end) ** (1 / alpha)) ** (alpha - 1);
      return (sum * end) / steps;
    };
    const half = integral(0.5);
    for (const x of [0.05, 0.2, 0.35, 0.5]) {
      const share = samples.filter((value) => value <= x).length / samples.length;
      expect(Math.abs(share - integral(x) / (2 * half))).toBeLessThan(0.015);
    }
  });

  it('mixes pixels and targets alike: weight · own + (1 − weight) · partner', () => {
    const mixed = mixing(5, 0.4, 3, 17);
    expect([...mixed.partners].sort()).toEqual([0, 1, 2, 3, 4]);
    expect(mixing(5, 0.4, 3, 17)).toEqual(mixed);
    expect(mixing(5, 0.4, 3, 18)).not.toEqual(mixed);
    const pixels = Float32Array.from({ length: 20 }, (_, at) => Math.sin(at));
    const made = mixRows(pixels, 5, mixed);
    for (let row = 0; row < 5; row++)
      for (let at = 0; at < 4; at++)
        expect(made[4 * row + at]).toBeCloseTo(
          mixed.weight * pixels[4 * row + at]! + (1 - mixed.weight) * pixels[4 * mixed.partners[row]! + at]!,
          6,
        );
    const targets = mixRows(oneHot([0, 2, 1, 1, 0], 3), 5, mixed);
    for (let row = 0; row < 5; row++) expect(targets.subarray(3 * row, 3 * row + 3).reduce((a, b) => a + b)).toBeCloseTo(1, 6);
    expect(() => oneHot([3], 3)).toThrow(expect.objectContaining({ kind: 'input' }));
    expect(() => betaSample(pseudorandom(1), 0, 1)).toThrow(expect.objectContaining({ kind: 'usage' }));
  });
});

describe('batches of pictures', () => {
  it('are planes of normalised pixels with their labels, changed where asked', () => {
    const source = picture(8);
    const set = {
      count: 2,
      width,
      height,
      channels: 3 as const,
      pixels: Uint8Array.from([...picture(2).data, ...source.data]),
      labels: Uint16Array.of(4, 6),
      classes: [],
    };
    const how = { scale: 1 / 255, mean: [0.5, 0.4, 0.3] as const, deviation: [0.2, 0.3, 0.4] as const };
    const { pixels, labels } = pictureBatch(set, [1], how);
    expect([...labels]).toEqual([6]);
    const cells = grid(source);
    for (let c = 0; c < 3; c++)
      expect(pixels[c * 63 + 2 * 9 + 5]).toBeCloseTo((cells[2]![5]![c]! / 255 - how.mean[c]!) / how.deviation[c]!, 5);
    const change = augmenter({ flip: true, randAugment: { operations: 2, magnitude: 5 } }, 1);
    const first = pictureBatch(set, [0, 1, 0, 1], how, { augmenter: change, firstSample: 8 });
    expect(pictureBatch(set, [0, 1], how, { augmenter: change, firstSample: 10 }).pixels).toEqual(first.pixels.slice(2 * 189));
    expect(() => pictureBatch(set, [2], how)).toThrow(expect.objectContaining({ kind: 'usage' }));
  });
});
