import { simulate } from '../backends/fixed/index.ts';
import { quantise, type RingParameters, wordBitsOf } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Metrics } from '../evaluate/metric.ts';
import { createWasmKernels } from '../kernels/index.ts';
import { readRows } from '../lab/data/index.ts';
import { evaluateGlue, type GlueExample, type GlueModel, type GlueTask, glueExample } from '../lab/tasks/glue.ts';
import { traceBertPrivate } from '../models/bert.ts';
import {
  type BertConfig,
  type Classification,
  type EncodedText,
  greedy,
  openTextClassifier,
  type TextClassifier,
} from '../models/index.ts';
import { usualFloat, withFloatBackend } from '../node/float.ts';
import type { FloatBackend, Tensor } from '../program/index.ts';
import { type LoadedModel, requireMeasured } from './model.ts';

/** The encoder of a model that classifies texts. Throws a `model` error for other architectures. */
export function encoder(model: LoadedModel): BertConfig {
  if (model.config.family === 'bert') return model.config;
  throw new SottoError('model', `a ${model.config.family} does not classify texts`, {
    place: { file: model.checkpoint.files.name },
    remedy: 'name the folder of a BERT or RoBERTa with a classification head',
  });
}

/** A text, or a pair of texts of which the model is asked about both. */
export type TextPair = readonly [first: string, second?: string];

export interface EncoderRun {
  readonly backend?: 'onnx' | 'reference';
  /** Texts a run. */
  readonly batch?: number;
  /** The most tokens of a text; 128 unless told. */
  readonly tokens?: number;
}

/** The class of each text or pair of texts, in the clear. Texts that do not fit are `input` errors. */
export async function classifyTexts(
  model: LoadedModel,
  texts: readonly TextPair[],
  run: EncoderRun = {},
): Promise<Classification[]> {
  const encoded = await encodeTexts(model, texts);
  return await withClassifier(model, run, (classifier) => classifier.classify(encoded));
}

/** The same in the exact integers of a private run. */
export async function classifyTextsFixed(
  model: LoadedModel,
  texts: readonly TextPair[],
  ring: RingParameters,
): Promise<Classification[]> {
  return await fixedClassifier(model, ring).classify(await encodeTexts(model, texts));
}

async function encodeTexts(model: LoadedModel, texts: readonly TextPair[]): Promise<EncodedText[]> {
  encoder(model);
  const tokenizer = await model.tokenizer();
  return texts.map(([first, second]) => tokenizer.encodePair!(first, second));
}

/** What a text classifier is run on for an evaluation. */
export type EncoderBackend =
  | { readonly kind: 'float'; readonly backend: FloatBackend }
  | { readonly kind: 'fixed'; readonly ring: RingParameters };

/** A classifier of texts of up to 128 tokens for the text tasks. The caller closes it. */
export async function evaluatedEncoder(model: LoadedModel, by: EncoderBackend): Promise<GlueModel> {
  const { labels } = encoder(model);
  const tokenizer = await model.tokenizer();
  const classifier = by.kind === 'float' ? await floatClassifier(model, by.backend, {}) : fixedClassifier(model, by.ring);
  return { labels, tokenizer, classifier };
}

/** The first `limit` labelled rows of a GLUE task's file (.tsv, .jsonl, .json or .parquet). */
export async function glueExamples(task: GlueTask, file: string, limit = Number.POSITIVE_INFINITY): Promise<GlueExample[]> {
  const examples: GlueExample[] = [];
  for await (const row of readRows(file)) {
    if (examples.length >= limit) break;
    examples.push(glueExample(task, file, row));
  }
  return examples;
}

/** Accuracy of a model on the labelled file of a GLUE task, on its first `limit` rows. */
export async function evaluateGlueFile(
  model: LoadedModel,
  task: GlueTask,
  file: string,
  run: EncoderRun & { readonly limit?: number } = {},
): Promise<Metrics> {
  const { labels } = encoder(model);
  const examples = await glueExamples(task, file, run.limit);
  const tokenizer = await model.tokenizer();
  return await withClassifier(model, run, (classifier) => evaluateGlue(task, examples, { labels, tokenizer, classifier }));
}

const mostTokens = (config: BertConfig, wanted = 128): number =>
  Math.min(wanted, config.maxPositionEmbeddings - config.firstPosition);

async function floatClassifier(
  model: LoadedModel,
  backend: FloatBackend,
  { batch = 8, tokens }: EncoderRun,
): Promise<TextClassifier> {
  const config = encoder(model);
  const weights = await model.weights();
  return await openTextClassifier({ config, plan: model.plan, weights, backend }, { batch, tokens: mostTokens(config, tokens) });
}

async function withClassifier<T>(
  model: LoadedModel,
  run: EncoderRun,
  work: (classifier: TextClassifier) => Promise<T>,
): Promise<T> {
  return await withFloatBackend(run.backend ?? usualFloat(), async (float) => {
    const classifier = await floatClassifier(model, float, run);
    try {
      return await work(classifier);
    } finally {
      await classifier.close();
    }
  });
}

/** One program a length of text, as in a private run: there is no padding. */
function fixedClassifier(model: LoadedModel, ring: RingParameters): TextClassifier {
  const config = encoder(model);
  requireMeasured(model);
  const classify = async ({ ids, types }: EncodedText): Promise<Classification> => {
    const program = quantise(traceBertPrivate(config, model.plan, { tokens: ids.length }), ring);
    const weights = await model.privateWeights();
    const inputs: Record<string, Tensor> = {
      prompt: { shape: [ids.length], values: Int32Array.from(ids) },
      types: { shape: [ids.length], values: Int32Array.from(types) },
    };
    const outputs = await simulate(program, {
      kernels: createWasmKernels(wordBitsOf(ring.bits)),
      weights: async (name) => weights.get(name)!,
      inputs: async (name) => inputs[name]!,
    });
    const logits = outputs.get('logits')!.values as Float64Array;
    const id = greedy(logits);
    return { id, label: config.labels[id]!, logits };
  };
  return {
    tokens: mostTokens(config),
    async classify(texts) {
      const made: Classification[] = [];
      for (const text of texts) made.push(await classify(text));
      return made;
    },
    close: async () => {},
  };
}
