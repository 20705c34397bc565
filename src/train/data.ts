import { SottoError } from '../errors/index.ts';
import { type Split, type SplitPart, splitPart } from '../lab/data/index.ts';
import { pseudorandom } from '../math/index.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import type { Tensor } from '../program/index.ts';

/** Documents as token ids, each with the begin token first. */
export type Documents = readonly Int32Array[];

/** Text with one document between separator lines → trimmed documents; empty ones are dropped. */
export function splitDocuments(text: string, separator: string): string[] {
  return text
    .split(separator)
    .map((document) => document.trim())
    .filter((document) => document !== '');
}

/** Items by what they are for: training, choosing by, a last report. */
export function splitItems<T>(items: readonly T[], split: Split): Record<SplitPart, T[]> {
  const parts: Record<SplitPart, T[]> = { train: [], heldOut: [], reserved: [] };
  items.forEach((item, index) => {
    parts[splitPart(index, split)].push(item);
  });
  return parts;
}

/** Each document's ids between the tokenizer's begin and end tokens, as far as it has them. */
export function encodeDocuments(texts: readonly string[], tokenizer: Tokenizer): Int32Array[] {
  const edge = (id: number | null): number[] => (id === null ? [] : [id]);
  return texts.map((text) =>
    Int32Array.from([...edge(tokenizer.bosId), ...tokenizer.encode(text, { addSpecial: false }), ...edge(tokenizer.eosId)]),
  );
}

/** Rows of `tokens` ids with the id that follows each: what a step is fed. */
export interface Batch {
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  readonly batch: number;
  readonly tokens: number;
}

/**
 * Batches that depend on the seed and the step number alone, so that a run resumes anywhere. Each epoch shuffles the documents and
 * lays them end to end; a row takes the next `tokens + 1` ids. Every second row starts at the next document's begin, as generation
 * does; the others start where the row before them ended.
 */
export function batches(documents: Documents, options: { batch: number; tokens: number; seed: number }): (step: number) => Batch {
  const { batch, tokens, seed } = options;
  const perEpoch = rowsOf(documents, tokens, pseudorandom(seed, 0)).length;
  if (perEpoch === 0)
    throw new SottoError('input', `${documents.length} documents give no row of ${tokens} tokens`, {
      remedy: 'give more text, or a shorter context',
    });
  const epochs = new Map<number, Int32Array[]>();
  const rowAt = (index: number): Int32Array => {
    // Epochs differ by a row or so; the count of the first one numbers all of them.
    const epoch = Math.floor(index / perEpoch);
    let rows = epochs.get(epoch);
    if (rows === undefined) {
      rows = rowsOf(documents, tokens, pseudorandom(seed, epoch));
      epochs.clear();
      epochs.set(epoch, rows);
    }
    return rows[(index % perEpoch) % rows.length]!;
  };
  return (step) => {
    const ids = new Int32Array(batch * tokens);
    const labels = new Int32Array(batch * tokens);
    for (let i = 0; i < batch; i++) {
      const row = rowAt(step * batch + i);
      ids.set(row.subarray(0, tokens), i * tokens);
      labels.set(row.subarray(1), i * tokens);
    }
    return { ids, labels, batch, tokens };
  };
}

function rowsOf(documents: Documents, tokens: number, random: ReturnType<typeof pseudorandom>): Int32Array[] {
  const order = random.shuffle(documents.map((_, i) => i));
  const stream = new Int32Array(documents.reduce((sum, document) => sum + document.length, 0));
  const starts: number[] = [];
  let filled = 0;
  for (const index of order) {
    starts.push(filled);
    stream.set(documents[index]!, filled);
    filled += documents[index]!.length;
  }
  const rows: Int32Array[] = [];
  let next = 0;
  for (let at = 0; at + tokens + 1 <= stream.length; ) {
    rows.push(stream.subarray(at, at + tokens + 1));
    at += tokens;
    if (rows.length % 2 === 1) continue;
    while (next < starts.length && starts[next]! < at) next++;
    at = starts[next] ?? stream.length;
  }
  return random.shuffle(rows);
}

/** The feeds of a step, all positions weighted alike. */
export function batchFeeds({ ids, labels, batch, tokens }: Batch): Map<string, Tensor> {
  const shape = [batch, tokens];
  const positionWeights = new Float32Array(batch * tokens).fill(1 / (batch * tokens));
  return new Map<string, Tensor>([
    ['ids', { shape, values: ids }],
    ['labels', { shape, values: labels }],
    ['positionWeights', { shape, values: positionWeights }],
  ]);
}
