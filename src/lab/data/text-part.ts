import { createHash } from 'node:crypto';
import type { Files } from '../../models/files.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { alpacaTexts, type Document, encodePrompted, encodeText } from './alpaca.ts';
import { openTokenCache } from './cache.ts';
import { readParquet } from './parquet.ts';
import type { Row } from './row.ts';
import { readJsonArray, readJsonLines, readRows, readText, textOf } from './rows.ts';
import type { TokenPart } from './rows-of-tokens.ts';

/** A text data set on disk: texts of one field, or instructions with answers whose prompts are masked from the loss. */
export interface TextSource {
  readonly name: string;
  readonly file: string;
  readonly format:
    | {
        readonly kind: 'text';
        readonly field?: string;
        readonly separator?: string;
        /** How the file is read; by its name where absent. */
        readonly as?: 'jsonl' | 'json' | 'text' | 'parquet';
      }
    | { readonly kind: 'alpaca' };
  /** Takes one part of the rows alone, by their numbers; all where absent. */
  readonly split?: Split & { readonly part: SplitPart };
  /** Out of the sum of all parts' weights; whole. */
  readonly weight: number;
}

/** Rows that are kept from training: every so many-th for choosing by, and every so many-th for nothing but a last report. */
export interface Split {
  readonly holdOutEvery: number;
  readonly reserveEvery?: number | undefined;
}
export type SplitPart = 'train' | 'heldOut' | 'reserved';

/** What the row of this number is for. */
export function splitPart(index: number, { holdOutEvery, reserveEvery }: Split): SplitPart {
  if (index % holdOutEvery === holdOutEvery - 1) return 'heldOut';
  return reserveEvery !== undefined && index % reserveEvery === Math.floor(reserveEvery / 2) ? 'reserved' : 'train';
}

export interface TokenisedWith {
  readonly tokenizer: Tokenizer;
  /** `tokenizerKey` of its folder. */
  readonly tokenizerKey: string;
  /** Where token caches are kept. */
  readonly folder: string;
}

/** What decides a tokenizer's ids, as a hash: part of the key of every cache made with it. */
export async function tokenizerKey(files: Files): Promise<string> {
  const hash = createHash('sha256');
  for (const path of ['tokenizer.json', 'tokenizer_config.json', 'vocab.txt']) {
    const bytes = (await files.exists(path)) ? await files.read(path) : new Uint8Array(0);
    hash.update(`${path} ${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex');
}

/** A tokenizer with the key that caches of its ids go by. */
export const tokenisedWith = async (files: Files, tokenizer: Tokenizer, folder: string): Promise<TokenisedWith> => ({
  tokenizer,
  tokenizerKey: await tokenizerKey(files),
  folder,
});

/** Tokenises a text data set, or finds its cache, and gives it as a part of a mixture. Close its cache when done. */
export async function openTextPart(source: TextSource, made: TokenisedWith): Promise<TokenPart> {
  const { name, file, format, weight, split } = source;
  const cache = await openTokenCache(made.folder, {
    file,
    recipe: JSON.stringify(split === undefined ? [made.tokenizerKey, format] : [made.tokenizerKey, format, split]),
    vocabularySize: made.tokenizer.vocabularySize,
    documents: () => documents(source, made.tokenizer),
  });
  return { name, cache, weight, rows: format.kind === 'alpaca' ? 'document' : 'stream' };
}

async function* documents({ file, format, split }: TextSource, tokenizer: Tokenizer): AsyncGenerator<Document> {
  let index = 0;
  for await (const row of rowsOf(file, format)) {
    if (split !== undefined && splitPart(index++, split) !== split.part) continue;
    if (format.kind === 'text') yield encodeText(tokenizer, textOf(file, row, format.field ?? 'text'));
    else {
      const { prompt, answer } = alpacaTexts(file, row);
      yield encodePrompted(tokenizer, prompt, answer);
    }
  }
}

function rowsOf(file: string, format: TextSource['format']): AsyncGenerator<Row> {
  if (format.kind === 'alpaca') return readRows(file);
  const { as, separator = '<|endoftext|>', field = 'text' } = format;
  if (as === 'jsonl') return readJsonLines(file);
  if (as === 'json') return readJsonArray(file);
  if (as === 'text') return readText(file, separator);
  if (as === 'parquet') return readParquet(file, { columns: [field] });
  return readRows(file, { separator: format.separator, columns: [field] });
}
