import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, inject, it } from 'vitest';
import { temporaryFolder } from './checkpoints.ts';
import { root } from './command.ts';

const folder = await temporaryFolder();

/** Whether any process of the group runs; one that has ended, and that nobody has asked about, does not. */
function living(group: number): boolean {
  return readdirSync('/proc').some((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      const [state, , own] = readFileSync(`/proc/${entry}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ');
      return Number(own) === group && state !== 'Z';
    } catch {
      return false;
    }
  });
}

// Ctrl-C reaches every process of the terminal's group at once; a supervisor's signal npx alone.
it.runIf(process.platform === 'linux').each([
  ['Ctrl-C', 'SIGINT', true],
  ['a signal to npx', 'SIGTERM', false],
] as const)(
  'npx sotto in a checkout leaves no process and no file behind after %s',
  { timeout: 60_000 },
  async (name, signal, all) => {
    expect(inject('buildFailure')).toBe('');
    const place = (part: string) => {
      const path = join(folder, `${name} ${part}`);
      mkdirSync(path);
      return path;
    };
    const [home, temporary] = [place('home'), place('tmp')];
    const settings = { npm_config_cache: place('cache'), npm_config_offline: 'true', npm_config_update_notifier: 'false' };
    const words = ['sotto', 'generate', '--model', 'stories-polynomial', '--prompt', 'Once', '--backend', 'mpc'];
    const child = spawn('npx', [...words, '--max-new-tokens', '60'], {
      ...{ cwd: root, detached: true, stdio: 'ignore' },
      env: { PATH: process.env.PATH, HOME: home, TMPDIR: temporary, ...settings },
    });
    const running = () => readdirSync(temporary).some((entry) => existsSync(join(temporary, entry, 'server.socket')));
    await expect.poll(() => running() || child.exitCode !== null, { timeout: 30_000 }).toBe(true);
    expect(child.exitCode).toBe(null);
    const group = child.pid!;
    process.kill(all ? -group : group, signal);
    await once(child, 'exit');
    await expect.poll(() => living(group), { timeout: 10_000 }).toBe(false);
    expect([readdirSync(home), readdirSync(temporary)]).toEqual([[], []]);
  },
);
