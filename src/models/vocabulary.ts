import { SottoError } from '../errors/index.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Throws an `input` error where an id is none of a model's vocabulary. */
export function checkVocabulary(ids: Iterable<number>, vocabSize: number, field: string): void {
  for (const id of ids)
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize)
      throw new SottoError('input', `token ${id} of a vocabulary of ${vocabSize}`, {
        place: { field },
        remedy:
          'encode texts with the tokenizer of this model; one with more tokens than the model fits texts that need none of them',
      });
}

/**
 * A tokenizer beside a model whose vocabulary may be smaller: a text that needs a token beyond it is an `input` error, and a begin or end
 * token beyond it is none.
 */
export function withinVocabulary(tokenizer: Tokenizer, vocabSize: number): Tokenizer {
  if (tokenizer.vocabularySize <= vocabSize) return tokenizer;
  const checked = (ids: number[]): number[] => {
    checkVocabulary(ids, vocabSize, 'text');
    return ids;
  };
  const within = (id: number | null): number | null => (id !== null && id < vocabSize ? id : null);
  const { encodePair } = tokenizer;
  return {
    ...tokenizer,
    bosId: within(tokenizer.bosId),
    eosId: within(tokenizer.eosId),
    encode: (text, options) => checked(tokenizer.encode(text, options)),
    ...(encodePair === undefined
      ? {}
      : {
          encodePair: (first: string, second?: string) => {
            const pair = encodePair(first, second);
            checked(pair.ids);
            return pair;
          },
        }),
  };
}
