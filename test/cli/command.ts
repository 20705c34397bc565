import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { main } from '../../src/cli/main.ts';
import { builtCommand } from '../built.ts';

export const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the real command as a process of its own, from the temporary folder of the system unless told otherwise. */
export function sotto(words: readonly string[], options: { env?: Record<string, string>; cwd?: string } = {}): Promise<Ended> {
  const { NO_COLOR: _, HF_TOKEN: __, HF_ENDPOINT: ___, ...environment } = process.env;
  const child = spawn(process.execPath, [builtCommand(), ...words], {
    cwd: options.cwd ?? root,
    env: { ...environment, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const parts = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    parts.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    parts.stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, ...parts }));
  });
}

/** The one object on stdout; throws where there is anything else. */
export async function sottoJson<T>(words: readonly string[], options: Parameters<typeof sotto>[1] = {}): Promise<T> {
  const { code, stdout, stderr } = await sotto([...words, '--json'], options);
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** The same command in this process, for the many ways in which words are refused. */
export async function sottoHere(words: readonly string[]): Promise<Ended> {
  const parts = { stdout: '', stderr: '' };
  const code = await main(words, {
    out: (text) => {
      parts.stdout += text;
    },
    error: (text) => {
      parts.stderr += text;
    },
    outIsTerminal: false,
    errorIsTerminal: false,
    columns: 100,
    now: () => performance.now(),
    environment: {},
    onInterrupt: () => () => undefined,
    packageFolder: root,
    workingFolder: () => root,
  });
  return { code, ...parts };
}
