import { SottoError } from '../../errors/index.ts';
import { size } from '../../program/index.ts';
import type { Piecewise } from './operations/piecewise.ts';
import type { RingNode, RingNodeOf, RingOperation, RingProgram } from './types.ts';

/** What a flag is called among the outputs: one for every output of the program, in its order. */
export const flagPrefix = 'range.';
export const isFlag = (name: string): boolean => name.startsWith(flagPrefix);

/** What a flag that is one means to who asked for it. */
export const outOfRange = (): SottoError =>
  new SottoError('range', 'a value left the range in which a private run is exact: what it opened may be wrong', {
    remedy: 'calibrate the model on data like this, or use a wider ring',
  });

/** Sums of a group, each under coefficients of its own: an element out of range escapes all of them with probability 2^−16. */
const repeats = 16;
/** Elements that are summed together: a window must hold seven standard deviations of their sums. */
const groupOfProducts = 1024;
const groupOfArguments = 64;
/** A function of row scalars has more knots than any other. */
const rowKnots = 16;
/** Bits by which windows of functions are wider where arguments are checked in groups: see protocols/range-flags.md. */
export const guardBits = 4;
/** Index bits below the ends of a window: of rows, whose range ends there, and of sums, whose windows are twice as wide as they must be. */
const rowIndexBits = 10;
const sumIndexBits = 6;
/** Sums have room for elements of this root mean square; for less where elements may not be as large, a quarter of their bound, but where that is small all of it. */
const usualSize = 16;
const sizeOf = (bound: number): number => Math.min(usualSize, Math.max(bound / 4, Math.min(bound, 4)));
/** Standard deviations of a sum that its window holds. */
const deviations = 7;

/** Integers from `low` to below 2^high, in units of the wire; symmetric where `low` is undefined. */
interface Window {
  readonly high: number;
  readonly low?: 0;
  /** Elements that are summed, and how often; one by one where absent. */
  readonly group?: number;
  readonly repeats?: number;
}
interface Check extends Window {
  readonly wire: number;
  /** Looked at is how far elements are from their row's mean, times their number: what comparisons within a row look at. */
  readonly spread?: true;
}

/**
 * The window of sums of a wire whose elements are below 2^bound. It is as narrow as that where groups have room in it, and else so wide that there is a look for 16
 * elements, but no wider than what can be told from a wrap (`most`): where not even that has room, fewer sums, of smaller groups.
 */
function windowOfSums(bound: number, most: number, fraction: number): Window | undefined {
  const size = sizeOf(2 ** (bound - fraction));
  const room = (high: number): number => Math.floor(2 * Math.log2(2 ** (high - fraction) / (deviations * size)));
  let high = bound;
  while (high < most && 2 ** room(high) < 16 * repeats) high++;
  if (room(high) < 4) return undefined;
  const group = Math.min(groupOfProducts, 2 ** room(high));
  return { high, group, repeats: Math.min(repeats, group / 16) };
}

/**
 * The same program, and with each of its outputs one bit: whether a value that it depends on left the range in which the run is exact.
 * Checked are wires before they are truncated: there their integers are whole. Everything that a wire enters later is bounded by it.
 */
export function withRangeFlags(program: RingProgram): RingProgram {
  const checks = checksOf(program);
  if (checks.length === 0) return program;
  return new Flagging(program, checks).run();
}

/** The window of every wire; of a wire that several statements look at, the narrowest. */
function checksOf({ nodes, ring }: RingProgram): Check[] {
  const L = ring.bits;
  const found = new Map<string, Check>();
  const put = (check: Check): void => {
    const key = `${check.wire} ${check.group === undefined ? 'rows' : check.spread === true ? 'spread' : 'group'}`;
    const known = found.get(key);
    if (known === undefined || check.high < known.high) found.set(key, check);
  };
  const ringOf = (wire: number): number => nodes[wire]!.modulus ?? L;
  const multiplied = multipliedWires(nodes);
  nodes.forEach((node, index) => {
    if (node.operation === 'truncate' || node.operation === 'narrow') {
      const wire = node.inputs[0]!;
      if (isRowResult(nodes, wire)) return;
      const use = multiplied[index]!;
      const most = use === 2 ? L / 2 : use === 1 ? L / 2 - 1 : L;
      const bound = Math.min(ringOf(wire) - 3, Math.floor(most) + node.parameters.bits);
      const window = windowOfSums(bound, ringOf(wire) - 3, nodes[wire]!.fraction);
      if (window !== undefined) put({ wire, ...window });
    }
    if (node.operation === 'lookup') {
      const read = nodes[node.inputs[0]!]!;
      if (read.operation === 'narrow')
        put({ wire: read.inputs[0]!, high: node.parameters.indexBits + read.parameters.bits, low: 0 });
    }
    if (node.operation === 'piecewise') {
      const { bits, drop, knots } = node.parameters;
      const compared = comparedWire(nodes, node.inputs[0]!);
      if (compared !== undefined) {
        const row = nodes[compared.wire]!.shape.at(-1)!;
        const high = bits - 3 + compared.shift + Math.ceil(Math.log2(row));
        if (row > 1 && high <= ringOf(compared.wire) - 3)
          put({ wire: compared.wire, high, group: groupOfArguments, repeats, spread: true });
      }
      const source = untruncated(nodes, node.inputs[0]!);
      if (source === undefined) return;
      const { wire, shift } = source;
      // A row function has pieces over octaves; its last knot is the end of what was measured.
      if (knots.length > rowKnots) put({ wire, high: Math.floor(Math.log2(knots.at(-1)!)) + drop + shift, low: 0 });
      else if (bits + shift <= ringOf(wire)) put({ wire, high: bits - 2 + shift, group: groupOfArguments, repeats });
    }
  });
  return [...found.values()];
}

/** The wire whose low bits a function looks at, and how many bits it dropped of it. */
function untruncated(nodes: readonly RingNode[], x: number): { wire: number; shift: number } | undefined {
  const node = nodes[x]!;
  if (node.operation === 'narrow' || node.operation === 'truncate') return { wire: node.inputs[0]!, shift: node.parameters.bits };
  if (node.operation === 'addConstant' || node.operation === 'multiplyConstant') return untruncated(nodes, node.inputs[0]!);
  if (node.operation === 'subtract') return undefined;
  return node.state === 'pinned' && node.operation === 'pin' && node.parameters.width === undefined
    ? { wire: x, shift: 0 }
    : undefined;
}

/** Whether a wire is what a function of row scalars gave: as large as it may be by the function's range, and its argument is looked at. */
function isRowResult(nodes: readonly RingNode[], wire: number): boolean {
  const node = nodes[wire]!;
  if (node.operation === 'lookup') return true;
  if (node.operation === 'piecewise') return node.parameters.knots.length > rowKnots;
  const passes = new Set<RingOperation>(['add', 'addConstant', 'reshape', 'move', 'multiplyInteger', 'pin']);
  return passes.has(node.operation) && node.inputs.some((input) => isRowResult(nodes, input));
}

/** The wire whose rows a difference is taken within, by comparisons and by the exponential of what is below the largest. */
function comparedWire(nodes: readonly RingNode[], x: number): { wire: number; shift: number } | undefined {
  let at = x;
  if (nodes[at]!.operation === 'addConstant') at = nodes[at]!.inputs[0]!;
  if (nodes[at]!.operation !== 'subtract') return undefined;
  at = nodes[at]!.inputs[0]!;
  while (nodes[at]!.operation === 'move' || nodes[at]!.operation === 'reshape') at = nodes[at]!.inputs[0]!;
  const node = nodes[at]!;
  return node.operation === 'narrow' || node.operation === 'truncate'
    ? { wire: node.inputs[0]!, shift: node.parameters.bits }
    : undefined;
}

/** For every node: 2 where it is squared, 1 where it is a factor of another product, through whatever moves it. */
function multipliedWires(nodes: readonly RingNode[]): Uint8Array {
  const uses = new Uint8Array(nodes.length);
  const passes = new Set<RingOperation>([
    'reshape',
    'move',
    'concat',
    'pad',
    'packRows',
    'unpackRows',
    'openNarrow',
    'openedSign',
    'unmask',
    'open',
    'exchanged',
    'pin',
    'widen',
  ]);
  for (let index = nodes.length - 1; index >= 0; index--) {
    const node = nodes[index]!;
    const own =
      node.operation === 'square' || node.operation === 'narrowSquare'
        ? 2
        : node.operation === 'product' || node.operation === 'narrowProduct' || node.operation === 'matrixProduct'
          ? 1
          : passes.has(node.operation)
            ? uses[index]!
            : 0;
    if (own === 0) continue;
    // Of an exchange, the pinned value: that is what the products have.
    const factors = node.operation === 'exchanged' ? node.inputs.slice(2) : node.inputs;
    for (const input of factors) if (uses[input] !== 1) uses[input] = own;
  }
  return uses;
}

class Flagging {
  readonly #program: RingProgram;
  readonly #checks = new Map<number, Check[]>();
  readonly #nodes: RingNode[] = [];
  /** The misses so far; undefined before the first check. */
  #misses: number | undefined;
  #seed = 0;

  constructor(program: RingProgram, checks: readonly Check[]) {
    this.#program = program;
    for (const check of checks) this.#checks.set(check.wire, [...(this.#checks.get(check.wire) ?? []), check]);
  }

  run(): RingProgram {
    const moved: number[] = [];
    let outputs = 0;
    for (const [index, node] of this.#program.nodes.entries()) {
      // What was found is told before the output that it is about.
      if (node.operation === 'reveal') this.#tell(node.scope, outputs++);
      moved.push(this.#nodes.push({ ...node, inputs: node.inputs.map((input) => moved[input]!) } as RingNode) - 1);
      for (const check of this.#checks.get(index) ?? []) this.#check(check, moved[index]!, node.scope);
    }
    return { ...this.#program, nodes: this.#nodes };
  }

  #push<P extends RingOperation>(
    operation: P,
    inputs: readonly number[],
    parameters: RingNodeOf<P>['parameters'],
    shape: readonly number[],
    state: 'pinned' | 'floating',
    scope: string,
  ): number {
    // What is looked at stays in the ring of its wire.
    const own = operation === 'project' || operation === 'reshape' || operation === 'pin';
    const modulus = own ? this.#nodes[inputs[0]!]!.modulus : undefined;
    const ring = modulus === undefined ? {} : { modulus };
    return (
      this.#nodes.push({ operation, inputs, parameters, shape, state, fraction: 0, scope, ...ring } as unknown as RingNode) - 1
    );
  }

  #pinned(x: number, scope: string, width?: number): number {
    const { state, shape } = this.#nodes[x]!;
    return state === 'pinned' ? x : this.#push('pin', [x], width === undefined ? {} : { width }, shape, 'pinned', scope);
  }

  /** n times each element less the sum of its row of n. */
  #spread(wire: number, scope: string): number {
    const { shape, state: given } = this.#nodes[wire]!;
    const state = given as 'pinned' | 'floating';
    const row = shape.at(-1)!;
    const rows = size(shape) / row;
    const sum = this.#push('sum', [wire], { outer: rows, axis: row, inner: 1 }, [rows, 1], state, scope);
    const wide = this.#push('move', [sum], { strides: [1, 0], start: 0 }, [rows, row], state, scope);
    const flat = this.#push('reshape', [wire], {}, [rows, row], state, scope);
    const times = this.#push('multiplyInteger', [flat], { by: row, wraps: true }, [rows, row], state, scope);
    return this.#push('subtract', [times, wide], {}, [rows, row], state, scope);
  }

  #check({ group, repeats = 1, high, low, spread }: Check, given: number, scope: string): void {
    const bits = this.#nodes[given]!.modulus ?? this.#program.ring.bits;
    const wire = spread === true ? this.#spread(given, scope) : given;
    const count = size(this.#nodes[wire]!.shape);
    let looked = wire;
    if (group !== undefined) {
      const parameters = { group, repeats, seed: this.#seed++ };
      const { state } = this.#nodes[wire]!;
      looked = this.#push(
        'project',
        [wire],
        parameters,
        [Math.ceil(count / group) * repeats],
        state as 'pinned' | 'floating',
        scope,
      );
    } else looked = this.#push('reshape', [wire], {}, [count], this.#nodes[wire]!.state as 'pinned' | 'floating', scope);
    const { shape } = this.#nodes[looked]!;
    const pinned = this.#pinned(looked, scope);
    const drop = Math.max(0, high - (group === undefined ? rowIndexBits : sumIndexBits));
    const end = 2 ** (high - drop);
    const window: Piecewise = {
      ...{ bits, drop, start: 0, coefficients: [], slopes: new Float64Array(2) },
      // An index may be one too small: what a row's table would take for its beginning must not pass for its end.
      knots: Float64Array.of(low === undefined ? -end - 1 : -1, group === undefined && drop > 0 ? end - 1 : end),
      offsets: Float64Array.of(-1, 1),
    };
    const outside = this.#push('piecewise', [pinned], window, shape, 'floating', scope);
    const missed = this.#push(
      'addConstant',
      [outside],
      { values: Float64Array.of(1), constantShape: [] },
      shape,
      'floating',
      scope,
    );
    const parts = { outer: 1, axis: size(shape), inner: 1 };
    const sum = this.#push('sum', [missed], parts, [1], 'floating', scope);
    this.#misses = this.#misses === undefined ? sum : this.#push('add', [this.#misses, sum], {}, [1], 'floating', scope);
  }

  /** Whether there are any: a second look, so that their number stays unknown. */
  #tell(scope: string, output: number): void {
    if (this.#misses === undefined) return;
    const bits = Math.min(
      this.#program.ring.bits,
      2 + Math.ceil(Math.log2(1 + this.#nodes.reduce((sum, node) => sum + checkedRows(node), 0))),
    );
    const pinned = this.#pinned(this.#misses, scope, bits);
    const some: Piecewise = {
      ...{ bits, drop: 0, start: 0, coefficients: [], slopes: new Float64Array(1) },
      knots: Float64Array.of(1),
      offsets: Float64Array.of(1),
    };
    const found = this.#push('piecewise', [pinned], some, [1], 'floating', scope);
    this.#push('flag', [found], { name: `${flagPrefix}${output}` }, [1], 'pinned', scope);
  }
}

const checkedRows = (node: RingNode): number => (node.operation === 'piecewise' ? size(node.shape) : 0);
