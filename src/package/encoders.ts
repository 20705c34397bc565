import { SottoError } from '../errors/index.ts';
import { evaluateGlue, type GlueExample, type GlueTask, glueExample } from '../evaluate/glue.ts';
import type { Metrics } from '../evaluate/metric.ts';
import { type BertConfig, type Classification, type EncodedText, openTextClassifier } from '../models/index.ts';
import { readRows } from '../train/data/index.ts';
import type { LoadedModel } from './model.ts';
import { withFloatBackend } from './text.ts';

/** The encoder of a model that classifies texts. Throws a `model` error for other architectures. */
export function encoder(model: LoadedModel): BertConfig {
  if (model.config.family === 'bert') return model.config;
  throw new SottoError('model', `a ${model.config.family} does not classify texts`, {
    place: { file: model.checkpoint.files.name },
    remedy: 'name the folder of a BERT or RoBERTa with a classification head',
  });
}

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
  texts: readonly (readonly [first: string, second?: string])[],
  run: EncoderRun = {},
): Promise<Classification[]> {
  const tokenizer = await model.tokenizer();
  const encoded = texts.map(([first, second]): EncodedText => tokenizer.encodePair!(first, second));
  return await withClassifier(model, run, (classifier) => classifier.classify(encoded));
}

/** Accuracy of a model on the labelled file of a GLUE task (.tsv, .jsonl, .json or .parquet), on its first `limit` rows. */
export async function evaluateGlueFile(
  model: LoadedModel,
  task: GlueTask,
  file: string,
  run: EncoderRun & { readonly limit?: number } = {},
): Promise<Metrics> {
  const { labels } = encoder(model);
  const examples: GlueExample[] = [];
  for await (const row of readRows(file)) {
    if (examples.length >= (run.limit ?? Infinity)) break;
    examples.push(glueExample(task, file, row));
  }
  const tokenizer = await model.tokenizer();
  return await withClassifier(model, run, (classifier) => evaluateGlue(task, examples, { labels, tokenizer, classifier }));
}

async function withClassifier<T>(
  model: LoadedModel,
  { backend = 'onnx', batch = 8, tokens = 128 }: EncoderRun,
  work: (classifier: Awaited<ReturnType<typeof openTextClassifier>>) => Promise<T>,
): Promise<T> {
  const config = encoder(model);
  const weights = await model.weights();
  const most = Math.min(tokens, config.maxPositionEmbeddings - config.firstPosition);
  return await withFloatBackend(backend, async (float) => {
    const classifier = await openTextClassifier({ config, plan: model.plan, weights, backend: float }, { batch, tokens: most });
    try {
      return await work(classifier);
    } finally {
      await classifier.close();
    }
  });
}
