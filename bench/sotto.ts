import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

export interface Ended {
  readonly code: number | null;
  readonly out: string;
}

/** Runs the command of this checkout; its standard output and how it ended. */
export function ended(args: readonly string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, 'bin/sotto.js'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out }));
  });
}

/** Standard output of a command that must succeed. */
export async function sotto(args: readonly string[]): Promise<string> {
  const { code, out } = await ended(args);
  if (code === 0) return out;
  throw Object.assign(new Error(`sotto ${args.join(' ')} ended with ${code}: ${out}`), { exitCode: code });
}
