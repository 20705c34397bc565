import type { ModelConfig } from '../config.ts';
import type { Layout } from '../layout.ts';
import { bertLayout } from './bert.ts';
import { llamaLayout } from './llama.ts';
import { vitLayout } from './vit.ts';

const layouts: { readonly [F in ModelConfig['family']]: (config: Extract<ModelConfig, { family: F }>) => Layout } = {
  llama: llamaLayout,
  vit: vitLayout,
  bert: bertLayout,
};

/** Where a model's tensors stand, and of which sizes it is. */
export const layoutOf = (config: ModelConfig): Layout => layouts[config.family](config as never);
