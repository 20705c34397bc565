import type { RgbImage } from '../pictures/index.ts';

/** Filters by name, as Pillow has them, which the published preprocessors use. */
export type ResizeFilter = 'nearest' | 'box' | 'linear' | 'hamming' | 'cubic' | 'lanczos3';

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Half width in pixels of the smaller picture, and the weight at a distance from the centre. */
const filters: Readonly<Record<Exclude<ResizeFilter, 'nearest'>, { support: number; weight: (x: number) => number }>> = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  linear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x))) },
  cubic: {
    support: 2,
    weight: (x) => {
      const a = -0.5;
      const d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
  lanczos3: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Weights are whole multiples of 2^-22, as Pillow's are: with its roundings, results are the same bytes. */
const unit = 2 ** 22;

/** For every pixel of one axis of the result: the first source pixel that counts, and the weights from there on. */
function taps(from: number, to: number, filter: ResizeFilter): { first: number; weights: Float64Array }[] {
  const ratio = from / to;
  const step = Math.max(1, ratio);
  let nearest = 0.5 * ratio;
  return Array.from({ length: to }, (_, index) => {
    if (filter === 'nearest') {
      const first = Math.min(from - 1, Math.floor(nearest));
      // Summed, not multiplied: the rounding of the sum decides ties as it does in Pillow.
      nearest += ratio;
      return { first, weights: Float64Array.of(unit) };
    }
    const centre = (index + 0.5) * ratio;
    const { support, weight } = filters[filter];
    const first = Math.max(0, Math.trunc(centre - support * step + 0.5));
    const end = Math.min(from, Math.trunc(centre + support * step + 0.5));
    const weights = Float64Array.from({ length: end - first }, (__, tap) => weight((first + tap - centre + 0.5) / step));
    const sum = weights.reduce((total, value) => total + value, 0);
    return { first, weights: weights.map((value) => roundAway((value / sum) * unit)) };
  });
}

const roundAway = (value: number) => Math.trunc(value < 0 ? value - 0.5 : value + 0.5);

/**
 * Scales a picture to exactly this size as Pillow does: across first, then down, rounded to bytes between. Where a picture
 * shrinks, the filter widens with it.
 */
export function resizeImage(image: RgbImage, width: number, height: number, filter: ResizeFilter): RgbImage {
  const across = new Uint8Array(3 * width * image.height);
  const columns = taps(image.width, width, filter);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = columns[x]!;
      weigh(image.data, 3 * (y * image.width + first), 3, weights, across, 3 * (y * width + x));
    }
  }
  if (height === image.height) return { width, height, data: across };
  const data = new Uint8Array(3 * width * height);
  const rows = taps(image.height, height, filter);
  for (let y = 0; y < height; y++) {
    const { first, weights } = rows[y]!;
    for (let x = 0; x < width; x++) weigh(across, 3 * (first * width + x), 3 * width, weights, data, 3 * (y * width + x));
  }
  return { width, height, data };
}

/** The weighted sum of pixels `stride` bytes apart, for three colours, rounded to bytes. */
function weigh(source: Uint8Array, start: number, stride: number, weights: Float64Array, target: Uint8Array, at: number): void {
  let red = unit / 2;
  let green = unit / 2;
  let blue = unit / 2;
  for (let tap = 0, from = start; tap < weights.length; tap++, from += stride) {
    const weight = weights[tap]!;
    red += weight * source[from]!;
    green += weight * source[from + 1]!;
    blue += weight * source[from + 2]!;
  }
  target[at] = Math.max(0, Math.min(255, Math.floor(red / unit)));
  target[at + 1] = Math.max(0, Math.min(255, Math.floor(green / unit)));
  target[at + 2] = Math.max(0, Math.min(255, Math.floor(blue / unit)));
}
