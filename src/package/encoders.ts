import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Metrics } from '../evaluate/metric.ts';
import {
  beginText,
  type Classification,
  type EncodedText,
  openTextClassifier,
  type Rehearsed,
  runFixed,
  runRehearsed,
  type TextClassifier,
} from '../jobs/index.ts';
import { readRows } from '../lab/data/index.ts';
import { evaluateGlue, type GlueExample, type GlueTask, glueExample } from '../lab/tasks/glue.ts';
import { classifiesTexts } from '../models/families/index.ts';
import type { BertConfig } from '../models/index.ts';
import { usualFloat, withFloatBackend } from '../node/float.ts';
import type { FloatBackend } from '../program/index.ts';
import { type LoadedModel, privateModel, rehearsal, requireMeasured } from './model.ts';

/** The encoder of a model that classifies texts. Throws a `model` error for other architectures. */
export function encoder(model: LoadedModel): BertConfig {
  if (classifiesTexts(model.config)) return model.config;
  throw new SottoError('model', `a ${model.config.family} does not classify texts`, {
    place: { file: model.checkpoint.files.name },
    remedy: 'name the folder of a BERT or RoBERTa with a classification head',
  });
}

/** A text, or a pair of texts of which the model is asked about both. */
export type TextPair = readonly [first: string, second?: string | undefined];

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

/** The most tokens of a text. */
export const mostTokens = (config: BertConfig, wanted = 128): number =>
  Math.min(wanted, config.maxPositionEmbeddings - config.firstPosition);

/** A classifier of texts on a float backend. The caller closes it. */
export async function floatClassifier(
  model: LoadedModel,
  backend: FloatBackend,
  { batch = 8, tokens }: EncoderRun = {},
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

/** A classifier of texts in the exact integers. One program a length of text: nobody is there from whom a length is hidden. */
export function fixedClassifier(model: LoadedModel, ring: RingParameters): TextClassifier {
  const config = encoder(model);
  requireMeasured(model);
  return {
    tokens: mostTokens(config),
    async classify(texts) {
      const made: Classification[] = [];
      for (const text of texts) made.push(await runFixed(privateModel(model), beginText({ config }, text), ring));
      return made;
    },
    close: async () => {},
  };
}

export interface RehearsedText extends Classification, Omit<Rehearsed<Classification>, 'answer'> {}

/**
 * The whole protocol on one text or pair of texts, with client, server and dealer in this process. Throws a `range` error where a value
 * left the range in which it is exact, unless `rangeFlags` is false.
 */
export async function rehearseTexts(
  model: LoadedModel,
  [text, pair]: TextPair,
  ring: RingParameters,
  rangeFlags = true,
): Promise<RehearsedText> {
  const config = encoder(model);
  requireMeasured(model);
  const job = beginText({ config, tokenizer: await model.tokenizer() }, { text, pair });
  const { answer, ...costs } = await runRehearsed(privateModel(model), job, rehearsal(ring, rangeFlags));
  return { ...answer, ...costs };
}
