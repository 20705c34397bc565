import type { Role } from '../../src/party/index.ts';
import type { Outcome } from '../../test/party/relay.ts';
import type { FaultKind } from './plan.ts';

/** What a run gave, and what it must not: a wrong answer, a part shown as the whole, an error without type or name, no end. */

export interface Right {
  readonly ids: readonly number[];
  readonly logits: readonly Float64Array[];
  /** By how much the logits of a right run may differ: the rounding of its shares. */
  readonly tolerance: number;
}

export interface Seen {
  /** How each party ended; of one that was killed or stopped its own end does not count. */
  readonly ends: readonly { readonly role: Role; readonly outcome: Outcome<object> }[];
  /** What the client was shown while it ran. */
  readonly tokens: readonly number[];
  readonly logits: readonly Float64Array[];
  readonly stored: readonly { readonly role: Role; readonly state: string }[];
  /** The parties that an error may blame. */
  readonly culprits: readonly Role[];
  /** Who has no end of its own. */
  readonly victim?: Role | undefined;
  /** Milliseconds of `performance.now` when the fault struck; undefined where its moment did not come. */
  readonly struckAt: number | undefined;
}

export interface Verdict {
  readonly result: 'exact' | 'error' | 'failure';
  readonly why?: string;
  /** From the fault to the last party's end. */
  readonly milliseconds: number;
  /** Parties whose error names the one at fault, and all that ended with an error. */
  readonly named: number;
  readonly errors: number;
  /** How each party ended, in words. */
  readonly ends: readonly string[];
}

const roleNames = /\b(client|server|dealer|helper)\b/g;
/** The parties that an error speaks of. */
export function mentioned({ place, reason }: NonNullable<Outcome<unknown>['error']>): ReadonlySet<string> {
  const said = reason.match(roleNames) ?? [];
  return new Set(place?.party === undefined ? said : [place.party, ...said]);
}

export function judge(fault: { readonly kind: FaultKind }, seen: Seen, right: Right, limitMilliseconds: number): Verdict {
  const survivors = seen.ends.filter(({ role }) => role !== seen.victim);
  const errors = survivors.flatMap(({ outcome }) => (outcome.error === undefined ? [] : [outcome.error]));
  const named = errors.filter((error) => seen.culprits.some((culprit) => mentioned(error).has(culprit))).length;
  const last = Math.max(...survivors.map(({ outcome }) => outcome.at));
  const milliseconds = seen.struckAt === undefined ? 0 : Math.max(0, last - seen.struckAt);
  const why =
    wrong(fault, seen, right) ??
    (errors.length > 0 ? late(milliseconds, limitMilliseconds) : undefined) ??
    blame(errors.length, named, seen);
  const result = why === undefined ? (errors.length === 0 ? 'exact' : 'error') : 'failure';
  return {
    result,
    ...(why === undefined ? {} : { why }),
    milliseconds,
    named,
    errors: errors.length,
    ends: seen.ends.map((end) => inWords(end, seen)),
  };
}

function inWords({ role, outcome: { at, error } }: Seen['ends'][number], { struckAt = at }: Seen): string {
  return `${role} after ${Math.round(at - struckAt)} ms: ${error === undefined ? 'well' : `${error.place?.party}: ${error.reason}`}`;
}

function wrong(fault: { readonly kind: FaultKind }, seen: Seen, right: Right): string | undefined {
  const { tokens, logits, ends, victim } = seen;
  const off = farthest(logits, right.logits);
  if (!(off <= right.tolerance)) return `logits that are off by ${off}`;
  if (tokens.some((token, at) => token !== right.ids[at])) return `the tokens ${tokens} where ${right.ids} are right`;
  for (const { role, outcome } of ends) {
    if (outcome.error !== undefined && outcome.error.name !== 'SottoError' && role !== victim)
      return `an error of the ${role} without a type: ${outcome.error}`;
    const ids = outcome.report !== undefined && 'newIds' in outcome.report ? outcome.report.newIds : undefined;
    if (ids !== undefined && `${ids}` !== `${right.ids}`) return `the text ${ids} where ${right.ids} is right`;
  }
  const kept = seen.stored.find(({ role, state }) => state !== 'burned' && role !== victim && !allowed(fault, state));
  return kept === undefined ? undefined : `a bundle of the ${kept.role} that is ${kept.state} after the run`;
}

/** A bundle that somebody puts back is there, and claimed for ever. */
const allowed = (fault: { readonly kind: FaultKind }, state: string): boolean => fault.kind === 'replay' && state === 'claimed';

function farthest(given: readonly Float64Array[], right: readonly Float64Array[]): number {
  if (given.length > right.length) return Number.POSITIVE_INFINITY;
  return given.reduce((most, row, at) => row.reduce((sum, value, i) => Math.max(sum, Math.abs(value - right[at]![i]!)), most), 0);
}

const late = (milliseconds: number, limit: number): string | undefined =>
  milliseconds > limit ? `an end ${Math.round(milliseconds)} ms after the fault, where ${limit} are allowed` : undefined;

function blame(errors: number, named: number, { culprits }: Seen): string | undefined {
  if (errors === 0 || named > 0 || culprits.length === 0) return undefined;
  return `nobody names the ${culprits.join(' or the ')}`;
}
