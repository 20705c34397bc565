import { classifiesPictures } from '../models/families/index.ts';
import { boundWeights } from '../models/index.ts';
import { type FloatBackend, type Program, prune, type Ref, Tracer } from '../program/index.ts';
import { feedsOf, type Layered, type LayerSamples, traceLayered } from './layered.ts';
import { type Metrics, mean } from './metric.ts';
import type { Watch } from './model.ts';

/**
 * How far and how widely a model's heads look: `attention_distance.L`, the mean of |query − key| under the weights (tokens; for
 * pictures the distance between patches, the class token left out), `attention_entropy.L` in nats, and the means over layers. Rows are
 * normalised first, as a power's weights add up to a little less than one. Counts are samples, intervals across them.
 */
export async function attentionReach(
  model: Layered,
  samples: LayerSamples,
  backend: FloatBackend,
  watch: Watch = () => undefined,
): Promise<Metrics> {
  const layers = model.config.numHiddenLayers;
  const feeds = feedsOf(model.config, samples);
  const program = weightsProgram(traceLayered(model, feeds.tokens), layers);
  const executable = await backend.compile(program, boundWeights(program, model.weights));
  const reaches: Reach[][] = [];
  try {
    for (let index = 0; index < feeds.count; index++) {
      const { feed, positions } = feeds.at(index);
      const found = await executable.run(feed);
      reaches.push(
        Array.from({ length: layers }, (_, layer) => {
          const { shape, values } = found.get(`weights.${layer}`)!;
          return reachOf(values, shape.at(-1)!, positions, classifiesPictures(model.config) ? patchDistance : tokenDistance);
        }),
      );
      watch(index + 1, feeds.count);
    }
  } finally {
    await executable.close();
  }
  return metricsOf(reaches, layers);
}

interface Reach {
  readonly distance: number;
  readonly entropy: number;
}

function metricsOf(reaches: readonly (readonly Reach[])[], layers: number): Metrics {
  const metrics: Metrics = {};
  for (const what of ['distance', 'entropy'] as const) {
    const name = `attention_${what}`;
    metrics[name] = mean(reaches.map((own) => own.reduce((sum, reach) => sum + reach[what] / layers, 0)));
    for (let layer = 0; layer < layers; layer++) metrics[`${name}.${layer}`] = mean(reaches.map((own) => own[layer]![what]));
  }
  return metrics;
}

/** The same program with every attention's weights as outputs: an attention over the unit matrix gives what it multiplies values by. */
function weightsProgram(program: Program, layers: number): Program {
  const ops = new Tracer();
  for (const { operation, inputs, parameters, scope } of program.nodes)
    ops.push(operation, inputs as readonly Ref[], parameters, scope);
  const outputs = new Map<string, number>();
  for (let layer = 0; layer < layers; layer++) {
    const scope = `layers.${layer}.attention.weights`;
    const node = program.nodes.find((one) => one.scope === scope && one.operation.endsWith('Attention'))!;
    const [scores, , ...rest] = node.inputs as readonly Ref[] as [Ref, Ref, ...Ref[]];
    const shape = ops.shape(scores);
    const keys = shape.at(-1)!;
    const unit = new Float64Array(keys * keys);
    for (let key = 0; key < keys; key++) unit[key * keys + key] = 1;
    const values = ops.broadcast(ops.constant(unit, [keys, keys]), [...shape.slice(0, -2), keys, keys]);
    outputs.set(`weights.${layer}`, ops.push(node.operation, [scores, values, ...rest], node.parameters, scope));
  }
  return prune({ nodes: ops.nodes, outputs });
}

/** Rows of all heads, one below another; a row's query is its number modulo the keys. Rows from `positions` on are padding. */
function reachOf(
  weights: ArrayLike<number>,
  keys: number,
  positions: number | undefined,
  distanceOf: (query: number, key: number, keys: number) => number | undefined,
): Reach {
  let [distance, entropy, rows, placed] = [0, 0, 0, 0];
  for (let start = 0; start < weights.length; start += keys) {
    const query = (start / keys) % keys;
    if (query >= (positions ?? keys)) continue;
    let total = 0;
    for (let key = 0; key < keys; key++) total += weights[start + key]!;
    let [far, counted] = [0, 0];
    for (let key = 0; key < keys; key++) {
      const weight = weights[start + key]! / total;
      if (weight > 0) entropy -= weight * Math.log(weight);
      const apart = distanceOf(query, key, keys);
      if (apart === undefined) continue;
      far += weight * apart;
      counted += weight;
    }
    rows++;
    if (counted === 0) continue;
    distance += far / counted;
    placed++;
  }
  return { distance: distance / placed, entropy: entropy / rows };
}

const tokenDistance = (query: number, key: number): number => Math.abs(query - key);

/** Patches stand in rows behind the class token, which has no place. */
function patchDistance(query: number, key: number, keys: number): number | undefined {
  if (query === 0 || key === 0) return undefined;
  const side = Math.round(Math.sqrt(keys - 1));
  const [q, k] = [query - 1, key - 1];
  return Math.hypot((q % side) - (k % side), Math.floor(q / side) - Math.floor(k / side));
}
