import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const root = new URL('../../', import.meta.url);
const pageOf = (name: string) => readFileSync(new URL(`docs/${name}`, root), 'utf8');
const testsIn = (text: string): string[] => [...text.matchAll(/`(test\/[\w./-]+\.ts)`/g)].map(([, path]) => path!);
const missing = (paths: readonly string[]) => paths.filter((path) => !existsSync(new URL(path, root)));

/** The rows of the table under a heading of the threat model, without its head, each as its cells. */
function rowsUnder(heading: string): string[][] {
  const section = pageOf('threat-model.md').split(`\n## ${heading}\n`)[1]!.split('\n## ')[0]!;
  const rows = section.split('\n').filter((line) => line.startsWith('|'));
  return rows.slice(2).map((line) => line.split('|').slice(1, -1));
}

describe('claims', () => {
  it.each([
    ['Who learns what', 8],
    ["A manifest is code of the server's", 6],
    ['What lies on disks', 6],
  ])('under “%s” name a test that exists, row by row', (heading, least) => {
    const rows = rowsUnder(heading);
    expect(rows.length).toBeGreaterThanOrEqual(least);
    for (const cells of rows) {
      const tests = testsIn(cells.join('|'));
      expect(tests, cells[0]).not.toEqual([]);
      expect(missing(tests), cells[0]).toEqual([]);
    }
  });

  it.each(['threat-model.md', 'sandbox.md', 'operating.md', 'checkpoints.md', 'pictures.md', 'design.md'])(
    'of %s name no test that is not there',
    (page) => expect(missing(testsIn(pageOf(page)))).toEqual([]),
  );
});
