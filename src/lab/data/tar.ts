import { SottoError } from '../../errors/index.ts';
import { ByteReader, brokenRow, fileBytes, truncated } from './bytes.ts';

/** A plain file of an archive. */
export interface TarEntry {
  readonly name: string;
  readonly sizeBytes: number;
  /** Its bytes; only until the next entry is asked for. */
  read(): Promise<Uint8Array>;
}

const block = 512;
/** Names and attributes, not contents: a larger one is damage. */
const headerLimitBytes = 2 ** 20;
const entryLimitBytes = 2 ** 30;

/**
 * The plain files of a .tar or .tar.gz, in order: ustar with its prefixes, GNU long names, POSIX (pax) paths and sizes. Folders and
 * links are passed over. A wrong checksum and an archive without its end mark are `input` errors.
 */
export async function* readTar(path: string): AsyncGenerator<TarEntry> {
  const reader = new ByteReader(fileBytes(path), path);
  let next: { name?: string; size?: number } = {};
  try {
    for (;;) {
      const place = `byte ${reader.position}`;
      const header = await reader.take(block, place);
      if (header === null) throw truncated(path, place);
      if (header.every((byte) => byte === 0)) return;
      checkSum(path, header, place);
      const type = String.fromCharCode(header[156]!);
      const size = next.size !== undefined && !'Lxg'.includes(type) ? next.size : number(path, header.subarray(124, 136), place);
      const padding = (block - (size % block)) % block;
      if (type === 'L' || type === 'K' || type === 'x' || type === 'g') {
        if (size > headerLimitBytes) throw brokenRow(path, place, `an extended header of ${size} bytes`);
        const bytes = await reader.need(size, place);
        await reader.skip(padding, place);
        if (type === 'L') next = { ...next, name: terminated(bytes) };
        if (type === 'x') next = { ...next, ...paxFields(path, bytes, place) };
        continue;
      }
      const name = next.name ?? plainName(header);
      next = {};
      if (type !== '0' && type !== '\0' && type !== '7') {
        await reader.skip(size + padding, place);
        continue;
      }
      let taken = false;
      yield {
        name,
        sizeBytes: size,
        read: async () => {
          if (size > entryLimitBytes) throw tooLarge(path, name, size);
          taken = true;
          return reader.need(size, name);
        },
      };
      await reader.skip((taken ? 0 : size) + padding, name);
    }
  } finally {
    await reader.close();
  }
}

const tooLarge = (file: string, field: string, size: number): SottoError =>
  new SottoError('resource', `an entry claims ${size} bytes`, {
    place: { file, field },
    remedy: `entries of up to ${entryLimitBytes} bytes are read`,
  });

/** Text up to its first zero byte. */
function terminated(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function plainName(header: Uint8Array): string {
  const name = terminated(header.subarray(0, 100));
  // GNU's own magic ends in spaces and keeps times where ustar keeps the prefix.
  const ustar = terminated(header.subarray(257, 263)) === 'ustar' && header[262] === 0;
  const prefix = ustar ? terminated(header.subarray(345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Octal text, or with the top bit set a binary number. */
function number(path: string, field: Uint8Array, place: string): number {
  let value = 0;
  if ((field[0]! & 0x80) !== 0) {
    value = field[0]! & 0x7f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
  } else {
    const text = terminated(field).trim();
    value = text === '' ? 0 : /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
  }
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw brokenRow(path, place, 'a header names no sensible size');
}

function checkSum(path: string, header: Uint8Array, place: string): void {
  let sum = 8 * 32;
  for (let at = 0; at < block; at++) if (at < 148 || at >= 156) sum += header[at]!;
  if (Number.parseInt(terminated(header.subarray(148, 156)).trim(), 8) !== sum)
    throw brokenRow(path, place, 'the checksum of a header is wrong: not a tar archive, or a damaged one');
}

/** Records `length key=value\n` of a POSIX extended header. */
function paxFields(path: string, bytes: Uint8Array, place: string): { name?: string; size?: number } {
  const fields: { name?: string; size?: number } = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(32, at);
    const length = Number(new TextDecoder().decode(bytes.subarray(at, space)));
    if (space < 0 || !Number.isInteger(length) || length <= space - at || at + length > bytes.length)
      throw brokenRow(path, place, 'an extended header is damaged');
    const [key, value] = split(new TextDecoder().decode(bytes.subarray(space + 1, at + length - 1)));
    if (key === 'path') fields.name = value;
    if (key === 'size') fields.size = Number(value);
    at += length;
  }
  if (fields.size !== undefined && !(Number.isSafeInteger(fields.size) && fields.size >= 0))
    throw brokenRow(path, place, 'an extended header names no sensible size');
  return fields;
}

function split(record: string): [string, string] {
  const at = record.indexOf('=');
  return at < 0 ? [record, ''] : [record.slice(0, at), record.slice(at + 1)];
}
