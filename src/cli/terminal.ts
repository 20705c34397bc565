import { printable, printableJson } from '../errors/index.ts';

/** Where a command reads its surroundings and writes: handed down from the main module, so that nothing else looks at the process. */
export interface Surroundings {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  /** How many of the texts for `error` nobody will read. */
  readonly lostLines?: () => number;
  readonly outIsTerminal: boolean;
  readonly errorIsTerminal: boolean;
  readonly columns: number;
  /** Milliseconds. */
  readonly now: () => number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Calls `handler` instead of ending when the user interrupts; gives a function that undoes it. */
  readonly onInterrupt: (handler: () => void) => () => void;
  /** Where the installed package keeps artefacts, shapes and plans. */
  readonly packageFolder: string;
  /** The folder that relative paths begin in. Throws where it has been removed. */
  readonly workingFolder: () => string;
}

/** Surroundings in which `out` and `error` print nothing but text, whoever wrote it. */
export interface Terminal extends Surroundings {
  /** As `out`, for text that the `painter` had a part in: what else stands in it must be printable. */
  readonly styled: (text: string) => void;
  /** Writes a line of stderr anew, where that is a terminal. */
  readonly redraw: (line: string) => void;
}

export const printJson = (terminal: Terminal, value: unknown): void => terminal.out(`${printableJson(value)}\n`);

const codes = { bold: '1', dim: '2', green: '32', yellow: '33', cyan: '36', magenta: '35' } as const;
type Style = keyof typeof codes;
const styles = Object.keys(codes) as Style[];

/** Styles inside text are code points that are no characters: no printable text has them. */
const firstMark = 0xfdd0;
const markOf = (style: Style): string => String.fromCharCode(firstMark + styles.indexOf(style));
const endMark = String.fromCharCode(firstMark + styles.length);
const marked = new RegExp(`([${markOf(styles[0]!)}-${endMark}])`);

/** Each mark as its sequence, everything else printable. */
function dressed(text: string): string {
  return text
    .split(marked)
    .map((part) => {
      if (part === endMark) return '\u001b[0m';
      const style = part.length === 1 ? styles[part.charCodeAt(0) - firstMark] : undefined;
      return style === undefined ? printable(part) : `\u001b[${codes[style]}m`;
    })
    .join('');
}

/** A terminal over the surroundings of a process. */
export function terminalOver(surroundings: Surroundings): Terminal {
  const { out, error, errorIsTerminal } = surroundings;
  return {
    ...surroundings,
    out: (text) => out(printable(text)),
    error: (text) => error(printable(text)),
    styled: (text) => out(dressed(text)),
    redraw: (line) => {
      if (errorIsTerminal) error(`\r\u001b[2K${printable(line)}`);
    },
  };
}

/** Colours where the output is a terminal that wants them. */
export function painter(terminal: Terminal): (style: Style, text: string) => string {
  const coloured = terminal.outIsTerminal && terminal.environment.NO_COLOR === undefined && terminal.environment.TERM !== 'dumb';
  return (style, text) => (coloured ? `${markOf(style)}${printable(text)}${endMark}` : printable(text));
}
