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
export const promptText = ({ prompt, promptFile }: PromptFlags): string | undefined =>
  promptFile === undefined ? prompt : textOf(promptFile, 'prompt');

/** How a text to classify is given, and the second one of a pair; as prompts are. */
export interface TextFlags {
  readonly text?: string;
  readonly textFile?: string;
  readonly pair?: string;
  readonly pairFile?: string;
}

export const textOptions = (...others: string[]): Option[] => [
  new Option('--text <text>', 'the text to classify, shown to every user of this machine in its list of processes').conflicts([
    'textFile',
    ...others,
  ]),
  new Option('--text-file <file>', 'the same from a file of UTF-8, or - for standard input').conflicts(others),
  new Option('--pair <text>', 'the second text, of a model that is asked about two').conflicts(['pairFile', ...others]),
  new Option('--pair-file <file>', 'the same from a file of UTF-8').conflicts(others),
];

/** The texts that were given; undefined where none was. A second text without a first is a `usage` error. */
export function givenTexts({
  text,
  textFile,
  pair,
  pairFile,
}: TextFlags): { readonly text: string; readonly pair?: string } | undefined {
  const second = pairFile === undefined ? pair : textOf(pairFile, 'text');
  const first = textFile === undefined ? text : textOf(textFile, 'text');
  if (first !== undefined) return { text: first, ...(second === undefined ? {} : { pair: second }) };
  if (second === undefined) return undefined;
  throw new SottoError('usage', 'a second text was given, and no first one', {
    place: { field: '--text' },
    remedy: 'give the first with --text or --text-file',
  });
}

function textOf(path: string, what: string): string {
  const place = { file: path };
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path === '-' ? 0 : path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new SottoError('input', `the ${what} cannot be read (${code})`, {
      place,
      remedy: 'name a file that this user can read',
      cause,
    });
  }
  if (bytes.length > most)
    throw new SottoError('input', `the ${what} has ${bytes.length} bytes`, { place, remedy: `give at most ${most}` });
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes).replace(/\r?\n$/, '');
  } catch (cause) {
    throw new SottoError('input', `the ${what} is no UTF-8`, { place, remedy: 'write the file as UTF-8', cause });
  }
}

/** Said where a text cannot be as long as it was asked for. */
export const contextNotice = (asked: number, fitting: number): string =>
  `sotto: ${asked} new tokens were asked for, and the context of this model has room for ${fitting} behind this prompt: no more are written\n`;
