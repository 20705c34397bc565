import { SottoError } from '../../errors/index.ts';
import type { BertConfig, LlamaConfig, ModelConfig, VitConfig } from '../configuration.ts';
import { isObject } from '../json.ts';
import type { Layout } from '../layout.ts';
import { bert } from './bert.ts';
import type { Family, Job } from './family.ts';
import { llama } from './llama.ts';
import { vit } from './vit.ts';

/** All families. A new one is a table of its own, and a line here. */
export const families = { llama, vit, bert } as const;

export const familyOf = (config: ModelConfig): Family<ModelConfig> =>
  families[config.family] as Family<never> as Family<ModelConfig>;

/** Where a model's tensors stand, and of which sizes it is. */
export const layoutOf = (config: ModelConfig): Layout => familyOf(config).layout(config);

export const jobOf = (config: ModelConfig): Job => familyOf(config).job;
export const writesText = (config: ModelConfig): config is LlamaConfig => jobOf(config) === 'writes text';
export const classifiesTexts = (config: ModelConfig): config is BertConfig => jobOf(config) === 'classifies texts';
export const classifiesPictures = (config: ModelConfig): config is VitConfig => jobOf(config) === 'classifies pictures';

const byType = new Map<string, Family<ModelConfig>>(
  Object.values(families).flatMap((family) =>
    Object.keys(family.architectures).map((type) => [type, family as Family<never> as Family<ModelConfig>] as const),
  ),
);

/** The values of `model_type` that are run. */
export const supportedModelTypes: readonly string[] = [...byType.keys()];

/** The fields of config.json that the definition of an architecture reads. */
export const usedFields = (type: unknown): readonly string[] =>
  typeof type === 'string' ? (byType.get(type)?.fields ?? []) : [];

/** Reads config.json of any supported architecture, chosen by `model_type`. */
export function parseModelConfig(raw: unknown, file = 'config.json'): ModelConfig {
  const type = isObject(raw) ? raw.model_type : undefined;
  const family = typeof type === 'string' ? byType.get(type) : undefined;
  if (family !== undefined) return family.parse(raw, file);
  // Printing a value of any other kind could take as deep a stack as the file likes.
  const named = typeof type === 'string' ? JSON.stringify(type.slice(0, 80)) : `of type ${type === null ? 'null' : typeof type}`;
  throw new SottoError('model', `the architecture ${named} is not supported`, {
    place: { file, field: 'model_type' },
    remedy: `sotto runs these: ${supportedModelTypes.join(', ')}`,
  });
}

/** config.json of a model that writes. */
export const parseLlamaConfig = llama.parse;
/** config.json of a vision transformer that classifies pictures. */
export const parseVitConfig = vit.parse;
/** config.json of an encoder that classifies texts. */
export const parseBertConfig = bert.parse;
