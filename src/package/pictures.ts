import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { beginPicture, type Classification, classifyFloat, type Rehearsed, runFixed, runRehearsed } from '../jobs/index.ts';
import { classifiesPictures } from '../models/families/index.ts';
import type { VitConfig } from '../models/index.ts';
import { withFloatBackend } from '../node/float.ts';
import { type LoadedModel, privateModel, rehearsal, requireMeasured } from './model.ts';
import type { ClearBackend } from './text.ts';

/** The vision transformer of a model that names pictures. Throws a `model` error for other architectures. */
export function classifier(model: LoadedModel): VitConfig {
  if (classifiesPictures(model.config)) return model.config;
  throw new SottoError('model', `a ${model.config.family} does not classify pictures`, {
    place: { file: model.checkpoint.files.name },
    remedy: 'name the folder of a vision transformer',
  });
}

/** A file's path, a file's bytes, or (C, S, S) preprocessed pixels. */
export type Picture = string | Uint8Array | Float32Array | Float64Array;

/** Preprocessed pixels of a picture. */
export async function pixelsOf(model: LoadedModel, picture: Picture): Promise<Float32Array | Float64Array> {
  const ready = picture instanceof Float32Array || picture instanceof Float64Array;
  return ready ? picture : (await model.pixels(picture)).values;
}

/** Names one picture of (C, S, S) preprocessed pixels in the clear. Throws an `input` error where their number is not what the model takes. */
export async function classifyPixels(
  model: LoadedModel,
  backend: ClearBackend,
  pixels: Float32Array | Float64Array,
  ring: RingParameters,
): Promise<Classification> {
  const config = classifier(model);
  if (backend === 'fixed') {
    requireMeasured(model);
    return await runFixed(privateModel(model), beginPicture({ config }, { pixels }), ring);
  }
  return await withFloatBackend(backend, async (float) => {
    const weights = await model.weights();
    return (await classifyFloat({ config, plan: model.plan, weights, backend: float, pictures: [pixels] }))[0]!;
  });
}

export interface RehearsedPicture extends Classification, Omit<Rehearsed<Classification>, 'answer'> {}

/**
 * The whole protocol on one picture, with client, server and dealer in this process. Throws a `range` error where a value left the range in
 * which it is exact, unless `rangeFlags` is false.
 */
export async function rehearsePicture(
  model: LoadedModel,
  pixels: Float32Array | Float64Array,
  ring: RingParameters,
  rangeFlags = true,
): Promise<RehearsedPicture> {
  requireMeasured(model);
  const job = beginPicture({ config: classifier(model) }, { pixels });
  const { answer, ...costs } = await runRehearsed(privateModel(model), job, rehearsal(ring, rangeFlags));
  return { ...answer, ...costs };
}
