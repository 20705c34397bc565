import { traceBertPrivate } from '../../src/models/bert.ts';
import { type BertConfig, type ModelConfig, parseBertConfig } from '../../src/models/config.ts';
import { traceLlamaPrivate } from '../../src/models/llama.ts';
import { type Plan, parsePlan } from '../../src/models/plan.ts';
import { seededUniform } from '../../src/models/sample.ts';
import { traceVitPrivate } from '../../src/models/vit.ts';
import { serverInputs } from '../../src/models/weights.ts';
import { type Program, size, type Tensor } from '../../src/program/index.ts';
import { index, mixedPlan, tinyLlama, tinyVit } from '../models/tiny.ts';

export const tinyBert = (fields: Record<string, unknown> = {}): BertConfig =>
  parseBertConfig({
    model_type: 'bert',
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    vocab_size: 30,
    max_position_embeddings: 16,
    type_vocab_size: 2,
    num_labels: 3,
    layer_norm_eps: 1e-5,
    ...fields,
  });

export const planNames = [
  ...['exact', 'full-p2', 'full-p4', 'full-p8', 'full-p2-quartic', 'hybrid-1'],
  ...['mpcformer', 'full-2quad', 'full-l2quad', 'full-2relu', 'mixed'],
] as const;

export const planNamed = (name: string, config: ModelConfig): Plan =>
  name === 'mixed' ? mixedPlan(config) : parsePlan(name, config);

/** A small model of every family as a private program of a plan. */
export interface Model {
  readonly name: string;
  readonly config: ModelConfig;
  readonly trace: (plan: Plan) => Program;
  readonly inputs: ReadonlyMap<string, Tensor>;
}

const tokens = (...ids: number[]): Tensor => index(ids, [ids.length]);
const llama = tinyLlama();
const vit = tinyVit();
const bert = tinyBert();
const roberta = tinyBert({ model_type: 'roberta', type_vocab_size: 1 });
export const models: readonly Model[] = [
  ...(['logits', 'token'] as const).map(
    (reveal): Model => ({
      name: `llama, ${reveal}`,
      config: llama,
      trace: (plan) => traceLlamaPrivate(llama, plan, { promptTokens: 3, newTokens: 3, reveal }),
      inputs: new Map([
        ['prompt', tokens(3, 17, 0)],
        ['token.1', tokens(8)],
        ['token.2', tokens(29)],
      ]),
    }),
  ),
  {
    name: 'vit',
    config: vit,
    trace: (plan) => traceVitPrivate(vit, plan),
    inputs: new Map([['pixels', uniform([2, 8, 8], 5)]]),
  },
  {
    name: 'bert',
    config: bert,
    trace: (plan) => traceBertPrivate(bert, plan, { tokens: 4 }),
    inputs: new Map([
      ['prompt', tokens(3, 17, 0, 8)],
      ['types', tokens(0, 0, 1, 1)],
    ]),
  },
  {
    name: 'roberta',
    config: roberta,
    trace: (plan) => traceBertPrivate(roberta, plan, { tokens: 4 }),
    inputs: new Map([['prompt', tokens(3, 17, 0, 8)]]),
  },
];

/** Uniform numbers in [−1, 1), divided by the root of a matrix's rows: exact arithmetic, alike on every machine. */
function uniform(shape: readonly number[], seed: number, spread = 1): Tensor {
  const random = seededUniform(seed);
  return { shape, values: Float64Array.from({ length: size(shape) }, () => (2 * random() - 1) * spread) };
}

/** The folded weights of a program, from its own list of server inputs. */
export const weightsOf = (program: Program): Map<string, Tensor> =>
  new Map(
    [...serverInputs(program)].map(([name, shape], at) => [
      name,
      uniform(shape, 100 + at, shape.length === 2 ? 1 / Math.sqrt(shape[0]!) : 0.5),
    ]),
  );
