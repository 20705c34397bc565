import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { removeFile, renameFile, syncDirectory, writeAll, writeDurably } from './durable.ts';

const fileName = 'budgets';
const lineSchema = z.strictObject({
  of: z.enum(['tokens', 'flagBits']),
  certificate: z.string().regex(/^[0-9a-f]{64}$/),
  left: z.number(),
  at: z.number(),
});

/** What is left to one certificate of one budget, at a time of the wall clock in milliseconds. */
export type Left = z.infer<typeof lineSchema>;

/** Beyond so many lines the file is written anew, with one for each certificate that has not got everything back. */
const mostLines = 4096;
/** Who has been away for so long has all of it again. */
const forgottenMilliseconds = 3_600_000;

/**
 * What certificates have used up of their hour, in the file `budgets` of a server's state folder: a line whenever it changes, on the disk before
 * the run is given, so that a restart gives nothing back. The last line of a certificate counts. One process at a time, which locks the folder.
 */
export class BudgetFile {
  readonly #folder: string;
  readonly #now: () => number;
  readonly #left = new Map<string, Left>();
  #file: FileHandle;
  #lines = 0;
  #last: Promise<void> = Promise.resolve();

  private constructor(folder: string, now: () => number, left: readonly Left[], file: FileHandle) {
    this.#folder = folder;
    this.#now = now;
    this.#file = file;
    for (const each of left) this.#left.set(keyOf(each), each);
    this.#lines = this.#left.size;
  }

  /** `now` is the wall clock in milliseconds. Throws an `input` error where a line is damaged, but for a last one that a crash cut off. */
  static async open(folder: string, now: () => number): Promise<BudgetFile> {
    const left = parsed(await readFile(join(folder, fileName), 'utf8').catch(missing), join(folder, fileName));
    return new BudgetFile(folder, now, left, await rewritten(folder, left));
  }

  /** What a certificate had left when it was last written. */
  find(of: Left['of'], certificate: string): Left | undefined {
    return this.#left.get(keyOf({ of, certificate }));
  }

  /** On the disk when it resolves. */
  async keep(changed: readonly Left[]): Promise<void> {
    for (const each of changed) this.#left.set(keyOf(each), each);
    const turn = this.#last.then(() => this.#append(changed));
    this.#last = turn.catch(() => undefined);
    await turn.catch((cause: unknown) => {
      throw new SottoError('resource', `what clients have used up cannot be kept (${(cause as NodeJS.ErrnoException).code})`, {
        place: { party: 'server', file: join(this.#folder, fileName) },
        remedy: 'free disk space or mend the directory',
        cause,
      });
    });
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#file.close();
  }

  async #append(changed: readonly Left[]): Promise<void> {
    if (this.#lines + changed.length > Math.max(mostLines, 2 * this.#left.size)) {
      for (const [key, { at }] of this.#left) if (this.#now() - at > forgottenMilliseconds) this.#left.delete(key);
      const file = await rewritten(this.#folder, [...this.#left.values()]);
      await this.#file.close();
      this.#file = file;
      this.#lines = this.#left.size;
      return;
    }
    await writeAll(this.#file, bytesOf(changed));
    await this.#file.sync();
    this.#lines += changed.length;
  }
}

const keyOf = ({ of, certificate }: Pick<Left, 'of' | 'certificate'>): string => `${of} ${certificate}`;
const bytesOf = (left: readonly Left[]): Uint8Array =>
  new TextEncoder().encode(left.map((each) => `${JSON.stringify(each)}\n`).join(''));

/** Puts these lines in the file's place, whole or not at all, and opens it for more. */
async function rewritten(folder: string, left: readonly Left[]): Promise<FileHandle> {
  const path = join(folder, fileName);
  await removeFile(`${path}.next`);
  await writeDurably(`${path}.next`, bytesOf(left));
  await renameFile(`${path}.next`, path);
  await syncDirectory(folder);
  return await open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW);
}

function parsed(text: string, path: string): Left[] {
  // Behind the last line's end there is nothing, or what a crash cut off: its run was never given.
  return text
    .split('\n')
    .slice(0, -1)
    .map((line, at) => {
      try {
        return lineSchema.parse(JSON.parse(line));
      } catch (cause) {
        throw new SottoError('input', `line ${at + 1} is no budget`, {
          place: { party: 'server', file: path },
          remedy: 'remove the line: its client then has its whole budget',
          cause,
        });
      }
    });
}

function missing(error: NodeJS.ErrnoException): string {
  if (error.code !== 'ENOENT') throw error;
  return '';
}
