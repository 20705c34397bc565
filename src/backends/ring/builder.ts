import { broadcastStrides, type Shape, same, size, stridesOf } from '../../program/index.ts';
import type { Exchange } from './operations/exchange.ts';
import type { Lookup } from './operations/lookup.ts';
import type { RingNode, RingNodeOf, RingOperation, RingParameters, RingProgram, State } from './types.ts';

/** A narrow value in the parts that products take; see `openNarrow` in types.ts. */
export interface Opened {
  readonly e: number;
  readonly rest: number;
  readonly sign: number;
  readonly modulus: number;
}

/** What each party does alone, to values of any ring. */
const localOperations: ReadonlySet<RingOperation> = new Set([
  ...(['reshape', 'move', 'concat', 'pad', 'packRows', 'unpackRows'] as const),
  ...(['add', 'subtract', 'addServer', 'addConstant', 'multiplyConstant', 'multiplyInteger', 'sum'] as const),
  ...(['pin', 'open', 'reveal', 'project'] as const),
]);

/** Appends ring statements, giving every one at most once: equal truncations, openings and server tensors are shared. */
export class RingBuilder {
  readonly nodes: RingNode[] = [];
  readonly ring: RingParameters;
  scope = '';
  readonly #known = new Map<string, number>();
  readonly #openings = new Map<number, number>();

  constructor(ring: RingParameters) {
    this.ring = ring;
  }

  push<P extends RingOperation>(
    operation: P,
    inputs: readonly number[],
    parameters: RingNodeOf<P>['parameters'],
    result: { shape: Shape; state: State; fraction: number; modulus?: number },
  ): number {
    const { modulus = this.#ofInputs(operation, inputs, parameters), ...own } = result;
    const smaller = modulus < this.ring.bits ? { modulus } : {};
    return this.nodes.push({ operation, inputs, parameters, scope: this.scope, ...own, ...smaller } as unknown as RingNode) - 1;
  }

  /** Bits of the ring that a value lives in. */
  modulusOf(x: number): number {
    return this.node(x).modulus ?? this.ring.bits;
  }

  /** What only moves, adds up or multiplies by public numbers is valid as far as all of its inputs are. */
  #ofInputs(operation: RingOperation, inputs: readonly number[], parameters: unknown): number {
    if (operation === 'narrow') return this.modulusOf(inputs[0]!) - (parameters as { bits: number }).bits;
    if (!localOperations.has(operation)) return this.ring.bits;
    const modulus = Math.min(this.ring.bits, ...inputs.map((input) => this.modulusOf(input)));
    // A shift to the left brings bits that count.
    const by = operation === 'multiplyInteger' ? Math.abs((parameters as { by: number }).by) : 1;
    return Math.min(this.ring.bits, modulus + (Number.isInteger(Math.log2(by)) ? Math.log2(by) : 0));
  }

  /** A value of a smaller ring in the whole one, floating: opened and widened. */
  widened(x: number): number {
    const modulus = this.modulusOf(x);
    if (modulus === this.ring.bits) return x;
    const pinned = this.pin(x);
    const { shape, fraction } = this.node(pinned);
    const { e, rest } = this.openNarrow(pinned, modulus);
    return this.once(`widened ${x}`, () => this.push('widen', [e, rest], {}, { shape, state: 'floating', fraction }));
  }

  once(key: string, make: () => number): number {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#known.set(key, made);
    return made;
  }

  node(index: number): RingNode {
    return this.nodes[index]!;
  }

  reshape(x: number, shape: Shape): number {
    const { state, fraction, shape: from } = this.node(x);
    return same(from, shape) ? x : this.push('reshape', [x], {}, { shape, state, fraction });
  }

  move(x: number, shape: Shape, strides: readonly number[], start: number): number {
    const { state, fraction } = this.node(x);
    return this.push('move', [x], { strides, start }, { shape, state, fraction });
  }

  broadcast(x: number, shape: Shape): number {
    const from = this.node(x).shape;
    if (size(from) === size(shape)) return this.reshape(x, shape);
    return this.once(`broadcast ${x} ${shape}`, () => this.move(x, shape, broadcastStrides(from, shape), 0));
  }

  transpose(x: number, permutation: readonly number[]): number {
    const from = this.node(x).shape;
    const strides = stridesOf(from);
    const shape = permutation.map((axis) => from[axis]!);
    return this.move(
      x,
      shape,
      permutation.map((axis) => strides[axis]!),
      0,
    );
  }

  slice(x: number, axis: number, start: number, end: number): number {
    const from = this.node(x).shape;
    const strides = stridesOf(from);
    const shape = from.map((extent, i) => (i === axis ? end - start : extent));
    return this.move(x, shape, strides, start * strides[axis]!);
  }

  concat(parts: readonly number[], axis: number, shape: Shape): number {
    const first = this.node(parts[0]!);
    const state = parts.some((part) => this.node(part).state === 'floating') ? 'floating' : first.state;
    return this.push('concat', parts, { axis }, { shape, state, fraction: first.fraction });
  }

  /** x shifted left: the same number with more fraction bits. */
  raise(x: number, bits: number): number {
    if (bits === 0) return x;
    const { shape, state, fraction } = this.node(x);
    return this.once(`raise ${x} ${bits}`, () =>
      this.push('multiplyInteger', [x], { by: 2 ** bits }, { shape, state, fraction: fraction + bits }),
    );
  }

  /** Of what a value is put together from: a key in the cache is truncated, and opened, with its own token and never again. */
  truncate(x: number, bits: number): number {
    const node = this.node(x);
    const { shape, fraction } = node;
    // What was only scaled up for a sum or a concatenation loses those bits again.
    const scaled = node.operation === 'multiplyInteger' && node.parameters.wraps !== true ? Math.log2(node.parameters.by) : 0;
    if (Number.isInteger(scaled) && scaled > 0 && scaled <= bits) {
      const whole = node.inputs[0]!;
      return scaled === bits ? whole : this.truncate(whole, bits - scaled);
    }
    return this.once(
      `truncate ${x} ${bits}`,
      () =>
        this.#rearranged(x, (part) => this.truncate(part, bits)) ??
        this.push('truncate', [x], { bits }, { shape, state: 'pinned', fraction: fraction - bits }),
    );
  }

  /** Whether a value is a concatenation or a product of keys in another order. */
  #isArranged(x: number): boolean {
    const { operation, inputs } = this.node(x);
    if (operation === 'move' || operation === 'reshape') return this.#isArranged(inputs[0]!);
    return operation === 'concat' || operation === 'narrowProduct';
  }

  /** The same rearrangement of what `apply` makes of a rearranged value's parts; undefined where elements are left out or repeated. */
  #rearranged(x: number, apply: (part: number) => number): number | undefined {
    const node = this.node(x);
    if (node.operation === 'concat')
      return this.concat(
        node.inputs.map((part) => apply(part)),
        node.parameters.axis,
        node.shape,
      );
    const source = node.inputs[0];
    // A reshape that moves the point is a factor, no rearrangement.
    if (node.operation === 'reshape' && node.fraction === this.node(source!).fraction)
      return this.reshape(apply(source!), node.shape);
    if (node.operation !== 'move' || !isPermutation(node.shape, node.parameters, size(this.node(source!).shape)))
      return undefined;
    return this.move(apply(source!), node.shape, node.parameters.strides, node.parameters.start);
  }

  /** Truncation into the smaller ring: for operands of elementwise products and indices. */
  narrow(x: number, bits: number): number {
    const { shape, fraction } = this.node(x);
    return this.once(`narrow ${x} ${bits}`, () =>
      this.push('narrow', [x], { bits }, { shape, state: 'pinned', fraction: fraction - bits }),
    );
  }

  /** The three parts in which a narrow value enters products: Ê, A and the sign of e. Sent once; `range` as in types.ts. */
  openNarrow(x: number, modulus: number, range?: readonly [number, number]): Opened {
    const { shape, fraction } = this.node(x);
    const part = { shape, fraction, state: 'opening' } as const;
    const ranged = range === undefined ? {} : { range };
    const e = this.once(
      `open narrow ${x}`,
      () =>
        this.#exchanged(x, { modulus, use: 'narrow', ...ranged }) ?? this.push('openNarrow', [x], { modulus, ...ranged }, part),
    );
    const sign = this.once(`opened sign ${x}`, () => this.push('openedSign', [e], { modulus }, { ...part, fraction: 0 }));
    const rest = this.once(`unmask ${x}`, () => this.push('unmask', [x, e, sign], { modulus }, part));
    return { e, rest, sign, modulus };
  }

  pin(x: number): number {
    const node = this.node(x);
    const { shape, state, fraction } = node;
    if (state === 'pinned') return x;
    // Of what a value is put together from, as truncations are: a key in the cache is pinned once.
    const arranged = this.#isArranged(x) ? this.#rearranged(x, (part) => this.pin(part)) : undefined;
    return arranged ?? this.once(`pin ${x}`, () => this.push('pin', [x], {}, { shape, state: 'pinned', fraction }));
  }

  /**
   * The opening of a pinned value, sent at most once: moves, reshapes and concatenations of opened values are opened already, and a
   * rearrangement opens what it rearranges, so that every other view of it is free.
   */
  open(x: number): number {
    const known = this.#openings.get(x);
    if (known !== undefined) return known;
    const opening = this.#derivedOpening(x) ?? this.#ownOpening(x);
    this.#openings.set(x, opening);
    return opening;
  }

  /**
   * The opening of what is pinned from a floating value, which is exchanged: the server's half does not wait for the client's. Undefined where
   * there is nothing to wait for.
   */
  #exchanged(x: number, { modulus, use, range }: Omit<Exchange, 'bits'>): number | undefined {
    const node = this.node(x);
    if (node.operation !== 'narrow' && node.operation !== 'pin') return undefined;
    if (node.operation === 'pin' && node.parameters.width !== undefined) return undefined;
    const source = node.inputs[0]!;
    if (this.node(source).state !== 'floating') return undefined;
    const bits = node.operation === 'narrow' ? node.parameters.bits : 0;
    const parameters = { bits, modulus, use, ...(range === undefined ? {} : { range }) };
    const { shape, fraction } = node;
    const result = { shape, state: 'opening', fraction } as const;
    const half = this.push('exchange', [source], { bits, modulus, use }, result);
    return this.push('exchanged', [half, source, x], parameters, result);
  }

  /** Public tables at a shared index: exchanged where it is floating. */
  lookup(index: number, parameters: Lookup, result: { shape: Shape; fraction: number }): number {
    const opened = this.once(
      `index ${index}`,
      () => this.#exchanged(index, { modulus: parameters.indexBits, use: 'index' }) ?? index,
    );
    const inputs = opened === index ? [index] : [index, opened];
    return this.push('lookup', inputs, parameters, { ...result, state: 'floating' });
  }

  #ownOpening(x: number): number {
    const exchanged = this.#exchanged(x, { modulus: this.modulusOf(x), use: 'whole' });
    if (exchanged !== undefined) return exchanged;
    const { shape, fraction } = this.node(x);
    return this.push('open', [x], {}, { shape, state: 'opening', fraction });
  }

  #derivedOpening(x: number): number | undefined {
    const node = this.node(x);
    const source = node.inputs[0];
    if (source === undefined) return undefined;
    if (node.operation === 'reshape') return this.reshape(this.open(source), node.shape);
    if (node.operation === 'concat') {
      const parts = node.inputs.map((part) => this.open(part));
      return this.concat(parts, node.parameters.axis, node.shape);
    }
    if (node.operation === 'unpackRows') {
      const { state, fraction } = this.node(this.open(source));
      return this.push('unpackRows', [this.open(source)], node.parameters, { shape: node.shape, state, fraction });
    }
    if (node.operation !== 'move') return undefined;
    const narrows = size(node.shape) < size(this.node(source).shape);
    if (narrows && !this.#openings.has(source)) return undefined;
    return this.move(this.open(source), node.shape, node.parameters.strides, node.parameters.start);
  }

  program(): RingProgram {
    return { ring: this.ring, nodes: this.nodes };
  }
}

/** Whether a move reads each of its source's elements once. */
function isPermutation(
  shape: Shape,
  { strides, start }: { strides: readonly number[]; start: number },
  elements: number,
): boolean {
  const steps = shape.map((extent, axis) => ({ extent, stride: strides[axis]! })).filter(({ extent }) => extent > 1);
  let reached = 1;
  for (const { extent, stride } of steps.sort((a, b) => a.stride - b.stride)) {
    if (stride !== reached) return false;
    reached *= extent;
  }
  return start === 0 && reached === elements;
}
