import { SottoError } from '../errors/index.ts';
import { type Files, fileLabel, refusePointer } from './files.ts';

const whitespace = new Set([' ', '\n', '\r', '\t']);

/** The first key that an object of this JSON text names twice, or null. The text must already have been parsed once. */
export function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = [];
  let index = 0;
  while (index < text.length) {
    const character = text[index]!;
    if (character === '"') {
      let end = index + 1;
      while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
      const keys = open.at(-1);
      let next = end + 1;
      while (whitespace.has(text[next]!)) next++;
      if (keys && text[next] === ':') {
        const key = JSON.parse(text.slice(index, end + 1)) as string;
        if (keys.has(key)) return key;
        keys.add(key);
      }
      index = end + 1;
      continue;
    }
    if (character === '{') open.push(new Set());
    else if (character === '[') open.push(null);
    else if (character === '}' || character === ']') open.pop();
    index++;
  }
  return null;
}

/** Nothing that is read here is nested deeper; what follows a value's nesting by calls of itself is safe from its end. */
export const deepestJson = 64;

/** Whether a value has objects and arrays in more than `most` others. */
export function nestedDeeper(value: unknown, most: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return most === 0 || Object.values(value).some((each) => nestedDeeper(each, most - 1));
}

/** UTF-8 bytes → JSON value. Invalid UTF-8, invalid JSON, nesting deeper than `deepestJson` and a key named twice are `input` errors of the file. */
export function parseJson(bytes: Uint8Array, file: string, what = 'the file'): unknown {
  const broken = (reason: string, cause?: unknown) =>
    new SottoError('input', `${what} ${reason}`, {
      place: { file },
      remedy: 'the file is damaged or not what its name says',
      cause,
    });
  refusePointer(bytes, file);
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw broken('is not valid UTF-8', cause);
  }
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw broken('is not valid JSON', cause);
  }
  if (nestedDeeper(value, deepestJson)) throw broken(`is nested deeper than ${deepestJson} levels`);
  const twice = duplicateKey(text);
  if (twice !== null) throw broken(`names the key ${JSON.stringify(twice.slice(0, 100))} twice`);
  return value;
}

/** Reads a JSON file of at most `limitBytes`. */
export async function readJson(files: Files, path: string, limitBytes: number): Promise<unknown> {
  const sizeBytes = await files.size(path);
  if (sizeBytes > limitBytes) {
    throw new SottoError('resource', `the file has ${sizeBytes} bytes, more than the ${limitBytes} taken of its kind`, {
      place: { file: fileLabel(files, path) },
      remedy: 'check that this is the right file',
    });
  }
  return parseJson(await files.read(path), fileLabel(files, path));
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Reads a JSON file that must hold an object. */
export async function readJsonObject(files: Files, path: string, limitBytes: number): Promise<Record<string, unknown>> {
  const value = await readJson(files, path, limitBytes);
  if (isObject(value)) return value;
  throw new SottoError('input', 'the file does not hold a JSON object', {
    place: { file: fileLabel(files, path) },
    remedy: 'the file is damaged or not what its name says',
  });
}

/** A value as the bytes of an indented JSON file. */
export const jsonBytes = (value: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
