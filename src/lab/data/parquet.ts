import { access } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { SottoError } from '../../errors/index.ts';
import { asError } from '../../node/files.ts';
import { brokenRow } from './bytes.ts';
import { type Opened, type Reply, type Request, serveParquet } from './parquet-worker.ts';
import type { Row } from './row.ts';

/** A row group is unpacked as a whole, so its claimed size is bounded before. */
const groupLimitBytes = 2 ** 30;
/** Rows that are turned into objects at once. */
const groupLimitRows = 2 ** 24;
const bytesPerSecond = 2 ** 20;
const heapLimitMebibytes = 4096;

/** What of a Parquet file is read, and how long it may take. */
export interface ParquetOptions {
  /** Top-level names; all where absent. */
  readonly columns?: readonly string[] | undefined;
  /** What each row group may take, on top of a second a mebibyte; 20 unless told. */
  readonly patienceSeconds?: number | undefined;
}

/**
 * The rows of a Parquet file, one row group in memory at a time (Snappy, gzip, Brotli, zstd, LZ4). The library runs in a thread of its
 * own with a time limit and a memory limit, as damaged files can keep it busy without end.
 */
export async function* readParquet(path: string, options: ParquetOptions = {}): AsyncGenerator<Row> {
  const { columns, patienceSeconds = 20 } = options;
  await access(path).catch((cause) => Promise.reject(asError('.', path, cause)));
  const reader = new ParquetReader(path);
  try {
    const opened = await reader.ask({ kind: 'open', path }, '(footer)', patienceSeconds);
    if (!('opened' in opened)) throw brokenRow(path, '(footer)', 'the Parquet data cannot be read');
    const { groups, sizeBytes } = opened.opened;
    checkColumns(path, opened.opened, columns);
    let start = 0;
    for (const [group, { rows, bytes }] of groups.entries()) {
      const field = `row group ${group}`;
      checkGroup(path, field, rows, bytes);
      const seconds = patienceSeconds + Math.min(bytes, 16 * sizeBytes) / bytesPerSecond;
      const reply = await reader.ask({ kind: 'rows', start, end: start + rows, columns }, field, seconds);
      const values = 'rows' in reply ? reply.rows : [];
      if (values.length !== rows) throw brokenRow(path, field, `${values.length} rows where the footer names ${rows}`);
      for (let row = 0; row < rows; row++) yield { place: `row ${start + row}`, value: values[row]! };
      start += rows;
    }
  } finally {
    await reader.close();
  }
}

class ParquetReader {
  readonly #worker: Worker;
  readonly #path: string;
  constructor(path: string) {
    this.#path = path;
    const url = (name: string): string => JSON.stringify(import.meta.resolve(name));
    const source = `var __name = (f) => f; Promise.all([import(${url('hyparquet')}), import(${url('hyparquet-compressors')})]).then(
      ([library, { compressors }]) => (${serveParquet.toString()})(library, compressors, require('node:fs'), require('node:worker_threads').parentPort));`;
    this.#worker = new Worker(source, {
      eval: true,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: heapLimitMebibytes },
    });
  }

  /** One request at a time. */
  ask(request: Request, field: string, seconds: number): Promise<Exclude<Reply, { error: string }>> {
    const worker = this.#worker;
    const busy = (reason: string, cause?: unknown) =>
      new SottoError('resource', reason, {
        place: { file: this.#path, field },
        remedy: 'the file is damaged, or its row groups are too large for this machine: write it again',
        cause,
      });
    return new Promise((resolve, reject) => {
      const settle = (work: () => void): void => {
        clearTimeout(timer);
        worker.off('message', answered).off('error', failed).off('exit', ended);
        work();
      };
      const answered = (reply: Reply): void =>
        settle(() => {
          if ('error' in reply) reject(brokenRow(this.#path, field, `the Parquet data cannot be read: ${reply.error}`));
          else resolve(reply);
        });
      const failed = (cause: Error): void => settle(() => reject(busy(`reading failed: ${cause.message}`, cause)));
      const ended = (): void => settle(() => reject(busy('the reading thread ended')));
      const timer = setTimeout(
        () => settle(() => reject(busy(`reading took more than ${Math.ceil(seconds)} seconds`))),
        1000 * seconds,
      );
      worker.on('message', answered).on('error', failed).on('exit', ended);
      worker.postMessage(request);
    });
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

function checkColumns(path: string, { columns: known }: Opened, columns: readonly string[] | undefined): void {
  const missing = columns?.find((column) => !known.includes(column));
  if (missing === undefined) return;
  throw new SottoError('input', `there is no column ${JSON.stringify(missing)}`, {
    place: { file: path, field: missing },
    remedy: `the file has these: ${known.join(', ').slice(0, 200)}`,
  });
}

function checkGroup(path: string, field: string, rows: number, bytes: number): void {
  const sound = Number.isSafeInteger(rows) && rows >= 0 && rows <= groupLimitRows && bytes >= 0 && bytes <= groupLimitBytes;
  if (sound) return;
  throw new SottoError('resource', `a row group claims ${rows} rows and ${bytes} bytes`, {
    place: { file: path, field },
    remedy: `write the file again with row groups below ${groupLimitBytes} bytes`,
  });
}
