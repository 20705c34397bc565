import { SottoError } from '../../errors/index.ts';
import { type Metrics, share } from '../../evaluate/metric.ts';
import type { RunCost } from '../../evaluate/model.ts';
import type { EncodedText, TextClassifier } from '../../jobs/index.ts';
import { isGeneric } from '../../models/class-names.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';

interface GlueFormat {
  /** Columns of the texts in the published TSV files and in the data sets' JSONL and Parquet rows. */
  readonly texts: readonly (readonly string[])[];
  /** Columns that may hold the label, and class names in the order of the data sets' numbers. */
  readonly labels: readonly string[];
  readonly classes: readonly string[];
}

/** Sentiment (SST-2), whether a sentence answers a question (QNLI), and inference in three classes (MNLI). */
export const glueFormats = {
  sst2: { texts: [['sentence']], labels: ['label'], classes: ['negative', 'positive'] },
  qnli: { texts: [['question'], ['sentence']], labels: ['label'], classes: ['entailment', 'not_entailment'] },
  mnli: {
    texts: [
      ['premise', 'sentence1'],
      ['hypothesis', 'sentence2'],
    ],
    labels: ['label', 'gold_label'],
    classes: ['entailment', 'neutral', 'contradiction'],
  },
} as const satisfies Record<string, GlueFormat>;
export type GlueTask = keyof typeof glueFormats;

/** A labelled text, or pair of texts, of a GLUE task. */
export interface GlueExample {
  readonly first: string;
  readonly second?: string | undefined;
  /** A number of the task's classes. */
  readonly label: number;
}

/** A row as the data readers give it, TSV, JSONL or Parquet alike. */
export interface GlueRow {
  /** How errors name its place: `line 17`. */
  readonly place: string;
  readonly value: Readonly<Record<string, unknown>>;
}

/** The texts and label of a row. A missing text or label and a label out of range (−1 in the test files) are `input` errors. */
export function glueExample(task: GlueTask, file: string, row: GlueRow): GlueExample {
  const format: GlueFormat = glueFormats[task];
  const refuse = (field: string, reason: string): never => {
    throw new SottoError('input', reason, {
      place: { file, field: `${row.place}, ${field}` },
      remedy: 'correct or remove this row, or take the labelled file of this task',
    });
  };
  const present = (names: readonly string[]): [string, unknown] => {
    const name = names.find((one) => Object.hasOwn(row.value, one));
    return name === undefined ? refuse(names[0]!, 'the field is missing') : [name, row.value[name]];
  };
  const [first, second] = format.texts.map((names) => {
    const [name, value] = present(names);
    return typeof value === 'string' && value.trim() !== '' ? value : refuse(name, 'the field is not a text');
  });
  // MNLI's TSV files have the annotators' own labels beside the gold one.
  const [name, value] = present(Object.hasOwn(row.value, 'gold_label') ? ['gold_label'] : format.labels);
  const label = labelOf(format.classes, value);
  if (label === null) refuse(name, `the label ${JSON.stringify(value)?.slice(0, 40)} is not one of ${format.classes.join(', ')}`);
  return { first: first!, second, label: label! };
}

function labelOf(classes: readonly string[], value: unknown): number | null {
  const named = typeof value === 'string' ? classes.indexOf(value.trim()) : -1;
  if (named >= 0) return named;
  const digits = typeof value === 'string' ? /^\d$/.test(value) : typeof value === 'number' || typeof value === 'bigint';
  const number = digits ? Number(value) : Number.NaN;
  return Number.isInteger(number) && number >= 0 && number < classes.length ? number : null;
}

/** Encodes an example with the template's special tokens; over-long pairs lose tokens of the longer text first, at its end. */
export function encodeGlue(tokenizer: Tokenizer, { first, second }: GlueExample, most: number): EncodedText {
  const encodePair = tokenizer.encodePair;
  if (encodePair === undefined)
    throw new SottoError('usage', 'the tokenizer encodes no pairs', { remedy: 'use the tokenizer of a BERT or RoBERTa' });
  const whole = encodePair(first, second);
  if (whole.ids.length <= most) return whole;
  return cutToFit(
    whole,
    tokenizer.encode(first, { addSpecial: false }).length,
    second === undefined ? 0 : tokenizer.encode(second, { addSpecial: false }).length,
    most,
  );
}

/** Tokens of the first text stand behind one special token, those of the second before one: true of BERT and RoBERTa. */
function cutToFit(whole: EncodedText, firstLength: number, secondLength: number, most: number): EncodedText {
  const { ids, types } = whole;
  let excess = ids.length - most;
  let [keptFirst, keptSecond] = [firstLength, secondLength];
  for (; excess > 0 && keptFirst + keptSecond > 0; excess--) {
    if (keptFirst > keptSecond) keptFirst--;
    else keptSecond--;
  }
  const secondStart = ids.length - 1 - secondLength;
  const kept = ids.map((_, at) => {
    if (at >= 1 && at < 1 + firstLength) return at < 1 + keptFirst;
    if (secondLength > 0 && at >= secondStart && at < ids.length - 1) return at < secondStart + keptSecond;
    return true;
  });
  return { ids: ids.filter((_, at) => kept[at]), types: types.filter((_, at) => kept[at]) };
}

/** Other names that published models have for the classes. */
const synonyms: Readonly<Record<string, string>> = { neg: 'negative', pos: 'positive', contradictory: 'contradiction' };

/**
 * Which class of the task each of the model's classes is: by name, or by number where the model's names are none (`LABEL_0`; then both
 * must have as many). Other names are a `model` error: the order would be a guess.
 */
export function glueClasses(task: GlueTask, labels: readonly string[]): number[] {
  const classes: readonly string[] = glueFormats[task].classes;
  const bare = (name: string): string => name.toLowerCase().replace(/[^a-z]/g, '');
  const named = labels.map((label) => classes.findIndex((name) => bare(name) === (synonyms[bare(label)] ?? bare(label))));
  if (named.every((id) => id >= 0) && new Set(named).size === classes.length) return named;
  if (labels.length === classes.length && labels.every(isGeneric)) return classes.map((_, id) => id);
  const reason =
    labels.length === classes.length
      ? `the model's classes ${labels.map((label) => JSON.stringify(label)).join(', ')} are not those of the task`
      : `a model of ${labels.length} classes for a task of ${classes.length}`;
  throw new SottoError('model', reason, {
    place: { field: 'id2label' },
    remedy: `${task} has the classes ${classes.join(', ')}`,
  });
}

/** Accuracy on the examples, `acc` as the harnesses name it, with its 95 % interval. */
export function glueAccuracy(predicted: readonly number[], examples: readonly GlueExample[]): Metrics {
  return { acc: share(examples.map(({ label }, at) => predicted[at] === label)) };
}

/** A classifier of texts with what a task must know of it. */
export interface GlueModel {
  readonly labels: readonly string[];
  readonly tokenizer: Tokenizer;
  readonly classifier: TextClassifier;
  /** What private runs cost so far, one entry a run; absent of models that compute in the clear. */
  readonly costs?: () => readonly RunCost[];
}

/** Classifies the examples and scores them. */
export async function evaluateGlue(task: GlueTask, examples: readonly GlueExample[], model: GlueModel): Promise<Metrics> {
  const classes = glueClasses(task, model.labels);
  const texts = examples.map((example) => encodeGlue(model.tokenizer, example, model.classifier.tokens));
  const made = await model.classifier.classify(texts);
  return glueAccuracy(
    made.map(({ id }) => classes[id]!),
    examples,
  );
}
