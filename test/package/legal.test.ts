import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
// @ts-expect-error A script without types.
import { licenceTable, withTable } from '../../scripts/licences.mjs';
import { root } from '../cli/command.ts';

const read = (path: string) => readFileSync(join(root, path), 'utf8');

describe('docs/legal.md', () => {
  it('has the packages that are installed, as they are now', () => {
    expect(read('docs/legal.md')).toBe(withTable(read('docs/legal.md')));
  });

  it('has licences that ask for no more than their text', () => {
    const rows = (licenceTable() as string).split('\n').slice(2);
    expect(rows.length).toBeGreaterThanOrEqual(Object.keys(JSON.parse(read('package.json')).dependencies).length);
    for (const row of rows) expect(row).toMatch(/\| (MIT|BSD-3-Clause|Apache-2\.0|0BSD) \| (directly|by another) \|$/);
  });

  it('names the decoders that are embedded', () => {
    const { devDependencies, dependencies } = JSON.parse(read('package.json'));
    for (const name of ['@cwasm/jpeg-turbo', '@cwasm/webp']) {
      const installed = JSON.parse(read(`node_modules/${name}/package.json`));
      expect(devDependencies).toHaveProperty(name);
      expect(read('docs/legal.md').replace(/\s+/g, ' ')).toContain(`\`${name}\` ${installed.version}`);
    }
    for (const absent of ['sharp', 'onnxruntime-node']) expect(dependencies).not.toHaveProperty(absent);
  });

  it('comes with the licence texts of what a page is sent', () => {
    const texts = read('dist/browser/sotto-client.LICENSES.txt');
    for (const name of ['@noble/hashes', 'zod']) expect(texts).toContain(`${name}\n\n`);
    expect(texts).toMatch(/Permission is hereby granted/);
    expect(existsSync(join(root, 'dist/browser/sotto-client.js'))).toBe(true);
  });
});
