// The client for browsers as one module, dist/browser/sotto-client.js. What it imports of Node ends the build: a page has none of it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

// As an object, zod's `z` brings every language of its messages; as a module, only what is used (350 kB less).
const onlyUsed = {
  name: 'only-used',
  setup: (bundler) =>
    bundler.onLoad({ filter: /[\\/]src[\\/].*\.ts$/ }, ({ path }) => ({
      loader: 'ts',
      contents: readFileSync(path, 'utf8').replace("import { z } from 'zod'", "import * as z from 'zod'"),
    })),
};

const { metafile } = await build({
  absWorkingDir: root,
  metafile: true,
  entryPoints: [join(root, 'src/browser/index.ts')],
  outfile: join(root, 'dist/browser/sotto-client.js'),
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2023',
  legalComments: 'eof',
  plugins: [onlyUsed],
  logLevel: 'warning',
});

// Licences ask that copies carry their text, and whoever serves the module makes copies.
const folders = new Set(
  Object.keys(metafile.inputs).flatMap((path) => path.match(/^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0] ?? []),
);
const licences = [...folders].sort().map((folder) => {
  const name = readdirSync(join(root, folder)).find((file) => /^licen[cs]e/i.test(file));
  if (name === undefined) throw new Error(`${folder} is part of the page's module and has no licence file`);
  return `${folder.replace(/^.*node_modules\//, '')}\n\n${readFileSync(join(root, folder, name), 'utf8').trim()}\n`;
});
writeFileSync(join(root, 'dist/browser/sotto-client.LICENSES.txt'), licences.join(`\n${'-'.repeat(80)}\n\n`));
