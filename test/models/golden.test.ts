import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { classifyFloat, generateFloat } from '../../src/jobs/index.ts';
import { openCheckpoint } from '../../src/models/checkpoint.ts';
import { parseLlamaConfig, parseVitConfig } from '../../src/models/config.ts';
import { exactPlan, planOf } from '../../src/models/plan.ts';
import { loadTokenizer } from '../../src/models/tokenizer.ts';
import { traceVitPrivate } from '../../src/models/vit.ts';
import { loadWeights } from '../../src/models/weights.ts';
import { folderFiles } from '../../src/node/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { difference, float, folded, runReference, sharedModels } from './tiny.ts';

const onnx = onnxBackend();
afterAll(() => onnx.close());
const backends = [referenceBackend(), onnx];
const golden = (name: string) => JSON.parse(readFileSync(join(sharedModels, name, 'golden.json'), 'utf8'));
const missing = (name: string): boolean => !existsSync(join(sharedModels, name));

describe.each(['stories260K', 'babyllama-105'])('%s', (name) => {
  it.skipIf(missing(name)).each(backends)(
    'writes the golden ids and text with greedy decoding on $name',
    async (backend) => {
      const files = folderFiles(join(sharedModels, name));
      const checkpoint = await openCheckpoint(files);
      const config = parseLlamaConfig(checkpoint.config);
      const plan = planOf(config);
      const weights = await loadWeights(checkpoint, config, plan);
      const { prompt_ids: promptIds, greedy_ids: expected, text } = golden(name);
      const maxNewTokens = expected.length - promptIds.length;
      const { ids } = await generateFloat({ config, plan, weights, backend, promptIds, maxNewTokens });
      expect(ids).toEqual(expected);
      expect((await loadTokenizer(files)).decode(ids)).toBe(text);
    },
    60_000,
  );
});

describe.skipIf(missing('tiny-vit'))('tiny-vit', () => {
  /** pixel_values[c][y][x] = sin(0.37 c + 0.11 y) · cos(0.05 x (c + 1) + s). */
  const picture = (s: number): Float64Array =>
    Float64Array.from({ length: 3 * 32 * 32 }, (_, at) => {
      const [c, y, x] = [Math.floor(at / 1024), Math.floor(at / 32) % 32, at % 32];
      return Math.sin(0.37 * c + 0.11 * y) * Math.cos(0.05 * x * (c + 1) + s);
    });
  const load = async () => {
    const checkpoint = await openCheckpoint(folderFiles(join(sharedModels, 'tiny-vit')));
    const config = parseVitConfig(checkpoint.config);
    const plan = exactPlan(config);
    return { config, plan, weights: await loadWeights(checkpoint, config, plan) };
  };

  it.each(backends)('gives the golden logits on $name', async (backend) => {
    const { cases } = golden('tiny-vit') as { cases: { s: number; logits: number[] }[] };
    const pictures = cases.map(({ s }) => picture(s));
    const made = await classifyFloat({ ...(await load()), backend, pictures, batch: 3 });
    made.forEach(({ logits, id, label }, at) => {
      expect(difference(logits, cases[at]!.logits)).toBeLessThan(1e-4);
      expect(label).toBe(`class ${id}`);
    });
  });

  it('gives the golden logits from folded weights', async () => {
    const { config, plan, weights } = await load();
    const { cases } = golden('tiny-vit') as { cases: { s: number; logits: number[] }[] };
    const pixels = float(picture(1), [3, 32, 32]);
    const outputs = await runReference(traceVitPrivate(config, plan), await folded(config, plan, weights), { pixels });
    expect(difference(outputs.get('logits')!.values, cases[1]!.logits)).toBeLessThan(1e-4);
  });
});
