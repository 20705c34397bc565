import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import {
  type BundleHeader,
  type BundleOwner,
  checkBundleHeader,
  encodeBundleHeader,
  headerVersion,
  isBundleId,
  maximumHeaderBytes,
  parseBundleHeader,
  type StoredHeader,
} from './bundle-header.ts';
import { type Minutes, systemMinutes } from './bundle-id.ts';
import { Claims } from './claims.ts';
import {
  blockBytes,
  createOnly,
  eraseFile,
  exists,
  readFully,
  readOnly,
  syncDirectory,
  writeAll,
  writeDurably,
} from './durable.ts';
import { stateFolder } from './state-folder.ts';

const byId = (a: BundleEntry, b: BundleEntry): number => (a.id < b.id ? -1 : 1);

export type { BundleHeader, BundleOwner, StoredHeader } from './bundle-header.ts';

/**
 * The durable store of correlated material, one directory per party:
 *
 *   bundles/<id>/header.json, material.bin     a bundle that is complete
 *   bundles/<id>.incoming/…                    one that is being written, or whose writer died
 *   claims/<id>, claims/closed                 the markers: this bundle is claimed, for ever (`claims.ts`)
 *
 * Material is used once. A run claims its bundle before its first byte: the marker is made with O_EXCL and reaches the disk, with its
 * directory, before `claim` returns. A marker goes only once a record says so of its time, so that a second claim fails in any process, after any crash and
 * whatever the peer says, and a bundle with a marked id cannot be written again. Only the store object that claimed a bundle can open it.
 * Not covered: a disk rolled back to an older state (a restored backup or snapshot), and overwriting on disks that keep old blocks.
 */
export interface BundleStore {
  readonly party: BundleOwner;
  /** Starts a new bundle. Throws a `material` error where the id is known already. */
  write(header: BundleHeader): Promise<BundleWriter>;
  /**
   * Checks the bundle against the run and claims it for ever. Throws a `material` error where it is missing, claimed, burned, damaged or
   * made for something else; a bundle that fails the checks stays unclaimed.
   */
  claim(id: string, expectation: BundleExpectation): Promise<StoredHeader>;
  /** Reads a bundle that this store object has claimed. */
  open(id: string): Promise<BundleReader>;
  /** Overwrites and deletes the material, claimed or not, complete or not; the marker stays. Burning twice is allowed. */
  burn(id: string): Promise<void>;
  /** The run is done: burns the bundle that this store object claimed. */
  finish(id: string): Promise<void>;
  /** All bundles and marks of the folder, in no order that means anything. */
  /** All bundles that are known, also those of which only the marker is left. */
  list(): Promise<BundleEntry[]>;
  /** Those of which anything is left beside the marker: few, however many were used. */
  present(): Promise<BundleEntry[]>;
  /** Claims an id whose material is not in this store, for ever. Throws a `material` error where it is claimed already. */
  mark(id: string): Promise<void>;
  /** Whether the id was claimed or marked, by whichever process. */
  /** Throws a `material` error where the id is known, or can be claimed by nobody any more. */
  check(id: string): Promise<void>;
}

/** A bundle that is being written; it can be claimed once `finish` has resolved. */
export interface BundleWriter {
  /** Adds material. The bytes may be used again once it has resolved. */
  append(bytes: Uint8Array): Promise<void>;
  /** Makes the bundle available once all of it is on disk; `sha256` (hexadecimal), where given, must be the material's. */
  finish(sha256?: string): Promise<StoredHeader>;
  /** Throws the unfinished bundle away; its id may be used again. */
  abort(): Promise<void>;
}

/** A claimed bundle that is open. */
export interface BundleReader {
  readonly header: StoredHeader;
  /** Exactly `length` bytes from `offset`. Throws a `material` error outside the material. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Closes the file; the bundle stays claimed, and is there until it is burned. */
  close(): Promise<void>;
}

/** What a bundle must have been made for. */
export interface BundleExpectation extends Pick<BundleHeader, 'program' | 'ring' | 'copy'> {
  /** `sha256` (the default) reads all material before the claim; `size` looks at its length only. */
  readonly check?: 'sha256' | 'size';
}

/** A bundle as a listing shows it. */
export interface BundleEntry {
  readonly id: string;
  /** `incomplete`: being written, or its writer died. `damaged`: the header or the material's length is wrong. */
  readonly state: 'available' | 'claimed' | 'burned' | 'incomplete' | 'damaged';
  readonly header?: StoredHeader;
}

/** Opens the store in a directory, made with mode 0700 where it is missing; a directory that other users can enter is refused. `now` is the clock of ids. */
export async function openBundleStore(directory: string, party: BundleOwner, now: Minutes = systemMinutes): Promise<BundleStore> {
  if (party !== 'client' && party !== 'server') {
    throw new SottoError('usage', `${JSON.stringify(party)} keeps no bundles`, { remedy: 'name client or server' });
  }
  const bundles = join(directory, 'bundles');
  for (const each of [directory, bundles]) await stateFolder(each, party);
  const claims = await Claims.open(join(directory, 'claims'), party, now);
  await syncDirectory(directory);
  return new DirectoryStore(bundles, claims, party);
}

class DirectoryStore implements BundleStore {
  readonly party: BundleOwner;
  readonly #bundles: string;
  readonly #claims: Claims;
  readonly #claimedHere = new Map<string, StoredHeader>();

  constructor(bundles: string, claims: Claims, party: BundleOwner) {
    this.#bundles = bundles;
    this.#claims = claims;
    this.party = party;
  }

  async write(unchecked: BundleHeader): Promise<BundleWriter> {
    const header = checkBundleHeader(unchecked);
    if (header.createdFor !== this.party) throw this.#error(header.id, `was made for the ${header.createdFor}`, 'store it there');
    const complete = this.#path(header.id);
    if (await exists(complete)) throw this.#known(header.id);
    await this.check(header.id);
    const incoming = `${complete}.incoming`;
    await mkdir(incoming, { mode: 0o700 }).catch((error) => {
      throw error.code === 'EEXIST' ? this.#known(header.id) : this.#failed(header.id, error);
    });
    const file = await open(join(incoming, 'material.bin'), createOnly, 0o600);
    return this.#writer(header, incoming, file);
  }

  #writer(header: BundleHeader, incoming: string, file: FileHandle): BundleWriter {
    const hash = createHash('sha256');
    let length = 0;
    let ended = false;
    const end = () => {
      if (ended) throw new SottoError('usage', `the writer of bundle ${header.id} has ended`, { remedy: 'write another bundle' });
      ended = true;
    };
    const abort = async () => {
      await file.close();
      await eraseFile(join(incoming, 'material.bin'));
      await rm(incoming, { recursive: true, force: true });
    };
    return {
      append: async (bytes) => {
        if (ended) end();
        hash.update(bytes);
        length += bytes.length;
        await writeAll(file, bytes).catch((error) => {
          throw this.#failed(header.id, error);
        });
      },
      abort: async () => {
        if (!ended) end();
        await abort();
      },
      finish: async (sha256) => {
        end();
        const stored: StoredHeader = {
          version: headerVersion,
          ...header,
          materialBytes: length,
          materialSha256: hash.digest('hex'),
        };
        if (sha256 !== undefined && sha256 !== stored.materialSha256) {
          await abort();
          throw this.#error(header.id, 'does not have the SHA-256 that was announced', 'fetch or make it again');
        }
        await this.#publish(header.id, incoming, file, stored).catch((error) => {
          throw error instanceof SottoError ? error : this.#failed(header.id, error);
        });
        return stored;
      },
    };
  }

  async #publish(id: string, incoming: string, file: FileHandle, stored: StoredHeader): Promise<void> {
    await file.sync();
    await file.close();
    await writeDurably(join(incoming, 'header.json'), encodeBundleHeader(stored));
    await syncDirectory(incoming);
    // A marker may have been made in the meantime (the id burned): the bundle must not appear then. One made later still counts.
    if (await this.#claims.has(id)) {
      await eraseFile(join(incoming, 'material.bin'));
      await rm(incoming, { recursive: true, force: true });
      throw this.#known(id);
    }
    await rename(incoming, this.#path(id));
    await syncDirectory(this.#bundles);
  }

  async claim(id: string, expectation: BundleExpectation): Promise<StoredHeader> {
    this.#checkId(id);
    await this.#claims.check(id);
    const header = await this.#header(id);
    const { program, ring, copy } = expectation;
    if (header.program !== program) throw this.#error(id, 'belongs to another program', 'claim one of this program');
    if (header.ring.bits !== ring.bits || header.ring.fraction !== ring.fraction) {
      throw this.#error(
        id,
        `is in the ring of ${header.ring.bits} bits with ${header.ring.fraction} of fraction`,
        'claim one of this ring',
      );
    }
    if (header.copy !== copy)
      throw this.#error(id, 'belongs to another copy of the weights', 'make correlations from the copy that is held');
    await this.#checkMaterial(header, expectation.check ?? 'sha256');
    await this.#claims.mark(id);
    this.#claimedHere.set(id, header);
    return header;
  }

  async open(id: string): Promise<BundleReader> {
    this.#checkId(id);
    const header = this.#claimedHere.get(id);
    if (!header) throw this.#error(id, 'was not claimed by this process', 'claim a bundle before reading it');
    const file = await this.#openMaterial(id);
    return {
      header,
      read: async (offset, length) => {
        if (
          !Number.isSafeInteger(offset) ||
          !Number.isSafeInteger(length) ||
          offset < 0 ||
          length < 0 ||
          offset + length > header.materialBytes
        ) {
          throw this.#error(
            id,
            `has no bytes ${offset} … ${offset + length}: it has ${header.materialBytes}`,
            'make new correlations for this program',
          );
        }
        const bytes = new Uint8Array(length);
        if (!(await readFully(file, bytes, offset))) throw this.#error(id, 'was cut short', 'burn it and claim another');
        return bytes;
      },
      close: () => file.close(),
    };
  }

  async burn(id: string): Promise<void> {
    this.#checkId(id);
    this.#claimedHere.delete(id);
    // The marker comes first: from here on the bundle is gone even where the rest is interrupted.
    if (!(await this.#claims.has(id)))
      await this.#claims.mark(id).catch((error) => {
        if (!(error instanceof SottoError && error.kind === 'material')) throw error;
      });
    for (const directory of [this.#path(id), `${this.#path(id)}.incoming`]) {
      // The header of a server's half has the ticket that opens the client's.
      for (const name of ['material.bin', 'header.json']) await eraseFile(join(directory, name));
      await rm(directory, { recursive: true, force: true });
    }
    await syncDirectory(this.#bundles);
  }

  async mark(id: string): Promise<void> {
    this.#checkId(id);
    await this.#claims.mark(id);
  }

  async check(id: string): Promise<void> {
    this.#checkId(id);
    if (await this.#claims.marked(id)) throw this.#known(id);
    await this.#claims.check(id);
  }

  async finish(id: string): Promise<void> {
    this.#checkId(id);
    if (!this.#claimedHere.has(id)) throw this.#error(id, 'was not claimed by this process', 'burn it if it is left over');
    await this.burn(id);
  }

  async list(): Promise<BundleEntry[]> {
    const entries = await this.present();
    const present = new Set(entries.map(({ id }) => id));
    for (const id of await this.#claims.list()) if (!present.has(id)) entries.push({ id, state: 'burned' });
    return entries.sort(byId);
  }

  async present(): Promise<BundleEntry[]> {
    const names = await readdir(this.#bundles);
    const complete = new Set(names.filter(isBundleId));
    const entries: BundleEntry[] = [];
    for (const id of complete) entries.push(await this.#entry(id, await this.#claims.has(id)));
    for (const name of names) {
      const id = name.replace(/\.incoming$/, '');
      if (id === name || !isBundleId(id) || complete.has(id)) continue;
      entries.push({ id, state: (await this.#claims.has(id)) ? 'claimed' : 'incomplete' });
    }
    return entries.sort(byId);
  }

  async #entry(id: string, marked: boolean): Promise<BundleEntry> {
    try {
      const header = await this.#header(id);
      await this.#checkMaterial(header, 'size');
      return { id, state: marked ? 'claimed' : 'available', header };
    } catch (error) {
      if (!(error instanceof SottoError)) throw error;
      return { id, state: marked ? 'claimed' : 'damaged' };
    }
  }

  async #header(id: string): Promise<StoredHeader> {
    const path = join(this.#path(id), 'header.json');
    const file = await open(path, readOnly).catch((error) => {
      if (error.code === 'ENOENT') throw this.#error(id, 'is not in the store', 'make or fetch correlations first');
      throw this.#failed(id, error);
    });
    try {
      const bytes = new Uint8Array(maximumHeaderBytes + 1);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
      const header = parseBundleHeader(bytes.subarray(0, bytesRead));
      if (header.id !== id || header.createdFor !== this.party)
        throw this.#error(id, 'has the header of another bundle', 'burn it');
      return header;
    } catch (error) {
      if (error instanceof SottoError && error.kind === 'input')
        throw this.#error(id, `is damaged: ${error.reason}`, 'burn it', error);
      throw error;
    } finally {
      await file.close();
    }
  }

  async #checkMaterial(header: StoredHeader, check: 'sha256' | 'size'): Promise<void> {
    const file = await this.#openMaterial(header.id);
    try {
      const { size } = await file.stat();
      if (size !== header.materialBytes)
        throw this.#error(header.id, `is damaged: ${size} bytes of ${header.materialBytes}`, 'burn it');
      if (check === 'size') return;
      const hash = createHash('sha256');
      const block = new Uint8Array(Math.min(blockBytes, size));
      for (let at = 0; at < size; at += block.length) {
        const part = block.subarray(0, Math.min(block.length, size - at));
        if (!(await readFully(file, part, at))) throw this.#error(header.id, 'was cut short', 'burn it');
        hash.update(part);
      }
      if (hash.digest('hex') !== header.materialSha256)
        throw this.#error(header.id, 'is damaged: its SHA-256 is another', 'burn it');
    } finally {
      await file.close();
    }
  }

  #openMaterial(id: string): Promise<FileHandle> {
    return open(join(this.#path(id), 'material.bin'), readOnly).catch((error) => {
      throw this.#error(id, `has no readable material (${error.code})`, 'burn it and claim another', error);
    });
  }

  #path(id: string): string {
    return join(this.#bundles, id);
  }

  #checkId(id: string): void {
    if (!isBundleId(id))
      throw new SottoError('input', 'the bundle id is not 32 hexadecimal digits', {
        place: { party: this.party, field: 'id' },
        remedy: 'give an id from the list',
      });
  }

  #known(id: string): SottoError {
    return this.#error(id, 'is known already', 'draw a fresh id; burn what is left of the old one');
  }

  #error(id: string, reason: string, remedy: string, cause?: unknown): SottoError {
    return new SottoError('material', `bundle ${id} ${reason}`, { place: { party: this.party }, remedy, cause });
  }

  #failed(id: string, cause: unknown): SottoError {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
    return new SottoError('resource', `the store cannot keep bundle ${id} (${code})`, {
      place: { party: this.party, file: this.#path(id) },
      remedy: 'free disk space or mend the directory',
      cause,
    });
  }
}
