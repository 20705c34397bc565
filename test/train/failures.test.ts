import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type * as Promises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { openRunFolder } from '../../src/train/folder.ts';
import type { Recipe } from '../../src/train/index.ts';
import { tinyRun } from './tiny-run.ts';

/** Files whose name contains this find no more room; half of what is written gets through. */
const full = vi.hoisted(() => ({ name: undefined as string | undefined }));
vi.mock('node:fs/promises', async (original) => {
  const actual = await original<typeof Promises>();
  const refused = (path: unknown): boolean => full.name !== undefined && String(path).includes(full.name);
  const noRoom = (): Error => Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  const open = async (...given: Parameters<typeof actual.open>) => {
    const file = await actual.open(...given);
    if (!refused(given[0])) return file;
    let calls = 0;
    const write = async (bytes: Uint8Array, offset: number, length: number) => {
      if (calls++ > 0) throw noRoom();
      return file.write(bytes, offset, Math.ceil(length / 2));
    };
    return Object.assign(Object.create(file), {
      write,
      close: () => file.close(),
      writeFile: async () => Promise.reject(noRoom()),
    });
  };
  const appendFile = async (...given: Parameters<typeof actual.appendFile>) => {
    if (refused(given[0])) throw noRoom();
    return actual.appendFile(...given);
  };
  return { ...actual, open, appendFile };
});

const root = mkdtempSync(join(tmpdir(), 'sotto-failures-'));
const folder = (name: string): string => join(root, name);
const stateOf = (name: string): string => readFileSync(join(folder(name), 'state.safetensors')).toString('base64');
const linesOf = (name: string): string[] =>
  existsSync(join(folder(name), 'log.jsonl'))
    ? readFileSync(join(folder(name), 'log.jsonl'), 'utf8')
        .trim()
        .split('\n')
    : [];
afterEach(() => {
  full.name = undefined;
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('a run whose disk is full', () => {
  it.each([
    ['state.safetensors', 6],
    ['log.jsonl', 6],
  ])('at %s fails with a typed error; the last good state stays and resumes to the same weights', async (name, steps) => {
    await tinyRun(folder('whole'), steps, { resume: true });
    const progress = ({ step }: { step: number }): void => {
      if (step === 4) full.name = name;
    };
    const directory = folder(`full-${name.slice(0, 3)}`);
    await expect(tinyRun(directory, steps, { progress })).rejects.toMatchObject({
      kind: 'resource',
      place: { file: join(directory, name) },
    });
    expect(readdirSync(directory).filter((entry) => /tmp$|lock/.test(entry))).toEqual([]);
    full.name = undefined;
    const log = linesOf(`full-${name.slice(0, 3)}`).map((line) => (JSON.parse(line) as { step: number }).step);
    expect(log.slice(0, 4)).toEqual([1, 2, 3, 4]);
    await tinyRun(directory, steps, { resume: true });
    expect(stateOf(`full-${name.slice(0, 3)}`)).toBe(stateOf('whole'));
  });

  it('before it starts says so, and not that another run is there', async () => {
    full.name = 'lock';
    await expect(tinyRun(folder('none'), 3)).rejects.toMatchObject({
      kind: 'resource',
      place: { file: join(folder('none'), 'lock') },
    });
  });

  it('or whose state was cut short is an error that names the file', async () => {
    await tinyRun(folder('cut'), 3);
    const path = join(folder('cut'), 'state.safetensors');
    writeFileSync(path, readFileSync(path).subarray(0, 700));
    await expect(tinyRun(folder('cut'), 3, { resume: true })).rejects.toMatchObject({ kind: 'input', place: { file: path } });
  });
});

describe('a folder', () => {
  it('is taken by one of many that come at once, whoever held it before', async () => {
    for (let round = 0; round < 5; round++) {
      const directory = folder(`raced-${round}`);
      mkdirSync(directory);
      if (round > 0) writeFileSync(join(directory, 'lock'), round % 2 === 0 ? '4194999\n' : '');
      const recipe = { kind: 'pretrain' } as unknown as Recipe;
      const all = await Promise.allSettled(Array.from({ length: 8 }, () => openRunFolder(directory, recipe, false)));
      const taken = all.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      expect(taken).toHaveLength(1);
      for (const result of all)
        if (result.status === 'rejected')
          expect(result.reason).toMatchObject({ kind: 'usage', reason: /another run is writing/ });
      expect(readdirSync(directory).filter((name) => name.startsWith('lock'))).toEqual(['lock']);
      await taken[0]!.close();
      expect(existsSync(join(directory, 'lock'))).toBe(false);
    }
  });
});

describe('a run that is killed', () => {
  it('resumes to the very same parameters', { timeout: 30_000 }, async () => {
    const steps = 40;
    const child = spawn(process.execPath, ['--import', 'tsx', 'test/train/tiny-run.ts', folder('killed'), String(steps)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk) => {
      said += String(chunk);
    });
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    while (linesOf('killed').length < 8 && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill('SIGKILL');
    expect(await ended, said).toBe('SIGKILL');
    expect(existsSync(join(folder('killed'), 'lock'))).toBe(true);
    expect(linesOf('killed').length).toBeLessThan(steps);
    await tinyRun(folder('killed'), steps, { resume: true });
    await tinyRun(folder('unharmed'), steps);
    expect(stateOf('killed')).toBe(stateOf('unharmed'));
    const figures = (name: string): unknown[] => linesOf(name).map((line) => ({ ...JSON.parse(line), seconds: 0 }));
    expect(figures('killed')).toEqual(figures('unharmed'));
  });
});
