import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SottoError } from '../../errors/index.ts';
import type { Metrics } from '../../evaluate/metric.ts';
import type { TextModel, Watch } from '../../evaluate/model.ts';
import { bareName, Row } from '../../evaluate/rows.ts';
import { bleu } from './bleu.ts';
import { chrf } from './chrf.ts';
import { outputOf, readCompletions, readLines } from './completions.ts';
import { writeAfter } from './generative.ts';

/** Sentences with one or more reference translations each. */
export interface Translations {
  /** Of the files, of which the limit may leave the first alone. */
  readonly sentences: number;
  readonly sources: readonly string[];
  readonly references: readonly (readonly string[])[];
}

/**
 * Aligned lines: `data` is a folder with `src.de` and `ref.A.en`, or a file of source lines; other `references` are files of lines.
 * Throws an `input` error where two files do not have the same number of lines.
 */
export async function readTranslations(data: string, references: readonly string[], limit: number): Promise<Translations> {
  const isFolder = (await stat(data).catch(() => undefined))?.isDirectory() === true;
  const files = references.length > 0 ? references : isFolder ? [join(data, 'ref.A.en')] : [];
  if (files.length === 0)
    throw new SottoError('usage', 'there is no reference translation', {
      place: { field: '--references' },
      remedy: 'name a folder with src.de and ref.A.en, or give files of reference lines',
    });
  const source = isFolder ? join(data, 'src.de') : data;
  const sources = await readLines(source);
  const lines = await Promise.all(files.map((file) => aligned(file, sources.length, source)));
  const count = Math.min(limit, sources.length);
  return {
    sources: sources.slice(0, count),
    sentences: sources.length,
    references: Array.from({ length: count }, (_, index) => lines.map((list) => list[index]!)),
  };
}

async function aligned(file: string, count: number, other: string): Promise<string[]> {
  const lines = await readLines(file);
  if (lines.length === count) return lines;
  throw new SottoError('input', `${lines.length} lines, ${other} has ${count}`, {
    place: { file },
    remedy: 'give files whose lines belong together',
  });
}

/**
 * Given translations: a file of plain lines, line n of sentence n, or JSONL whose `doc_id` is the sentence's number from 0 (see
 * `joinCompletions`).
 */
export async function readHypotheses(file: string, { sources, sentences }: Translations): Promise<string[]> {
  const count = sources.length;
  if (/\.(jsonl?|ndjson)$/.test(bareName(file))) {
    const lines = Array.from({ length: sentences }, (_, index) => new Row('sources', index + 1, {}));
    return (await readCompletions(lines, file, { limit: count })).given.map(([own]) => outputOf(own!));
  }
  const given = await readLines(file);
  if (given.length === sentences || given.length === count) return given.slice(0, count);
  throw new SottoError('input', `${given.length} translations for ${sentences} sentences`, {
    place: { file },
    remedy: 'give one translation a sentence',
  });
}

export const scoreTranslations = (hypotheses: readonly string[], { references }: Translations): Metrics => ({
  bleu: bleu(hypotheses, references),
  chrf: chrf(hypotheses, references),
});

/** A model's translations of German sentences, with the prompt of lm-evaluation-harness. */
export async function translateAll(model: TextModel, sources: readonly string[], watch?: Watch): Promise<string[]> {
  const translations: string[] = [];
  for (const source of sources) {
    const prompt = `German phrase: ${source}\nEnglish phrase:`;
    const newTokens = Math.min(256, model.context >> 1);
    translations.push((await writeAfter(model, prompt, { newTokens, stops: ['\n'] })).trim());
    watch?.(translations.length, sources.length);
  }
  return translations;
}
