import { SottoError } from '../../errors/index.ts';
import { lower, type Node, owners, type Program, type Shape, size } from '../../program/index.ts';
import { Arithmetic } from './arithmetic.ts';
import { powerAttention } from './attention.ts';
import { defaultQuantisation, hasSmallerRings, type QuantiseOptions } from './budget.ts';
import { RingBuilder } from './builder.ts';
import { moveConstant } from './constants.ts';
import { exactComposites, Nonlinear } from './nonlinear.ts';
import { guardBits, withRangeFlags } from './range-flags.ts';
import type { RingParameters, RingProgram } from './types.ts';
import { normedBits, type Use, usesOf } from './uses.ts';
import type { ServerValue, SharedValue, TokenValue, Value } from './value.ts';

/**
 * The pass over scales: lowers a program to the ring. Truncations are lazy: a sum of products, a rotary embedding or a centred
 * score keeps its extra fraction bits until a product, an output or the ring's width asks for fewer, and equal truncations are one.
 * Throws a `model` error that names the scope of an operation that has no fixed-point meaning (a logarithm, say).
 */
export function quantise(program: Program, ring: RingParameters, options = defaultQuantisation(ring)): RingProgram {
  return new Quantiser(program, ring, options).run();
}

export interface PrivateRun {
  /** With every output goes a bit that says whether a value left the range in which the run is exact. */
  readonly rangeFlags: boolean;
}

/** What the parties of a private run compute: with range flags, windows are wider and what lies beyond them is counted. */
export function privateProgram(program: Program, ring: RingParameters, { rangeFlags }: PrivateRun): RingProgram {
  if (!rangeFlags) return quantise(program, ring);
  return withRangeFlags(quantise(program, ring, { ...defaultQuantisation(ring), guardBits }));
}

/** A table that nobody measured lies within ±2^6. */
const embeddingIntegerBits = 6;

/**
 * The ring that one-hot rows are shared in: a row of the table needs two bits more than its numbers, so every one of the V elements of a
 * one-hot row is sent with that many, and only the d elements of the result are widened. Undefined where widening costs more than it saves.
 * The server refuses a table that does not fit when it encodes it (`serverInput` has the modulus).
 */
function embeddingModulus(
  { bits }: RingParameters,
  fraction: number,
  [depth, width]: readonly [number, number],
  integerBits: number,
): number | undefined {
  const modulus = fraction + integerBits + 2;
  return modulus < bits && depth * (bits - modulus) > 2 * width * (bits + modulus) ? modulus : undefined;
}

class Quantiser {
  readonly #source: Program;
  readonly #owners: ReturnType<typeof owners>;
  readonly #out: RingBuilder;
  readonly #on: Arithmetic;
  readonly #nonlinear: Nonlinear;
  readonly #values: Value[] = [];
  /** By node of the source: what reads its value. */
  readonly #uses: readonly Use[];

  constructor(program: Program, ring: RingParameters, options: QuantiseOptions) {
    this.#source = lower(
      program,
      new Set(['reciprocal', 'inverseSquareRoot', 'embedding', 'powerAttention', ...exactComposites]),
    );
    this.#owners = owners(this.#source);
    const roomy = normedBits(this.#source, program.domains) <= options.integerBits;
    const smallerRings = roomy && hasSmallerRings(ring, options);
    const uses = usesOf(this.#source, (node) => this.#owners[node] === 'server');
    // Numbers that a norm may meet and that are larger than what a ring is taken to have room for leave nothing of it for others.
    this.#uses = roomy ? uses : uses.map(() => 'whole');
    this.#out = new RingBuilder(ring);
    this.#on = new Arithmetic(this.#out, { ...options, smallerRings }, program.domains);
    this.#nonlinear = new Nonlinear(this.#on);
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

  #convert(node: Node, index: number): Value {
    const inputs = node.inputs.map((input) => this.#values[input]!);
    const [x, y] = inputs;
    switch (node.operation) {
      case 'input':
        return this.#input(node.parameters, node.scope);
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
        return this.#on.add(node, x!, y!);
      case 'subtract':
        return this.#on.subtract(node, x!, y!);
      case 'multiply':
        return this.#on.multiply(node, x!, y!, this.#uses[index] !== 'whole');
      case 'divide':
        if (y!.kind !== 'constant') return this.#nonlinear.quotient(node, x!, this.#on.shared(node, y!));
        return this.#on.multiply(node, x!, {
          ...y!,
          values: y!.values.map((value) => 1 / value),
        });
      case 'scale':
        return this.#on.scaled(node, x!, node.parameters.by);
      case 'offset':
        return this.#on.add(node, x!, { kind: 'constant', shape: [], values: Float64Array.of(node.parameters.by) });
      case 'square':
        return this.#on.factors.square(node, this.#normed(node, x!, index));
      case 'matmul':
        return this.#on.matmul(node, x!, y!, this.#uses[index]);
      case 'sum':
        return this.#on.sum(node, x!, node.parameters.axes);
      case 'powerAttention':
        return powerAttention(this.#on, this.#nonlinear, node, inputs, this.#uses[index] !== 'whole');
      case 'stopGradient':
        return x!;
      case 'oneHot':
        return this.#flags(node, x!);
      case 'embedding':
      case 'gather':
        return this.#embedding(node, x!, y!);
      case 'reciprocal': {
        const { epsilon, table } = node.parameters;
        return this.#nonlinear.rowFunction(node, x!, table, { power: -1, factor: 1, epsilon });
      }
      case 'inverseSquareRoot': {
        const { factor, epsilon, table } = node.parameters;
        return this.#nonlinear.rowFunction(node, x!, table, { power: -0.5, factor, epsilon });
      }
      default:
        return (
          this.#nonlinear.convert(node, inputs) ??
          this.#on.fail(node, `of a value owned by ${this.#owners[index]} has no meaning in fixed point`)
        );
    }
  }

  #input(parameters: { name: string; shape: Shape; owner: string; element: string }, scope: string): Value {
    const { name, shape, owner, element } = parameters;
    if (element === 'index') return { kind: 'index', shape, owner: owner === 'client' ? 'client' : 'public', name };
    if (owner === 'client') {
      const fine = this.#on.fineBits(this.#on.domain(scope).weight);
      const fraction = this.#on.ring.fraction + fine;
      const node = this.#out.push('clientInput', [], { name, encoding: 'real', fraction }, { shape, state: 'pinned', fraction });
      return this.#on.wire(node, this.#on.options.integerBits - fine);
    }
    if (owner === 'server') {
      const build: ServerValue['build'] = (fraction, factor, modulus) =>
        this.#out.once(`server ${name} ${fraction} ${factor} ${modulus}`, () => {
          const parameters = { name, fraction, factor, ...(modulus === undefined ? {} : { modulus }) };
          return this.#out.push('serverInput', [], parameters, { shape, state: 'server', fraction });
        });
      return { kind: 'server', shape, build, factor: 1, weight: this.#on.domain(name).weight };
    }
    throw new SottoError('model', `the public input ${name} holds real numbers`, {
      place: { field: name },
      remedy: 'trace the private program with constants instead',
    });
  }

  /** What a norm squares it multiplies as well, with as many fraction bits: see `normFraction`. */
  #normed(node: Node, x: Value, index: number): Value {
    const root = this.#source.nodes[index + 2];
    const norm = root?.operation === 'inverseSquareRoot' ? root.parameters : undefined;
    if (x.kind !== 'shared' || (norm === undefined && this.#on.domain(node.scope).low === undefined)) return x;
    const factor = { ...x, factorFraction: this.#on.normFraction(node.scope, node.shape.at(-1)!, norm?.table) };
    this.#values[node.inputs[0]!] = factor;
    return factor;
  }

  /**
   * A secret token is a one-hot row times the table: no fraction bits of its own, so nothing is truncated. A table of small numbers has more
   * fraction bits than F.
   */
  #embedding(node: Node, table: Value, indices: Value): Value {
    if (table.kind !== 'server' || indices.kind !== 'index')
      return this.#on.fail(node, 'of anything but token numbers and a table of the server');
    if (indices.owner === 'public') return this.#on.fail(node, 'of public token numbers', 'trace with a secret embedding');
    const [depth, width] = table.shape as [number, number];
    const tokens = size(indices.shape);
    const { ring, options } = this.#on;
    const fine = this.#on.fineBits(table.weight);
    const fraction = ring.fraction + fine;
    // Within ±2^weight, the ends included.
    const integerBits = table.weight === undefined ? embeddingIntegerBits : table.weight + 1;
    const modulus = embeddingModulus(ring, fraction, [depth, width], integerBits);
    const narrow = modulus === undefined ? {} : { modulus };
    const input = { name: indices.name, encoding: 'oneHot', fraction: 0, ...narrow } as const;
    const oneHot = this.#out.push('clientInput', [], input, { shape: [tokens, depth], state: 'pinned', fraction: 0 });
    const site = { ...node, shape: [...indices.shape, width] };
    const plain = table.build(fraction, table.factor, modulus);
    if (modulus === undefined) {
      const whole = { shape: [tokens, width], state: 'pinned', fraction } as const;
      const rows = this.#out.push('linear', [oneHot, plain], { m: tokens, k: depth, n: width }, whole);
      return this.#on.wire(this.#out.reshape(rows, site.shape), options.integerBits - fine);
    }
    const result = { shape: [tokens, width], state: 'pinned', fraction } as const;
    const rows = this.#out.push('linear', [oneHot, plain], { m: tokens, k: depth, n: width, modulus }, result);
    const { e, rest } = this.#out.openNarrow(rows, modulus);
    const wide = this.#out.push('widen', [e, rest], {}, { ...result, state: 'floating' });
    return this.#on.wire(this.#out.reshape(this.#out.pin(wide), site.shape), options.integerBits - fine);
  }

  /** The client's places as one-hot rows: integers. */
  #flags(node: Node & { operation: 'oneHot' }, indices: Value): Value {
    if (indices.kind !== 'index' || indices.owner !== 'client')
      return this.#on.fail(node, 'of anything but the client’s numbers');
    const { depth } = node.parameters;
    const shape = [size(indices.shape), depth];
    const input = { name: indices.name, encoding: 'oneHot', fraction: 0 } as const;
    const rows = this.#out.push('clientInput', [], input, { shape, state: 'pinned', fraction: 0 });
    return this.#on.wire(this.#out.reshape(rows, node.shape), 1);
  }

  #reveal(name: string, x: Value): void {
    if (x.kind !== 'shared' && x.kind !== 'token')
      throw new SottoError('model', `the output ${name} is not secret`, {
        place: { field: name },
        remedy: 'reveal only what depends on both sides',
      });
    this.#out.scope = 'output';
    // A token is revealed as it stands: nothing of it may be dropped.
    const fraction = x.kind === 'token' ? x.fraction : Math.min(x.fraction, this.#on.ring.fraction);
    const node = this.#shown(x, fraction);
    this.#out.push('reveal', [node], { name, fraction }, { shape: x.shape, state: 'pinned', fraction });
  }

  /** An output with its last fraction bits: in a smaller ring they are dropped without a message. */
  #shown(x: SharedValue | TokenValue, fraction: number): number {
    if (x.kind === 'token') return x.node;
    const smaller = this.#out.modulusOf(x.node) < this.#on.ring.bits && this.#out.node(x.node).state === 'pinned';
    return smaller && x.fraction > fraction ? this.#out.narrow(x.node, x.fraction - fraction) : this.#on.at(x, fraction);
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
        return { ...x, shape: node.shape, build: this.#on.memo((...asked) => apply(x.build(...asked))) };
      case 'index':
        return this.#on.fail(node, 'of token numbers');
      case 'shared':
      case 'token':
        return { ...x, shape: node.shape, node: apply(x.node) };
    }
  }

  #concat(node: Node & { operation: 'concat' }, parts: Value[]): Value {
    const { axis } = node.parameters;
    if (parts.every((part) => part.kind === 'server')) {
      const servers = parts as ServerValue[];
      const build = this.#on.memo((fraction, factor) =>
        this.#out.concat(
          servers.map((part) => part.build(fraction, factor * part.factor)),
          axis,
          node.shape,
        ),
      );
      const weights = servers.map(({ weight }) => weight);
      const weight = weights.includes(undefined) ? undefined : Math.max(...(weights as number[]));
      return { kind: 'server', shape: node.shape, build, factor: 1, weight };
    }
    const shared = parts.map((part) => this.#on.shared(node, part));
    const fraction = Math.max(...shared.map((part) => part.fraction));
    const aligned = shared.map((part) => this.#out.raise(part.node, fraction - part.fraction));
    return this.#on.wire(this.#out.concat(aligned, axis, node.shape), Math.max(...shared.map((part) => part.headBits)));
  }

  #pad(node: Node & { operation: 'pad' }, x: Value): Value {
    const shared = this.#on.shared(node, x);
    const { axis, before } = node.parameters;
    const { state, fraction } = this.#out.node(shared.node);
    return this.#on.wire(
      this.#out.push('pad', [shared.node], { axis, before }, { shape: node.shape, state, fraction }),
      shared.headBits,
    );
  }
}
