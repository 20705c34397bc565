import { SottoError } from '../errors/index.ts';
import type { Tokenizer } from '../models/index.ts';
import { logSoftmax, type Prediction, type TextModel, type Watch } from './model.ts';

export interface LikelihoodRequest {
  readonly context: string;
  readonly continuation: string;
}

export interface Likelihood {
  /** Σ log p of the continuation's tokens, natural. */
  readonly logLikelihood: number;
  /** Whether each of them is the likeliest. */
  readonly greedy: boolean;
}

/** Positions that are looked at together: enough to keep a machine busy, few enough that the logits of a large vocabulary fit. */
const groupPositions = 4096;
const groupTexts = 16;

/** The token that a text without context is predicted from: begin of text, or end of text where there is none. */
export function prefixToken(tokenizer: Tokenizer): number {
  const id = tokenizer.bosId ?? tokenizer.eosId;
  if (id !== null) return id;
  throw new SottoError('model', 'the tokenizer has neither a begin-of-text nor an end-of-text token', {
    place: { file: 'tokenizer_config.json', field: 'bos_token' },
    remedy: 'name the token in tokenizer_config.json',
  });
}

/**
 * A context and its continuation as tokens, as lm-evaluation-harness makes them: white space at the end of the context moves to the
 * continuation, and the continuation's tokens are those of the whole past the number that the context has alone. The tokenizer's
 * template is applied to both. Over-long texts lose their beginning.
 */
export function encodePair(
  tokenizer: Tokenizer,
  { context, continuation }: LikelihoodRequest,
  contextTokens: number,
): Prediction {
  const stem = context.trimEnd();
  const tail = context.slice(stem.length) + continuation;
  const whole =
    stem === '' ? [prefixToken(tokenizer), ...tokenizer.encode(tail, { addSpecial: false })] : tokenizer.encode(stem + tail);
  const from = stem === '' ? 1 : tokenizer.encode(stem).length;
  const asked = whole.length - from;
  if (asked < 1 || from < 1)
    throw new SottoError('input', `the continuation ${JSON.stringify(continuation.slice(0, 60))} has no tokens`, {
      remedy: 'give a continuation that is not empty',
    });
  if (asked > contextTokens)
    throw new SottoError('input', `the continuation has ${asked} tokens, the context ${contextTokens}`, {
      remedy: 'shorten the continuation',
    });
  const cut = Math.max(0, whole.length - (contextTokens + 1));
  return { ids: Int32Array.from(whole.slice(cut)), from: from - cut };
}

/** The log likelihood of every continuation after its context, in the order given. */
export async function logLikelihoods(
  model: TextModel,
  requests: readonly LikelihoodRequest[],
  watch: Watch = () => undefined,
): Promise<Likelihood[]> {
  const encoded = requests.map((request) => encodePair(model.tokenizer, request, model.context));
  const results = new Array<Likelihood>(requests.length);
  await predictAll([model] as const, encoded, watch, (index, logits) => {
    const { ids, from } = encoded[index]!;
    let logLikelihood = 0;
    let greedy = true;
    logits.forEach((row, at) => {
      const { values, likeliest } = logSoftmax(row);
      logLikelihood += values[ids[from + at]!]!;
      greedy &&= likeliest === ids[from + at];
    });
    results[index] = { logLikelihood, greedy };
  });
  return results;
}

type Rows = readonly (Float32Array | Float64Array)[];

/**
 * Predicts in groups of similar length, so that little is computed for padding and no more than a group's logits are kept. `visit`
 * gets each text's logits once, those of every model.
 */
export async function predictAll<M extends readonly TextModel[]>(
  models: M,
  requests: readonly Prediction[],
  watch: Watch,
  visit: (index: number, ...logits: { [K in keyof M]: Rows }) => void,
): Promise<void> {
  const order = requests.map((_, index) => index).sort((a, b) => requests[b]!.ids.length - requests[a]!.ids.length);
  for (let start = 0; start < order.length; ) {
    const fitting = Math.floor(groupPositions / requests[order[start]!]!.ids.length);
    const group = order.slice(start, start + Math.min(groupTexts, Math.max(1, fitting)));
    const asked = group.map((index) => requests[index]!);
    const logits: (readonly Rows[])[] = [];
    for (const model of models) logits.push(await model.predict(asked));
    group.forEach((index, row) => {
      visit(index, ...(logits.map((rows) => rows[row]!) as { [K in keyof M]: Rows }));
    });
    start += group.length;
    watch(start, order.length);
  }
}
