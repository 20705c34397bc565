import { spawnSync } from 'node:child_process';

/** Whether an npm registry answers, so that packages can be installed. */
export function registryAnswers() {
  const ping = spawnSync('npm', ['ping', '--fetch-retries=0', '--fetch-timeout=5000'], { timeout: 30_000 });
  return ping.status === 0 || spawnSync('npm', ['view', 'zod', 'version', '--fetch-retries=0'], { timeout: 30_000 }).status === 0;
}
