import { type Costs, forecast } from '../backends/cost/index.ts';
import { simulate } from '../backends/fixed/index.ts';
import { rehearse } from '../backends/mpc/index.ts';
import { isFlag, outOfRange, privateProgram, quantise, type RingParameters, wordBitsOf } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { createWasmKernels } from '../kernels/index.ts';
import { type Classification, classifyFloat, greedy, traceVitPrivate, type VitConfig } from '../models/index.ts';
import { withFloatBackend } from '../node/float.ts';
import { nodePlatform } from '../party/platform.ts';
import type { Tensor } from '../program/index.ts';
import { type LoadedModel, requireMeasured } from './model.ts';
import type { ClearBackend } from './text.ts';

/** The vision transformer of a model that names pictures. Throws a `model` error for other architectures. */
export function classifier(model: LoadedModel): VitConfig {
  if (model.config.family === 'vit') return model.config;
  throw new SottoError('model', `a ${model.config.family} does not classify pictures`, {
    place: { file: model.checkpoint.files.name },
    remedy: 'name the folder of a vision transformer',
  });
}

/** A file's path, a file's bytes, or (C, S, S) preprocessed pixels. */
export type Picture = string | Uint8Array | Float32Array | Float64Array;

/** Preprocessed pixels of a picture. Throws an `input` error where their number is not what the model takes. */
export async function pixelsOf(model: LoadedModel, config: VitConfig, picture: Picture): Promise<Float32Array | Float64Array> {
  const ready = picture instanceof Float32Array || picture instanceof Float64Array;
  const pixels = ready ? picture : (await model.pixels(picture)).values;
  const count = config.numChannels * config.imageSize ** 2;
  if (pixels.length === count) return pixels;
  throw new SottoError('input', `a picture of ${pixels.length} values where ${count} are due`, {
    place: { tensor: 'pixels' },
    remedy: `preprocess pictures to ${config.numChannels} planes of ${config.imageSize} × ${config.imageSize}`,
  });
}

/** Names one picture of (C, S, S) preprocessed pixels in the clear. */
export async function classifyPixels(
  model: LoadedModel,
  backend: ClearBackend,
  pixels: Float32Array | Float64Array,
  ring: RingParameters,
): Promise<Classification> {
  const config = classifier(model);
  if (backend === 'fixed') return await simulatePicture(model, config, pixels, ring);
  return await withFloatBackend(backend, async (float) => {
    const weights = await model.weights();
    return (await classifyFloat({ config, plan: model.plan, weights, backend: float, pictures: [pixels] }))[0]!;
  });
}

/** The class of the largest logit, by number and by name. */
export function named(config: VitConfig, logits: Float64Array): Classification {
  const id = greedy(logits);
  return { id, label: config.labels[id]!, logits };
}

function prepare(model: LoadedModel, config: VitConfig, pixels: Float32Array | Float64Array) {
  requireMeasured(model);
  const shape = [config.numChannels, config.imageSize, config.imageSize];
  const program = traceVitPrivate(config, model.plan);
  return { program, input: async (): Promise<Tensor> => ({ shape, values: pixels }) };
}

async function simulatePicture(
  model: LoadedModel,
  config: VitConfig,
  pixels: Float32Array | Float64Array,
  ring: RingParameters,
): Promise<Classification> {
  const { program, input } = prepare(model, config, pixels);
  const weights = await model.privateWeights();
  const outputs = await simulate(quantise(program, ring), {
    kernels: createWasmKernels(wordBitsOf(ring.bits)),
    weights: async (name) => weights.get(name)!,
    inputs: input,
  });
  return named(config, outputs.get('logits')!.values as Float64Array);
}

export interface RehearsedPicture extends Classification {
  readonly measured: Costs;
  readonly forecast: Costs;
}

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
  const config = classifier(model);
  const { program: own, input } = prepare(model, config, pixels);
  const program = privateProgram(own, ring, { rangeFlags });
  const weights = await model.privateWeights();
  const platform = () => nodePlatform(ring.bits);
  const { measured, outputs } = await rehearse({
    program,
    platforms: { client: platform(), server: platform(), dealer: platform() },
    weight: async (name) => weights.get(name)!,
    input,
  });
  if ([...outputs].some(([name, { values }]) => isFlag(name) && values[0] !== 0)) throw outOfRange();
  return { ...named(config, outputs.get('logits')!.values as Float64Array), measured, forecast: forecast(program).total };
}
