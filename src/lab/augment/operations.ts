/**
 * The fourteen operations of RandAugment (Cubuk et al., arXiv 1909.13719) with the ranges of AutoAugment's table (arXiv 1805.09501),
 * on bytes, as Pillow computes them: lookup tables per channel, blends that are cut off to whole bytes, nearest pixels for geometry.
 */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  /** (height, width, channels). */
  readonly data: Uint8Array;
}

export const operationNames = [
  'identity',
  'autoContrast',
  'equalize',
  'rotate',
  'solarize',
  'color',
  'posterize',
  'contrast',
  'brightness',
  'sharpness',
  'shearX',
  'shearY',
  'translateX',
  'translateY',
] as const;
export type OperationName = (typeof operationNames)[number];

export interface OperationOptions {
  /** From 0 to 10, the paper's M. */
  readonly magnitude: number;
  /** The random sign of operations that go both ways. */
  readonly sign: 1 | -1;
  /** What comes in from outside: 128 in the published code. */
  readonly fill: number;
  /** The longest translation as a part of the side: 10 of 32 pixels in the published code for CIFAR. */
  readonly translation: number;
}

const most = 10;
type Change = (source: Pixels, out: Uint8Array, options: OperationOptions) => void;

/**
 * Writes the changed picture into `out` (as long as the source, not the same). Magnitude 0 changes nothing, except for autoContrast
 * and equalize, which have none; the published code lets solarize and posterize grow weaker with M instead, here all grow stronger.
 */
export function applyOperation(name: OperationName, source: Pixels, out: Uint8Array, options: OperationOptions): void {
  changes[name](source, out, options);
}

const part = ({ magnitude }: OperationOptions): number => magnitude / most;
const signed = (options: OperationOptions, limit: number): number => options.sign * part(options) * limit;
/** Enhancement factors in [0.1, 1.9], 1 changing nothing. */
const factor = (options: OperationOptions): number => 1 + signed(options, 0.9);

const changes: Record<OperationName, Change> = {
  identity: (source, out) => out.set(source.data),
  autoContrast: (source, out) => perChannel(source, out, stretched),
  equalize: (source, out) => perChannel(source, out, equalized),
  solarize: (source, out, options) => {
    const threshold = 256 - Math.trunc(part(options) * 256);
    oneTable(source, out, (value) => (value < threshold ? value : 255 - value));
  },
  posterize: (source, out, options) => {
    const dropped = Math.round(part(options) * 4);
    oneTable(source, out, (value) => (value >> dropped) << dropped);
  },
  brightness: (source, out, options) => {
    const by = factor(options);
    oneTable(source, out, (value) => blended(0, value, by));
  },
  contrast: (source, out, options) => {
    const by = factor(options);
    const mean = meanLuma(source);
    oneTable(source, out, (value) => blended(mean, value, by));
  },
  color: (source, out, options) => {
    const { data, channels } = source;
    if (channels === 1) return out.set(data);
    const by = factor(options);
    for (let at = 0; at < data.length; at += 3) {
      const grey = luma(data, at);
      for (let colour = 0; colour < 3; colour++) out[at + colour] = blended(grey, data[at + colour]!, by);
    }
  },
  sharpness: (source, out, options) => {
    smoothed(source, out);
    const by = factor(options);
    const { data } = source;
    for (let at = 0; at < data.length; at++) out[at] = blended(out[at]!, data[at]!, by);
  },
  rotate: (source, out, options) => {
    const angle = (signed(options, 30) * Math.PI) / 180;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const [x, y] = [source.width / 2, source.height / 2];
    affine(source, out, options.fill, [cos, sin, x - cos * x - sin * y], [-sin, cos, y + sin * x - cos * y]);
  },
  shearX: (source, out, options) => affine(source, out, options.fill, [1, signed(options, 0.3), 0], [0, 1, 0]),
  shearY: (source, out, options) => affine(source, out, options.fill, [1, 0, 0], [signed(options, 0.3), 1, 0]),
  translateX: (source, out, options) => {
    const by = Math.trunc(signed(options, options.translation * source.width));
    affine(source, out, options.fill, [1, 0, by], [0, 1, 0]);
  },
  translateY: (source, out, options) => {
    const by = Math.trunc(signed(options, options.translation * source.height));
    affine(source, out, options.fill, [1, 0, 0], [0, 1, by]);
  },
};

/** from + by · (to − from), cut off to a byte. */
function blended(from: number, to: number, by: number): number {
  const value = Math.fround(from + Math.fround(Math.fround(by) * (to - from)));
  return value <= 0 ? 0 : value >= 255 ? 255 : Math.trunc(value);
}

/** Pillow's grey: ITU-R 601 weights in 16 bits, rounded. */
const luma = (data: Uint8Array, at: number): number =>
  (data[at]! * 19595 + data[at + 1]! * 38470 + data[at + 2]! * 7471 + 0x8000) >> 16;

function meanLuma({ data, channels }: Pixels): number {
  let sum = 0;
  if (channels === 1) for (let at = 0; at < data.length; at++) sum += data[at]!;
  else for (let at = 0; at < data.length; at += 3) sum += luma(data, at);
  return Math.floor(sum / (data.length / channels) + 0.5);
}

function oneTable({ data }: Pixels, out: Uint8Array, change: (value: number) => number): void {
  const table = new Uint8Array(256);
  for (let value = 0; value < 256; value++) table[value] = change(value);
  for (let at = 0; at < data.length; at++) out[at] = table[data[at]!]!;
}

function perChannel({ data, channels }: Pixels, out: Uint8Array, tableOf: (counts: Int32Array) => Uint8ClampedArray): void {
  const counts = new Int32Array(256);
  for (let channel = 0; channel < channels; channel++) {
    counts.fill(0);
    for (let at = channel; at < data.length; at += channels) counts[data[at]!]!++;
    const table = tableOf(counts);
    for (let at = channel; at < data.length; at += channels) out[at] = table[data[at]!]!;
  }
}

const identityTable = (): Uint8ClampedArray => Uint8ClampedArray.from({ length: 256 }, (_, value) => value);

/** The darkest value becomes 0, the brightest 255. */
function stretched(counts: Int32Array): Uint8ClampedArray {
  let [low, high] = [0, 255];
  while (low < 255 && counts[low] === 0) low++;
  while (high > 0 && counts[high] === 0) high--;
  if (high <= low) return identityTable();
  const scale = 255 / (high - low);
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => Math.trunc(value * scale - low * scale));
}

/** A uniform histogram, by whole steps of the counts without the last value's. */
function equalized(counts: Int32Array): Uint8ClampedArray {
  let [total, last, used] = [0, 0, 0];
  for (const count of counts) {
    if (count === 0) continue;
    total += count;
    last = count;
    used++;
  }
  const step = Math.floor((total - last) / 255);
  if (used <= 1 || step === 0) return identityTable();
  const table = new Uint8ClampedArray(256);
  let sum = Math.floor(step / 2);
  for (let value = 0; value < 256; value++) {
    table[value] = Math.floor(sum / step);
    sum += counts[value]!;
  }
  return table;
}

/** Pillow's SMOOTH filter: nine neighbours, the middle five times; the border stays. */
function smoothed({ data, width, height, channels }: Pixels, out: Uint8Array): void {
  out.set(data);
  const row = width * channels;
  for (let y = 1; y < height - 1; y++) {
    for (let at = y * row + channels; at < (y + 1) * row - channels; at++) {
      let sum = 4 * data[at]!;
      for (let line = at - row; line <= at + row; line += row)
        sum += data[line - channels]! + data[line]! + data[line + channels]!;
      out[at] = Math.floor(sum / 13 + 0.5);
    }
  }
}

type Line = readonly [x: number, y: number, constant: number];

/** Each pixel of the result takes the source's at (across · (x, y, 1), down · (x, y, 1)), measured at pixel centres. */
function affine({ data, width, height, channels }: Pixels, out: Uint8Array, fill: number, across: Line, down: Line): void {
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += channels) {
      const fromX = Math.floor(across[0] * (x + 0.5) + across[1] * (y + 0.5) + across[2]);
      const fromY = Math.floor(down[0] * (x + 0.5) + down[1] * (y + 0.5) + down[2]);
      const inside = fromX >= 0 && fromX < width && fromY >= 0 && fromY < height;
      const from = (fromY * width + fromX) * channels;
      for (let channel = 0; channel < channels; channel++) out[to + channel] = inside ? data[from + channel]! : fill;
    }
  }
}
