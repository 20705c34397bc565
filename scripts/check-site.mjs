// `npm run check:site`: builds the site of docs/ and of the reference (site/dist). TypeDoc's warnings are errors there, so that a public declaration
// without a docstring, or a type that no entry point gives, fails here. Skips, and says so, where no registry answers.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { registryAnswers } from './registry.mjs';

const site = join(dirname(fileURLToPath(import.meta.url)), '../site');
const npm = (...parameters) => {
  const { status } = spawnSync('npm', parameters, { cwd: site, stdio: 'inherit', timeout: 600_000 });
  if (status !== 0) process.exit(1);
};
if (registryAnswers()) {
  npm('ci');
  npm('run', 'build');
} else console.log('SKIPPED: no npm registry answers here, so that the site cannot be built');
