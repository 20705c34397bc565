// Standing parties as the built command runs them, for hostile programs to come to.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { builtCommand } from '../built.ts';

export interface Line {
  readonly event: string;
  readonly level?: string;
  readonly address?: string;
  readonly reason?: string;
  readonly [name: string]: unknown;
}

export interface StandingParty {
  readonly child: ChildProcess;
  readonly lines: Line[];
  /** Where it waits; of several addresses in the order in which they were named. */
  readonly addresses: readonly string[];
  /** Where it answers about its health. */
  readonly metrics: string;
  /** SIGTERM, and its exit code. */
  end(): Promise<number | string>;
}

/** Starts `sotto WORDS`, and resolves once it listens. Ending it is the caller's. */
export async function startStanding(words: readonly string[], environment: Record<string, string> = {}): Promise<StandingParty> {
  const command = [builtCommand(), ...words, '--metrics', '127.0.0.1:0', '--log', 'json', '--drain', '0'];
  const child = spawn(process.execPath, command, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...environment },
  });
  const lines: Line[] = [];
  let rest = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop()!;
    for (const part of parts) lines.push(part.startsWith('{') ? (JSON.parse(part) as Line) : { event: part });
  });
  const of = (event: string): string[] => lines.filter((line) => line.event === event).map(({ address }) => address!);
  while (of('metrics').length === 0) {
    if (child.exitCode !== null) throw new Error(`it ended: ${JSON.stringify(lines)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    child,
    lines,
    addresses: of('listening'),
    metrics: of('metrics')[0]!,
    async end() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      return child.exitCode ?? child.signalCode!;
    },
  };
}

/** The status of a path at a party's address for health. */
export async function health(party: StandingParty, path: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://${party.metrics}${path}`);
  return { status: response.status, text: await response.text() };
}
