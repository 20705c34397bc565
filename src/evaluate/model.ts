import type { Logits, RgbImage, Tokenizer } from '../models/index.ts';

/** A text of which the tokens from position `from` ≥ 1 on are to be predicted, each from all before it. */
export interface Prediction {
  readonly ids: Int32Array;
  readonly from: number;
}

/** A language model on any backend, as the text tasks see it. */
export interface TextModel {
  readonly tokenizer: Tokenizer;
  readonly vocabularySize: number;
  /** Positions that it can be fed: the last token of a prediction is not among them. */
  readonly context: number;
  /** For each text the logits (V) from which ids[from], ids[from + 1], … are predicted. */
  predict(requests: readonly Prediction[]): Promise<readonly (readonly Logits[])[]>;
  /** Greedy new tokens, an end-of-text token included; ends early where `ended` says so of the new ones. */
  write(request: {
    promptIds: readonly number[];
    newTokens: number;
    ended?: (newIds: readonly number[]) => boolean;
  }): Promise<number[]>;
  /** What private runs cost so far, one entry a run; absent of models that compute in the clear. */
  readonly costs?: () => readonly RunCost[];
}

/** What one private run took. */
export interface RunCost {
  readonly bytes: number;
  readonly seconds: number;
}

/** A classifier of pictures on any backend. */
export interface PictureModel {
  readonly labels: readonly string[];
  /** (classes) a picture. */
  logits(pictures: readonly RgbImage[]): Promise<readonly Logits[]>;
  /** What private runs cost so far, one entry a run; absent of models that compute in the clear. */
  readonly costs?: () => readonly RunCost[];
}

/** Called with how many of `total` samples are done. */
export type Watch = (done: number, total: number) => void;

/** The log probabilities (natural) behind logits (V), and the first index of the largest. */
export function logSoftmax(logits: Logits): { readonly values: Float64Array; readonly likeliest: number } {
  let likeliest = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[likeliest]!) likeliest = i;
  const largest = logits[likeliest]!;
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i]! - largest);
  const shift = largest + Math.log(total);
  const values = new Float64Array(logits.length);
  for (let i = 0; i < values.length; i++) values[i] = logits[i]! - shift;
  return { values, likeliest };
}
