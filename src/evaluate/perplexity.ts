import { SottoError } from '../errors/index.ts';
import type { Tokenizer } from '../models/index.ts';
import { predictAll, prefixToken } from './likelihood.ts';
import { type Metrics, mapped, ratio } from './metric.ts';
import { logSoftmax, type Prediction, type TextModel, type Watch } from './model.ts';
import { bareName, type Row, readRows, readText } from './rows.ts';

/** The line between documents of a text file. */
const separator = '<|endoftext|>';

/** Sliding windows: each sees `window` tokens and predicts those past what the window before it has predicted. */
export interface Windows {
  readonly window: number;
  readonly stride: number;
}

/** Documents of a text file, or the field `text` of a JSONL or JSON file's rows. */
export async function readDocuments(file: string, limit: number): Promise<string[]> {
  if (/\.(jsonl?|ndjson)$/.test(bareName(file))) return (await readRows(file, limit)).map((row) => row.text('text'));
  const documents = (await readText(file))
    .split(new RegExp(`^\\s*${separator.replaceAll('|', '\\|')}\\s*$`, 'm'))
    .map((document) => document.trim())
    .filter((document) => document !== '')
    .slice(0, limit);
  if (documents.length > 0) return documents;
  throw new SottoError('input', 'the file has no text', {
    place: { file },
    remedy: `give documents, with lines ${separator} between them`,
  });
}

/** A document's tokens behind the prefix token, which is not predicted itself. */
export const documentIds = (tokenizer: Tokenizer, text: string): number[] => [
  prefixToken(tokenizer),
  ...tokenizer.encode(text, { addSpecial: false }),
];

/**
 * Every token past the first is predicted exactly once. A window is fed `window` tokens at most; the first predicts all of its own,
 * the next start `stride` later and predict their last `stride`.
 */
export function slidingWindows(ids: readonly number[], { window, stride }: Windows): Prediction[] {
  const windows: Prediction[] = [];
  for (let end = 0, next = 1; next < ids.length; next = end) {
    end = Math.min(ids.length, next === 1 ? window + 1 : next + stride);
    const start = Math.max(0, end - (window + 1));
    windows.push({ ids: Int32Array.from(ids.slice(start, end)), from: next - start });
  }
  return windows;
}

/** What is counted of a document. */
export interface DocumentLoss {
  /** −Σ log p, natural. */
  readonly loss: number;
  readonly tokens: number;
  readonly bytes: number;
  /** Runs of characters between white space. */
  readonly words: number;
}

export const sizesOf = (text: string) => ({
  bytes: new TextEncoder().encode(text).length,
  words: text.split(/\s+/).filter((word) => word !== '').length,
});

/** The loss of a model on every document. */
export async function documentLosses(
  model: TextModel,
  texts: readonly string[],
  windows: Windows,
  watch: Watch = () => undefined,
): Promise<DocumentLoss[]> {
  if (windows.window > model.context)
    throw new SottoError('usage', `windows of ${windows.window} tokens, the context has ${model.context}`, {
      place: { field: '--window' },
      remedy: 'shorten the window',
    });
  const losses = texts.map((text) => ({ loss: 0, tokens: 0, ...sizesOf(text) }));
  const pieces = texts.flatMap((text, source) =>
    slidingWindows(documentIds(model.tokenizer, text), windows).map((piece) => ({ ...piece, source })),
  );
  await predictAll([model] as const, pieces, watch, (index, logits) => {
    const { ids, from, source } = pieces[index]!;
    const sums = losses[source]!;
    logits.forEach((row, at) => {
      sums.loss -= logSoftmax(row).values[ids[from + at]!]!;
      sums.tokens++;
    });
  });
  return losses;
}

/** Per token, and as the harness has it per word and byte, with intervals across documents. */
export function scorePerplexity(losses: readonly DocumentLoss[]): Metrics {
  const scored = losses.filter(({ tokens }) => tokens > 0);
  const per = (unit: 'tokens' | 'bytes' | 'words') =>
    ratio(
      scored.map(({ loss }) => loss),
      scored.map((document) => document[unit]),
    );
  return {
    perplexity: mapped(per('tokens'), Math.exp),
    word_perplexity: mapped(per('words'), Math.exp),
    byte_perplexity: mapped(per('bytes'), Math.exp),
    bits_per_byte: mapped(per('bytes'), (nats) => nats / Math.LN2),
  };
}

/** Given losses: `logprobs: [number, …]` (natural, one a token) beside `text`. */
export function givenLoss(completion: Row, text: string): DocumentLoss {
  const values = completion.numbers('logprobs');
  const impossible = values.find((value) => value > 0);
  if (impossible !== undefined) completion.refuse('logprobs', `has ${impossible}, which no log probability is`);
  return { loss: -values.reduce((sum, value) => sum + value, 0), tokens: values.length, ...sizesOf(text) };
}
