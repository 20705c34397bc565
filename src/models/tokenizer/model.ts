import type { SottoError } from '../../errors/index.ts';
import type { Fields } from './fields.ts';
import type { Work } from './work.ts';

/** What turns a word into ids. */
export interface Model {
  readonly vocabulary: ReadonlyMap<string, number>;
  encode(word: string, work: Work): number[];
  /** Cuts a part without a change of its ids; absent where that cannot be. */
  readonly words?: ((text: string) => string[]) | undefined;
}

/** token → id; the ids were checked when the file was read. */
export const readVocabulary = (fields: Fields): Map<string, number> =>
  new Map(Object.entries(fields.raw('vocab') as Record<string, number>));

export const unknownCharacter = (fields: Fields, text: string): SottoError =>
  fields.fail('unk_token', `there is no token for ${JSON.stringify(text.slice(0, 40))}`);
