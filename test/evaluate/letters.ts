import type { TextModel } from '../../src/evaluate/model.ts';
import type { Tokenizer } from '../../src/models/index.ts';

/** One token a character, 1 in front of every text, 2 at an end. */
export const letterTokenizer: Tokenizer = {
  encode: (text, { addSpecial = true } = {}) => [
    ...(addSpecial ? [1] : []),
    ...[...text].map((letter) => letter.codePointAt(0)! & 255),
  ],
  decode: (ids) =>
    ids
      .filter((id) => id > 2)
      .map((id) => String.fromCodePoint(id))
      .join(''),
  vocabularySize: 256,
  bosId: 1,
  eosId: 2,
  tidiesSpaces: false,
};

/** Logits that depend on all tokens before, the same way every time. */
export function letterLogits(before: ArrayLike<number>): Float64Array {
  let state = 7;
  for (let i = 0; i < before.length; i++) state = (Math.imul(state, 31) + before[i]!) % 65_521;
  return Float64Array.from({ length: 256 }, (_, id) => ((Math.imul(state + 1, id + 3) >>> 0) % 1000) / 100);
}

/** A model over letters whose text is `answers` by prompt; it remembers what it was asked. */
export function letterModel({
  context = 64,
  answer = (): string => '',
}: {
  context?: number;
  answer?: (prompt: string) => string;
} = {}) {
  const asked: { ids: number[]; from: number }[] = [];
  const prompts: string[] = [];
  const model: TextModel = {
    tokenizer: letterTokenizer,
    vocabularySize: 256,
    context,
    predict: async (requests) =>
      requests.map(({ ids, from }) => {
        if (ids.length - 1 > context || from < 1) throw new Error('asked for more than the context');
        asked.push({ ids: [...ids], from });
        return Array.from({ length: ids.length - from }, (_, at) => letterLogits(ids.subarray(0, from + at)));
      }),
    write: async ({ promptIds, newTokens, ended }) => {
      const prompt = letterTokenizer.decode(promptIds);
      prompts.push(prompt);
      const ids: number[] = [];
      for (const id of [...letterTokenizer.encode(answer(prompt), { addSpecial: false }), 2].slice(0, newTokens)) {
        ids.push(id);
        if (ended?.(ids)) break;
      }
      return ids;
    },
  };
  return { model, asked, prompts };
}
