import { CommanderError } from 'commander';
import { type ErrorKind, errorKinds, SottoError } from '../errors/index.ts';
import { printJson, type Terminal } from './terminal.ts';

export const exitCodes = { success: 0, unexpected: 1, disagreement: 9 } as const;
const kindCodes: Record<ErrorKind, number> = { usage: 2, input: 3, model: 4, range: 5, peer: 6, material: 7, resource: 8 };

/** What a check found wanting: the run was made and printed, its outcome is not what the other backends say. */
export class Disagreement extends Error {}

/** What `sotto --help` says about exit codes. */
export const exitCodeHelp = [
  'Exit codes:',
  '  0  success',
  '  1  unexpected failure: a defect of sotto',
  ...Object.entries(kindCodes).map(([kind, code]) => `  ${code}  ${kind}: ${errorKinds[kind as ErrorKind]}`),
  '  9  --check found that the backends disagree',
].join('\n');

/** Prints what ended the command and gives the exit code: one line on stderr, with `--json` an object on stdout as well. */
export function report(error: unknown, terminal: Terminal, json: boolean): number {
  if (error instanceof CommanderError && error.exitCode === 0) return exitCodes.success;
  if (error instanceof Disagreement) {
    terminal.error(`sotto: ${error.message}\n`);
    return exitCodes.disagreement;
  }
  const { kind, message, place, remedy, line, run } = describe(error);
  terminal.error(`sotto: ${line.replaceAll(/\s*\n\s*/g, ' ')}${run === undefined ? '' : ` (run ${run})`}\n`);
  if (json) printJson(terminal, { error: { kind, message, place, remedy, ...(run === undefined ? {} : { run }) } });
  return kind === 'unexpected' ? exitCodes.unexpected : kindCodes[kind];
}

interface Described {
  readonly kind: ErrorKind | 'unexpected';
  readonly message: string;
  readonly place: SottoError['place'];
  readonly remedy: string;
  /** The name of the run that it ended, where there was one. */
  readonly run?: string | undefined;
  /** All of it. */
  readonly line: string;
}

function describe(error: unknown): Described {
  if (error instanceof SottoError) {
    const { kind, reason, place, remedy, message, run } = error;
    return { kind, message: reason, place, remedy, line: message, run };
  }
  if (error instanceof CommanderError) {
    const message = error.message.replace(/^error: /, '');
    const remedy = 'see `sotto --help` and `sotto COMMAND --help`';
    return { kind: 'usage', message, place: {}, remedy, line: `${message} — ${remedy}` };
  }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const remedy = 'this is a defect of sotto: report it with the command that shows it';
  return { kind: 'unexpected', message, place: {}, remedy, line: `${message} — ${remedy}` };
}
