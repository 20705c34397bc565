import { SottoError } from '../../errors/index.ts';
import { size } from '../../program/index.ts';
import { type RingNode, type RingProgram, wordBitsOf, workOf } from '../ring/index.ts';

/** What nodes are made of: how much of each a node has, or seconds for one of each. */
export const workUnits = ['nodes', 'words', 'panelProducts', 'rowProducts', 'comparisons', 'windowPoints'] as const;
/**
 * One of the units that the work of a node is counted in: nodes, words, products by panels or by rows, comparisons, points of
 * windows.
 */
export type WorkUnit = (typeof workUnits)[number];
/** By unit: how much of it there is, or seconds for one of it. Zero where absent. */
export type Amounts = { readonly [U in WorkUnit]?: number };

/** A node's seconds in two parts: until it has said what it says, and after its peer's word (or, for a masked argument, after its own). */
export interface OperationSeconds {
  readonly start?: Amounts;
  readonly after?: Amounts;
}
/** A side's seconds by the name of a ring operation. */
export type Table = Readonly<Record<string, OperationSeconds>>;

/** What one word width costs on a machine, one core a party. */
export interface RingSeconds {
  readonly client: Table;
  readonly server: Table;
  /** One of a lookup key's points, at the latest when its index comes and before that while a party waits. */
  readonly expandedPoint: number;
  /** A server's weight, by its elements: as ring words when it is first needed, and masked in the setup. */
  readonly encodedWeight: number;
  readonly maskedWeight: number;
  /** Offline, by all nodes alike. */
  readonly dealer: Amounts & { readonly keyLevels?: number; readonly weights?: number };
  readonly prepare: Amounts & { readonly weights?: number };
}

/** How fast a machine computes, and passes frames on between two processes, as measured by `sotto cost --measure-machine`. */
export interface MachineProfile {
  readonly name: string;
  readonly frame: { readonly seconds: number; readonly byteSeconds: number };
  /** A bundle on disk: storing a byte as it comes, and reading one node's part. */
  readonly bundle: { readonly storedByteSeconds: number; readonly readSeconds: number };
  /** What is in no operation: taking up a node, and handling a byte of a message or of loaded material. */
  readonly overhead: { readonly nodeSeconds: number; readonly byteSeconds: number; readonly offlineByteSeconds: number };
  /** What a process is slower in its first run, in all of a phase. */
  readonly firstRun: { readonly offlineSeconds: number; readonly onlineSeconds: number };
  readonly rings: { readonly 32: RingSeconds; readonly 64: RingSeconds };
}

/** Products of fewer rows than this read the second matrix row by row. */
const panelRows = { 32: 12, 64: 6 } as const;

/** A node's amounts; for linear and matrix products one multiplication a product. */
export function amountsOf(node: RingNode, program: RingProgram): Record<WorkUnit, number> {
  const own = size(node.shape);
  const words = node.inputs.reduce((most, input) => {
    const { state, shape } = program.nodes[input]!;
    return state === 'server' ? most : Math.max(most, size(shape));
  }, own);
  const { products, comparisons = 0, windowPoints = 0 } = workOf(node);
  const amounts = { nodes: 1, words, panelProducts: 0, rowProducts: 0, comparisons, windowPoints };
  if (products !== undefined)
    amounts[products.rows >= panelRows[wordBitsOf(program.ring.bits)] ? 'panelProducts' : 'rowProducts'] = products.count;
  return amounts;
}

export function secondsFor(
  amounts: Readonly<Record<string, number>>,
  rates: Readonly<Record<string, number>> | undefined,
): number {
  let seconds = 0;
  for (const unit in rates) seconds += rates[unit]! * (amounts[unit] ?? 0);
  return seconds;
}

/** A profile from JSON that nobody has checked. Throws an `input` error that names the field. */
export function parseMachine(raw: unknown, file = 'machine'): MachineProfile {
  const fail = (field: string): never => {
    throw new SottoError('input', 'a machine profile has numbers from 0 on here', {
      place: { file, field },
      remedy: 'measure the machine again: sotto cost --measure-machine',
    });
  };
  const object = (value: unknown, field: string): Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : fail(field);
  const number = (value: unknown, field: string): number =>
    typeof value === 'number' && value >= 0 && value < 1e9 ? value : fail(field);
  const amounts = (value: unknown, field: string): Record<string, number> =>
    Object.fromEntries(Object.entries(object(value, field)).map(([unit, rate]) => [unit, number(rate, `${field}.${unit}`)]));
  const tableOf = (value: unknown, field: string): Table =>
    Object.fromEntries(
      Object.entries(object(value, field)).map(([operation, parts]) => [
        operation,
        Object.fromEntries(
          Object.entries(object(parts, `${field}.${operation}`)).map(([part, rates]) => [
            part,
            amounts(rates, `${field}.${operation}.${part}`),
          ]),
        ),
      ]),
    );
  const ring = (value: unknown, field: string): RingSeconds => {
    const from = object(value, field);
    return {
      client: tableOf(from.client, `${field}.client`),
      server: tableOf(from.server, `${field}.server`),
      expandedPoint: number(from.expandedPoint, `${field}.expandedPoint`),
      encodedWeight: number(from.encodedWeight, `${field}.encodedWeight`),
      maskedWeight: number(from.maskedWeight, `${field}.maskedWeight`),
      dealer: amounts(from.dealer, `${field}.dealer`),
      prepare: amounts(from.prepare, `${field}.prepare`),
    };
  };
  const from = object(raw, '(whole)');
  const numbers = <K extends string>(field: string, names: readonly K[]): Record<K, number> => {
    const part = object(from[field], field);
    return Object.fromEntries(names.map((name) => [name, number(part[name], `${field}.${name}`)])) as Record<K, number>;
  };
  const rings = object(from.rings, 'rings');
  return {
    name: typeof from.name === 'string' ? from.name.slice(0, 200) : fail('name'),
    frame: numbers('frame', ['seconds', 'byteSeconds']),
    bundle: numbers('bundle', ['storedByteSeconds', 'readSeconds']),
    overhead: numbers('overhead', ['nodeSeconds', 'byteSeconds', 'offlineByteSeconds']),
    firstRun: numbers('firstRun', ['offlineSeconds', 'onlineSeconds']),
    rings: { 32: ring(rings[32], 'rings.32'), 64: ring(rings[64], 'rings.64') },
  };
}
