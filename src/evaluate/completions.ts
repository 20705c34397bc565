import { SottoError } from '../errors/index.ts';
import { type Row, readRows, readText } from './rows.ts';

/** Names under which harnesses write an output, in the order they are looked for. */
const outputFields = ['completion', 'output', 'response', 'prediction', 'hypothesis', 'translation', 'text'] as const;
const idFields = ['task_id', 'question_id', 'doc_id', 'idx', 'id'] as const;

/** The output of a row. Throws an `input` error where none of the known fields is there. */
export function outputOf(row: Row): string {
  const field = outputFields.find((name) => row.has(name));
  return row.text(field ?? 'completion');
}

/**
 * Given outputs for `rows` in their order, several for a row where several name it. Where every completion has an identifier that
 * the data has too, they are matched by it; otherwise line by line. A row without a completion is an error: a score over the
 * answered rows alone would flatter.
 */
export function matchCompletions(rows: readonly Row[], completions: readonly Row[], file: string): Row[][] {
  const field = idFields.find((name) => completions.every((row) => row.has(name)) && rows.every((row) => row.has(name)));
  if (field === undefined) return matchInOrder(rows, completions, file);
  const found = new Map<string, Row[]>(rows.map((row) => [String(row.fields[field]), []]));
  for (const completion of completions) {
    // Completions of rows that a limit left out are no mistake.
    found.get(String(completion.fields[field]))?.push(completion);
  }
  return rows.map((row) => {
    const own = found.get(String(row.fields[field]))!;
    if (own.length > 0) return own;
    throw new SottoError('input', `there is no completion for ${field} ${String(row.fields[field])}`, {
      place: { file, field },
      remedy: 'give a completion for every row, or use --limit',
    });
  });
}

function matchInOrder(rows: readonly Row[], completions: readonly Row[], file: string): Row[][] {
  if (completions.length >= rows.length) return rows.map((_, index) => [completions[index]!]);
  throw new SottoError('input', `${completions.length} completions for ${rows.length} rows`, {
    place: { file },
    remedy: 'give one completion a row, or use --limit',
  });
}

/** Reads the completions of given rows; see `matchCompletions`. */
export async function readCompletions(rows: readonly Row[], file: string): Promise<Row[][]> {
  return matchCompletions(rows, await readRows(file), file);
}

/** Plain lines, the last newline not counting, with the line end of any platform. */
export async function readLines(file: string): Promise<string[]> {
  const lines = (await readText(file)).split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}
