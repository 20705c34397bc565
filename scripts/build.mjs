// `npm run build`: the kernels, then every layer.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function run(...command) {
  const { status } = spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

run(join(root, 'scripts/build-kernels.mjs'));
run(join(root, 'node_modules/typescript/bin/tsc'), '-b');
const command = join(root, 'bin/sotto.js');
if (existsSync(command)) chmodSync(command, 0o755);
