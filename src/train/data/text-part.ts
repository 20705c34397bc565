import { createHash } from 'node:crypto';
import type { Files } from '../../models/files.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { alpacaTexts, type Document, encodePrompted, encodeText } from './alpaca.ts';
import { openTokenCache } from './cache.ts';
import { readRows, textOf } from './rows.ts';
import type { TokenPart } from './rows-of-tokens.ts';

/** A text data set on disk: texts of one field, or instructions with answers whose prompts are masked from the loss. */
export interface TextSource {
  readonly name: string;
  readonly file: string;
  readonly format: { readonly kind: 'text'; readonly field?: string; readonly separator?: string } | { readonly kind: 'alpaca' };
  /** Out of the sum of all parts' weights; whole. */
  readonly weight: number;
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

/** Tokenises a text data set, or finds its cache, and gives it as a part of a mixture. Close its cache when done. */
export async function openTextPart(source: TextSource, made: TokenisedWith): Promise<TokenPart> {
  const { name, file, format, weight } = source;
  const cache = await openTokenCache(made.folder, {
    file,
    recipe: JSON.stringify([made.tokenizerKey, format]),
    vocabularySize: made.tokenizer.vocabularySize,
    documents: () => documents(source, made.tokenizer),
  });
  return { name, cache, weight, rows: format.kind === 'alpaca' ? 'document' : 'stream' };
}

async function* documents({ file, format }: TextSource, tokenizer: Tokenizer): AsyncGenerator<Document> {
  if (format.kind === 'alpaca') {
    for await (const row of readRows(file)) {
      const { prompt, answer } = alpacaTexts(file, row);
      yield encodePrompted(tokenizer, prompt, answer);
    }
    return;
  }
  const field = format.field ?? 'text';
  for await (const row of readRows(file, { separator: format.separator, columns: [field] }))
    yield encodeText(tokenizer, textOf(file, row, field));
}
