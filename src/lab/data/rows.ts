import { SottoError } from '../../errors/index.ts';
import { isObject } from '../../models/json.ts';
import { brokenRow, fileBytes, truncated } from './bytes.ts';
import { readParquet } from './parquet.ts';
import type { Row } from './row.ts';

/** A longer row is damage, not data: it bounds what a file without line ends can take of the memory. */
export const rowLimitBytes = 64 * 2 ** 20;

/** What of a file becomes rows. */
export interface RowOptions {
  /** Text files: what stands between documents, which become rows with the one field `text`. */
  readonly separator?: string | undefined;
  /** Parquet: the columns to read; all where absent. */
  readonly columns?: readonly string[] | undefined;
}

/**
 * The rows of a `.jsonl`, `.ndjson`, `.json` (an array), `.parquet`, `.txt` or `.tsv` (a header names its fields) file, one after the
 * other in bounded memory; all but Parquet may be packed with gzip (`.gz`). A broken row is an `input` error with its file and place.
 */
export function readRows(path: string, options: RowOptions = {}): AsyncGenerator<Row> {
  const bare = path.toLowerCase().replace(/\.gz$/, '');
  if (/\.(jsonl|ndjson)$/.test(bare)) return readJsonLines(path);
  if (bare.endsWith('.json')) return readJsonArray(path);
  if (bare.endsWith('.parquet')) return readParquet(path, { columns: options.columns });
  if (bare.endsWith('.tsv')) return readTsv(path);
  if (bare.endsWith('.txt') || options.separator !== undefined) return readText(path, options.separator ?? '<|endoftext|>');
  throw new SottoError('usage', 'the format of the file is not known by its name', {
    place: { file: path },
    remedy: 'name a .jsonl, .json, .parquet, .tsv or .txt file, or give a separator',
  });
}

/** The text of one field of every row. A missing field or one that is no text is an `input` error. */
export async function* readField(path: string, field: string, options: RowOptions = {}): AsyncGenerator<string> {
  for await (const row of readRows(path, { columns: [field], ...options })) yield textOf(path, row, field);
}

/** A row's field, which must be text. */
export function textOf(path: string, row: Row, field: string): string {
  const value = Object.hasOwn(row.value, field) ? row.value[field] : undefined;
  if (typeof value === 'string') return value;
  const found = value === undefined ? 'is missing' : 'is not text';
  throw brokenRow(path, `${row.place}, ${field}`, `the field ${JSON.stringify(field)} ${found}`);
}

/** One JSON object a line; blank lines are passed over. */
export async function* readJsonLines(path: string): AsyncGenerator<Row> {
  let line = 0;
  for await (const bytes of lines(path)) {
    const place = `line ${++line}`;
    const text = decoded(bytes, path, place);
    if (text.trim() !== '') yield { place, value: object(text, path, place) };
  }
}

/** Tab-separated fields without quotes, as the GLUE files come; the first line names them. */
export async function* readTsv(path: string): AsyncGenerator<Row> {
  let line = 0;
  let names: string[] | undefined;
  for await (const bytes of lines(path)) {
    const place = `line ${++line}`;
    const text = decoded(bytes, path, place).replace(/\r$/, '');
    if (text === '') continue;
    const fields = text.split('\t');
    if (names === undefined) {
      names = fields;
      const twice = names.find((name, at) => names!.indexOf(name) !== at);
      if (twice !== undefined) throw brokenRow(path, place, `the header names ${JSON.stringify(twice)} twice`);
      continue;
    }
    if (fields.length !== names.length)
      throw brokenRow(path, place, `${fields.length} fields where the header names ${names.length}`);
    yield { place, value: Object.fromEntries(names.map((name, at) => [name, fields[at]])) };
  }
}

/** Documents between separators, trimmed; empty ones are passed over. */
export async function* readText(path: string, separator: string): AsyncGenerator<Row> {
  if (separator === '')
    throw new SottoError('usage', 'the separator is empty', { place: { file: path }, remedy: 'name what stands between texts' });
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let held = '';
  let row = 0;
  const made = function* (pieces: string[]): Generator<Row> {
    for (const piece of pieces) if (piece.trim() !== '') yield { place: `row ${row++}`, value: { text: piece.trim() } };
  };
  const decode = (bytes?: Uint8Array): string => {
    try {
      return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
    } catch (cause) {
      throw brokenRow(path, `row ${row}`, 'the text is not valid UTF-8', cause);
    }
  };
  for await (const bytes of fileBytes(path)) {
    // Only what came last can begin the separator, so the search is cheap however long a document grows.
    const from = Math.max(0, held.length - separator.length);
    held += decode(bytes);
    if (held.indexOf(separator, from) < 0) {
      if (held.length > rowLimitBytes) throw tooLong(path, `row ${row}`);
      continue;
    }
    const pieces = held.split(separator);
    held = pieces.pop()!;
    yield* made(pieces);
  }
  yield* made((held + decode()).split(separator));
}

/** The objects of one top-level JSON array, cut apart by brackets and strings so that only one is in memory. */
export async function* readJsonArray(path: string): AsyncGenerator<Row> {
  let row = 0;
  for await (const bytes of arrayItems(path)) {
    const place = `row ${row++}`;
    yield { place, value: object(decoded(bytes, path, place), path, place) };
  }
}

async function* lines(path: string): AsyncGenerator<Uint8Array> {
  const held = new Pieces(path);
  let line = 1;
  for await (const bytes of fileBytes(path)) {
    let start = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
      held.add(bytes.subarray(start, end), `line ${line++}`);
      yield held.take();
      start = end + 1;
    }
    held.add(bytes.subarray(start), `line ${line}`);
  }
  if (held.length > 0) yield held.take();
}

const [quote, backslash, comma] = [0x22, 0x5c, 0x2c];
const opens = (byte: number): boolean => byte === 0x5b || byte === 0x7b;
const closes = (byte: number): boolean => byte === 0x5d || byte === 0x7d;
const blank = (byte: number): boolean => byte === 32 || byte === 9 || byte === 10 || byte === 13;

async function* arrayItems(path: string): AsyncGenerator<Uint8Array> {
  const held = new Pieces(path);
  let [row, depth, inString, escaped, begun, last] = [0, 0, false, false, false, 0];
  for await (const bytes of fileBytes(path)) {
    let start = 0;
    for (let at = begun ? 0 : byteOrderMark(bytes); at < bytes.length; at++) {
      const byte = bytes[at]!;
      if (inString) {
        if (escaped) escaped = false;
        else if (byte === backslash) escaped = true;
        else if (byte === quote) inString = false;
        continue;
      }
      if (blank(byte)) continue;
      if (!begun) {
        if (byte !== 0x5b) throw brokenRow(path, '(whole)', 'the file does not hold a JSON array');
        [begun, depth, start, last] = [true, 1, at + 1, byte];
        continue;
      }
      if (depth === 0) throw brokenRow(path, `row ${row}`, 'something follows the end of the array');
      const ends = depth === 1 && (byte === comma || closes(byte));
      if (ends) {
        held.add(bytes.subarray(start, at), `row ${row}`);
        start = at + 1;
        const item = held.take();
        const nothing = last === comma || last === 0x5b;
        if (nothing && !(byte !== comma && last === 0x5b)) throw brokenRow(path, `row ${row}`, 'there is nothing between commas');
        if (!nothing) {
          yield item;
          row++;
        }
      }
      if (byte === quote) inString = true;
      else if (opens(byte)) depth++;
      else if (closes(byte)) depth--;
      // Within an item the last significant byte is anything but a comma or bracket of the outer array.
      last = ends ? byte : 1;
    }
    if (begun && depth > 0) held.add(bytes.subarray(start), `row ${row}`);
  }
  if (!begun || depth > 0) throw truncated(path, `row ${row}`);
}

const byteOrderMark = (bytes: Uint8Array): number => (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0);

/** Collects the chunks that a row is spread over. */
class Pieces {
  readonly #file: string;
  #parts: Uint8Array[] = [];
  length = 0;
  constructor(file: string) {
    this.#file = file;
  }
  add(part: Uint8Array, place: string): void {
    if (part.length === 0) return;
    this.#parts.push(part);
    this.length += part.length;
    if (this.length > rowLimitBytes) throw tooLong(this.#file, place);
  }
  take(): Uint8Array {
    const whole = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts = [];
    this.length = 0;
    return whole;
  }
}

const tooLong = (file: string, field: string): SottoError =>
  new SottoError('resource', `a row has more than ${rowLimitBytes} bytes`, {
    place: { file, field },
    remedy: 'check that the file is of the format that its name says',
  });

function decoded(bytes: Uint8Array, path: string, place: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw brokenRow(path, place, 'the row is not valid UTF-8', cause);
  }
}

function object(text: string, path: string, place: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw brokenRow(path, place, 'the row is not valid JSON', cause);
  }
  if (!isObject(value)) throw brokenRow(path, place, 'the row is not a JSON object');
  return value;
}
