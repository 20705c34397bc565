import type { Terminal } from './terminal.ts';

const firstShowMilliseconds = 700;
const barWidth = 28;

/** A line on stderr that says what a command does and how far it is. A bar appears once the work has taken noticeably long. */
export interface Progress {
  /** `done` of `total`, in any unit; without a total the text alone is shown. */
  show(text: string, done?: number, total?: number): void;
  /** Clears the line. */
  end(): void;
}

/** Shown where stderr is a terminal, or where it is asked for: then as lines, at most one a second. */
export function progress(terminal: Terminal, wanted: boolean): Progress {
  const start = terminal.now();
  let last = Number.NEGATIVE_INFINITY;
  let drawn = false;
  let said = '';
  if (!terminal.errorIsTerminal && !wanted) return { show: () => undefined, end: () => undefined };
  return {
    show: (text, done, total) => {
      const now = terminal.now();
      if (total !== undefined && now - start < firstShowMilliseconds && !wanted) return;
      if (now - last < (terminal.errorIsTerminal ? 80 : 1000) && total !== undefined && done !== total) return;
      if (total === undefined && text === said) return;
      said = text;
      last = now;
      const line = total === undefined ? text : `${bar(done ?? 0, total)} ${text}`;
      if (terminal.errorIsTerminal) terminal.redraw(line.slice(0, terminal.columns - 1));
      else terminal.error(`${line}\n`);
      drawn = true;
    },
    end: () => {
      if (drawn) terminal.redraw('');
      drawn = false;
    },
  };
}

function bar(done: number, total: number): string {
  const share = total <= 0 ? 1 : Math.min(1, done / total);
  const filled = Math.round(share * barWidth);
  return `${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)} ${`${Math.floor(100 * share)}`.padStart(3)} %`;
}
