import { join } from 'node:path';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import type { ModelConfig } from '../../src/models/config.ts';
import { type LlamaConfig, parseLlamaConfig, parseVitConfig, type VitConfig } from '../../src/models/config.ts';
import { foldWeights } from '../../src/models/fold.ts';
import { type Plan, parsePlan } from '../../src/models/plan.ts';
import type { Program, Tensor } from '../../src/program/index.ts';

export const sharedModels = join(process.env.SOTTO_SHARED ?? '../shared', 'models');

export function tinyLlama(fields: Record<string, unknown> = {}): LlamaConfig {
  return parseLlamaConfig({
    hidden_size: 16,
    intermediate_size: 20,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 30,
    max_position_embeddings: 32,
    ...fields,
  });
}

export function tinyVit(fields: Record<string, unknown> = {}): VitConfig {
  return parseVitConfig({
    hidden_size: 12,
    intermediate_size: 18,
    num_hidden_layers: 2,
    num_attention_heads: 3,
    image_size: 8,
    patch_size: 4,
    num_channels: 2,
    num_labels: 5,
    layer_norm_eps: 1e-6,
    ...fields,
  });
}

/** Every kind of replacement somewhere: the first layer exact, the second polynomial with one quadratic for all channels. */
export function mixedPlan(config: ModelConfig): Plan {
  const plan = parsePlan('full-p2', config);
  const layers = plan.layers.map((layer, index) =>
    index === 0
      ? { ...layer, activation: { kind: 'relu' as const }, attention: { kind: 'softmax' as const } }
      : { ...layer, activation: { kind: 'quadratic' as const, per: 'layer' as const } },
  );
  return { ...plan, layers };
}

export const float = (values: ArrayLike<number>, shape: readonly number[]): Tensor => ({
  shape,
  values: Float64Array.from(values),
});
export const index = (values: ArrayLike<number>, shape: readonly number[]): Tensor => ({
  shape,
  values: Int32Array.from(values),
});

export async function runReference(
  program: Program,
  bound: ReadonlyMap<string, Tensor>,
  feeds: Record<string, Tensor>,
): Promise<Map<string, Tensor>> {
  const executable = await referenceBackend().compile(program, bound);
  return executable.run(new Map(Object.entries(feeds)));
}

export async function folded(
  config: ModelConfig,
  plan: Plan,
  weights: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Tensor>> {
  const made = new Map<string, Tensor>();
  const read = async (name: string) => weights.get(name)!.values as Float32Array;
  for await (const [name, tensor] of foldWeights(config, plan, read)) made.set(name, tensor);
  return made;
}

/** The largest difference of two equally long lists. */
export function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return Number.isNaN(most) ? Infinity : most;
}
