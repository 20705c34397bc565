import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModelFolder } from '../../src/models/folder.ts';
import { folderFiles } from '../../src/node/files.ts';
import { logitsOf, relative } from './compute.ts';

// `SOTTO_PYTHON=python SOTTO_PUBLISHED_COUNT=500 SOTTO_PUBLISHED_SEED=1 npx vitest run test/published/live.test.ts`
const python = process.env.SOTTO_PYTHON ?? 'python3';
const count = process.env.SOTTO_PUBLISHED_COUNT ?? '6';
const seed = process.env.SOTTO_PUBLISHED_SEED ?? '1';

function installed(): boolean {
  try {
    execFileSync(python, ['-c', 'import torch, transformers, numpy'], { stdio: 'ignore' });
    return true;
  } catch {
    console.warn(`SKIPPED: ${python} has no torch and transformers; SOTTO_PYTHON names one that has`);
    return false;
  }
}

describe.skipIf(!installed())('folders that the published library writes', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sotto-published-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it(`give the same logits: ${count} a family, seed ${seed}`, { timeout: 3_600_000 }, async () => {
    execFileSync(python, [join(import.meta.dirname, 'reference.py'), 'folders', directory, count, seed], { stdio: 'ignore' });
    const names = readdirSync(directory).sort();
    expect(names).toHaveLength(4 * Number(count));
    let most = 0;
    const different: string[] = [];
    for (const name of names) {
      const { logits, ...asked } = JSON.parse(readFileSync(join(directory, name, 'expected.json'), 'utf8'));
      const found = await openModelFolder(folderFiles(join(directory, name)))
        .then(async (folder) => relative(await logitsOf(folder, asked), logits))
        .catch((error: unknown) => error);
      if (typeof found === 'number') most = Math.max(most, found);
      if (typeof found !== 'number' || !(found < 1e-4)) different.push(`${name}: ${found}`);
    }
    console.info(`${names.length} folders, largest difference ${most.toExponential(1)} of the logits' root mean square`);
    expect(different).toEqual([]);
  });
});
