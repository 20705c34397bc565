import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '../..');

/** Where Chromium is: the environment's, or the first on the path; undefined where there is none. */
export function chromium(): string | undefined {
  const named = process.env.CHROMIUM;
  if (named) return named;
  const folders = (process.env.PATH ?? '').split(':');
  const found = folders.flatMap((folder) => ['chromium', 'chromium-browser', 'google-chrome'].map((name) => join(folder, name)));
  return found.find((path) => existsSync(path));
}

/** The built command as a process of its own. */
export interface Party {
  readonly process: ChildProcess;
  /** Where it waits, once it says so. */
  readonly address: string;
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>;
}

/** Pages of any origin may come to it: each test has a port of its own for its page. */
export async function startParty(words: readonly string[]): Promise<Party> {
  const command = [join(root, 'bin/sotto.js'), 'party', ...words, '--origin', '*'];
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise<number | string | null>((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)));
  let said = '';
  const address = await new Promise<string>((resolve, reject) => {
    child.stderr!.on('data', (chunk) => {
      said += chunk;
      const waiting = /waiting on (\S+)/.exec(said);
      if (waiting) resolve(waiting[1]!);
    });
    child.once('exit', () => reject(new Error(`the party ended before it waited: ${said}`)));
  });
  return { process: child, address, ended };
}
