import { classifiesPictures, writesText } from '../models/families/index.ts';
import { type LlamaConfig, type Plan, traceLlama, traceVit, type VitConfig } from '../models/index.ts';
import type { Program, Tensor } from '../program/index.ts';
import { mismatch } from './teacher.ts';

/** A model whose layers can be looked at. */
export interface Layered {
  readonly config: LlamaConfig | VitConfig;
  readonly plan: Plan;
  readonly weights: ReadonlyMap<string, Tensor>;
}

/** What both models are fed, one sample at a time: token ids of any length, or pixels (C, S, S). */
export type LayerSamples = { readonly ids: readonly Int32Array[] } | { readonly pixels: readonly Float32Array[] };

/** One sample a run, with how many of its positions count; all where absent. */
export interface Feeds {
  readonly count: number;
  /** Of a text's program. */
  readonly tokens: number;
  at(index: number): { feed: Map<string, Tensor>; positions?: number };
}

export function feedsOf(config: LlamaConfig | VitConfig, samples: LayerSamples): Feeds {
  if (writesText(config) && 'ids' in samples) {
    const { ids } = samples;
    const tokens = Math.max(...ids.map(({ length }) => length));
    return {
      count: ids.length,
      tokens,
      // Filled up behind the end, where a causal model does not look and nobody reads.
      at: (index) => {
        const values = new Int32Array(tokens);
        values.set(ids[index]!);
        return { feed: new Map([['ids', { shape: [1, tokens], values }]]), positions: ids[index]!.length };
      },
    };
  }
  if (classifiesPictures(config) && 'pixels' in samples) {
    const shape = [1, config.numChannels, config.imageSize, config.imageSize];
    const { pixels } = samples;
    return {
      count: pixels.length,
      tokens: 0,
      at: (index) => ({ feed: new Map([['pixels', { shape, values: pixels[index]! }]]) }),
    };
  }
  throw mismatch('one reads text, the other pictures');
}

/** The program over one sample. */
export function traceLayered({ config, plan }: Layered, tokens: number): Program {
  return writesText(config)
    ? traceLlama(config, plan, { batch: 1, tokens, outputs: ['hidden'] })
    : traceVit(config, plan, { batch: 1, outputs: ['hidden'] });
}
