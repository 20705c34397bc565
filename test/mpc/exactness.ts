import { size } from '../../src/program/index.ts';
import type { Case } from './cases.ts';
import { experiment, type Fault, type Outcome, opened, ringValues, signed } from './exhaustive.ts';
import { type Tiny, tiny } from './tiny.ts';

/** Lanes in which a truncation is not ⌊(x + 2^f − 1 − ρ) / 2^f⌋ with ρ = x_c mod 2^f, for every x in the range and every pad. */
export async function wrongTruncations(L: number, f: number, form: 'pinned' | 'floating', fault: Fault = {}): Promise<number> {
  const wire = (p: Tiny): number => (form === 'pinned' ? p.mixed() : p.floating(p.mixed()));
  const program = tiny(L, (p) => p.truncate(wire(p), f));
  const [least, most] = [-(2 ** (L - 2)), 2 ** (L - 2) - 2 ** f];
  // The server's tensor shifts x by a constant: the range is the sum's.
  const secrets = ringValues(L).flatMap((x) => (x >= least && x <= most ? [{ x: [x - 1], w: [1] }] : []));
  // The share that a floating result is pinned to does not enter the arithmetic above: it is one value there in the widest ring.
  const only = (_: unknown, node: { operation: string }, purpose: number): boolean =>
    L < 6 || node.operation !== 'truncate' || purpose !== 2;
  const outcome = await experiment({ program, secrets, enumerate: ['client', 'server'], only, fault });
  const node = outcome.program.nodes.findIndex(({ operation }) => operation === 'truncate');
  const results = opened(outcome, node);
  const shares = outcome.share('client', outcome.program.nodes[node]!.inputs[0]!);
  let wrong = 0;
  for (let lane = 0; lane < outcome.lanes; lane++) {
    const x = secrets[Math.floor(lane / outcome.padValues)]!.x[0]! + 1;
    const rho = shares[lane]! % 2 ** f;
    if (results[lane] !== Math.floor((x + 2 ** f - 1 - rho) / 2 ** f)) wrong += 1;
  }
  return wrong;
}

/** The words of every node of one lane, evaluated in the clear with the run's rounding offsets; undefined where nothing is shared. */
function evaluate(outcome: Outcome, lane: number, secret: Case['client'][number]): (number[] | undefined)[] {
  const { program, lanes } = outcome;
  const L = program.ring.bits;
  const values: (number[] | undefined)[] = [];
  for (const [index, node] of program.nodes.entries()) {
    const [x, y] = node.inputs.map((input) => values[input]);
    const map = (f: (a: number, i: number) => number): number[] => x!.map((a, i) => signed(f(a, i), L));
    const make = (): number[] | undefined => {
      switch (node.operation) {
        case 'clientInput':
          return node.parameters.encoding === 'real'
            ? [...secret[node.parameters.name]!]
            : Array.from({ length: size(node.shape) / lanes }, (_, i) => (i === secret[node.parameters.name]![0] ? 1 : 0));
        case 'serverInput':
          return [...secret[node.parameters.name]!];
        case 'reshape':
        case 'pin':
        case 'reveal':
          return x;
        case 'move':
          // Of a lookup only: one table's results.
          return [x![node.parameters.start / lanes]!];
        case 'add':
        case 'addServer':
          return map((a, i) => a + y![i]!);
        case 'subtract':
          return map((a, i) => a - y![i]!);
        case 'multiplyInteger':
          return map((a) => a * node.parameters.by);
        case 'diagonal':
        case 'product':
          return map((a, i) => a * y![i]!);
        case 'square':
          return map((a) => a * a);
        case 'linear':
        case 'matrixProduct': {
          const { k, n } = node.parameters;
          const m = x!.length / k;
          return Array.from({ length: m * n }, (_, at) => {
            const [row, column] = [Math.floor(at / n), at % n];
            return signed(
              Array.from({ length: k }, (_, i) => x![row * k + i]! * y![i * n + column]!).reduce((a, b) => a + b, 0),
              L,
            );
          });
        }
        case 'openNarrow':
        case 'widen':
          return x;
        case 'exchanged':
          return values[node.inputs[2]!];
        case 'narrowSquare':
          return map((a) => a * a);
        case 'narrowProduct': {
          const second = values[node.inputs[3]!]!;
          return map((a, i) => a * second[i]!);
        }
        case 'narrow':
        case 'truncate': {
          const f = node.parameters.bits;
          const words = outcome.share('client', node.inputs[0]!);
          return map((a, i) => Math.floor((a + 2 ** f - 1 - (words[lane * x!.length + i]! % 2 ** f)) / 2 ** f));
        }
        case 'lookup':
          return node.parameters.tables.map((table) => signed(table[x![0]! & (table.length - 1)]!, L));
        default:
          return undefined;
      }
    };
    values[index] = make();
  }
  return values;
}

/** A lookup's results lie table after table, an opening is no share: what reads them is compared. */
const uncompared: ReadonlySet<string> = new Set(['lookup', 'openNarrow', 'exchanged']);

/** Words of the last value of a case that differ from its plain evaluation, over random secrets and pads in a ring wide enough. */
export async function wrongResults(given: Case, fault: Fault = {}): Promise<number> {
  const program = tiny(16, given.build);
  let wrong = 0;
  for (let fixed = 0; fixed < 24; fixed++) {
    // A tensor that all lanes share takes one value a run.
    const own = given.server[(5 * fixed) % given.server.length]!;
    const secrets = given.client.slice(-64).map((secret) => ({ ...secret, ...own }));
    const outcome = await experiment({ program, secrets, enumerate: [], fixed, fault });
    const { nodes } = outcome.program;
    const known = new Map<number, Float64Array>();
    const sums = (node: number): Float64Array => {
      const made = known.get(node) ?? opened(outcome, node);
      known.set(node, made);
      return made;
    };
    secrets.forEach((secret, lane) => {
      const plain = evaluate(outcome, lane, secret);
      for (const [index, node] of nodes.entries()) {
        const expected = plain[index]?.map((value) => signed(value, node.modulus ?? 16));
        if (expected === undefined || node.state === 'server' || uncompared.has(node.operation)) continue;
        // A one-hot row and its map in a smaller ring are compared when they are widened.
        const embeds = node.operation === 'clientInput' || node.operation === 'linear';
        if (embeds && 'modulus' in node.parameters && node.modulus === undefined) continue;
        const shares = node.operation === 'reveal' ? node.inputs[0]! : index;
        const got = sums(shares).slice(lane * expected.length, (lane + 1) * expected.length);
        wrong += expected.filter((value, i) => value !== got[i]).length;
        if (node.operation === 'reveal' && [...outcome.outputs.values()][0]![lane] !== expected[0]) wrong += 1;
      }
    });
  }
  return wrong;
}
