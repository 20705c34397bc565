// Writes the WebAssembly modules of libjpeg-turbo and libwebp (from the packages @cwasm/jpeg-turbo and @cwasm/webp) as base64 into a
// source file, so that pictures are decoded by the same code in Node and in a page. Nothing else of the two packages is used.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const target = join(root, 'src/pictures/binary.generated.ts');
// What the tests compared with Pillow: another build is compared first, then named here.
const modules = [
  {
    name: 'jpeg',
    file: '@cwasm/jpeg-turbo/jpeg-turbo.wasm',
    sha256: '80ed55eef2d0ff276f837ef521fad8181ccdfa6f298f652f6e45aed7fbbbc871',
  },
  { name: 'webp', file: '@cwasm/webp/webp.wasm', sha256: 'b0bc0f19c589f0d7f27cd98191bc113d0779108a10f38538f466cea4985c480e' },
];
const notices = `/*! Decoders of pictures, as WebAssembly. libjpeg-turbo: this software is based in part on the work of the Independent JPEG Group;
copyright (C) D. R. Commander and others, BSD-3-Clause, IJG and zlib licences. libwebp: copyright (C) 2010 Google Inc., BSD-3-Clause.
Compiled by Linus Unnebäck (@cwasm/jpeg-turbo, @cwasm/webp; MIT). */`;

const lines = modules.map(({ name, file, sha256 }) => {
  const bytes = readFileSync(join(root, 'node_modules', file));
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== sha256) throw new Error(`${file} is not the build that was compared with Pillow: sha256 ${found}`);
  return `  ${name}: '${bytes.toString('base64')}',`;
});
const text = `${notices}\n// Written by scripts/build-decoders.mjs.\nexport const binaries = {\n${lines.join('\n')}\n};\n`;
if (existsSync(target) && readFileSync(target, 'utf8') === text) {
  console.log('decoders: unchanged');
} else {
  const next = `${target}.${process.pid}`;
  writeFileSync(next, text);
  renameSync(next, target);
  console.log('decoders: written');
}
