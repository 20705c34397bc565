import { SottoError } from '../errors/index.ts';
import { type Program, type Shape, same, size, type Tensor } from '../program/index.ts';
import type { ModelConfig } from './configuration.ts';
import { layoutOf } from './families/index.ts';
import { foldedShapes } from './folded-tensors.ts';
import { inputsOf, type Published, publishedTensors, type Role } from './layout.ts';
import { coefficientOfPower, exactPlan, fixedQuad, type Plan } from './plan.ts';
import type { NamedTensor } from './safetensors.ts';
import { seededNormal } from './sample.ts';

/** Where tensors are read from; a Checkpoint is one. */
export interface WeightReader {
  /** Whether there is such a tensor. */
  has(name: string): boolean;
  /** Its extents; may throw where there is no such tensor. */
  shape(name: string): Shape;
  /** Its values in row-major order. */
  read(name: string): Promise<Float32Array>;
}

/** The server's inputs of a program by name. */
export function serverInputs(program: Program): Map<string, Shape> {
  const found = new Map<string, Shape>();
  for (const node of program.nodes)
    if (node.operation === 'input' && node.parameters.owner === 'server') found.set(node.parameters.name, node.shape);
  return found;
}

/** Names and shapes of the published tensors that a model under a plan reads. */
export const weightShapes = (config: ModelConfig, plan: Plan): Map<string, Shape> =>
  new Map([...publishedTensors(layoutOf(config), plan)].map(([name, { shape }]) => [name, shape]));

/** Names and shapes of the folded tensors that the private program of a model under a plan reads. */
export const privateWeightShapes = (config: ModelConfig, plan: Plan): Map<string, Shape> => foldedShapes(layoutOf(config), plan);

/** The matrices of a model's blocks, by published name. */
export const blockMatrices = (config: ModelConfig, plan: Plan): Set<string> =>
  named(config, plan, ({ role, block }) => block !== undefined && (role === 'matrix' || role === 'ending'));

/** The coefficients of polynomials that stand for activations, a pooler's too. */
export const coefficientNames = (config: ModelConfig, plan: Plan): Set<string> =>
  named(config, plan, ({ role }) => (coefficientOfPower as readonly Role[]).includes(role));

const named = (config: ModelConfig, plan: Plan, which: (tensor: Published) => boolean): Set<string> =>
  new Set([...publishedTensors(layoutOf(config), plan)].filter(([, tensor]) => which(tensor)).map(([name]) => name));

/** Reads every tensor that a model under a plan needs. Throws a `model` error that names the first missing or misshapen one. */
export async function loadWeights(source: WeightReader, config: ModelConfig, plan: Plan): Promise<Map<string, Tensor>> {
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of weightShapes(config, plan)) {
    if (!source.has(name)) throw unfit(name, 'the checkpoint has no such tensor');
    const stored = source.shape(name);
    if (!same(stored, shape)) throw unfit(name, `shape [${stored}] where the configuration asks for [${shape}]`);
    weights.set(name, { shape, values: await source.read(name) });
  }
  return weights;
}

const unfit = (tensor: string, reason: string) =>
  new SottoError('model', reason, {
    place: { tensor },
    remedy: 'check that config.json and its plan describe these weights; `sotto convert` adds what a polynomial plan needs',
  });

/** Random float32 weights of a model under a plan, the same for the same seed: for tests and cost runs without a checkpoint. */
export function randomModelWeights(config: ModelConfig, seed: number, plan: Plan = exactPlan(config)): Map<string, Tensor> {
  const normal = seededNormal(seed);
  return new Map(
    [...publishedTensors(layoutOf(config), plan)].map(([name, made]) => {
      const [mean, deviation] = randomly[made.role] ?? [0, inputsOf(made) ** -0.5];
      return [
        name,
        { shape: made.shape, values: Float32Array.from({ length: size(made.shape) }, () => mean + deviation * normal()) },
      ];
    }),
  );
}

/** Mean and deviation of random tensors: no gain is exactly 1 and no bias 0, so that a definition which forgets one shows it. */
const randomly: { readonly [role in Role]?: readonly [mean: number, deviation: number] } = {
  words: [0, 1],
  place: [0, 1],
  bias: [0, 0.1],
  gain: [1, 0.1],
  scale: [1, 0.1],
  shift: [1, 0.1],
  a: [0.125, 0.05],
  b: [0.5, 0.05],
  c: [0.25, 0.05],
  d: [0, 0.01],
  e: [0, 0.01],
};

/** Random float32 server inputs of a program whatever they are: matrices (in, out) by the number of their inputs, vectors small. */
export function randomInputs(program: Program, seed: number): Map<string, Tensor> {
  const normal = seededNormal(seed);
  return new Map(
    [...serverInputs(program)].map(([name, shape]) => {
      const deviation = shape.length === 1 ? 0.1 : shape[0]! ** -0.5;
      return [name, { shape, values: Float32Array.from({ length: size(shape) }, () => deviation * normal()) }];
    }),
  );
}

/** What a tensor is before the first step of a training; matrices that write into the residual stream are smaller by √(2 · blocks). */
const first: { readonly [role in Role]?: readonly [mean: number, deviation: number] } = {
  words: [0, 0.1],
  // A blank patch's variance must not be thousands of times smaller than a full one's: no table of 1/√x spans that.
  place: [0, 0.3],
  bias: [0, 0],
  gain: [1, 0],
  scale: [1, 0],
  shift: [0, 0],
  a: [fixedQuad.a, 0],
  b: [fixedQuad.b, 0],
  c: [fixedQuad.c, 0],
  d: [0, 0],
  e: [0, 0],
};

/** The weights that a training from nothing begins with, drawn from `normal` in the order of the model's tensors. */
export function firstWeights(config: ModelConfig, plan: Plan, normal: () => number): NamedTensor[] {
  const layout = layoutOf(config);
  return [...publishedTensors(layout, plan)].map(([name, made]) => {
    const { shape, role } = made;
    const residual = role === 'ending' ? 1 / Math.sqrt(2 * layout.numHiddenLayers) : 1;
    const [mean, deviation] = first[role] ?? [0, residual / Math.sqrt(inputsOf(made))];
    const values = new Float32Array(size(shape)).fill(mean);
    if (deviation !== 0) for (let at = 0; at < values.length; at++) values[at] = mean + deviation * normal();
    return { name, shape, values };
  });
}

export {
  randomModelWeights as randomBertWeights,
  randomModelWeights as randomLlamaWeights,
  randomModelWeights as randomVitWeights,
};
