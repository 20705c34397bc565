import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { RingParameters } from '../backends/ring/index.ts';
import { eraseFile, syncDirectory, writeDurably } from './durable.ts';
import { stateFolder } from './state-folder.ts';

/** A masked copy of the weights at one dealer, as its server knows it. */
export interface MaskedCopy {
  /** Names V; 32 random bytes in hexadecimal, which the dealer is told and nobody else. */
  readonly id: string;
  /** Of A. */
  readonly seed: Uint8Array;
  /** Keys of the weights that the dealer holds. */
  held: Set<string>;
  /** What sending V has cost so far. */
  readonly spent: { seconds: number; sentBytes: number; peakKernelBytes: number };
}

const hex32 = z.string().regex(/^[0-9a-f]{64}$/);
/** Records of version 1 named copies that clients had been told of: they are erased, and what was made from them is burned. */
const recordSchema = z.strictObject({ version: z.literal(2), id: hex32, seed: hex32, weights: hex32 });

export const freshCopy = (): MaskedCopy => ({
  id: randomBytes(32).toString('hex'),
  seed: randomBytes(32),
  held: new Set(),
  spent: { seconds: 0, sentBytes: 0, peakKernelBytes: 0 },
});

/**
 * Seeds of A on disk, `copies/<id>.json` (mode 0600 in a directory of mode 0700): material that was made ahead from a copy needs the same A, also
 * after a restart. They tell nothing to who has the weights already. A record goes when no material of its copy is left.
 */
export class CopyRecords {
  readonly #directory: string;
  readonly #seeds = new Map<string, Uint8Array>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Reads the records of these weights; those of others, and what is no record, are erased. */
  static async open(state: string, weights: string): Promise<CopyRecords> {
    const directory = join(state, 'copies');
    await stateFolder(directory, 'server');
    const records = new CopyRecords(directory);
    for (const name of await readdir(directory)) {
      const record = await readFile(join(directory, name), 'utf8').then(parsed, () => undefined);
      if (record?.weights === weights && name === `${record.id}.json`)
        records.#seeds.set(record.id, new Uint8Array(Buffer.from(record.seed, 'hex')));
      else await eraseFile(join(directory, name));
    }
    return records;
  }

  /** On disk when it resolves. */
  async keep({ id, seed }: MaskedCopy, weights: string): Promise<void> {
    if (this.#seeds.has(id)) return;
    const text = JSON.stringify({ version: 2, id, seed: Buffer.from(seed).toString('hex'), weights });
    await writeDurably(join(this.#directory, `${id}.json`), new TextEncoder().encode(text));
    await syncDirectory(this.#directory);
    this.#seeds.set(id, seed);
  }

  seed(id: string): Uint8Array | undefined {
    return this.#seeds.get(id);
  }

  /** Erases what no material needs. */
  async retain(needed: ReadonlySet<string>): Promise<void> {
    for (const id of this.#seeds.keys()) {
      if (needed.has(id)) continue;
      this.#seeds.delete(id);
      await eraseFile(join(this.#directory, `${id}.json`));
    }
  }
}

function parsed(text: string): z.infer<typeof recordSchema> | undefined {
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** A seed serves one ring: the same bytes as words of two widths would mask related numbers. */
export const ringKey = ({ bits, fraction }: RingParameters): string => `${bits}/${fraction}`;
