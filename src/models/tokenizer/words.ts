import type { Fields } from './fields.ts';
import { type Model, readVocabulary, unknownCharacter } from './model.ts';

/** WordPiece: from the left, the longest token that fits; a word with a part that has none is unknown as a whole. */
export function readWordPiece(fields: Fields): Model {
  const vocabulary = readVocabulary(fields);
  const unknown = fields.string('unk_token');
  const prefix = fields.string('continuing_subword_prefix');
  const charactersLimit = fields.whole('max_input_chars_per_word', Number.MAX_SAFE_INTEGER);
  let longest = 0;
  for (const token of vocabulary.keys()) longest = Math.max(longest, token.length);
  const unknownIds = (word: string): number[] => {
    const id = vocabulary.get(unknown);
    if (id === undefined) throw unknownCharacter(fields, word);
    return [id];
  };
  return {
    vocabulary,
    encode: (word, work) => {
      if (word.length > charactersLimit && Array.from(word).length > charactersLimit) return unknownIds(word);
      const ids: number[] = [];
      for (let start = 0; start < word.length; ) {
        let end = Math.min(word.length, start + longest);
        let id: number | undefined;
        for (; end > start; end -= (word.charCodeAt(end - 1) & 0xfc00) === 0xdc00 ? 2 : 1) {
          work.spend(1 + end - start);
          const part = word.slice(start, end);
          id = vocabulary.get(start > 0 ? prefix + part : part);
          if (id !== undefined) break;
        }
        if (id === undefined) return unknownIds(word);
        ids.push(id);
        start = end;
      }
      return ids;
    },
  };
}

/** Whole words alone. */
export function readWordLevel(fields: Fields): Model {
  const vocabulary = readVocabulary(fields);
  const unknown = fields.string('unk_token');
  return {
    vocabulary,
    encode: (word) => {
      const id = vocabulary.get(word) ?? vocabulary.get(unknown);
      if (id === undefined) throw unknownCharacter(fields, word);
      return [id];
    },
  };
}
