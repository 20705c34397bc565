import { SottoError } from '../errors/index.ts';
import { type Program, type Shape, same, size, type Tensor } from '../program/index.ts';
import { traceBert, traceBertPrivate } from './bert.ts';
import type { BertConfig, LlamaConfig, ModelConfig, VitConfig } from './config.ts';
import { traceLlama, traceLlamaPrivate } from './llama.ts';
import { exactPlan, type Plan } from './plan.ts';
import { seededNormal } from './sample.ts';
import { traceVit, traceVitPrivate } from './vit.ts';

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
export function weightShapes(config: ModelConfig, plan: Plan): Map<string, Shape> {
  if (config.family === 'llama') return serverInputs(traceLlama(config, plan, { batch: 1, tokens: 1 }));
  if (config.family === 'bert') return serverInputs(traceBert(config, plan, { batch: 1, tokens: 1 }));
  return serverInputs(traceVit(config, plan, { batch: 1 }));
}

/** Names and shapes of the folded tensors that the private program of a model under a plan reads. */
export function privateWeightShapes(config: ModelConfig, plan: Plan): Map<string, Shape> {
  if (config.family === 'llama') return serverInputs(traceLlamaPrivate(config, plan, { promptTokens: 1, newTokens: 1 }));
  if (config.family === 'bert') return serverInputs(traceBertPrivate(config, plan, { tokens: 1 }));
  return serverInputs(traceVitPrivate(config, plan));
}

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

/** Random float32 weights of a Llama under a plan, the same for the same seed: for tests and cost runs without a checkpoint. */
export function randomLlamaWeights(config: LlamaConfig, seed: number, plan: Plan = exactPlan(config)): Map<string, Tensor> {
  return randomWeights(weightShapes(config, plan), seed);
}

/** The same for a vision transformer. */
export function randomVitWeights(config: VitConfig, seed: number, plan: Plan = exactPlan(config)): Map<string, Tensor> {
  return randomWeights(weightShapes(config, plan), seed);
}

/** The same for a BERT or RoBERTa that classifies texts. */
export function randomBertWeights(config: BertConfig, seed: number, plan: Plan = exactPlan(config)): Map<string, Tensor> {
  return randomWeights(weightShapes(config, plan), seed);
}

/** Random tensors of given names and shapes, spread as initialisation would: matrices by their inputs, gains near one. */
export function randomWeights(shapes: ReadonlyMap<string, Shape>, seed: number): Map<string, Tensor> {
  const normal = seededNormal(seed);
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of shapes) {
    const [mean, spread] = distribution(name, shape);
    weights.set(name, { shape, values: Float32Array.from({ length: size(shape) }, () => mean + spread * normal()) });
  }
  return weights;
}

function distribution(name: string, shape: Shape): [mean: number, spread: number] {
  if (/\.act\.[abc]$/.test(name)) return [{ a: 0.125, b: 0.5, c: 0.25 }[name.at(-1) as 'a' | 'b' | 'c'], 0.05];
  if (shape.length === 1) return name.endsWith('bias') ? [0, 0.1] : [1, 0.1];
  if (/embed/.test(name) && !/projection|patch$/.test(name)) return [0, 1];
  // Published matrices are (out, …in), folded ones (in, out).
  const inputs = name.startsWith('private/') ? shape[0]! : size(shape.slice(1));
  return [0, inputs ** -0.5];
}
