import { SottoError } from '../../errors/index.ts';
import { type Row, readRows, readText } from '../../evaluate/rows.ts';

/** Names under which harnesses write an output, in the order they are looked for. */
const outputFields = ['completion', 'output', 'response', 'prediction', 'hypothesis', 'translation', 'text'] as const;
const idFields = ['task_id', 'question_id', 'doc_id', 'idx', 'id'] as const;
/** Those by which harnesses count the rows of the data from 0. */
const numberFields = ['doc_id', 'idx'] as const;

/** The output of a row. Throws an `input` error where none of the known fields is there. */
export function outputOf(row: Row): string {
  const field = outputFields.find((name) => row.has(name));
  return row.text(field ?? 'completion');
}

export interface Wanted {
  /** The first rows alone. */
  readonly limit?: number;
  /** Whether a row may have several completions, as for pass@k. */
  readonly several?: boolean;
}

/** What was given for each row, and how it was found. */
export interface Joined {
  readonly given: readonly (readonly Row[])[];
  /** The identifier, `doc_id` where the data has none and rows go by their number, `line` where neither side names any row. */
  readonly by: string;
}

/**
 * Given outputs for the first rows of the data. They are joined by the identifier that both sides have, else by the row's number from 0
 * (`doc_id`, `idx`). Only where neither side names its rows is line n the output of row n, and there must be as many. A row without a
 * completion is an error, as a score over the answered rows alone would flatter; so are repeated and half-given identifiers. What is
 * given beyond the rows is left alone.
 */
export function joinCompletions(all: readonly Row[], completions: readonly Row[], file: string, wanted: Wanted = {}): Joined {
  const { limit = all.length, several = false } = wanted;
  const rows = all.slice(0, limit);
  const field = sharedField(all, completions);
  if (field !== undefined) return { given: byKey(rows, all, completions, { file, field, several }), by: field };
  const number = numberFields.find((name) => completions.some((row) => row.has(name)));
  if (number !== undefined) return { given: byNumber(rows, all, completions, { file, field: number, several }), by: 'doc_id' };
  refuseOneSided(all, completions, file);
  if (completions.length !== all.length && completions.length !== rows.length)
    throw new SottoError('input', `${completions.length} completions for ${all.length} rows, and neither side names its rows`, {
      place: { file },
      remedy: 'give one completion a row, or name rows by their number from 0 in the field doc_id',
    });
  return { given: rows.map((_, index) => [completions[index]!]), by: 'line' };
}

/** The first identifier that rows of both sides have; then all rows must have it. */
function sharedField(all: readonly Row[], completions: readonly Row[]): string | undefined {
  const field = idFields.find((name) => all.some((row) => row.has(name)) && completions.some((row) => row.has(name)));
  if (field === undefined) return undefined;
  for (const row of [...all, ...completions]) if (!row.has(field)) row.refuse(field, 'is missing, though other rows have it');
  return field;
}

/** Identifiers on one side alone say that the lines need not be in the other's order. */
function refuseOneSided(all: readonly Row[], completions: readonly Row[], file: string): void {
  const named = (rows: readonly Row[]) => idFields.find((name) => rows.some((row) => row.has(name)));
  const [known, said] = [named(all), named(completions)];
  if (said !== undefined)
    throw new SottoError('input', `the completions name their rows by ${said}, which the data does not have`, {
      place: { file, field: said },
      remedy: 'name rows by their number from 0 in the field doc_id',
    });
  if (known !== undefined)
    throw new SottoError('input', `the completions do not say which row they belong to`, {
      place: { file, field: known },
      remedy: `give each its row's ${known}, or the row's number from 0 as doc_id`,
    });
}

interface By {
  readonly file: string;
  readonly field: string;
  readonly several: boolean;
}

function byKey(rows: readonly Row[], all: readonly Row[], completions: readonly Row[], by: By): Row[][] {
  const found = new Map<string, Row[]>();
  const lines = new Map<string, number>();
  for (const row of all) {
    const key = row.key(by.field);
    if (lines.has(key)) row.refuse(by.field, `is ${key}, as in row ${lines.get(key)} already`);
    lines.set(key, row.line);
    found.set(key, []);
  }
  for (const completion of completions) add(found.get(completion.key(by.field)), completion, by);
  return rows.map((row) => answered(found.get(row.key(by.field))!, `${by.field} ${row.key(by.field)}`, by));
}

function byNumber(rows: readonly Row[], all: readonly Row[], completions: readonly Row[], by: By): Row[][] {
  const found: Row[][] = all.map(() => []);
  for (const completion of completions) {
    const number = Number(completion.key(by.field));
    if (!Number.isSafeInteger(number) || number < 0) completion.refuse(by.field, "is not a row's number from 0");
    add(found[number], completion, by);
  }
  return rows.map((_, index) => answered(found[index]!, `row ${index} (${by.field}, from 0)`, by));
}

function add(own: Row[] | undefined, completion: Row, { field, several }: By): void {
  if (own === undefined) return;
  if (own.length > 0 && !several) completion.refuse(field, `is ${completion.key(field)}, as in row ${own[0]!.line} already`);
  own.push(completion);
}

function answered(own: Row[], what: string, { file, field }: By): Row[] {
  if (own.length > 0) return own;
  throw new SottoError('input', `there is no completion for ${what}`, {
    place: { file, field },
    remedy: 'give a completion for every row, or use --limit',
  });
}

/** Reads the completions of given data; see `joinCompletions`. */
export async function readCompletions(all: readonly Row[], file: string, wanted?: Wanted): Promise<Joined> {
  return joinCompletions(all, await readRows(file), file, wanted);
}

/** Plain lines, the last newline not counting, with the line end of any platform. */
export async function readLines(file: string): Promise<string[]> {
  const lines = (await readText(file)).split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}
