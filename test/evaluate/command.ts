import { main } from '../../src/cli/main.ts';
import { root } from '../cli/command.ts';

/** `sotto eval … --json` in this process: exit code, the object on stdout, and stderr. */
export async function evaluate(words: readonly string[], environment: Record<string, string> = {}) {
  const said = { out: '', error: '' };
  const code = await main(['eval', ...words, '--json'], {
    out: (text) => {
      said.out += text;
    },
    error: (text) => {
      said.error += text;
    },
    outIsTerminal: false,
    errorIsTerminal: false,
    columns: 100,
    now: () => performance.now(),
    environment,
    packageFolder: root,
    workingFolder: () => root,
    onInterrupt: () => () => undefined,
  });
  return {
    code,
    error: said.error,
    result: JSON.parse(said.out) as Evaluation & { error?: { kind: string; message: string; place: Record<string, string> } },
  };
}

export interface Evaluation {
  readonly task: string;
  readonly model: string | null;
  readonly backend: string | null;
  readonly metrics: Record<string, { value: number; count: number; low: number | null; high: number | null }>;
}
