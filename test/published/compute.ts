import type { ModelFolder } from '../../src/models/folder.ts';
import { traceBert, traceLlama, traceVit } from '../../src/models/index.ts';
import type { Program, Tensor } from '../../src/program/index.ts';
import { float, index, runReference } from '../models/tiny.ts';

/** What a model is asked: token ids (T), with types for a BERT, or pixels (C·S·S). */
export interface Asked {
  readonly ids?: readonly number[];
  readonly types?: readonly number[];
  readonly pixels?: readonly number[];
}

/** Logits in float64 of a model that was opened as every command opens it. */
export async function logitsOf({ checkpoint, config, plan }: ModelFolder, asked: Asked): Promise<Float64Array> {
  const weights = await checkpoint.readAll();
  const run = async (program: Program, feeds: Record<string, Tensor>): Promise<Float64Array> =>
    Float64Array.from((await runReference(program, weights, feeds)).get('logits')!.values);
  if (config.family === 'vit') {
    const { numChannels, imageSize } = config;
    return await run(traceVit(config, plan, { batch: 1 }), {
      pixels: float(asked.pixels!, [1, numChannels, imageSize, imageSize]),
    });
  }
  const tokens = asked.ids!.length;
  const shape = [1, tokens];
  if (config.family === 'llama')
    return await run(traceLlama(config, plan, { batch: 1, tokens }), { ids: index(asked.ids!, shape) });
  return await run(traceBert(config, plan, { batch: 1, tokens }), {
    ids: index(asked.ids!, shape),
    types: index(asked.types!, shape),
    mask: float(new Float64Array(tokens).fill(1), shape),
  });
}

/** The largest difference, over the root mean square of what is expected. */
export function relative(found: ArrayLike<number>, expected: readonly number[]): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  const scale = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length);
  const most = expected.reduce((largest, value, at) => Math.max(largest, Math.abs(value - found[at]!)), 0);
  return most / scale;
}
