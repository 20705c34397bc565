import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { SottoError } from '../errors/index.ts';

/** How a prompt is given. A word of a command line is shown to every user of the machine in its list of processes; a file is not. */
export interface PromptFlags {
  readonly prompt?: string | undefined;
  readonly promptFile?: string;
  readonly promptIds?: number[];
}

const most = 16 * 2 ** 20;

export const promptOption = (...others: string[]) =>
  new Option('--prompt <text>', 'the text to continue, shown to every user of this machine in its list of processes').conflicts([
    'promptFile',
    'promptIds',
    ...others,
  ]);
export const promptFileOption = (...others: string[]) =>
  new Option(
    '--prompt-file <file>',
    'the same from a file of UTF-8, or - for standard input, less one line break at its end',
  ).conflicts(['promptIds', ...others]);

/** Ends the command with a usage error where no prompt was given; `others` is another option that will do. */
export function requirePrompt({ prompt, promptFile, promptIds }: PromptFlags, command: Command, others = ''): void {
  if (prompt !== undefined || promptFile !== undefined || promptIds !== undefined) return;
  const words = `error: required option '--prompt <text>', '--prompt-file <file>'${others === '' ? '' : `, '${others}'`} or '--prompt-ids <ids>' not specified`;
  command.error(words, { exitCode: 2 });
}

/** The text that was given, read where it is in a file; undefined where there are ids. */
export function promptText({ prompt, promptFile }: PromptFlags): string | undefined {
  if (promptFile === undefined) return prompt;
  const place = { file: promptFile };
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(promptFile === '-' ? 0 : promptFile);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new SottoError('input', `the prompt cannot be read (${code})`, {
      place,
      remedy: 'name a file that this user can read',
      cause,
    });
  }
  if (bytes.length > most)
    throw new SottoError('input', `the prompt has ${bytes.length} bytes`, { place, remedy: `give at most ${most}` });
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes).replace(/\r?\n$/, '');
  } catch (cause) {
    throw new SottoError('input', 'the prompt is no UTF-8', { place, remedy: 'write the file as UTF-8', cause });
  }
}

/** Said where a text cannot be as long as it was asked for. */
export const contextNotice = (asked: number, fitting: number): string =>
  `sotto: ${asked} new tokens were asked for, and the context of this model has room for ${fitting} behind this prompt: no more are written\n`;
