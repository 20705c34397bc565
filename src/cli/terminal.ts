/** Where a command reads its surroundings and writes: handed down from the main module, so that nothing else looks at the process. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
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
}

export const printJson = (terminal: Terminal, value: unknown): void => terminal.out(`${JSON.stringify(value)}\n`);

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'cyan' | 'magenta';
const codes: Record<Style, string> = { bold: '1', dim: '2', green: '32', yellow: '33', cyan: '36', magenta: '35' };

/** Colours where the output is a terminal that wants them. */
export function painter(terminal: Terminal): (style: Style, text: string) => string {
  const coloured = terminal.outIsTerminal && terminal.environment.NO_COLOR === undefined && terminal.environment.TERM !== 'dumb';
  return (style, text) => (coloured ? `\u001b[${codes[style]}m${text}\u001b[0m` : text);
}
