import type { Calibration } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { classifiesPictures, classifiesTexts, writesText } from '../models/families/index.ts';
import { type Measuring, measuredPlan } from '../party/calibration.ts';
import { calibrationPixels } from './conversion.ts';
import type { TextPair } from './encoders.ts';
import { type LoadedModel, openModel } from './model.ts';
import type { Picture } from './pictures.ts';

/** What the ranges of a model's values are measured on. */
export interface CalibrateOptions {
  /** What an encoder reads, or pairs of texts; for a model that writes, text in place of its own. */
  readonly texts?: readonly (string | TextPair)[] | undefined;
  readonly pictures?: readonly Picture[] | undefined;
  /** 64 bits where absent; without fraction bits the usual ones, as far as they fit. */
  readonly ring?: Measuring['ring'];
  /** Sentences about what is being measured, for a person who waits. */
  readonly say?: Measuring['say'];
}

/** A model with the ranges of its values: as it is where its plan has them, measured where not. */
export async function measuredModel(model: LoadedModel, options: Measuring = {}): Promise<LoadedModel> {
  const plan = await measuredPlan(model, options);
  return plan === model.plan ? model : { ...model, plan };
}

/** The same from a folder. */
export const openMeasured = async (folder: string, options: Measuring): Promise<LoadedModel> =>
  await measuredModel(await openModel(folder), options);

/** Samples as a model reads them; undefined where none were given. Throws a `usage` error for samples of another kind. */
export async function calibrationSamples(
  model: LoadedModel,
  { texts, pictures }: Pick<CalibrateOptions, 'texts' | 'pictures'>,
): Promise<Calibration | undefined> {
  const { config } = model;
  if (classifiesPictures(config) ? texts !== undefined : pictures !== undefined)
    throw new SottoError('usage', `a ${config.family} is not calibrated on ${texts === undefined ? 'pictures' : 'texts'}`, {
      remedy: classifiesPictures(config) ? 'give pictures' : 'give texts',
    });
  if (pictures !== undefined && classifiesPictures(config)) return await calibrationPixels(model, config, { pictures });
  if (texts === undefined) return undefined;
  const tokenizer = await model.tokenizer();
  if (classifiesTexts(config)) {
    const most = config.maxPositionEmbeddings - config.firstPosition;
    const encoded = texts.map((text) => {
      const [first, second] = typeof text === 'string' ? [text, undefined] : text;
      const { ids, types } = tokenizer.encodePair!(first, second);
      return { ids: ids.slice(0, most), types: types.slice(0, most) };
    });
    return { encoded };
  }
  const ids = texts.flatMap((text) => tokenizer.encode(typeof text === 'string' ? text : text.join(' ')));
  const tokens = Math.min(64, writesText(config) ? config.maxPositionEmbeddings : ids.length, ids.length);
  const rows = Array.from({ length: Math.floor(ids.length / tokens) }, (_, at) =>
    Int32Array.from(ids.slice(at * tokens, (at + 1) * tokens)),
  );
  return { rows, batch: 1 };
}
