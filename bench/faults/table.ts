import { type Fault, faultKinds, phases, placeOf, variantName } from './plan.ts';
import type { Verdict } from './verdict.ts';

export interface Judged {
  readonly verdict: Verdict;
}
export interface Row extends Judged {
  readonly fault: Fault;
}

interface Counts {
  readonly faults: number;
  readonly exact: number;
  readonly error: number;
  readonly failure: number;
  /** From the fault to the last end, of runs with errors. */
  readonly medianMilliseconds: number;
  readonly slowestMilliseconds: number;
  /** Errors of parties, and how many of them name the party at fault. */
  readonly errors: number;
  readonly named: number;
}

export function countsOf(rows: readonly Judged[]): Counts {
  const of = (result: Verdict['result']): number => rows.filter(({ verdict }) => verdict.result === result).length;
  const sum = (field: 'errors' | 'named'): number => rows.reduce((all, { verdict }) => all + verdict[field], 0);
  const ends = rows.flatMap(({ verdict }) => (verdict.result === 'exact' ? [] : [Math.round(verdict.milliseconds)]));
  ends.sort((a, b) => a - b);
  return {
    faults: rows.length,
    exact: of('exact'),
    error: of('error'),
    failure: of('failure'),
    medianMilliseconds: ends[Math.floor(ends.length / 2)] ?? 0,
    slowestMilliseconds: ends.at(-1) ?? 0,
    errors: sum('errors'),
    named: sum('named'),
  };
}

/** By kind, and by what the fault met: the figures of the whole command. */
export function summary(
  rows: readonly Row[],
): Counts & { readonly failures: readonly { number: number; why: string | undefined }[] } {
  const all = countsOf(rows);
  const failures = rows
    .filter(({ verdict }) => verdict.result === 'failure')
    .map(({ fault, verdict }) => ({ number: fault.number, why: verdict.why }));
  return { ...all, failures };
}

const phaseNames: readonly string[] = ['handshake', ...phases];
export const heads = [
  'fault',
  'phase',
  'role',
  'faults',
  'exact',
  'error',
  'failed',
  'median ms',
  'slowest ms',
  'errors that name it',
] as const;

/** Lines of counts by kind, phase and place, in the order of kinds and phases. */
export function tableOf<R extends Judged>(
  rows: readonly R[],
  keyOf: (row: R) => readonly [kind: string, phase: string, place: string],
): string[][] {
  const groups = new Map<string, R[]>();
  for (const row of rows) {
    const key = keyOf(row).join('|');
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  const kinds: readonly string[] = faultKinds;
  const rank = (key: string): number => {
    const [kind, phase] = key.split('|') as [string, string];
    return kinds.indexOf(kind) * 10 + phaseNames.indexOf(phase);
  };
  return [...groups]
    .sort(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : 1))
    .map(([key, group]) => [...key.split('|'), ...cells(countsOf(group))]);
}

const lines = (rows: readonly Row[]): string[][] =>
  tableOf(rows, ({ fault }) => {
    const { phase, role } = placeOf(fault);
    return [fault.kind, phase, role];
  });

const cells = (counts: Counts): string[] => [
  ...[counts.faults, counts.exact, counts.error, counts.failure, counts.medianMilliseconds, counts.slowestMilliseconds].map(
    String,
  ),
  counts.errors === 0 ? '–' : `${counts.named} of ${counts.errors}`,
];

const byKind = (rows: readonly Row[]): string[][] =>
  faultKinds.flatMap((kind) => {
    const group = rows.filter(({ fault }) => fault.kind === kind);
    return group.length === 0 ? [] : [[kind, ...cells(countsOf(group))]];
  });

/** Every kind, phase and role on a line of its own, for a terminal. */
export const table = (rows: readonly Row[]): string => textTable([...lines(rows), ['all', '', '', ...cells(countsOf(rows))]]);

export function textTable(body: readonly (readonly string[])[]): string {
  const all = [heads, ...body];
  const widths = heads.map((_, column) => Math.max(...all.map((line) => line[column]!.length)));
  const padded = (cell: string, column: number): string =>
    column < 3 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!);
  return all.map((line) => line.map(padded).join('  ')).join('\n');
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
export const markdownTable = (head: readonly string[], body: readonly (readonly string[])[]): string =>
  [row(head), row(head.map((_, at) => (at === 0 ? '---' : '---:'))), ...body.map(row)].join('\n');

/** The same as a page. */
export function markdown(
  rows: readonly Row[],
  { command, timeoutMilliseconds, seconds }: { command: string; timeoutMilliseconds: number; seconds: number },
): string {
  const counts = countsOf(rows);
  const settings = [...new Set(rows.map(({ fault }) => variantName(fault.variant)))].sort();
  return `# Faults

Made by \`${command} --write\` in ${seconds} s. A fault that failed is done again by its number: \`--seed\` as above and \`--only NUMBER\`.

Each line of the tables counts whole private runs of a two-layer Llama over real sockets, with one fault each, which seed and number choose:
setting and ring (${settings.length} variants, texts that end early among them), kind, place and time. A run is *exact* where the client has exactly the
right text (and logits within rounding), *error* where it ended with typed errors of which at least one names the party at fault, and
*failed* otherwise: a wrong answer, a hang, an error without a type or a name, an end later than two timeouts (${timeoutMilliseconds} ms each) and 20 s after the
fault, a bundle that could be used again. After every restart a second run on the same stores must be exact. The last column counts the
errors of the surviving parties, and those that name the party at fault.

**${counts.faults} faults: ${counts.exact} exact answers, ${counts.error} typed errors, ${counts.failure} failures; the median end ${counts.medianMilliseconds} ms and the slowest ${counts.slowestMilliseconds} ms after its fault.**

| kind | what happens |
|---|---|
| drop, duplicate, reorder, corrupt, truncate, oversize | to one frame of one line, in either direction |
| stall, close | the line falls silent, or ends, before a frame |
| kill, stop | the process gets SIGKILL or SIGSTOP when a frame passes |
| pause | SIGSTOP, and SIGCONT after 0.1, 0.3 or 1.6 timeouts |
| restart | SIGKILL, and the same order to a new process on the same store |
| clock | both clocks of the process jump, by 2 s to 10 days, either way |
| malformed | a control message that is no JSON, or not of its schema: cut, deep, empty, with strange keys, types, values or none |
| program | a control message with another program, length, configuration, session, copy, ticket, MAC or nonce |
| certificate | of another authority or role, expired, not valid yet, or none |
| replay | the state of a run put back after it, and its bundle named again by the dealer, or not |

What is no fault here: well-formed lies (threat-model.md). On plain lines somebody who changes bytes of material and its checksum makes a wrong answer that nobody
notices; that is what TLS between hosts is for. A changed nonce, or a whole stream of the dealer played back, ends the run with an error.

## By kind

${markdownTable(['fault', 'faults', 'exact', 'error', 'failed', 'median ms', 'slowest ms', 'errors that name it'], byKind(rows))}

## By kind, phase and role

${markdownTable(heads, lines(rows))}
`;
}
