import { spawnSync } from 'node:child_process';
import { readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function newest(folder: string): number {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    latest = Math.max(latest, entry.isDirectory() ? newest(path) : statSync(path).mtimeMs);
  }
  return latest;
}

/** Builds `dist` once where the sources are newer, so that tests run the command as it is installed. */
export default function setup(project: TestProject): void {
  const stamp = join(root, 'dist/tested');
  const began = new Date();
  const built = statSync(stamp, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (built > newest(join(root, 'src'))) {
    project.provide('buildFailure', '');
    return;
  }
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, encoding: 'utf8' });
  project.provide('buildFailure', status === 0 ? '' : `${stdout}${stderr}`);
  if (status !== 0) return;
  writeFileSync(stamp, '');
  utimesSync(stamp, began, began);
}
