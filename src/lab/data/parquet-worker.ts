import type * as Hyparquet from 'hyparquet';
import type { Compressors } from 'hyparquet';

export type Request =
  | { readonly kind: 'open'; readonly path: string }
  | { readonly kind: 'rows'; readonly start: number; readonly end: number; readonly columns?: readonly string[] | undefined };
export interface Opened {
  readonly columns: readonly string[];
  readonly groups: readonly { readonly rows: number; readonly bytes: number }[];
  readonly sizeBytes: number;
}
export type Reply =
  | { readonly opened: Opened }
  | { readonly rows: readonly Record<string, unknown>[] }
  | { readonly error: string };

interface Disk {
  openSync(path: string): number;
  fstatSync(file: number): { readonly size: number };
  readSync(file: number, bytes: Uint8Array, offset: number, length: number, position: number): number;
}
interface Port {
  on(event: 'message', listener: (request: Request) => void): void;
  postMessage(reply: Reply): void;
}

/**
 * The worker's whole program: damaged Parquet can keep the library busy for ever, so it runs in a thread that can be ended. It is sent
 * there as source text and may use nothing but its arguments.
 */
export function serveParquet(library: typeof Hyparquet, compressors: Compressors, disk: Disk, port: Port): void {
  let file: Hyparquet.AsyncBuffer;
  let metadata: Hyparquet.FileMetaData;
  const open = async (path: string): Promise<Opened> => {
    const handle = disk.openSync(path);
    const byteLength = disk.fstatSync(handle).size;
    const slice = (start: number, end = byteLength): ArrayBuffer => {
      const from = start < 0 ? Math.max(0, byteLength + start) : start;
      if (!(Number.isSafeInteger(from) && Number.isSafeInteger(end) && from <= end && end <= byteLength))
        throw new Error(`the file ends before byte ${end}`);
      const bytes = new Uint8Array(end - from);
      for (let filled = 0; filled < bytes.length; ) {
        const count = disk.readSync(handle, bytes, filled, Math.min(bytes.length - filled, 2 ** 30), from + filled);
        if (count === 0) throw new Error(`the file ends before byte ${end}`);
        filled += count;
      }
      return bytes.buffer;
    };
    file = { byteLength, slice };
    metadata = await library.parquetMetadataAsync(file);
    return {
      columns: library.parquetSchema(metadata).children.map((child) => child.element.name),
      groups: metadata.row_groups.map((group) => ({ rows: Number(group.num_rows), bytes: Number(group.total_byte_size) })),
      sizeBytes: byteLength,
    };
  };
  const rows = async ({ start, end, columns }: Request & { kind: 'rows' }): Promise<Record<string, unknown>[]> => {
    const chosen = columns === undefined ? {} : { columns: [...columns] };
    return await library.parquetReadObjects({ file, metadata, compressors, rowStart: start, rowEnd: end, ...chosen });
  };
  port.on('message', (request) => {
    const work =
      request.kind === 'open'
        ? open(request.path).then((opened) => ({ opened }))
        : rows(request).then((found) => ({ rows: found }));
    work.then(
      (reply) => port.postMessage(reply),
      (error: unknown) => port.postMessage({ error: String((error as Error)?.message ?? error).slice(0, 200) }),
    );
  });
}
