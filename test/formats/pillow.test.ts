import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadImage } from '../../src/pictures/index.ts';
import { rgbFile, unread } from './golden-pictures.ts';

/** A Python that has Pillow. */
const python = [process.env.SOTTO_PYTHON, 'python3'].find((command) => {
  try {
    return command !== undefined && execFileSync(command, ['-c', 'import PIL'], { stdio: 'ignore' }) !== undefined;
  } catch {
    return false;
  }
});
if (python === undefined)
  console.warn('test/formats/pillow.test.ts is skipped: no Python with Pillow (set SOTTO_PYTHON, or pip install pillow)');

describe.skipIf(python === undefined)('every kind of picture that Pillow writes, and more', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sotto-pillow-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('is read to the bytes that Pillow reads, and refused where Pillow refuses it', { timeout: 180_000 }, async () => {
    execFileSync(python!, [join(import.meta.dirname, 'pillow.py'), folder], { stdio: 'inherit' });
    const names = readdirSync(folder).filter((name) => !name.endsWith('.rgb'));
    const wrong: string[] = [];
    const stricter: string[] = [];
    for (const name of names) {
      const right = existsSync(join(folder, `${name}.rgb`)) ? readFileSync(join(folder, `${name}.rgb`)) : undefined;
      const found = await loadImage(readFileSync(join(folder, name)), name).then(rgbFile, (error: Error) => error);
      if (found instanceof Error) {
        expect(found).toMatchObject({ name: 'SottoError', kind: 'input' });
        if (right !== undefined) stricter.push(name);
      } else if (right === undefined || Buffer.compare(found, right) !== 0) wrong.push(name);
    }
    console.log(
      `pictures: ${names.length}; other bytes than Pillow: ${wrong.length}; refused though Pillow reads them: ${stricter.length} (${stricter.join(', ')})`,
    );
    expect(names.length).toBeGreaterThan(1000);
    expect(wrong).toEqual([]);
    expect(stricter.filter((name) => !unread.test(name) && !/-cut\d+\./.test(name))).toEqual([]);
  });
});
