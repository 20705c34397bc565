import { SottoError } from '../../errors/index.ts';
import {
  type BoundedTable,
  broadcastShapes,
  broadcastStrides,
  lower,
  type Node,
  owners,
  type Program,
  type Shape,
  same,
  size,
  stridesOf,
} from '../../program/index.ts';
import { RingBuilder } from './builder.ts';
import { type BoundedFunction, interpolatedTable } from './tables.ts';
import type { RingParameters, RingProgram } from './types.ts';
import type { ConstantValue, ServerValue, SharedValue, Value } from './value.ts';

export interface QuantiseOptions {
  /** Integer bits that every value is assumed to need before calibration says better. */
  readonly integerBits: number;
  /** Bits of a public factor that is not an integer. */
  readonly factorBits: number;
}

/** 14 integer bits and 16-bit factors fit rotary constants on an untruncated product in the 64-bit ring. */
export const defaultQuantisation = (ring: RingParameters): QuantiseOptions =>
  ring.bits >= 48
    ? { integerBits: 14, factorBits: Math.min(16, ring.bits - 2 - 14 - 2 * ring.fraction) }
    : { integerBits: Math.max(2, Math.min(8, ring.bits - 4 - 2 * ring.fraction)), factorBits: ring.fraction };

/** Values that are one power of two (or its negative) throughout: multiplying by it only moves the binary point. */
function uniformPowerOfTwo(values: Float64Array): number | undefined {
  const first = values[0]!;
  const exponent = Math.log2(Math.abs(first));
  return Number.isInteger(exponent) && values.every((value) => value === first) ? exponent : undefined;
}

const maxAbs = (values: Float64Array): number => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const allIntegers = (values: Float64Array): boolean =>
  values.every((value) => Number.isInteger(value) && Math.abs(value) < 2 ** 20);

/** A factor of an elementwise product, in the ring of 2^modulus. */
interface Factor {
  readonly node: number;
  readonly fraction: number;
  readonly modulus: number;
}

/**
 * The pass over scales: lowers a program to the ring. Truncations are lazy: a sum of products, a rotary embedding or a centred
 * score keeps its extra fraction bits until a product, an output or the ring's width asks for fewer, and equal truncations are one.
 * Throws a `model` error that names the scope of an operation that has no fixed-point meaning (an exact softmax, say).
 */
export function quantise(program: Program, ring: RingParameters, options = defaultQuantisation(ring)): RingProgram {
  return new Quantiser(program, ring, options).run();
}

class Quantiser {
  readonly #source: Program;
  readonly #owners: ReturnType<typeof owners>;
  readonly #ring: RingParameters;
  readonly #options: QuantiseOptions;
  readonly #out: RingBuilder;
  readonly #values: Value[] = [];

  constructor(program: Program, ring: RingParameters, options: QuantiseOptions) {
    this.#source = lower(program, new Set(['reciprocal', 'inverseSquareRoot', 'embedding']));
    this.#owners = owners(this.#source);
    this.#ring = ring;
    this.#options = options;
    this.#out = new RingBuilder(ring);
  }

  run(): RingProgram {
    const reveals = new Map<number, string[]>();
    for (const [name, index] of this.#source.outputs) reveals.set(index, [...(reveals.get(index) ?? []), name]);
    this.#source.nodes.forEach((node, index) => {
      this.#out.scope = node.scope;
      this.#values.push(this.#convert(node, index));
      // Revealed as soon as it exists: a later input of the client may depend on it.
      for (const name of reveals.get(index) ?? []) this.#reveal(name, this.#values[index]!);
    });
    return this.#out.program();
  }

  #fail(
    node: { operation: string; scope: string },
    reason: string,
    remedy = 'convert the model with a polynomial plan (sotto convert)',
  ): never {
    throw new SottoError('model', `${node.operation} ${reason}`, { place: { scope: node.scope }, remedy });
  }

  #convert(node: Node, index: number): Value {
    const inputs = node.inputs.map((input) => this.#values[input]!);
    const [x, y] = inputs;
    switch (node.operation) {
      case 'input':
        return this.#input(node.parameters);
      case 'constant':
        return { kind: 'constant', shape: node.shape, values: node.parameters.values };
      case 'reshape':
      case 'transpose':
      case 'slice':
      case 'broadcast':
        return this.#moved(node, x!);
      case 'concat':
        return this.#concat(node, inputs);
      case 'pad':
        return this.#pad(node, x!);
      case 'add':
        return this.#add(node, x!, y!);
      case 'subtract':
        return this.#subtract(node, x!, y!);
      case 'multiply':
        return this.#multiply(node, x!, y!);
      case 'divide':
        if (y!.kind !== 'constant') this.#fail(node, 'by a secret');
        return this.#multiply(node, x!, {
          ...(y as ConstantValue),
          values: (y as ConstantValue).values.map((value) => 1 / value),
        });
      case 'scale':
        return this.#scaled(node, x!, node.parameters.by);
      case 'offset':
        return this.#add(node, x!, { kind: 'constant', shape: [], values: Float64Array.of(node.parameters.by) });
      case 'square':
        return this.#square(node, x!);
      case 'matmul':
        return this.#matmul(node, x!, y!);
      case 'sum':
        return this.#sum(node, x!);
      case 'stopGradient':
        return x!;
      case 'embedding':
      case 'gather':
        return this.#embedding(node, x!, y!);
      case 'reciprocal':
        return this.#rowFunction(node, x!, node.parameters.table, (t) => 1 / (t + node.parameters.epsilon));
      case 'inverseSquareRoot': {
        const { factor, epsilon } = node.parameters;
        return this.#rowFunction(node, x!, node.parameters.table, (t) => 1 / Math.sqrt(factor * t + epsilon));
      }
      default:
        return this.#fail(node, `of a value owned by ${this.#owners[index]} has no meaning in fixed point`);
    }
  }

  #fits(fraction: number, headBits: number): boolean {
    return fraction + headBits <= this.#ring.bits - 2;
  }

  #wire(node: number, headBits: number, factorFraction = this.#ring.fraction): SharedValue {
    const { shape, fraction } = this.#out.node(node);
    return { kind: 'shared', shape, node, fraction, headBits, factorFraction };
  }

  #input(parameters: { name: string; shape: Shape; owner: string; element: string }): Value {
    const { name, shape, owner, element } = parameters;
    if (element === 'index') {
      if (owner === 'public') {
        this.#out.once(`index ${name}`, () =>
          this.#out.push('publicIndex', [], { name }, { shape, state: 'index', fraction: 0 }),
        );
      }
      return { kind: 'index', shape, owner: owner === 'client' ? 'client' : 'public', name };
    }
    if (owner === 'client') {
      const fraction = this.#ring.fraction;
      const node = this.#out.push('clientInput', [], { name, encoding: 'real', fraction }, { shape, state: 'pinned', fraction });
      return this.#wire(node, this.#options.integerBits);
    }
    if (owner === 'server') {
      const build = (fraction: number, factor: number): number =>
        this.#out.once(`server ${name} ${fraction} ${factor}`, () =>
          this.#out.push('serverInput', [], { name, fraction, factor }, { shape, state: 'server', fraction }),
        );
      return { kind: 'server', shape, build, factor: 1 };
    }
    throw new SottoError('model', `the public input ${name} holds real numbers`, {
      place: { field: name },
      remedy: 'trace the private program with constants instead',
    });
  }

  /** Reshape, transpose, slice, broadcast: all are strided reads. */
  #moved(node: Node, x: Value): Value {
    const apply = (at: number): number => {
      switch (node.operation) {
        case 'reshape':
          return this.#out.reshape(at, node.shape);
        case 'transpose':
          return this.#out.transpose(at, node.parameters.permutation);
        case 'slice':
          return this.#out.slice(at, node.parameters.axis, node.parameters.start, node.parameters.end);
        default:
          return this.#out.broadcast(at, node.shape);
      }
    };
    switch (x.kind) {
      case 'constant':
        return moveConstant(node, x);
      case 'server':
        return { ...x, shape: node.shape, build: this.#memo((fraction, factor) => apply(x.build(fraction, factor))) };
      case 'index':
        return this.#fail(node, 'of token numbers');
      case 'shared':
        return { ...x, shape: node.shape, node: apply(x.node) };
    }
  }

  #memo(build: (fraction: number, factor: number) => number): (fraction: number, factor: number) => number {
    const known = new Map<string, number>();
    return (fraction, factor) => {
      const key = `${fraction} ${factor}`;
      const made = known.get(key) ?? build(fraction, factor);
      known.set(key, made);
      return made;
    };
  }

  #concat(node: Node & { operation: 'concat' }, parts: Value[]): Value {
    const { axis } = node.parameters;
    if (parts.every((part) => part.kind === 'server')) {
      const build = this.#memo((fraction, factor) =>
        this.#out.concat(
          parts.map((part) => (part as ServerValue).build(fraction, factor * (part as ServerValue).factor)),
          axis,
          node.shape,
        ),
      );
      return { kind: 'server', shape: node.shape, build, factor: 1 };
    }
    const shared = parts.map((part) => this.#shared(node, part));
    const fraction = Math.max(...shared.map((part) => part.fraction));
    const aligned = shared.map((part) => this.#out.raise(part.node, fraction - part.fraction));
    return this.#wire(this.#out.concat(aligned, axis, node.shape), Math.max(...shared.map((part) => part.headBits)));
  }

  #pad(node: Node & { operation: 'pad' }, x: Value): Value {
    const shared = this.#shared(node, x);
    const { axis, before } = node.parameters;
    const { state, fraction } = this.#out.node(shared.node);
    return this.#wire(
      this.#out.push('pad', [shared.node], { axis, before }, { shape: node.shape, state, fraction }),
      shared.headBits,
    );
  }

  /** Any value as a shared wire: the server's plaintext becomes one whose client share is zero. */
  #shared(node: Node, x: Value): SharedValue {
    if (x.kind === 'shared') return x;
    if (x.kind !== 'server')
      return this.#fail(node, `needs a shared value, not a public one`, 'trace the program with the constant on the other side');
    const plain = x.build(this.#ring.fraction, x.factor);
    const { shape, fraction } = this.#out.node(plain);
    const wire = this.#out.once(`share ${plain}`, () =>
      this.#out.push('fromServer', [plain], {}, { shape, state: 'pinned', fraction }),
    );
    return this.#wire(wire, this.#options.integerBits);
  }

  #add(node: Node, x: Value, y: Value): Value {
    if (x.kind === 'constant' && y.kind === 'constant') return foldConstants(node, x, y, (a, b) => a + b);
    if (x.kind === 'constant' || (x.kind === 'server' && y.kind === 'shared')) return this.#add(node, y, x);
    const left = this.#shared(node, x);
    const wide = this.#out.broadcast(left.node, node.shape);
    if (y.kind === 'constant') return this.#addConstant(node, { ...left, node: wide, shape: node.shape }, y);
    if (y.kind === 'server') {
      const plain = this.#out.broadcast(y.build(left.fraction, y.factor), node.shape);
      const { state, fraction } = this.#out.node(wide);
      return this.#wire(this.#out.push('addServer', [wide, plain], {}, { shape: node.shape, state, fraction }), left.headBits);
    }
    return this.#addShared(node, left, this.#shared(node, y));
  }

  #subtract(node: Node, x: Value, y: Value): Value {
    if (x.kind === 'shared' && y.kind === 'shared') return this.#addShared(node, x, y, 'subtract');
    return this.#add(node, x, this.#scaled({ ...node, shape: y.shape }, y, -1));
  }

  #addConstant(node: Node, x: SharedValue, y: ConstantValue): Value {
    const values = y.values.map((value) => Math.round(value * 2 ** x.fraction));
    const { state, fraction } = this.#out.node(x.node);
    const result = { shape: node.shape, state, fraction };
    return this.#wire(this.#out.push('addConstant', [x.node], { values, constantShape: y.shape }, result), x.headBits);
  }

  /** Aligns upwards where the ring has room (a shift is free), else truncates the longer operand. */
  #addShared(node: Node, x: SharedValue, y: SharedValue, operation: 'add' | 'subtract' = 'add'): Value {
    const headBits = Math.max(x.headBits, y.headBits);
    const most = Math.max(x.fraction, y.fraction);
    const fraction = this.#fits(most, headBits) ? most : Math.min(x.fraction, y.fraction);
    const [a, b] = [x, y].map((value) => this.#out.broadcast(this.#at(value, fraction), node.shape)) as [number, number];
    const state = this.#out.node(a).state === 'pinned' && this.#out.node(b).state === 'pinned' ? 'pinned' : 'floating';
    return this.#wire(this.#out.push(operation, [a, b], {}, { shape: node.shape, state, fraction }), headBits);
  }

  #at(x: SharedValue, fraction: number): number {
    if (x.fraction < fraction) return this.#out.raise(x.node, fraction - x.fraction);
    return x.fraction > fraction ? this.#out.truncate(x.node, x.fraction - fraction) : x.node;
  }

  /** A factor of a matrix product or linear map: pinned in the whole ring, with at most F fraction bits unless it is a row scalar. */
  #operand(x: SharedValue): SharedValue {
    const least = Math.min(x.fraction, x.factorFraction);
    return { ...x, node: this.#out.pin(this.#at(x, least)), fraction: least };
  }

  /** A factor of an elementwise product: what has bits to drop drops them into a smaller ring. */
  #factor(x: SharedValue): Factor {
    const drop = x.fraction - Math.min(x.fraction, x.factorFraction);
    const node = drop > 0 ? this.#out.narrow(x.node, drop) : this.#out.pin(x.node);
    return { node, fraction: x.fraction - drop, modulus: this.#ring.bits - drop };
  }

  /** The elementwise product of two factors, floating in the whole ring. */
  #product(shape: Shape, x: Factor, y: Factor): number {
    const result = { shape, state: 'floating', fraction: x.fraction + y.fraction } as const;
    if (x.modulus + y.modulus === 2 * this.#ring.bits) {
      const wide = [x, y].map(({ node }) => this.#out.broadcast(node, shape));
      return this.#out.push('product', [...wide, ...wide.map((at) => this.#out.open(at))], {}, result);
    }
    const parts = [x, y].flatMap(({ node, modulus }) => {
      const { e, rest, sign } = this.#out.openNarrow(node, modulus);
      return [e, rest, sign].map((at) => this.#out.broadcast(at, shape));
    });
    return this.#out.push('narrowProduct', parts, { moduli: [x.modulus, y.modulus] }, result);
  }

  #scaled(node: Node, x: Value, by: number): Value {
    if (x.kind === 'constant') return { ...x, values: x.values.map((value) => value * by) };
    if (x.kind === 'server') return { ...x, factor: x.factor * by };
    return this.#multiply(node, x, { kind: 'constant', shape: [], values: Float64Array.of(by) });
  }

  #multiply(node: Node, x: Value, y: Value): Value {
    if (x.kind === 'constant' && y.kind === 'constant') return foldConstants(node, x, y, (a, b) => a * b);
    if (x.kind === 'constant' || (x.kind === 'server' && y.kind === 'shared')) return this.#multiply(node, y, x);
    if (x.kind !== 'shared')
      return this.#fail(node, 'of two values of the server', 'fold the two into one weight when the model is loaded');
    if (y.kind === 'constant') return this.#multiplyConstant(node, x, y);
    if (y.kind === 'index') return this.#fail(node, 'by token numbers');
    if (y.kind === 'server') {
      const left = this.#operand(x);
      const plain = this.#out.broadcast(y.build(this.#ring.fraction, y.factor), node.shape);
      const wide = this.#out.broadcast(left.node, node.shape);
      const result = { shape: node.shape, state: 'pinned', fraction: left.fraction + this.#ring.fraction } as const;
      return this.#wire(this.#out.push('diagonal', [wide, plain], {}, result), left.headBits);
    }
    if (y.node === x.node) return this.#square(node, x);
    return this.#wire(this.#product(node.shape, ...this.#factors(x, y)), this.#options.integerBits);
  }

  #multiplyConstant(node: Node, x: SharedValue, y: ConstantValue): Value {
    const most = maxAbs(y.values);
    const head = Math.max(0, x.headBits + (most > 1 ? Math.ceil(Math.log2(most)) : 0));
    const exponent = uniformPowerOfTwo(y.values);
    if (exponent !== undefined && exponent <= 0) {
      // The same integer with the point moved; negation is one multiplication.
      const wide = this.#out.broadcast(x.node, node.shape);
      const { state } = this.#out.node(wide);
      const by = y.values[0]! < 0 ? -1 : 1;
      const fraction = x.fraction - exponent;
      if (by === 1 && exponent === 0) return { ...x, node: wide, shape: node.shape };
      const result = { shape: node.shape, state, fraction };
      const made =
        by === 1 ? this.#out.push('reshape', [wide], {}, result) : this.#out.push('multiplyInteger', [wide], { by }, result);
      return this.#wire(made, x.headBits + exponent);
    }
    if (allIntegers(y.values)) return this.#multiplyEncoded(node, x, y, 0, head);
    const bits = this.#options.factorBits - Math.floor(Math.log2(most));
    const fitting = this.#fits(x.fraction + this.#options.factorBits, x.headBits) ? x : { ...x, ...this.#shortened(x) };
    return this.#multiplyEncoded(node, fitting, y, bits, Math.max(0, x.headBits + Math.ceil(Math.log2(most))));
  }

  #shortened(x: SharedValue): { node: number; fraction: number } {
    const fraction = Math.min(x.fraction, this.#ring.fraction);
    return { node: this.#at(x, fraction), fraction };
  }

  #multiplyEncoded(node: Node, x: SharedValue, y: ConstantValue, bits: number, headBits: number): Value {
    const wide = this.#out.broadcast(x.node, node.shape);
    const values = y.values.map((value) => Math.round(value * 2 ** bits));
    const { state } = this.#out.node(wide);
    const result = { shape: node.shape, state, fraction: x.fraction + bits };
    return this.#wire(this.#out.push('multiplyConstant', [wide], { values, constantShape: y.shape }, result), headBits);
  }

  #square(node: Node, x: Value): Value {
    if (x.kind === 'constant') return { ...x, values: x.values.map((value) => value * value) };
    const shared = this.#shared(node, x);
    const { node: factor, fraction, modulus } = this.#factor(shared);
    const result = { shape: node.shape, state: 'floating', fraction: 2 * fraction } as const;
    if (modulus < this.#ring.bits && 2 * modulus >= this.#ring.bits) {
      const { e, rest, sign } = this.#out.openNarrow(factor, modulus);
      return this.#wire(this.#out.push('narrowSquare', [e, rest, sign], { modulus }, result), this.#options.integerBits);
    }
    const operand = this.#operand(shared);
    const made = this.#out.push('square', [operand.node, this.#out.open(operand.node)], {}, result);
    return this.#wire(made, this.#options.integerBits);
  }

  /** Both factors as narrow as their product allows: the two moduli together must span the ring. */
  #factors(x: SharedValue, y: SharedValue): [Factor, Factor] {
    const narrow = [this.#factor(x), this.#factor(y)] as [Factor, Factor];
    if (narrow[0].modulus + narrow[1].modulus >= this.#ring.bits) return narrow;
    const wide = (value: SharedValue): Factor => {
      const { node, fraction } = this.#operand(value);
      return { node, fraction, modulus: this.#ring.bits };
    };
    return [wide(x), wide(y)];
  }

  #matmul(node: Node, x: Value, y: Value): Value {
    if (x.kind === 'constant' || y.kind === 'constant')
      this.#fail(node, 'with a public matrix', 'make it a weight of the server');
    if (x.kind === 'server' && y.kind === 'shared') this.#fail(node, 'with the server on the left', 'transpose both operands');
    const left = this.#operand(this.#shared(node, x));
    if (y.kind === 'server') return this.#linear(node, left, y);
    const right = this.#operand(this.#shared(node, y));
    const [m, k] = left.shape.slice(-2) as [number, number];
    const n = right.shape.at(-1)!;
    if (right.shape.length !== left.shape.length)
      this.#fail(node, 'of different ranks of shared values', 'broadcast the right operand');
    const batch = size(left.shape) / (m * k);
    const openings = [this.#out.open(left.node), this.#out.open(right.node)];
    const result = { shape: node.shape, state: 'floating', fraction: left.fraction + right.fraction } as const;
    const made = this.#out.push('matrixProduct', [left.node, right.node, ...openings], { batch, m, k, n }, result);
    return this.#wire(made, this.#options.integerBits);
  }

  #linear(node: Node, x: SharedValue, weights: ServerValue): Value {
    if (weights.shape.length !== 2) this.#fail(node, 'with a batch of server matrices', 'use one matrix a product');
    const [k, n] = weights.shape as [number, number];
    const m = size(x.shape) / k;
    const flat = this.#out.reshape(x.node, [m, k]);
    const fraction = x.fraction + this.#ring.fraction;
    const plain = weights.build(this.#ring.fraction, weights.factor);
    const made = this.#out.push('linear', [flat, plain], { m, k, n }, { shape: [m, n], state: 'pinned', fraction });
    return this.#wire(this.#out.reshape(made, node.shape), this.#options.integerBits);
  }

  #sum(node: Node & { operation: 'sum' }, x: Value): Value {
    const shared = this.#shared(node, x);
    const axes = [...node.parameters.axes].sort((a, b) => a - b);
    const { state, fraction } = this.#out.node(shared.node);
    let at = shared.node;
    for (const axis of axes) {
      const shape = this.#out.node(at).shape;
      const outer = size(shape.slice(0, axis));
      const inner = size(shape.slice(axis + 1));
      const result = { shape: shape.map((extent, i) => (i === axis ? 1 : extent)), state, fraction };
      at = this.#out.push('sum', [at], { outer, axis: shape[axis]!, inner }, result);
    }
    return this.#wire(at, shared.headBits);
  }

  /** A secret token is a one-hot row times the table: no fraction bits of its own, so nothing is truncated. */
  #embedding(node: Node, table: Value, indices: Value): Value {
    if (table.kind !== 'server' || indices.kind !== 'index')
      return this.#fail(node, 'of anything but token numbers and a table of the server');
    const { fraction } = this.#ring;
    if (indices.owner === 'public') {
      const index = this.#out.once(`index ${indices.name}`, () => this.#fail(node, `reads the unknown indices ${indices.name}`));
      const rows = this.#out.push(
        'serverGather',
        [table.build(fraction, table.factor), index],
        {},
        { shape: node.shape, state: 'server', fraction },
      );
      return this.#wire(
        this.#out.push('fromServer', [rows], {}, { shape: node.shape, state: 'pinned', fraction }),
        this.#options.integerBits,
      );
    }
    const [depth, width] = table.shape as [number, number];
    const tokens = size(indices.shape);
    const input = { name: indices.name, encoding: 'oneHot', fraction: 0 } as const;
    const oneHot = this.#out.push('clientInput', [], input, { shape: [tokens, depth], state: 'pinned', fraction: 0 });
    return this.#linear({ ...node, shape: [...indices.shape, width] }, this.#wire(oneHot, 1), table);
  }

  /**
   * A bounded function of a row scalar by table and linear interpolation: the index and the remainder come from two truncations side
   * by side, the table is read at the shared index, and value + slope · rest is truncated once.
   */
  #rowFunction(node: Node, x: Value, table: BoundedTable | undefined, f: BoundedFunction): Value {
    if (table === undefined) return this.#fail(node, 'has no table', 'calibrate the plan: sotto convert writes the tables');
    const argument = this.#shared(node, x);
    const { values, slopes, restBits } = interpolatedTable(f, table, this.#ring, node.scope);
    const F = this.#ring.fraction;
    const precise = F + table.extraBits;
    const drop = argument.fraction - F;
    const index = this.#out.narrow(argument.node, drop + restBits);
    const tables = table.interpolation === 'none' ? [values] : [values, slopes];
    const looked = this.#out.push(
      'lookup',
      [index],
      { indexBits: table.indexBits, tables },
      { shape: [tables.length, ...node.shape], state: 'floating', fraction: precise },
    );
    const part = (i: number): number => this.#out.reshape(this.#out.slice(looked, 0, i, i + 1), node.shape);
    if (table.interpolation === 'none') return this.#wire(part(0), this.#options.integerBits, precise);
    const fine = drop > 0 ? this.#out.narrow(argument.node, drop) : this.#out.pin(argument.node);
    const below = this.#out.raise(index, restBits);
    const rest = this.#out.push('subtract', [fine, below], {}, { shape: node.shape, state: 'pinned', fraction: F });
    const slope = { node: this.#out.pin(part(1)), fraction: precise, modulus: this.#ring.bits };
    const step = this.#product(node.shape, slope, { node: rest, fraction: F, modulus: this.#ring.bits - drop });
    const result = { shape: node.shape, state: 'floating', fraction: F + precise } as const;
    const sum = this.#out.push('add', [this.#out.raise(part(0), F), step], {}, result);
    return this.#wire(sum, this.#options.integerBits, precise);
  }

  #reveal(name: string, x: Value): void {
    if (x.kind !== 'shared')
      throw new SottoError('model', `the output ${name} is not secret`, {
        place: { field: name },
        remedy: 'reveal only what depends on both sides',
      });
    this.#out.scope = 'output';
    const fraction = Math.min(x.fraction, this.#ring.fraction);
    this.#out.push('reveal', [this.#at(x, fraction)], { name, fraction }, { shape: x.shape, state: 'pinned', fraction });
  }
}

function moveConstant(node: Node, x: ConstantValue): ConstantValue {
  if (node.operation === 'reshape') return { ...x, shape: node.shape };
  const own = stridesOf(x.shape);
  const strides =
    node.operation === 'transpose'
      ? node.parameters.permutation.map((axis) => own[axis]!)
      : node.operation === 'slice'
        ? own
        : broadcastStrides(x.shape, node.shape);
  const start = node.operation === 'slice' ? node.parameters.start * own[node.parameters.axis]! : 0;
  return { kind: 'constant', shape: node.shape, values: readStrided(x.values, node.shape, strides, start) };
}

function readStrided(values: Float64Array, shape: Shape, strides: readonly number[], start: number): Float64Array {
  const dense = stridesOf(shape);
  return Float64Array.from(
    { length: size(shape) },
    (_, at) =>
      values[shape.reduce((offset, extent, axis) => offset + (Math.floor(at / dense[axis]!) % extent) * strides[axis]!, start)]!,
  );
}

function foldConstants(node: Node, x: ConstantValue, y: ConstantValue, f: (a: number, b: number) => number): ConstantValue {
  const shape = same(x.shape, y.shape) ? x.shape : broadcastShapes(x.shape, y.shape)!;
  const [a, b] = [x, y].map((value) => readStrided(value.values, shape, broadcastStrides(value.shape, shape), 0)) as [
    Float64Array,
    Float64Array,
  ];
  return { kind: 'constant', shape: node.shape, values: a.map((value, i) => f(value, b[i]!)) };
}
