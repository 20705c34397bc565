import { type Fault as LineKind, faults as lineKinds } from '../../src/net/faulty.ts';
import type { Role } from '../../src/party/index.ts';
import type { Crossing } from '../../test/party/relay.ts';

/** The universe of faults, and how a seed and a number choose one of them. Nothing here depends on a clock or on the machine. */

export const rings = [
  { bits: 64, fraction: 16 },
  { bits: 48, fraction: 14 },
  { bits: 32, fraction: 9 },
] as const;
export type Ring = (typeof rings)[number];

/** What the three parties would do without the fault: the setting, the ring, and a text that ends by its length or before. */
export interface Variant {
  readonly setting: 'dealer' | 'helper';
  readonly ring: Ring;
  readonly ending: boolean;
}
export const variants: readonly Variant[] = (['dealer', 'helper'] as const).flatMap((setting) =>
  rings.flatMap((ring) => [false, true].map((ending) => ({ setting, ring, ending }))),
);
export const variantName = ({ setting, ring, ending }: Variant): string => `${setting} ${ring.bits}${ending ? ' ending' : ''}`;

/** A frame of a clean run, which a fault befalls or at whose passing it strikes. */
export type Moment = Pick<Crossing, 'from' | 'to' | 'connection' | 'frame'> & { readonly phase: Phase };
export const phases = ['agreement', 'setup', 'material', 'online'] as const;
export type Phase = (typeof phases)[number];
/** By the kind of a frame: control, online, setup, material. */
export const phaseOf = (kind: number): Phase => (['agreement', 'online', 'setup', 'material'] as const)[kind]!;

export type ProcessKind = 'kill' | 'stop' | 'pause' | 'restart' | 'clock';
export type FaultKind = LineKind | ProcessKind | 'program' | 'malformed' | 'lie' | 'certificate' | 'replay';

/** How many faults are of each kind, of their sum. Well-formed lies are told at a standing service alone, where others must not suffer from them. */
const shares: Readonly<Record<FaultKind, number>> = {
  drop: 80,
  duplicate: 80,
  reorder: 80,
  corrupt: 90,
  truncate: 80,
  oversize: 60,
  stall: 50,
  close: 60,
  kill: 90,
  stop: 60,
  pause: 60,
  restart: 70,
  clock: 40,
  program: 50,
  malformed: 150,
  lie: 0,
  certificate: 30,
  replay: 20,
};
export const faultKinds = Object.keys(shares) as FaultKind[];

/** A control message on its way, of which one field is changed into something that could have been said honestly. */
export const forgeries = [
  ['client', 'request', 'program'],
  ['client', 'request', 'run.newTokens'],
  ['server', 'order', 'program'],
  ['server', 'order', 'run.newTokens'],
  ['server', 'order', 'config.vocab_size'],
  ['server', 'voucher', 'mac'],
  ['dealer', 'agreed', 'program'],
  ['dealer', 'agreed', 'nonces.client'],
  ['dealer', 'linked', 'secret'],
  ['server', 'session', 'program'],
  ['server', 'session', 'bundle'],
  ['server', 'session', 'nonces.client'],
  ['server', 'manifest', 'config.vocab_size'],
  ['client', 'join', 'program'],
  ['client', 'join', 'bundle'],
  ['client', 'join', 'ticket'],
] as const;
export const wrongCertificates = ['authority', 'role', 'expired', 'early', 'none'] as const;
/** Milliseconds by which both clocks of a process jump. */
const jumps = [-86_400_000, -3_600_000, -2000, 2000, 3_600_000, 10 * 86_400_000] as const;

export type Fault = { readonly number: number; readonly variant: Variant } & (
  | { readonly kind: LineKind; readonly moment: Moment; readonly seed: number }
  | { readonly kind: 'kill' | 'stop' | 'restart'; readonly victim: Role; readonly moment: Moment }
  | { readonly kind: 'pause'; readonly victim: Role; readonly moment: Moment; readonly timeouts: number }
  | { readonly kind: 'clock'; readonly victim: Role; readonly moment: Moment; readonly milliseconds: number }
  | { readonly kind: 'malformed'; readonly moment: Moment; readonly draw: number }
  | { readonly kind: 'program'; readonly from: Role; readonly message: string; readonly field: string }
  | { readonly kind: 'certificate'; readonly victim: Role; readonly wrong: (typeof wrongCertificates)[number] }
  | { readonly kind: 'replay'; readonly named: boolean }
);

/** Numbers in [0, limit) from a seed: mulberry32. */
export function random(seed: number): (limit: number) => number {
  let state = seed | 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return (((z ^ (z >>> 14)) >>> 0) % limit) | 0;
  };
}

/** The fault that a seed and a number name. `clean` are the frames of runs without a fault, by variant. */
export function faultOf(seed: number, number: number, clean: ReadonlyMap<string, readonly Moment[]>): Fault {
  const draw = random(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b));
  const pick = <T>(of: readonly T[]): T => of[draw(of.length)]!;
  const kind = kindOf(draw(Object.values(shares).reduce((sum, share) => sum + share, 0)));
  const drawn = pick(variants);
  // Only the dealer's material outlives its run.
  const variant = kind === 'replay' ? { ...drawn, setting: 'dealer' as const } : drawn;
  const source = variant.setting;
  const base = { number, variant };
  const moment = (phase = pick(phases)): Moment => {
    const frames = clean.get(variantName(variant))!;
    const within = frames.filter((frame) => frame.phase === phase);
    const line = pick([...new Set(within.map(({ from, to, connection }) => `${from} ${to} ${connection}`))]);
    return pick(within.filter(({ from, to, connection }) => `${from} ${to} ${connection}` === line));
  };
  const victim = (): Role => pick(['client', 'server', source] as const);
  switch (kind) {
    case 'kill':
    case 'stop':
    case 'restart':
      return { ...base, kind, victim: victim(), moment: moment() };
    case 'pause':
      return { ...base, kind, victim: victim(), moment: moment(), timeouts: pick([0.1, 0.3, 1.6]) };
    case 'clock':
      return { ...base, kind, victim: victim(), moment: moment(), milliseconds: pick(jumps) };
    case 'program': {
      const [from, message, field] = pick(forgeries);
      return { ...base, kind, from: from === 'dealer' ? source : from, message, field };
    }
    case 'malformed':
      return { ...base, kind, moment: moment('agreement'), draw: draw(2 ** 30) };
    case 'certificate': {
      const role = victim();
      // A client may come without one.
      return {
        ...base,
        kind,
        victim: role,
        wrong: pick(wrongCertificates.filter((wrong) => wrong !== 'none' || role !== 'client')),
      };
    }
    case 'replay':
      return { ...base, kind, named: draw(2) === 1 };
    case 'lie':
      throw new Error('no lies are told here');
    default:
      return { ...base, kind, moment: moment(), seed: draw(2 ** 30) };
  }
}

function kindOf(place: number): FaultKind {
  let left = place;
  for (const kind of faultKinds) {
    if (left < shares[kind]) return kind;
    left -= shares[kind];
  }
  throw new Error('the shares do not add up');
}

export const isLineKind = (kind: FaultKind): kind is LineKind => (lineKinds as readonly string[]).includes(kind);

/** What a table's row says of a fault beside its kind: where in a run it strikes, and whom. */
export function placeOf(fault: Fault): { readonly phase: string; readonly role: string } {
  if ('moment' in fault)
    return {
      phase: fault.moment.phase,
      role: 'victim' in fault ? fault.victim : `${fault.moment.from} → ${fault.moment.to}`,
    };
  if (fault.kind === 'program') return { phase: 'agreement', role: fault.from };
  if (fault.kind === 'certificate') return { phase: 'handshake', role: fault.victim };
  return { phase: 'agreement', role: 'dealer' };
}
