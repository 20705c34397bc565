import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { type ModelConfig, parseModelConfig } from '../../src/models/config.ts';
import type { families } from '../../src/models/families/index.ts';
import { parsePlan } from '../../src/models/plan.ts';
import { tensorTable } from './tensor-tables.ts';

const page = new URL('../../docs/checkpoints.md', import.meta.url);
/** Sizes that tell themselves apart. */
const sizes = { hidden_size: 36, intermediate_size: 29, num_hidden_layers: 2, num_attention_heads: 6 };
const letters = {
  36: 'd',
  29: 'ff',
  60: 'H·Dh',
  30: 'Hkv·Dh',
  6: 'H',
  101: 'V',
  47: 'P',
  3: 'types',
  7: 'classes',
  5: 'C',
  2: 'p',
  50: '1 + patches',
};
const configs: Readonly<Record<keyof typeof families, ModelConfig>> = {
  llama: parseModelConfig({ model_type: 'llama', ...sizes, num_key_value_heads: 3, head_dim: 10, vocab_size: 101 }),
  vit: parseModelConfig({ model_type: 'vit', ...sizes, image_size: 14, patch_size: 2, num_channels: 5, num_labels: 7 }),
  bert: parseModelConfig({
    ...{ model_type: 'bert', ...sizes, vocab_size: 101, max_position_embeddings: 47 },
    ...{ type_vocab_size: 3, num_labels: 7 },
  }),
};

/** `npx vitest run test/models/tensor-tables.test.ts --update` writes the page. */
it('the documentation lists the tensors of every family as its table has them', async () => {
  let text = readFileSync(page, 'utf8');
  for (const [family, config] of Object.entries(configs)) {
    const [begin, end] = [`<!-- tensors of a ${family} -->\n`, '<!-- end -->'];
    const start = text.indexOf(begin) + begin.length;
    expect(start).toBeGreaterThan(begin.length);
    const made = tensorTable(config, parsePlan('full-l2quad', config), letters);
    text = `${text.slice(0, start)}${made}\n${text.slice(text.indexOf(end, start))}`;
  }
  await expect(text).toMatchFileSnapshot(fileURLToPath(page));
});
