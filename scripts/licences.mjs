// `npm run licences`: writes the table of docs/legal.md: what the package needs at run time, from the lock file and the installed packages.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const json = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'));
/** What stands around the table. */
const begin = '<!-- licences: begin -->';
const end = '<!-- licences: end -->';

/** Folders of the packages that `npm i sotto` brings: neither for development nor an optional peer. */
const runtime = () =>
  Object.entries(json('package-lock.json').packages).filter(
    ([folder, { dev, peer, devOptional }]) => folder !== '' && !dev && !peer && !devOptional,
  );

export function licenceTable() {
  const direct = json('package.json').dependencies;
  const rows = runtime().map(([folder, { version }]) => {
    const name = folder.replace(/^.*node_modules\//, '');
    const { license } = json(join(folder, 'package.json'));
    if (typeof license !== 'string') throw new Error(`${name} names no licence`);
    const text = readdirSync(join(root, folder)).find((file) => /licen[cs]e/i.test(file));
    if (text === undefined) throw new Error(`${name} carries no licence text`);
    return `| ${name} | ${version} | ${license} | ${Object.hasOwn(direct, name) ? 'directly' : 'by another'} |`;
  });
  return ['| package | version | licence | needed |', '|---|---|---|---|', ...rows].join('\n');
}

/** The page with the table as it should be. */
export function withTable(page) {
  const [before, rest] = page.split(begin);
  return `${before}${begin}\n${licenceTable()}\n${end}${rest.split(end)[1]}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const path = join(root, 'docs/legal.md');
  writeFileSync(path, withTable(readFileSync(path, 'utf8')));
}
