import { SottoError } from '../../errors/index.ts';
import { pseudorandom } from '../../math/index.ts';
import type { TokenCache } from './cache.ts';
import { type Mixture, type MixtureState, mixture } from './mixture.ts';

/** What a training step is fed: row by row `tokens` ids, the id after each, and each one's weight; the weights of a batch sum to one. */
export interface TokenBatch {
  /** (batch · tokens). */
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  readonly weights: Float32Array;
  readonly batch: number;
  readonly tokens: number;
}

/** A text data set as a part of a mixture. */
export interface TokenPart {
  readonly name: string;
  readonly cache: TokenCache;
  /** Out of the sum of all parts' weights; whole. */
  readonly weight: number;
  /**
   * `stream`: documents end to end, a row takes the next `tokens + 1` ids, cut elsewhere in every epoch. `document`: each row is one
   * document from its beginning, cut or filled up (filling weighs nothing): for prompts with answers.
   */
  readonly rows: 'stream' | 'document';
}

/** Batches of token rows from several sources in fixed proportions, repeatable from a seed. */
export interface TokenMixture {
  /** The batch of a step: depends on the data, the seed and the step alone. */
  batch(step: number): TokenBatch;
  /** The next batch after `state`. */
  next(): TokenBatch;
  readonly state: MixtureState;
}

/** Batches of rows in exact proportions, from caches on disk: only the rows of one batch are in memory. */
export function tokenMixture(
  parts: readonly TokenPart[],
  options: { batch: number; tokens: number; seed: number; resume?: MixtureState | undefined },
): TokenMixture {
  const { batch, tokens, seed } = options;
  const counted = parts.map((part) => ({ name: part.name, weight: part.weight, count: rowCount(part, tokens) }));
  const mixed: Mixture = mixture(counted, seed, options.resume);
  let step = mixed.state.position / batch;
  if (!Number.isInteger(step))
    throw new SottoError('input', 'the stored position is in the middle of a batch', {
      place: { field: 'batch' },
      remedy: 'resume with the same batch size',
    });
  const row = new Int32Array(tokens + 1);
  const masks = new Uint8Array(tokens + 1);
  const at = (wanted: number): TokenBatch => {
    const ids = new Int32Array(batch * tokens);
    const labels = new Int32Array(batch * tokens);
    const weights = new Float32Array(batch * tokens);
    let counting = 0;
    for (let i = 0; i < batch; i++) {
      const { part, index, epoch } = mixed.at(wanted * batch + i);
      row.fill(0);
      masks.fill(0);
      fill(parts[part]!, row, masks, index, epoch, seed);
      ids.set(row.subarray(0, tokens), i * tokens);
      labels.set(row.subarray(1), i * tokens);
      for (let t = 0; t < tokens; t++) counting += weights[i * tokens + t] = masks[t + 1]!;
    }
    if (counting > 0) for (let t = 0; t < weights.length; t++) weights[t]! /= counting;
    return { ids, labels, weights, batch, tokens };
  };
  return {
    batch: at,
    next: () => at(step++),
    get state() {
      return { ...mixed.state, position: step * batch };
    },
  };
}

function rowCount({ name, cache, rows }: TokenPart, tokens: number): number {
  // A stream's first token moves by up to a row from epoch to epoch.
  const count = rows === 'document' ? cache.documents : Math.floor((cache.tokens - tokens) / tokens);
  if (count >= 1) return count;
  throw new SottoError('input', `${cache.tokens} tokens give no row of ${tokens}`, {
    place: { field: name },
    remedy: 'give more text, or a shorter context',
  });
}

function fill(part: TokenPart, row: Int32Array, masks: Uint8Array, index: number, epoch: number, seed: number): void {
  const { cache } = part;
  const tokens = row.length - 1;
  if (part.rows === 'document') {
    const start = cache.start(index);
    cache.read(start, Math.min(cache.start(index + 1), start + tokens + 1), row, masks);
    return;
  }
  const shift = pseudorandom(seed, 0x73686966, epoch).integer(tokens);
  cache.read(shift + index * tokens, shift + index * tokens + tokens + 1, row, masks);
}
