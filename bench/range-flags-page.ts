/** A wire whose top bits something drops later, and the window that it is looked at through: none where it is not. */
export interface Wire {
  readonly name: string;
  readonly at: number;
  /** One by one, or so many elements together, so many times. */
  readonly look?: { readonly group: number; readonly repeats: number } | undefined;
  /** The end of the window, as a power of two of integers; of a wire that is not looked at, where truncation errs. */
  readonly high: number;
  /** Powers of two that what reads the wire takes it modulo. */
  readonly moduli: readonly number[];
}

export type Outcome = 'right' | 'noticed' | 'noticed, though right' | 'silent';

export interface Swept {
  readonly subject: string;
  readonly wire: Wire;
  readonly results: readonly { readonly what: string; readonly outcome: Outcome }[];
}

type Result = Swept['results'][number];

/** The number behind a sign and a cross; undefined for a multiple of a modulus. */
function factorOf({ what }: Result): number | undefined {
  const power = /^.×2\^(-?\d+)$/.exec(what);
  if (power !== null) return 2 ** Number(power[1]);
  const plain = /^.×([\d.]+)$/.exec(what);
  return plain === null ? undefined : Number(plain[1]);
}

const shown = (factor: number): string => (factor < 16 && factor > 0.1 ? `× ${factor}` : `× 2^${Math.log2(factor)}`);

/** Of one wire: up to which factor of its window all plants came out right, from which on all were noticed, and what was neither. */
function rowOf({ wire, results }: Swept): string[] {
  const { name, look } = wire;
  const scaled = results.flatMap((result) => {
    const factor = factorOf(result);
    return factor === undefined ? [] : [{ ...result, factor }];
  });
  const factors = [...new Set(scaled.map(({ factor }) => factor))].sort((a, b) => a - b);
  const of = (factor: number) => scaled.filter((result) => result.factor === factor);
  const wrongAt = factors.findIndex((factor) => of(factor).some(({ outcome }) => outcome !== 'right'));
  const right = wrongAt < 0 ? factors.at(-1) : factors[wrongAt - 1];
  const missedAt = factors.findLastIndex((factor) => of(factor).some(({ outcome }) => !outcome.startsWith('noticed')));
  const noticed = factors[missedAt + 1];
  const silent = factors.flatMap((factor) => {
    const count = of(factor).filter(({ outcome }) => outcome === 'silent').length;
    return count === 0 ? [] : [`${shown(factor)} (${count} of ${of(factor).length})`];
  });
  const multiples = results.filter((result) => factorOf(result) === undefined);
  const lost = multiples.filter(({ outcome }) => outcome === 'silent');
  const powers = [...new Set(multiples.map(({ what }) => what.slice(1)))];
  const counts = (outcome: string): number => multiples.filter((result) => result.outcome.startsWith(outcome)).length;
  return [
    name,
    look === undefined ? '–' : look.group === 1 ? 'one by one' : `${look.repeats} sums of ${look.group}`,
    right === undefined ? '–' : shown(right),
    noticed === undefined ? '–' : shown(noticed),
    silent.length === 0 ? 'nothing' : silent.join(', '),
    powers.length === 0
      ? '–'
      : `${powers.join(', ')}: ${counts('noticed')} noticed, ${counts('right')} right, ${lost.length} silent`,
  ];
}

const header = ['wire', 'looked at', 'right up to', 'noticed from', 'silent', 'multiples of moduli'];

/** A table a program. */
export function tablesOf(swept: readonly Swept[]): string[] {
  const subjects = [...new Set(swept.map(({ subject }) => subject))];
  return subjects.map((subject) => {
    const rows = swept.filter((one) => one.subject === subject).map(rowOf);
    const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
    return [`## ${subject}`, '', line(header), line(header.map(() => '---')), ...rows.map(line), ''].join('\n');
  });
}

export function pageOf(swept: readonly Swept[]): string {
  const runs = swept.reduce((sum, { results }) => sum + results.length, 0);
  const silent = swept.flatMap(({ results }) => results).filter(({ outcome }) => outcome === 'silent').length;
  return `${introduction(runs, silent)}\n${tablesOf(swept).join('\n')}`;
}

const introduction = (runs: number, silent: number): string => `# Range flags: what is noticed, wire by wire

\`npm run bench -- range-flags --page FILE\` writes this page: ${runs} runs of the whole protocol on small models (one layer), no chance in them but the parties' pads, of which ${silent} were silent. A reduced form is \`test/mpc/range-sweep.test.ts\`.

In each run one element of one wire is moved: by a factor of the window that the wire is looked at through (of a wire that is not looked at, of 2^(L−2), from where truncation errs), with
both signs, from a quarter to 2^24 or to the end of the ring; and by both signs of every power of two that what reads the wire takes it modulo. **Right** is what \`fixed\` gives, which computes the same integers
and refuses what leaves the ring or a table. **Noticed**: the client's bit is one. **Silent**: it is zero, and \`fixed\` gives another result or refuses. That includes results that are right while \`fixed\` is stricter than it must be.
All kinds of wires whose top bits are dropped are here, one of each; protocols/range-flags.md has the reasons and the probabilities.
`;
