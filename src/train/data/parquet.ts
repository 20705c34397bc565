import { type FileHandle, open } from 'node:fs/promises';
import { type AsyncBuffer, type FileMetaData, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { SottoError } from '../../errors/index.ts';
import { asError } from '../../node/files.ts';
import { brokenRow, truncated } from './bytes.ts';
import type { Row } from './rows.ts';

/** A row group is unpacked as a whole, so its claimed size is bounded before. */
const groupLimitBytes = 2 ** 30;
/** Rows that are turned into objects at once. */
const groupLimitRows = 2 ** 24;

/** The rows of a Parquet file, one row group in memory at a time. `columns` are top-level names; all where absent. */
export async function* readParquet(path: string, columns?: readonly string[]): AsyncGenerator<Row> {
  const file = await open(path).catch((cause) => Promise.reject(asError('.', path, cause)));
  try {
    const byteLength = (await file.stat()).size;
    const buffer: AsyncBuffer = { byteLength, slice: (start, end = byteLength) => slice(file, path, byteLength, start, end) };
    const metadata = await guarded(path, '(footer)', () => parquetMetadataAsync(buffer));
    checkColumns(path, metadata, columns);
    let start = 0;
    for (const [group, { num_rows, total_byte_size }] of metadata.row_groups.entries()) {
      const rows = Number(num_rows);
      checkGroup(path, group, rows, Number(total_byte_size));
      const options = columns === undefined ? {} : { columns: [...columns] };
      const values = await guarded(path, `row group ${group}`, () =>
        parquetReadObjects({ file: buffer, metadata, compressors, rowStart: start, rowEnd: start + rows, ...options }),
      );
      if (values.length !== rows)
        throw brokenRow(path, `row group ${group}`, `${values.length} rows where the footer names ${rows}`);
      for (let row = 0; row < rows; row++) yield { place: `row ${start + row}`, value: values[row]! };
      start += rows;
    }
  } finally {
    await file.close();
  }
}

async function slice(file: FileHandle, path: string, size: number, start: number, end: number): Promise<ArrayBuffer> {
  const from = start < 0 ? Math.max(0, size + start) : start;
  const sound = Number.isSafeInteger(from) && Number.isSafeInteger(end) && from <= end && end <= size;
  if (!sound) throw truncated(path, `bytes ${from} to ${end}`);
  const bytes = new Uint8Array(end - from);
  for (let filled = 0; filled < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, filled, Math.min(bytes.length - filled, 2 ** 30), from + filled);
    if (bytesRead === 0) throw truncated(path, `byte ${from + filled}`);
    filled += bytesRead;
  }
  return bytes.buffer;
}

function checkColumns(path: string, metadata: FileMetaData, columns: readonly string[] | undefined): void {
  const known = parquetSchema(metadata).children.map((child) => child.element.name);
  const missing = columns?.find((column) => !known.includes(column));
  if (missing === undefined) return;
  throw new SottoError('input', `there is no column ${JSON.stringify(missing)}`, {
    place: { file: path, field: missing },
    remedy: `the file has these: ${known.join(', ').slice(0, 200)}`,
  });
}

function checkGroup(path: string, group: number, rows: number, bytes: number): void {
  if (Number.isSafeInteger(rows) && rows >= 0 && rows <= groupLimitRows && bytes <= groupLimitBytes) return;
  throw new SottoError('resource', `a row group claims ${rows} rows and ${bytes} bytes`, {
    place: { file: path, field: `row group ${group}` },
    remedy: `write the file again with row groups below ${groupLimitBytes} bytes`,
  });
}

async function guarded<T>(path: string, field: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof SottoError) throw cause;
    throw brokenRow(
      path,
      field,
      `the Parquet data cannot be read: ${String((cause as Error)?.message ?? cause).slice(0, 200)}`,
      cause,
    );
  }
}
