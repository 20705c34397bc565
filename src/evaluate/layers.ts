import { boundWeights } from '../models/index.ts';
import type { Executable, FloatBackend, Tensor } from '../program/index.ts';
import { feedsOf, type Layered, type LayerSamples, traceLayered } from './layered.ts';
import { type Metrics, mean } from './metric.ts';
import type { Watch } from './model.ts';
import { mismatch } from './teacher.ts';

/**
 * Mean squared difference of the hidden states behind each layer, over positions and width: `layer_mse.L`, their mean `layer_mse`, and
 * `layer_relative_mse.L` by the teacher's mean square. Counts are samples, intervals across them.
 */
export async function compareLayers(
  student: Layered,
  teacher: Layered,
  samples: LayerSamples,
  backend: FloatBackend,
  watch: Watch = () => undefined,
): Promise<Metrics> {
  const { numHiddenLayers: layers, hiddenSize: width } = student.config;
  if (teacher.config.numHiddenLayers !== layers || teacher.config.hiddenSize !== width)
    throw mismatch('number of layers or width');
  const [absolute, relative]: [number[][], number[][]] = [[], []];
  const feeds = feedsOf(student.config, samples);
  const compiled = await Promise.all([student, teacher].map((model) => compile(model, feeds.tokens, backend)));
  try {
    for (let index = 0; index < feeds.count; index++) {
      const { feed, positions } = feeds.at(index);
      const [own, theirs] = await Promise.all([compiled[0]!.run(feed), compiled[1]!.run(feed)]);
      const length = positions === undefined ? undefined : positions * width;
      const errors = Array.from({ length: layers }, (_, layer) => differences(own, theirs, layer, length));
      absolute.push(errors.map((error) => error.absolute));
      relative.push(errors.map((error) => error.relative));
      watch(index + 1, feeds.count);
    }
  } finally {
    for (const executable of compiled) await executable.close();
  }
  const metrics: Metrics = { layer_mse: mean(absolute.map((errors) => errors.reduce((sum, error) => sum + error, 0) / layers)) };
  for (let layer = 0; layer < layers; layer++) {
    metrics[`layer_mse.${layer}`] = mean(absolute.map((errors) => errors[layer]!));
    metrics[`layer_relative_mse.${layer}`] = mean(relative.map((errors) => errors[layer]!));
  }
  return metrics;
}

type States = ReadonlyMap<string, Tensor>;

function differences(own: States, theirs: States, layer: number, length: number | undefined) {
  const [x, y] = [own.get(`hidden.${layer}`)!.values, theirs.get(`hidden.${layer}`)!.values];
  const count = length ?? y.length;
  let [difference, energy] = [0, 0];
  for (let i = 0; i < count; i++) {
    difference += (x[i]! - y[i]!) ** 2;
    energy += y[i]! ** 2;
  }
  return { absolute: difference / count, relative: difference / energy };
}

async function compile(model: Layered, tokens: number, backend: FloatBackend): Promise<Executable> {
  const program = traceLayered(model, tokens);
  return await backend.compile(program, boundWeights(program, model.weights));
}
