import type { Case } from './cases.ts';
import {
  type Column,
  elementOf,
  experiment,
  type Fault,
  type Outcome,
  opened,
  padBitsOf,
  type Side,
  singleBitsOf,
} from './exhaustive.ts';
import { tiny } from './tiny.ts';

/** What the enumerations conclude of one case, so that planted faults are judged by the same rule as the protocol. */
export interface Verdict {
  /** Assignments of the other side's secrets whose views differ from the first one's. Perfect secrecy is zero. */
  readonly differing: number;
  /** Whether the other side's pads and the view are in bijection. */
  readonly bijective: boolean;
  /** Lanes where an output's message is not the output less the receiver's own share. */
  readonly wrongReveals: number;
  readonly lanes: number;
}

/** Both sides' pads are enumerated together up to here; beyond, the viewer's own pads are fixed, a few times. */
const jointLanes = 2 ** 16;

/** A few of the viewer's own secrets: the first, one in between, the last. */
const few = <T>(values: readonly T[]): T[] => [...new Set([values[0]!, values[Math.floor(values.length / 3)]!, values.at(-1)!])];

/**
 * One side's view of a case. Hidden from it are the other side's pads and secrets; its own are part of the view. The view is all that
 * it receives, offline and online, with its own pads and its share of the result. What is left out: keys of point functions, the
 * server's share behind a lookup and either's behind a piecewise polynomial (all hide only computationally), and an output's message,
 * which is checked to be the output less the receiver's share and so says nothing that the output does not.
 */
export async function judge(given: Case, viewer: Side, fault: Fault = {}): Promise<Verdict> {
  const other = viewer === 'client' ? 'server' : 'client';
  const program = tiny(given.bits, given.build);
  const lanesOf = (...sides: Side[]): number => 2 ** padBitsOf(program, sides) * given[other].length;
  const joint = lanesOf('client', 'server') <= jointLanes;
  const large = lanesOf(other) > jointLanes;
  // Enough for every value of the viewer's own pads of one bit.
  const settings = Math.min(8, Math.max(large ? 1 : 3, 2 ** singleBitsOf(program, viewer).length));
  const verdict = { differing: 0, bijective: true, wrongReveals: 0, lanes: 0 };
  // A planted fault is settled by the first view that differs.
  const settled = (): boolean => Object.keys(fault).length > 0 && verdict.differing > 0;
  for (const own of few(given[viewer]).slice(large ? -1 : 0)) {
    const common = { program, secrets: given[other].map((secret) => ({ ...secret, ...own })), fault };
    const note = (outcome: Outcome, hiddenOnly: boolean): void => {
      const reveals = outcome.program.nodes.flatMap(({ operation }, index) =>
        operation === 'reveal' || operation === 'flag' ? [index] : [],
      );
      const view = outcome.views[viewer].filter(({ node }) => !reveals.includes(node));
      verdict.lanes += outcome.lanes;
      verdict.differing += differingViews(outcome, [...view, ...ownShare(outcome, viewer)]);
      if (hiddenOnly && !isBijection(outcome, view)) verdict.bijective = false;
      if (viewer === 'client') for (const node of reveals) verdict.wrongReveals += wrongReveals(outcome, node);
    };
    if (settled()) break;
    if (joint) note(await experiment({ ...common, enumerate: ['client', 'server'] }), false);
    for (let fixed = 0; fixed < settings && !settled(); fixed++)
      note(await experiment({ ...common, enumerate: [other], fixed }), true);
  }
  return verdict;
}

/** The viewer's share of the last value. */
function ownShare(outcome: Outcome, viewer: Side): Column[] {
  const { nodes, ring } = outcome.program;
  if (nodes.some(({ operation }) => operation === 'piecewise' || (viewer === 'server' && operation === 'lookup'))) return [];
  const node = nodes.findLastIndex(
    ({ operation, state }, i) =>
      operation !== 'reveal' && operation !== 'flag' && state !== 'opening' && outcome.share(viewer, i).length > 0,
  );
  const words = outcome.share(viewer, node);
  const perLane = words.length / outcome.lanes;
  const last = nodes[node]!;
  // A narrow value is shared modulo a smaller power of two: what lies above is nobody's share.
  const width = last.modulus ?? ring.bits;
  return Array.from({ length: perLane }, (_, element) => ({
    node,
    width,
    words: elementOf(words, outcome.lanes, element).map((word) => word % 2 ** width),
  }));
}

function wrongReveals(outcome: Outcome, reveal: number): number {
  const { nodes, ring } = outcome.program;
  const { operation, inputs } = nodes[reveal]!;
  const input = inputs[0]!;
  // Of a flag the lowest bit.
  const width = operation === 'flag' ? 1 : (nodes[input]!.modulus ?? ring.bits);
  const message = outcome.views.client.find(({ node }) => node === reveal)!.words;
  const [output, own] = [opened(outcome, input), outcome.share('client', input)];
  return message.filter((word, lane) => (output[lane]! - own[lane]! - word) % 2 ** width !== 0).length;
}

/** Every lane's view as one number, sorted, for each assignment of secrets. */
function sortedViews(outcome: Outcome, view: readonly Column[]): Float64Array[] {
  const bits = view.reduce((sum, column) => sum + column.width, 0);
  if (bits > 52) throw new Error(`a view of ${bits} bits is too wide to compare`);
  const keys = new Float64Array(outcome.lanes);
  for (const { words, width } of view) {
    const factor = 2 ** width;
    for (let lane = 0; lane < keys.length; lane++) keys[lane] = keys[lane]! * factor + words[lane]!;
  }
  const { padValues } = outcome;
  return Array.from({ length: outcome.lanes / padValues }, (_, secret) =>
    keys.slice(secret * padValues, (secret + 1) * padValues).sort(),
  );
}

/** How many assignments of secrets have another multiset of views than the first one. Perfect secrecy is zero. */
function differingViews(outcome: Outcome, view: readonly Column[]): number {
  const [first, ...others] = sortedViews(outcome, view);
  return others.filter((views) => views.some((value, i) => value !== first![i])).length;
}

/** Whether the map from pads to views is a bijection for every assignment of secrets. */
function isBijection(outcome: Outcome, view: readonly Column[]): boolean {
  const bits = view.reduce((sum, column) => sum + column.width, 0);
  return bits === outcome.padBits && sortedViews(outcome, view).every((views) => views.every((value, i) => value === i));
}
