import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { isBundleId } from './bundle-header.ts';
import { type Minutes, minuteOf } from './bundle-id.ts';
import { removeFile, renameFile, syncDirectory, writeDurably } from './durable.ts';
import { lockState } from './lock.ts';
import { stateFolder } from './state-folder.ts';

/** Beyond so many markers the oldest are closed, until half as many are left. */
const mostMarkers = 8192;
/** How far another machine's clock may be before this one's. */
const aheadMinutes = 24 * 60;

const recordName = 'closed';
const recordSchema = z.strictObject({
  version: z.literal(1),
  minute: z
    .number()
    .int()
    .min(0)
    .max(2 ** 32 - 1),
});

/**
 * Which ids are used up, for ever: a marker for each, `claims/<id>`, made with O_EXCL and brought to the disk with its directory before `mark`
 * returns. Ids say the minute that they were drawn in. Where markers get too many the oldest minutes are closed: a record, `claims/closed`, says
 * up to which one, is on the disk for good before the first of their markers goes, and only ever grows; an id of a closed minute is refused
 * whoever names it. So an id is guarded by its marker or by the record at any moment, wherever a process is killed.
 *
 * Several processes may share a folder. A marker counts only if its minute is still open once the marker is there: who closes a minute first
 * writes the record and then removes markers, so nobody can make one in place of a removed one and believe it. One process closes at a time.
 */
export class Claims {
  readonly #folder: string;
  readonly #party: string;
  readonly #now: Minutes;
  readonly #most: number;
  #count = 0;

  private constructor(folder: string, party: string, now: Minutes, most: number) {
    this.#folder = folder;
    this.#party = party;
    this.#now = now;
    this.#most = most;
  }

  /** Opens the folder, and removes what a closed minute or an older version, whose ids are refused, left there. */
  static async open(folder: string, party: string, now: Minutes, most = mostMarkers): Promise<Claims> {
    await stateFolder(folder, party);
    const claims = new Claims(folder, party, now, most);
    const names = await readdir(folder);
    const closed = await claims.#closed();
    const stale = names.filter((name) => isStale(name, closed));
    claims.#count = names.length - stale.length;
    if (stale.length > 0 || claims.#count > most) await claims.#close();
    return claims;
  }

  /** Throws a `material` error where the id is claimed, or can be claimed by nobody any more. */
  async check(id: string): Promise<void> {
    await this.#checkMinute(id);
    if (await this.marked(id)) throw this.#claimedAlready(id);
  }

  async marked(id: string): Promise<boolean> {
    return (await readFile(join(this.#folder, id)).catch(missing)) !== undefined;
  }

  /** Whether the id is used up. */
  async has(id: string): Promise<boolean> {
    const minute = minuteOf(id);
    return minute === undefined || minute <= (await this.#closed()) || (await this.marked(id));
  }

  /** Claims an id for good: it is on the disk when this returns. Throws a `material` error where it is claimed already or its minute is closed. */
  async mark(id: string): Promise<void> {
    await this.#checkMinute(id);
    if (this.#count >= this.#most) await this.#close();
    // A marker of the running minute is never closed.
    if (this.#count >= 2 * this.#most) throw this.#full();
    try {
      const text = `${JSON.stringify({ id, party: this.#party })}\n`;
      await writeDurably(join(this.#folder, id), new TextEncoder().encode(text));
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? this.#claimedAlready(id) : this.#failed(id, error);
    }
    this.#count++;
    await syncDirectory(this.#folder);
    // Another process may have closed the minute since, with a marker of this very id.
    await this.#checkMinute(id);
  }

  /** The ids that have markers. */
  async list(): Promise<string[]> {
    return (await readdir(this.#folder)).filter(isBundleId);
  }

  #claimedAlready(id: string): SottoError {
    return this.#error(id, 'was claimed already: material is used once', 'take another bundle, whatever the peer says');
  }

  async #checkMinute(id: string): Promise<void> {
    const minute = minuteOf(id);
    if (minute === undefined)
      throw this.#error(id, 'has an id of an older version of sotto', 'install the same version on all sides');
    if (minute > this.#now() + aheadMinutes)
      throw this.#error(id, 'was drawn in the future by the clock of this machine', 'set the clocks of all parties right');
    if (minute <= (await this.#closed()))
      throw this.#error(id, 'is of a time that is closed here: it may have been used', 'start the run again, for a fresh one');
  }

  /** The last closed minute, −1 where none is. A record that cannot be read is an error, not none. */
  async #closed(): Promise<number> {
    const path = join(this.#folder, recordName);
    const text = await readFile(path, 'utf8').catch(missing);
    if (text === undefined) return -1;
    try {
      return recordSchema.parse(JSON.parse(text)).minute;
    } catch (cause) {
      throw new SottoError('material', 'the record of closed claims is damaged', {
        place: { party: this.#party, file: path },
        remedy: 'name another folder with --state: what this one guards cannot be told any more',
        cause,
      });
    }
  }

  /** Closes the oldest minutes, where there are too many markers, and removes what no check looks at any more. */
  async #close(): Promise<void> {
    // Who finds another process at it goes on with more markers for a while.
    const unlock = await lockState(this.#folder, this.#party).catch(() => undefined);
    if (unlock === undefined) return;
    try {
      const names = await readdir(this.#folder);
      const minutes = names.flatMap((name) => (isBundleId(name) ? (minuteOf(name) ?? []) : [])).sort((a, b) => a - b);
      let closed = await this.#closed();
      if (minutes.length >= this.#most) {
        const wanted = Math.min(minutes[minutes.length - this.#most / 2 - 1]!, this.#now() - 1);
        if (wanted > closed) {
          await this.#record(wanted);
          closed = wanted;
        }
      }
      const stale = names.filter((name) => isStale(name, closed));
      for (const name of stale) await removeFile(join(this.#folder, name));
      this.#count = names.filter((name) => isBundleId(name) && !isStale(name, closed)).length;
    } finally {
      await unlock();
    }
  }

  /** On the disk, in place of the record before, when it returns. */
  async #record(minute: number): Promise<void> {
    const fresh = join(this.#folder, `${recordName}.${randomBytes(6).toString('hex')}`);
    await writeDurably(fresh, new TextEncoder().encode(`${JSON.stringify({ version: 1, minute })}\n`));
    await renameFile(fresh, join(this.#folder, recordName));
    await syncDirectory(this.#folder);
  }

  #full(): SottoError {
    return new SottoError('resource', `${2 * this.#most} bundles were claimed within a minute, or by clocks ahead of this one`, {
      place: { party: this.#party, file: this.#folder },
      remedy: 'start the run again in a minute, and set the clocks of all parties right',
    });
  }

  #error(id: string, reason: string, remedy: string): SottoError {
    return new SottoError('material', `bundle ${id} ${reason}`, { place: { party: this.#party }, remedy });
  }

  #failed(id: string, cause: unknown): SottoError {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
    return new SottoError('resource', `the store cannot keep bundle ${id} (${code})`, {
      place: { party: this.#party, file: this.#folder },
      remedy: 'free disk space or mend the directory',
      cause,
    });
  }
}

/** Markers that no check looks at any more: of closed minutes, and of ids that say none, which are refused. And records that were not finished. */
function isStale(name: string, closed: number): boolean {
  if (name.startsWith(`${recordName}.`)) return true;
  return isBundleId(name) && (minuteOf(name) ?? -1) <= closed;
}

function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
