import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { SottoError } from '../errors/index.ts';
import { refusePointer } from '../models/files.ts';
import { isObject, parseJson } from '../models/json.ts';
import { asError } from '../node/files.ts';

const unpack = promisify(gunzip);

/** One object of a data file, with the place that errors name. Fields are checked as they are asked for. */
export class Row {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(file: string, line: number, fields: Readonly<Record<string, unknown>>) {
    this.file = file;
    this.line = line;
    this.fields = fields;
  }

  has(field: string): boolean {
    return this.fields[field] !== undefined && this.fields[field] !== null;
  }

  text(field: string): string {
    const value = this.present(field);
    return typeof value === 'string' ? value : this.refuse(field, 'is not text');
  }

  texts(field: string): string[] {
    const value = this.present(field);
    if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string')) return value;
    return this.refuse(field, 'is not a list of texts');
  }

  /** A whole number in [0, below), given as such or in digits. */
  label(field: string, below: number, first = 0): number {
    const value = this.present(field);
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
    if (!Number.isInteger(number)) return this.refuse(field, 'is not a whole number');
    const label = (number as number) - first;
    if (label < 0 || label >= below)
      return this.refuse(field, `is ${number}, out of the range from ${first} to ${first + below - 1}`);
    return label;
  }

  numbers(field: string): number[] {
    const value = this.present(field);
    if (Array.isArray(value) && value.every((item) => typeof item === 'number' && !Number.isNaN(item))) return value;
    return this.refuse(field, 'is not a list of numbers');
  }

  /** An identifier: a text or a whole number, which are the same where they are written alike. */
  key(field: string): string {
    const value = this.present(field);
    if (typeof value === 'string' && value !== '') return value;
    return Number.isSafeInteger(value) ? String(value) : this.refuse(field, 'is neither a text nor a whole number');
  }

  present(field: string): unknown {
    return this.has(field) ? this.fields[field] : this.refuse(field, 'is missing');
  }

  refuse(field: string, problem: string): never {
    throw new SottoError('input', `the field ${JSON.stringify(field)} ${problem}`, {
      place: { file: `${this.file}:${this.line}`, field },
      remedy: 'correct the row, or take the file of this task',
    });
  }
}

/** What a file packed with gzip may hold. */
const unpackedLimitBytes = 2 ** 28;

/** The bytes of a file, unpacked where it begins as gzip does. Throws an `input` error that names it. */
async function readBytes(file: string): Promise<Uint8Array> {
  const bytes = await readFile(file).catch((cause: unknown) => Promise.reject(asError(file, '', cause)));
  refusePointer(bytes, file);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  return await unpack(bytes, { maxOutputLength: unpackedLimitBytes }).catch((cause: NodeJS.ErrnoException) => {
    const tooLarge = cause.code === 'ERR_BUFFER_TOO_LARGE';
    const reason = tooLarge
      ? `the file unpacks to more than ${unpackedLimitBytes} bytes`
      : 'the gzip data is damaged or cut short';
    throw new SottoError(tooLarge ? 'resource' : 'input', reason, {
      place: { file },
      remedy: 'unpack it, or fetch it again',
      cause,
    });
  });
}

/** A file's name without what says that it is packed. */
export const bareName = (file: string): string => file.replace(/\.gz$/i, '');

export async function readText(file: string): Promise<string> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readBytes(file));
  } catch (cause) {
    if (cause instanceof SottoError) throw cause;
    throw new SottoError('input', 'the file is not valid UTF-8', { place: { file }, remedy: 'give a text file', cause });
  }
}

/** The rows of a JSONL file, or of a JSON file that holds a list of objects. Empty lines are skipped. */
export async function readRows(file: string, limit = Number.POSITIVE_INFINITY): Promise<Row[]> {
  const text = await readText(file);
  const rows = /^\s*\[/.test(text) ? listRows(file, text, limit) : lineRows(file, text, limit);
  if (rows.length > 0) return rows;
  throw new SottoError('input', 'the file has no rows', { place: { file }, remedy: 'give one JSON object a line' });
}

function lineRows(file: string, text: string, limit: number): Row[] {
  const rows: Row[] = [];
  const encoder = new TextEncoder();
  for (const [index, line] of text.split('\n').entries()) {
    if (rows.length >= limit) break;
    if (line.trim() === '') continue;
    rows.push(rowOf(file, index + 1, parseJson(encoder.encode(line), `${file}:${index + 1}`, 'the row')));
  }
  return rows;
}

function listRows(file: string, text: string, limit: number): Row[] {
  const list = parseJson(new TextEncoder().encode(text), file) as unknown[];
  return list.slice(0, Math.min(limit, list.length)).map((item, index) => rowOf(file, index + 1, item));
}

function rowOf(file: string, line: number, value: unknown): Row {
  if (isObject(value)) return new Row(file, line, value);
  throw new SottoError('input', 'the row is not a JSON object', {
    place: { file: `${file}:${line}` },
    remedy: 'give one JSON object a line',
  });
}
