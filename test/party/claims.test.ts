import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { freshBundleId } from '../../src/party/bundle-id.ts';
import { Claims } from '../../src/party/claims.ts';
import { temporary } from './models.ts';

/** Every touch of the disk on which claims rest, in order. A killed process does nothing more: what it had begun, the moment says. */
const disk = vi.hoisted(() => ({
  steps: [] as string[],
  killAt: Number.POSITIVE_INFINITY,
  /** Whether the last touch reached the disk before the kill. */
  done: false,
  before: async (_: string, __: string): Promise<void> => {},
}));
vi.mock('../../src/party/durable.ts', async (original) => {
  const real = await original<typeof import('../../src/party/durable.ts')>();
  const touch =
    <A extends [string, ...unknown[]]>(name: string, work: (...of: A) => Promise<void>) =>
    async (...of: A): Promise<void> => {
      const step = disk.steps.length;
      if (step > disk.killAt) throw new Error('killed');
      disk.steps.push(name);
      if (step === disk.killAt && !disk.done) throw new Error('killed');
      await disk.before(name, of[0]);
      await work(...of);
      if (step === disk.killAt) throw new Error('killed');
    };
  return {
    ...real,
    writeDurably: touch('write', real.writeDurably),
    renameFile: touch('rename', real.renameFile),
    removeFile: touch('remove', real.removeFile),
    syncDirectory: touch('sync', real.syncDirectory),
  };
});

const { path: root, remove } = temporary();
afterAll(remove);
const most = 8;
let minute = 1000;
let folders = 0;
const freshFolder = (): string => join(root, `claims${folders++}`);
const open = (folder: string): Promise<Claims> => Claims.open(folder, 'client', () => minute, most);
const markersIn = (folder: string): string[] => readdirSync(folder).filter((name) => name.length === 32);
const refused = (reason: RegExp) => ({ name: 'SottoError', kind: 'material', reason: expect.stringMatching(reason) });
const used = refused(/was claimed already|of a time that is closed/);

beforeEach(() => {
  minute = 1000;
  disk.killAt = Number.POSITIVE_INFINITY;
  disk.steps.length = 0;
  disk.before = async () => {};
});

/** A folder with as many markers as may be, one a minute: the next one closes some. */
async function full(): Promise<{ folder: string; ids: string[] }> {
  const folder = freshFolder();
  const claims = await open(folder);
  const ids: string[] = [];
  for (; ids.length < most; minute++) {
    ids.push(freshBundleId(minute));
    await claims.mark(ids.at(-1)!);
  }
  return { folder, ids };
}

describe('claims', () => {
  it('stay a bounded number of files, and none is forgotten', async () => {
    const folder = freshFolder();
    const ids: string[] = [];
    for (let k = 0; k < 5 * most; k++) {
      if (k % 3 === 0) minute++;
      ids.push(freshBundleId(minute));
      // A process for each, as clients are.
      await (await open(folder)).mark(ids.at(-1)!);
      expect(readdirSync(folder).length).toBeLessThanOrEqual(most + 2);
    }
    const claims = await open(folder);
    for (const id of ids) {
      expect(await claims.has(id)).toBe(true);
      await expect(claims.mark(id)).rejects.toMatchObject(used);
      await expect(claims.check(id)).rejects.toMatchObject(used);
    }
    await claims.mark(freshBundleId(minute));
  });

  it('outlive a kill at every touch of the disk while a time is closed', async () => {
    const { folder, ids } = await full();
    const next = freshBundleId(minute);
    const copied = async (strike: (claims: Claims) => Promise<void>): Promise<string> => {
      const copy = freshFolder();
      cpSync(folder, copy, { recursive: true, filter: (path) => !path.endsWith('lock') });
      const claims = await open(copy);
      disk.steps.length = 0;
      await strike(claims);
      return copy;
    };
    await copied((claims) => claims.mark(next));
    const steps = [...disk.steps];
    // The record, its place, both on the disk for good, and only then what it stands for.
    expect(steps).toEqual(['write', 'rename', 'sync', 'remove', 'remove', 'remove', 'remove', 'write', 'sync']);
    for (const [at] of steps.entries())
      for (const done of [false, true]) {
        const place = await copied(async (claims) => {
          disk.killAt = at;
          disk.done = done;
          await expect(claims.mark(next)).rejects.toThrow();
        });
        disk.killAt = Number.POSITIVE_INFINITY;
        for (let starts = 0; starts < 2; starts++) {
          const claims = await open(place);
          for (const id of ids) await expect(claims.mark(id), `${steps[at]} ${at} ${done}`).rejects.toMatchObject(used);
        }
        // Nothing half done is left, and the folder goes on.
        await (await open(place)).mark(freshBundleId(minute));
        expect(readdirSync(place).every((name) => name.length === 32 || name === 'closed')).toBe(true);
      }
  });

  it('are not made again by a process that looked before another one closed their time', async () => {
    const { folder, ids } = await full();
    const slow = await Claims.open(folder, 'client', () => minute, 100);
    const closing = await open(folder);
    // The slow one has looked, and is about to make the marker, which another process removes in this moment.
    let closed = false;
    disk.before = async (name, path) => {
      if (name !== 'write' || !path.endsWith(ids[0]!)) return;
      disk.before = async () => {};
      await closing.mark(freshBundleId(minute));
      expect(markersIn(folder)).not.toContain(ids[0]);
      closed = true;
    };
    await expect(slow.mark(ids[0]!)).rejects.toMatchObject(used);
    expect(closed).toBe(true);
    expect(await slow.has(ids[0]!)).toBe(true);
  });

  it('of a folder of an older version are removed, and its ids are refused by name', async () => {
    const folder = freshFolder();
    mkdirSync(folder, { mode: 0o700 });
    const old = Array.from({ length: 20 }, (_, k) => k.toString(16).padStart(2, '0').repeat(16));
    for (const id of old) writeFileSync(join(folder, id), '');
    const claims = await open(folder);
    expect(markersIn(folder)).toEqual([]);
    for (const id of old) {
      expect(await claims.has(id)).toBe(true);
      await expect(claims.mark(id)).rejects.toMatchObject(refused(/an id of an older version/));
    }
  });

  it('refuse ids from the future, a damaged record, and more than a minute may bring', async () => {
    const folder = freshFolder();
    const claims = await open(folder);
    await expect(claims.mark(freshBundleId(minute + 1441))).rejects.toMatchObject(refused(/in the future/));
    await claims.mark(freshBundleId(minute + 1440));
    for (let k = 1; k < 2 * most; k++) await claims.mark(freshBundleId(minute));
    await expect(claims.mark(freshBundleId(minute))).rejects.toMatchObject({ kind: 'resource' });
    minute++;
    await claims.mark(freshBundleId(minute));
    expect(markersIn(folder).length).toBeLessThan(most);
    writeFileSync(join(folder, 'closed'), '{"version":1,"minute":');
    await expect(open(folder)).rejects.toMatchObject(refused(/record of closed claims is damaged/));
    await expect(claims.mark(freshBundleId(minute))).rejects.toMatchObject(refused(/damaged/));
  });
});
