// The client for browsers as one module, dist/browser/sotto-client.js. What it imports of Node ends the build: a page has none of it.
import { readFileSync } from 'node:fs';
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

await build({
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
