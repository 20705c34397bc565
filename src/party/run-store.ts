import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { ChunkSealer, openChunk, sealedChunkBytes, sealTagBytes } from '../node/sealed.ts';
import { type BundleHeader, checkBundleHeader, headerVersion, type StoredHeader } from './bundle-header.ts';
import { type BundleExpectation, type BundleOwner, type BundleStore, openBundleStore } from './bundles.ts';
import { createToRead, readFully, writeAll } from './durable.ts';
import type { RunStore } from './session.ts';

/**
 * Material between its making and its run, in one process: in memory up to a bound, and beyond it in a file without a name that is sealed
 * under a key of this process. However the process ends, nobody reads a seed or a pad of it afterwards. Claims are on disk, in the
 * folder of the party's state, and stay.
 */
export interface RunStoreOptions {
  readonly state: string;
  readonly party: BundleOwner;
  /** Material of one run in memory; the rest is spilled. */
  readonly keptBytes: number;
}

/** What a client, and a session of a server, keep of a run's material in memory. */
export const clientKeptBytes = 64 * 2 ** 20;
export const serverKeptBytes = 4 * 2 ** 20;

/** Opens the store and sweeps what earlier processes left: spills that they had no time to unname, and material of older versions, which lay open. */
export async function openRunStore({ state, party, keptBytes }: RunStoreOptions): Promise<RunStore> {
  const claims = await openBundleStore(state, party);
  for (const { id, state: is } of await claims.present())
    if (is === 'damaged' || (party === 'client' && (is === 'incomplete' || is === 'claimed'))) await claims.burn(id);
  const spills = join(state, 'spill');
  await mkdir(spills, { recursive: true, mode: 0o700 });
  // Another process may be between making one and taking its name away: it has it open, and misses nothing.
  for (const name of await readdir(spills)) await rm(join(spills, name), { force: true });
  return new SealedRuns(claims, spills, party, keptBytes);
}

interface Held {
  readonly header: StoredHeader;
  readonly material: SpilledMaterial;
  claimed: boolean;
}

class SealedRuns implements RunStore {
  readonly #claims: BundleStore;
  readonly #spills: string;
  readonly #party: BundleOwner;
  readonly #keptBytes: number;
  readonly #held = new Map<string, Held | 'coming'>();

  constructor(claims: BundleStore, spills: string, party: BundleOwner, keptBytes: number) {
    this.#claims = claims;
    this.#spills = spills;
    this.#party = party;
    this.#keptBytes = keptBytes;
  }

  async write(unchecked: BundleHeader): Promise<Awaited<ReturnType<RunStore['write']>>> {
    const header = checkBundleHeader(unchecked);
    const { id } = header;
    if (this.#held.has(id)) throw this.#error(id, 'is known already', 'draw a fresh id; burn what is left of the old one');
    await this.#claims.check(id);
    this.#held.set(id, 'coming');
    const material = new SpilledMaterial(this.#spills, this.#party, this.#keptBytes);
    return {
      append: (bytes) => material.append(bytes),
      finish: async () => {
        await material.finish();
        // A hash guards files of others; this material never leaves the process unsealed.
        const stored = { version: headerVersion, ...header, materialBytes: material.bytes, materialSha256: '' } as const;
        this.#held.set(id, { header: stored, material, claimed: false });
        return stored;
      },
      abort: async () => {
        this.#held.delete(id);
        await material.discard();
      },
    };
  }

  async claim(id: string, { program, ring, copy }: BundleExpectation): Promise<StoredHeader> {
    const held = this.#held.get(id);
    if (held === undefined || held === 'coming') throw this.#error(id, 'is not there to be claimed', 'start the run again');
    const { header } = held;
    const same = header.program === program && header.ring.bits === ring.bits && header.ring.fraction === ring.fraction;
    if (!same || header.copy !== copy) throw this.#error(id, 'was made for another run', 'start the run again');
    await this.#claims.mark(id);
    held.claimed = true;
    return header;
  }

  async open(id: string): Promise<Awaited<ReturnType<RunStore['open']>>> {
    const held = this.#held.get(id);
    if (held === undefined || held === 'coming' || !held.claimed)
      throw this.#error(id, 'was not claimed by this process', 'claim a bundle before reading it');
    return { read: (offset, length) => held.material.read(offset, length), close: async () => undefined };
  }

  async burn(id: string): Promise<void> {
    const held = this.#held.get(id);
    this.#held.delete(id);
    if (held !== undefined && held !== 'coming') await held.material.discard();
    await this.#claims.burn(id);
  }

  #error(id: string, reason: string, remedy: string): SottoError {
    return new SottoError('material', `bundle ${id} ${reason}`, { place: { party: this.#party }, remedy });
  }
}

/** Bytes that grow: whole chunks in memory, and behind the bound sealed in a file that has no name any more. */
class SpilledMaterial {
  readonly #folder: string;
  readonly #party: BundleOwner;
  readonly #keptBytes: number;
  readonly #key = new Uint8Array(randomBytes(32));
  readonly #kept: Uint8Array[] = [];
  #filled = 0;
  #spill: { readonly file: FileHandle; readonly sealer: ChunkSealer } | undefined;
  #opened: { readonly index: number; readonly chunk: Uint8Array } | undefined;
  bytes = 0;

  constructor(folder: string, party: BundleOwner, keptBytes: number) {
    this.#folder = folder;
    this.#party = party;
    this.#keptBytes = Math.ceil(keptBytes / sealedChunkBytes) * sealedChunkBytes;
  }

  async append(part: Uint8Array): Promise<void> {
    const here = Math.max(0, Math.min(part.length, this.#keptBytes - this.bytes));
    this.#keep(part.subarray(0, here));
    this.bytes += part.length;
    if (here < part.length) await this.#spilled(part.subarray(here));
  }

  async finish(): Promise<void> {
    await this.#spill?.sealer.finish().catch((cause: unknown) => this.#failed(cause));
  }

  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (
      !Number.isSafeInteger(offset) ||
      !Number.isSafeInteger(length) ||
      offset < 0 ||
      length < 0 ||
      offset + length > this.bytes
    )
      throw new SottoError('material', `there are no bytes ${offset} … ${offset + length} of ${this.bytes}`, {
        place: { party: this.#party },
        remedy: 'run the same version of sotto on all sides',
      });
    const out = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const index = Math.floor((offset + at) / sealedChunkBytes);
      const from = offset + at - index * sealedChunkBytes;
      const part = (await this.#chunk(index)).subarray(from, from + length - at);
      out.set(part, at);
      at += part.length;
    }
    return out;
  }

  async discard(): Promise<void> {
    for (const chunk of this.#kept) chunk.fill(0);
    this.#kept.length = 0;
    this.#opened?.chunk.fill(0);
    this.#opened = undefined;
    this.#key.fill(0);
    this.#spill?.sealer.clear();
    await this.#spill?.file.close();
    this.#spill = undefined;
  }

  #keep(part: Uint8Array): void {
    for (let at = 0; at < part.length; ) {
      if (this.#filled === this.#kept.length * sealedChunkBytes) this.#kept.push(new Uint8Array(sealedChunkBytes));
      const from = this.#filled % sealedChunkBytes;
      const piece = part.subarray(at, at + sealedChunkBytes - from);
      this.#kept.at(-1)!.set(piece, from);
      this.#filled += piece.length;
      at += piece.length;
    }
  }

  async #spilled(part: Uint8Array): Promise<void> {
    try {
      this.#spill ??= await this.#open();
      await this.#spill.sealer.append(part);
    } catch (cause) {
      this.#failed(cause);
    }
  }

  async #open(): Promise<{ file: FileHandle; sealer: ChunkSealer }> {
    const path = join(this.#folder, randomBytes(16).toString('hex'));
    const file = await open(path, createToRead, 0o600);
    await rm(path, { force: true });
    return { file, sealer: new ChunkSealer(this.#key, (sealed) => writeAll(file, sealed)) };
  }

  async #chunk(index: number): Promise<Uint8Array> {
    const spilled = index - this.#keptBytes / sealedChunkBytes;
    if (spilled < 0) return this.#kept[index]!;
    if (this.#opened?.index === index) return this.#opened.chunk;
    const length = Math.min(sealedChunkBytes, this.bytes - index * sealedChunkBytes);
    const sealed = new Uint8Array(length + sealTagBytes);
    const whole = await readFully(this.#spill!.file, sealed, spilled * (sealedChunkBytes + sealTagBytes));
    if (!whole) this.#failed(new Error('the file is shorter than it was'));
    const chunk = openChunk(this.#key, spilled, sealed);
    // Who read the last one may still copy from it: it is left to the collector.
    this.#opened = { index, chunk };
    return chunk;
  }

  #failed(cause: unknown): never {
    if (cause instanceof SottoError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
    throw new SottoError('resource', `the material of a run does not fit on the disk (${code})`, {
      place: { party: this.#party, file: this.#folder },
      remedy: 'free disk space, or name another folder with --state',
      cause,
    });
  }
}
