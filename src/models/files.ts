import { SottoError } from '../errors/index.ts';

/** A folder of files, wherever it lives: on disk, in memory, behind a server. Paths are relative with forward slashes. */
export interface Files {
  /** What errors print as the folder. */
  readonly name: string;
  /** Whether there is such a file. A path that could leave the folder names none. */
  exists(path: string): Promise<boolean>;
  /** Size in bytes; an `input` error where there is no such file. */
  size(path: string): Promise<number>;
  /** The whole file, or its bytes from `start` up to, not including, `end`. Fails where the file ends before `end`. */
  read(path: string, range?: ByteRange): Promise<Uint8Array>;
  /** Replaces the file as a whole: a reader sees the old bytes or the new ones. Absent where the folder is read-only. */
  write?(path: string, bytes: Uint8Array): Promise<void>;
}

/** Bytes of a file from `start` up to, not including, `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** How a file of a folder is named in errors. */
export const fileLabel = (files: Pick<Files, 'name'>, path: string): string => `${files.name}/${path}`;

/** Why a path may not be used inside a folder, or null: only plain relative paths that stay inside are taken. */
export function pathProblem(path: string): string | null {
  if (path.length === 0 || path.length > 1024) return 'is empty or longer than 1024 characters';
  for (let index = 0; index < path.length; index++) {
    if (path.charCodeAt(index) < 32) return 'holds a control character';
  }
  if (path.includes('\\') || path.startsWith('/') || /^[A-Za-z]:/.test(path))
    return 'is not a relative path with forward slashes';
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..')) return 'has an empty, . or .. part';
  return null;
}

/** Throws an `input` error where the path could leave the folder. */
export function checkPath(files: Pick<Files, 'name'>, path: string): void {
  const problem = pathProblem(path);
  if (problem === null) return;
  throw new SottoError('input', `the path ${JSON.stringify(path.slice(0, 200))} ${problem}`, {
    place: { file: files.name },
    remedy: 'name a file inside the folder',
  });
}

const pointerStart = 'version https://git-lfs.github.com/spec/';

/** Throws an `input` error where bytes are not the file itself but Git LFS's note of where it is. */
export function refusePointer(bytes: Uint8Array, file: string): void {
  for (let at = 0; at < pointerStart.length; at++) if (bytes[at] !== pointerStart.charCodeAt(at)) return;
  throw new SottoError('input', 'this is a Git LFS pointer, not the file that it stands for', {
    place: { file },
    remedy: 'run `git lfs pull` in the repository that it comes from, or fetch the files by `sotto pull`',
  });
}

export function missingFile(files: Pick<Files, 'name'>, path: string, cause?: unknown): SottoError {
  return new SottoError('input', 'there is no such file', {
    place: { file: fileLabel(files, path) },
    remedy: 'check the folder, or fetch the file again',
    cause,
  });
}

/** Checks a range against the size of its file. */
export function checkRange(files: Pick<Files, 'name'>, path: string, range: ByteRange, sizeBytes: number): void {
  const { start, end } = range;
  const sound = Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && start <= end && end <= sizeBytes;
  if (sound) return;
  throw new SottoError('input', `bytes ${start} to ${end} are outside the file of ${sizeBytes} bytes`, {
    place: { file: fileLabel(files, path) },
    remedy: 'the file is truncated or damaged: fetch it again',
  });
}

/** A folder in memory, writable; strings are stored as UTF-8. */
export function memoryFiles(
  record: Readonly<Record<string, Uint8Array | string>> = {},
  name = 'memory',
): Required<Files> & {
  /** The paths of all files, in the order in which they came. */
  paths(): string[];
} {
  const stored = new Map<string, Uint8Array>();
  for (const [path, value] of Object.entries(record))
    stored.set(path, typeof value === 'string' ? new TextEncoder().encode(value) : value);
  const get = (path: string) => {
    checkPath({ name }, path);
    const bytes = stored.get(path);
    if (bytes === undefined) throw missingFile({ name }, path);
    return bytes;
  };
  return {
    name,
    exists: async (path) => pathProblem(path) === null && stored.has(path),
    size: async (path) => get(path).length,
    read: async (path, range) => {
      const bytes = get(path);
      if (range === undefined) return bytes.slice();
      checkRange({ name }, path, range, bytes.length);
      return bytes.slice(range.start, range.end);
    },
    write: async (path, bytes) => {
      checkPath({ name }, path);
      stored.set(path, bytes.slice());
    },
    paths: () => [...stored.keys()],
  };
}
