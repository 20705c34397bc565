import { SottoError } from '../../errors/index.ts';
import { type Pseudorandom, pseudorandom } from '../../math/index.ts';
import { applyOperation, type OperationOptions, operationNames, type Pixels } from './operations.ts';

export interface Augmentation {
  /** RandAugment: N operations, drawn with replacement, each at magnitude M (0 to 10). */
  readonly randAugment?: { readonly operations: number; readonly magnitude: number } | undefined;
  /** Zeros (or `fill`) of this many pixels on every side, then a random part of the old size. */
  readonly cropPadding?: number | undefined;
  /** Mirrored left to right half of the time. */
  readonly flip?: boolean | undefined;
  /** What operations bring in from outside; 128 where absent. */
  readonly fill?: number | undefined;
  /** The longest translation as a part of the side; 10/32 where absent. */
  readonly translation?: number | undefined;
}

/** Changes pictures at random: crop, flip, then RandAugment. The result depends on the seed and the number of the sample alone. */
export interface Augmenter {
  /** Writes the changed picture into `out`, which may be the source's own bytes. */
  apply(picture: Pixels, sample: number, out: Uint8Array): void;
}

/** Throws a `usage` error that names the field where a setting is out of its range. */
export function augmenter(augmentation: Augmentation, seed: number): Augmenter {
  const { randAugment, cropPadding = 0, flip = false, fill = 128, translation = 10 / 32 } = augmentation;
  check('operations', randAugment?.operations ?? 0, 0, 14, true);
  check('magnitude', randAugment?.magnitude ?? 0, 0, 10, false);
  check('cropPadding', cropPadding, 0, 1024, true);
  check('fill', fill, 0, 255, true);
  check('translation', translation, 0, 1, false);
  let [first, second] = [new Uint8Array(0), new Uint8Array(0)];
  return {
    apply(picture, sample, out) {
      const length = picture.data.length;
      if (first.length !== length) [first, second] = [new Uint8Array(length), new Uint8Array(length)];
      const random = pseudorandom(seed, 0x617567, sample);
      first.set(picture.data);
      let current: Pixels = { ...picture, data: first };
      const changed = (): void => {
        [first, second] = [second, first];
        current = { ...picture, data: first };
      };
      if (cropPadding > 0 || flip) {
        cropAndFlip(current, second, draws(random, cropPadding, flip));
        changed();
      }
      const options = { magnitude: randAugment?.magnitude ?? 0, fill, translation };
      for (let n = 0; n < (randAugment?.operations ?? 0); n++) {
        randomOperation(random, current, second, options);
        changed();
      }
      out.set(current.data);
    },
  };
}

function randomOperation(random: Pseudorandom, from: Pixels, to: Uint8Array, options: Omit<OperationOptions, 'sign'>): void {
  const name = operationNames[random.integer(operationNames.length)]!;
  applyOperation(name, from, to, { ...options, sign: random.uniform() < 0.5 ? 1 : -1 });
}

/** Where the part begins (−padding … padding, on both axes), and whether it is mirrored. */
export interface Crop {
  readonly left: number;
  readonly top: number;
  readonly mirrored: boolean;
}

function draws(random: Pseudorandom, padding: number, flip: boolean): Crop {
  const left = random.integer(2 * padding + 1) - padding;
  const top = random.integer(2 * padding + 1) - padding;
  return { left, top, mirrored: flip && random.uniform() < 0.5 };
}

/** The picture moved by (left, top), black where nothing is, then mirrored. */
export function cropAndFlip({ data, width, height, channels }: Pixels, out: Uint8Array, { left, top, mirrored }: Crop): void {
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += channels) {
      const [fromX, fromY] = [(mirrored ? width - 1 - x : x) + left, y + top];
      const inside = fromX >= 0 && fromX < width && fromY >= 0 && fromY < height;
      const from = (fromY * width + fromX) * channels;
      for (let channel = 0; channel < channels; channel++) out[to + channel] = inside ? data[from + channel]! : 0;
    }
  }
}

function check(field: string, value: number, low: number, high: number, whole: boolean): void {
  if (value >= low && value <= high && (!whole || Number.isInteger(value))) return;
  throw new SottoError('usage', `${value} is not ${whole ? 'a whole number' : 'a number'} from ${low} to ${high}`, {
    place: { field },
    remedy: 'correct the augmentation',
  });
}
