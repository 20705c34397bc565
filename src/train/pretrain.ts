import { SottoError } from '../errors/index.ts';
import { trainBytePairTokenizer } from '../lab/tokenizer.ts';
import { pseudorandom } from '../math/index.ts';
import { writeCheckpoint } from '../models/checkpoint.ts';
import { parseLlamaConfig } from '../models/config.ts';
import { defaultEpsilon, exactPlan, firstWeights, openModelFolder, planOf, traceLlama } from '../models/index.ts';
import { loadTokenizer } from '../models/tokenizer.ts';
import { encodeDocuments } from './data.ts';
import type { RunFolder } from './folder.ts';
import { type Trainer, train, type Weights } from './loop.ts';
import type { PretrainRecipe } from './recipe.ts';
import { writeResult } from './result.ts';
import type { RunOptions, Texts } from './run-options.ts';
import { documentText } from './samples.ts';

/** A small Llama from random weights: trains the tokenizer, then the model on next-token likelihood. */
export async function pretrain(recipe: PretrainRecipe, folder: RunFolder, texts: Texts, options: RunOptions): Promise<Trainer> {
  if (!(await folder.start.exists('config.json'))) await writeStart(recipe, folder, texts.train);
  const { checkpoint } = await openModelFolder(folder.start);
  const config = parseLlamaConfig(checkpoint.config);
  const tokenizer = await loadTokenizer(folder.start);
  const start: Weights = await checkpoint.readAll();
  const plan = planOf(config);
  const { power } = recipe.model;
  const [learnt, heldOut] = [texts.train, texts.heldOut].map((some) => encodeDocuments(some, tokenizer)) as [
    Int32Array[],
    Int32Array[],
  ];
  const text = documentText(recipe, { train: learnt, heldOut }, power?.calibrationRows ?? 1);
  const result = await train({
    recipe,
    folder,
    backend: options.backend,
    student: (batch) => traceLlama(config, plan, { batch, tokens: recipe.context }),
    teacher: undefined,
    losses:
      power === undefined ? { nll: 1 } : { nll: 1, range: power.range, rangeLimit: power.rangeLimit, variance: power.variance },
    samples: text.samples,
    start,
    trained: [...start.keys()].map((name) => ({ name, rate: 1 })),
    clock: options.clock,
    progress: options.progress,
    stop: options.stop,
  });
  if (!result.finished) return result;
  const measuring = power === undefined ? undefined : { calibration: text.calibration, margin: power.margin };
  const { weights, log } = result;
  await writeResult({ recipe, folder, backend: options.backend, config: checkpoint.config, weights, log, measuring });
  return result;
}

async function writeStart(recipe: PretrainRecipe, folder: RunFolder, texts: readonly string[]): Promise<void> {
  const { model, tokenizer } = recipe;
  if (model.hiddenSize % model.heads !== 0 || model.heads % model.keyValueHeads !== 0)
    throw new SottoError('input', 'heads do not divide the hidden size, or key-value heads do not divide heads', {
      place: { field: 'model.heads' },
      remedy: 'choose sizes that divide',
    });
  const trained = trainBytePairTokenizer(texts, { vocabularySize: tokenizer.vocabularySize });
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: model.hiddenSize,
    intermediate_size: model.intermediateSize,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    num_key_value_heads: model.keyValueHeads,
    vocab_size: tokenizer.vocabularySize,
    max_position_embeddings: recipe.context,
    rms_norm_eps: model.normEpsilon,
    rope_theta: model.ropeTheta,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: 2,
    attention_bias: false,
    torch_dtype: 'float32',
  };
  const parsed = parseLlamaConfig(config);
  const { power } = model;
  const exact = exactPlan(parsed);
  const attention =
    power === undefined
      ? undefined
      : ({ kind: 'power', exponent: power.exponent, epsilon: defaultEpsilon, form: power.form } as const);
  const planned =
    attention === undefined
      ? config
      : {
          ...config,
          sotto: { ...exact, name: `power-${attention.exponent}`, layers: exact.layers.map((own) => ({ ...own, attention })) },
        };
  const random = pseudorandom(recipe.seed, 1);
  const tensors = firstWeights(parsed, exact, () => random.normal());
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  const extra = {
    'tokenizer.json': json(trained['tokenizer.json']),
    'tokenizer_config.json': json(trained['tokenizer_config.json']),
  };
  await writeCheckpoint(folder.start, { config: planned, tensors, extra });
}
