// `npm run build`: the kernels and the decoders of pictures, then every layer, then the browsers' client as one file.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

await import('./build-kernels.mjs');
await import('./build-decoders.mjs');
const { status } = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b'], {
  cwd: root,
  stdio: 'inherit',
});
if (status !== 0) process.exit(status ?? 1);
await import('./build-browser.mjs');
const command = join(root, 'bin/sotto.js');
if (existsSync(command)) chmodSync(command, 0o755);
