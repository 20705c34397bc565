import { SottoError } from '../errors/index.ts';
import { isComposite, maskedScore, nf4Units, powerArgument } from './composites.ts';
import { lower } from './interpret.ts';
import { merge } from './merge.ts';
import { rewriteInto } from './rewrite.ts';
import { same, size } from './shapes.ts';
import { prune, Tracer } from './trace.ts';
import type { Composite, Node, NodeOf, Operation, Primitive, Program, Ref, Shape } from './types.ts';

/** For one node: the cotangents of its inputs, given that of its result. `undefined` where nothing flows. */
type Rule<P extends Operation> = (
  ops: Tracer,
  context: { node: NodeOf<P>; inputs: Ref[]; output: Ref; cotangent: Ref },
) => (Ref | undefined)[];
type VectorJacobianProducts = { [P in Primitive]: Rule<P> } & { [C in Composite]?: Rule<C> };

/** Sums a cotangent back to the shape of an operand that was broadcast. */
function unbroadcast(ops: Tracer, cotangent: Ref, shape: Shape): Ref {
  const from = ops.shape(cotangent);
  if (same(from, shape)) return cotangent;
  const missing = from.length - shape.length;
  const axes = from.flatMap((extent, axis) => (axis < missing || (shape[axis - missing] === 1 && extent !== 1) ? [axis] : []));
  return ops.reshape(ops.sum(cotangent, axes), shape);
}

/** The cotangents of both operands of x · y. */
function product(ops: Tracer, x: Ref, y: Ref, cotangent: Ref): [Ref, Ref] {
  const left = ops.matmul(cotangent, ops.transposed(y));
  if (ops.shape(y).length > 2 || ops.shape(x).length === 2) return [left, ops.matmul(ops.transposed(x), cotangent)];
  // A shared right operand sums over the leading axes: one product of flattened operands.
  const flat = (v: Ref): Ref => ops.reshape(v, [size(ops.shape(v)) / ops.shape(v).at(-1)!, ops.shape(v).at(-1)!]);
  return [left, ops.matmul(ops.transposed(flat(x)), flat(cotangent))];
}

/** The sine whose rotation carries cotangents back: its halves change places and sign. Of a constant it is a constant. */
function backwards(ops: Tracer, sin: Ref): Ref {
  const shape = ops.shape(sin);
  const [axis, half] = [shape.length - 1, shape.at(-1)! / 2];
  const node = ops.nodes[sin]!;
  if (node.operation === 'constant') {
    const partner = (i: number): number => (i % (2 * half) < half ? i + half : i - half);
    const { values } = node.parameters;
    return ops.constant(
      values.map((_, i) => -values[partner(i)]!),
      shape,
    );
  }
  const halves = [ops.slice(sin, axis, half, 2 * half), ops.slice(sin, axis, 0, half)];
  return ops.scale(ops.concat(halves, axis), -1);
}

/** x^(exponent − 1), of an exponent that is a power of two. */
function lowered(ops: Tracer, x: Ref, exponent: number): Ref {
  let product = x;
  let square = x;
  for (let p = 4; p <= exponent; p *= 2) {
    square = ops.square(square);
    product = ops.multiply(product, square);
  }
  return product;
}

const none = (): (Ref | undefined)[] => [undefined];

/** A table of vector-Jacobian products: total over the primitives; composites have one where it is cheaper than their lowering's. */
const rules: VectorJacobianProducts = {
  input: () => [],
  constant: () => [],
  reshape: (ops, { inputs, cotangent }) => [ops.reshape(cotangent, ops.shape(inputs[0]!))],
  transpose: (ops, { node, cotangent }) => {
    const inverse = node.parameters.permutation.map((_, axis) => node.parameters.permutation.indexOf(axis));
    return [ops.transpose(cotangent, inverse)];
  },
  slice: (ops, { node, inputs, cotangent }) => {
    const { axis, start, end } = node.parameters;
    return [ops.pad(cotangent, axis, start, ops.shape(inputs[0]!)[axis]! - end)];
  },
  pad: (ops, { node, inputs, cotangent }) => {
    const { axis, before } = node.parameters;
    return [ops.slice(cotangent, axis, before, before + ops.shape(inputs[0]!)[axis]!)];
  },
  concat: (ops, { node, inputs, cotangent }) => {
    let start = 0;
    return inputs.map((input) => {
      const extent = ops.shape(input)[node.parameters.axis]!;
      start += extent;
      return ops.slice(cotangent, node.parameters.axis, start - extent, start);
    });
  },
  broadcast: (ops, { inputs, cotangent }) => [unbroadcast(ops, cotangent, ops.shape(inputs[0]!))],
  add: (ops, { inputs, cotangent }) => inputs.map((input) => unbroadcast(ops, cotangent, ops.shape(input))),
  subtract: (ops, { inputs: [x, y], cotangent }) => [
    unbroadcast(ops, cotangent, ops.shape(x!)),
    ops.scale(unbroadcast(ops, cotangent, ops.shape(y!)), -1),
  ],
  multiply: (ops, { inputs: [x, y], cotangent }) => [
    unbroadcast(ops, ops.multiply(cotangent, y!), ops.shape(x!)),
    unbroadcast(ops, ops.multiply(cotangent, x!), ops.shape(y!)),
  ],
  divide: (ops, { inputs: [x, y], output, cotangent }) => {
    const share = ops.divide(cotangent, y!);
    return [unbroadcast(ops, share, ops.shape(x!)), unbroadcast(ops, ops.scale(ops.multiply(share, output), -1), ops.shape(y!))];
  },
  maximum: (ops, { inputs: [x, y], cotangent }) => {
    // Ties give everything to the second operand.
    const first = ops.step(ops.subtract(x!, y!));
    const second = ops.offset(ops.scale(first, -1), 1);
    return [
      unbroadcast(ops, ops.multiply(cotangent, first), ops.shape(x!)),
      unbroadcast(ops, ops.multiply(cotangent, second), ops.shape(y!)),
    ];
  },
  scale: (ops, { node, cotangent }) => [ops.scale(cotangent, node.parameters.by)],
  offset: (_, { cotangent }) => [cotangent],
  square: (ops, { inputs, cotangent }) => [ops.multiply(cotangent, ops.scale(inputs[0]!, 2))],
  exp: (ops, { output, cotangent }) => [ops.multiply(cotangent, output)],
  log: (ops, { inputs, cotangent }) => [ops.divide(cotangent, inputs[0]!)],
  sqrt: (ops, { output, cotangent }) => [ops.divide(ops.scale(cotangent, 0.5), output)],
  tanh: (ops, { output, cotangent }) => [ops.multiply(cotangent, ops.offset(ops.scale(ops.square(output), -1), 1))],
  erf: (ops, { inputs, cotangent }) => {
    const density = ops.scale(ops.exp(ops.scale(ops.square(inputs[0]!), -1)), 2 / Math.sqrt(Math.PI));
    return [ops.multiply(cotangent, density)];
  },
  step: none,
  round: none,
  stopGradient: none,
  matmul: (ops, { inputs: [x, y], cotangent }) => product(ops, x!, y!, cotangent),
  sum: (ops, { inputs, cotangent }) => [ops.broadcast(cotangent, ops.shape(inputs[0]!))],
  max: (ops, { node, inputs: [x], output, cotangent }) => {
    // Ties share the cotangent equally.
    const hit = ops.offset(ops.scale(ops.step(ops.subtract(output, x!)), -1), 1);
    return [ops.multiply(hit, ops.divide(cotangent, ops.sum(hit, [node.parameters.axis])))];
  },
  gather: (ops, { inputs: [table, indices], cotangent }) => [
    ops.scatterAdd(indices!, cotangent, ops.shape(table!)[0]!),
    undefined,
  ],
  scatterAdd: (ops, { inputs: [indices], cotangent }) => [undefined, ops.gather(cotangent, indices!)],
  oneHot: none,
  argmax: none,

  embedding: (ops, { inputs: [table, indices], cotangent }) => [
    ops.scatterAdd(indices!, cotangent, ops.shape(table!)[0]!),
    undefined,
  ],
  crossEntropy: (ops, { inputs: [logits, labels, weights], cotangent }) => {
    const last = ops.shape(logits!).length - 1;
    const hit = ops.oneHot(labels!, ops.shape(logits!)[last]!);
    const share = ops.reshape(ops.multiply(weights!, cotangent), [...ops.shape(weights!), 1]);
    const logarithm = ops.sum(ops.multiply(ops.logSoftmax(logits!), hit), [last]);
    return [
      ops.multiply(ops.subtract(ops.softmax(logits!), hit), share),
      undefined,
      ops.scale(ops.multiply(ops.reshape(logarithm, ops.shape(weights!)), cotangent), -1),
    ];
  },
  softmax: (ops, { output, cotangent }) => {
    const product = ops.multiply(cotangent, output);
    const total = ops.sum(product, [ops.shape(output).length - 1]);
    return [ops.subtract(product, ops.multiply(output, total))];
  },
  logSoftmax: (ops, { output, cotangent }) => {
    const total = ops.sum(cotangent, [ops.shape(output).length - 1]);
    return [ops.subtract(cotangent, ops.multiply(ops.exp(output), total))];
  },
  sigmoid: (ops, { output, cotangent }) => [ops.multiply(cotangent, ops.subtract(output, ops.square(output)))],
  silu: (ops, { inputs: [x], output, cotangent }) => {
    const s = ops.sigmoid(x!);
    return [ops.multiply(cotangent, ops.add(s, ops.subtract(output, ops.multiply(output, s))))];
  },
  inverseSquareRoot: (ops, { node, output, cotangent }) => {
    const cube = ops.multiply(output, ops.square(output));
    return [ops.multiply(cotangent, ops.scale(cube, -0.5 * node.parameters.factor))];
  },
  rmsNorm: (ops, { node, inputs: [x, gain], cotangent }) => {
    const width = ops.shape(x!).at(-1)!;
    const axis = ops.shape(x!).length - 1;
    const { epsilon, table } = node.parameters;
    const row = ops.inverseSquareRoot(ops.sum(ops.square(x!), [axis]), { factor: 1 / width, epsilon, table });
    const normal = ops.multiply(x!, row);
    const share = ops.multiply(cotangent, normal);
    const scaled = gain === undefined ? cotangent : ops.multiply(cotangent, gain);
    // Where the gain is one row, a product with it sums the row in the pass that scales it.
    const total =
      gain !== undefined && ops.shape(gain).length === 1 && ops.shape(gain)[0] === width && axis > 0
        ? ops.matmul(share, ops.reshape(gain, [width, 1]))
        : ops.sum(gain === undefined ? share : ops.multiply(share, gain), [axis]);
    const along = ops.multiply(normal, ops.scale(ops.multiply(total, row), 1 / width));
    const flow = ops.subtract(ops.multiply(scaled, row), along);
    return gain === undefined ? [flow] : [flow, unbroadcast(ops, share, ops.shape(gain))];
  },
  rotary: (ops, { inputs: [x, cos, sin], cotangent }) => {
    const axis = ops.shape(x!).length - 1;
    const half = ops.shape(x!)[axis]! / 2;
    const turned = ops.concat([ops.scale(ops.slice(x!, axis, half, 2 * half), -1), ops.slice(x!, axis, 0, half)], axis);
    return [
      ops.rotary(cotangent, cos!, backwards(ops, sin!)),
      unbroadcast(ops, ops.multiply(cotangent, x!), ops.shape(cos!)),
      unbroadcast(ops, ops.multiply(cotangent, turned), ops.shape(sin!)),
    ];
  },
  softmaxAttention: (ops, { inputs: [scores, values, mask], output, cotangent }) => {
    const hidden = ops.scale(ops.offset(mask!, -1), maskedScore);
    const weights = ops.softmax(ops.add(scores!, hidden));
    const [share, toValues] = product(ops, weights, values!, cotangent);
    // Σ weights · share over the keys is the shorter Σ output · cotangent over a head's width.
    const total = ops.sum(ops.multiply(output, cotangent), [ops.shape(output).length - 1]);
    const toScores = ops.multiply(weights, ops.subtract(share, total));
    return [toScores, toValues, ops.scale(unbroadcast(ops, toScores, ops.shape(mask!)), maskedScore)];
  },
  quadratic: (ops, { inputs: [x, a, b, c], cotangent }) => {
    const slope = ops.add(ops.multiply(x!, ops.scale(a!, 2)), b!);
    const first = ops.multiply(cotangent, x!);
    return [
      unbroadcast(ops, ops.multiply(cotangent, slope), ops.shape(x!)),
      unbroadcast(ops, ops.multiply(first, x!), ops.shape(a!)),
      unbroadcast(ops, first, ops.shape(b!)),
      unbroadcast(ops, cotangent, ops.shape(c!)),
    ];
  },
  powers: (ops, { node, inputs: [scores, mask, inverseLengths], cotangent }) => {
    const { argument, exponent } = node.parameters;
    const x = powerArgument(ops, node.parameters, scores!, mask!, inverseLengths!);
    const toArgument = exponent === 1 ? cotangent : ops.multiply(cotangent, lowered(ops, x, exponent));
    const toScores = (): Ref => {
      // Where masked the argument is zero, and with it what flows to it.
      if (argument === 'plain') return exponent === 1 ? ops.multiply(toArgument, mask!) : toArgument;
      if (argument === 'rectified') return ops.multiply(toArgument, ops.step(x));
      const mean = ops.multiply(ops.sum(toArgument, [ops.shape(x).length - 1]), inverseLengths!);
      return ops.multiply(ops.subtract(toArgument, mean), mask!);
    };
    return [ops.scale(toScores(), exponent), undefined, undefined];
  },
  nf4: (ops, { node, inputs: [codes, scales], cotangent }) => {
    const blocks = ops.shape(scales!)[0]!;
    const length = size(node.shape);
    const flat = ops.pad(ops.reshape(cotangent, [length]), 0, 0, blocks * node.parameters.block - length);
    const share = ops.multiply(ops.reshape(flat, [blocks, node.parameters.block]), nf4Units(ops, node, codes!, blocks));
    return [undefined, ops.reshape(ops.sum(share, [1]), [blocks])];
  },
  reciprocal: (ops, { output, cotangent }) => [ops.scale(ops.multiply(cotangent, ops.square(output)), -1)],
};

/** Composites with a rule of their own stay whole while a program is differentiated. */
const differentiable = new Set(Object.keys(rules).filter(isComposite));

/**
 * The program that computes everything `program` does and, for every float input named in `wrt`, an output `gradient/NAME`: the
 * derivative of the output `of` (one element). Inputs that do not influence it get zeros. Throws a `model` error for unknown names.
 * Where `segmentOf` gives a node's scope a name, the values of that segment are not kept for the way back but computed again from what
 * entered it: less memory for about a third more time. The numbers are the same.
 *
 * @example
 * ```js
 * import { gradient, referenceBackend, trace } from 'sotto/program';
 *
 * const program = trace((ops) => ({ y: ops.square(ops.input('x', [], 'client')) }));
 * const executable = await referenceBackend().compile(gradient(program, 'y', ['x']), new Map());
 * const outputs = await executable.run(new Map([['x', { shape: [], values: [3] }]]));
 * console.log(outputs.get('gradient/x').values[0]); // 6
 * ```
 */
export function gradient(
  program: Program,
  of: string,
  wrt: readonly string[],
  segmentOf: (scope: string) => string | undefined = () => undefined,
): Program {
  const names = new Set(wrt);
  // What no gradient passes through stays whole: interpreters have kernels for it.
  const source = merge(lower(program, differentiable, (some) => dependsOn(some, names)));
  const tracer = new Tracer();
  const refs = rewriteInto(tracer, source);
  const target = source.outputs.get(of) ?? unknown('output', of);
  if (size(source.nodes[target]!.shape) !== 1)
    throw new SottoError('model', `the output ${of} has shape [${source.nodes[target]!.shape}]`, {
      remedy: 'differentiate a single number',
    });
  const reached = dependsOn(source, names);
  const cotangents = new Map<number, Ref>();
  const segments = new Segments(tracer, { source, refs, cotangents }, segmentOf);
  if (reached[target] === 1) cotangents.set(target, tracer.constant([1], source.nodes[target]!.shape));
  for (let index = target; index >= 0; index--) {
    const cotangent = cotangents.get(index);
    const node = source.nodes[index]!;
    if (cotangent === undefined || node.inputs.length === 0) continue;
    tracer.within(node.scope, () =>
      pull(tracer, { node, refs: segments.values(index, cotangent), index, cotangent, reached, cotangents }),
    );
  }
  const outputs = new Map([...source.outputs].map(([name, index]) => [name, refs[index]! as number]));
  for (const name of wrt) {
    const index = source.nodes.findIndex((node) => node.operation === 'input' && node.parameters.name === name);
    if (index < 0) unknown('input', name);
    outputs.set(`gradient/${name}`, cotangents.get(index) ?? zeros(tracer, source.nodes[index]!.shape));
  }
  return prune({ nodes: tracer.nodes, outputs });
}

/** Segments of a program whose values the way back computes again. */
class Segments {
  readonly #again = new Map<string, Ref[]>();
  readonly #tracer: Tracer;
  readonly #source: Program;
  readonly #refs: readonly Ref[];
  readonly #cotangents: ReadonlyMap<number, Ref>;
  readonly #segments: readonly (string | undefined)[];
  /** Inputs and constants: nothing to compute again. */
  readonly #given: readonly boolean[];
  readonly #settled = new Set<Ref>();

  constructor(
    tracer: Tracer,
    { source, refs, cotangents }: { source: Program; refs: readonly Ref[]; cotangents: ReadonlyMap<number, Ref> },
    segmentOf: (scope: string) => string | undefined,
  ) {
    this.#tracer = tracer;
    this.#source = source;
    this.#refs = refs;
    this.#cotangents = cotangents;
    this.#given = source.nodes.map(({ operation }) => operation === 'input' || operation === 'constant');
    this.#segments = source.nodes.map((node, index) => (this.#given[index] ? undefined : segmentOf(node.scope)));
  }

  /** The values that the rule of a node may read, where the first cotangent that its segment met is `cotangent`. */
  values(index: number, cotangent: Ref): readonly Ref[] {
    const segment = this.#segments[index];
    if (segment === undefined) return this.#refs;
    const known = this.#again.get(segment) ?? this.#compute(segment, cotangent);
    this.#again.set(segment, known);
    return known;
  }

  #compute(segment: string, cotangent: Ref): Ref[] {
    const again = [...this.#refs];
    const entered = new Set<number>();
    const turn = this.#turn(cotangent);
    this.#source.nodes.forEach((node, index) => {
      if (this.#segments[index] !== segment) return;
      for (const input of node.inputs) {
        const outside = this.#segments[input] !== segment && !this.#given[input];
        if (!outside || this.#source.nodes[input]!.element !== 'float' || entered.has(input)) continue;
        entered.add(input);
        again[input] = this.#tracer.within(node.scope, () => this.#tracer.add(this.#refs[input]!, turn));
      }
      const inputs = node.inputs.map((input) => again[input]!);
      again[index] = this.#tracer.push(node.operation, inputs, node.parameters as NodeOf<Operation>['parameters'], node.scope);
    });
    return again;
  }

  /**
   * Zero, known only once the cotangent and the gradients found so far are. What is added to it cannot be computed early: interpreters
   * that merge equal nodes, or run them when they like, would otherwise undo the recomputation, or leave gradients of weights for the
   * end and keep all that they need until then.
   */
  #turn(cotangent: Ref): Ref {
    const found = [...this.#cotangents].flatMap(([index, ref]) => (this.#given[index] && !this.#settled.has(ref) ? [ref] : []));
    for (const ref of found) this.#settled.add(ref);
    const ops = this.#tracer;
    return [cotangent, ...found]
      .map((ref) => ops.slice(ops.reshape(ref, [size(ops.shape(ref))]), 0, 0, 1))
      .map((first) => ops.push('scale', [ops.reshape(first, [])], { by: 0 }))
      .reduce((sum, zero) => ops.add(sum, zero));
  }
}

function zeros(tracer: Tracer, shape: Shape): Ref {
  return tracer.broadcast(tracer.constant([0], []), shape);
}

function unknown(what: string, name: string): never {
  throw new SottoError('model', `the program has no ${what} named ${name}`, { remedy: 'name one that the model traced' });
}

type Pull = {
  node: Node;
  refs: readonly Ref[];
  index: number;
  cotangent: Ref;
  reached: Uint8Array;
  cotangents: Map<number, Ref>;
};

function pull(tracer: Tracer, { node, refs, index, cotangent, reached, cotangents }: Pull): void {
  if (!node.inputs.some((input) => reached[input] === 1)) return;
  const rule = rules[node.operation] as Rule<Operation>;
  const inputs = node.inputs.map((input) => refs[input]!);
  const flows = rule(tracer, { node: node as NodeOf<Operation>, inputs, output: refs[index]!, cotangent });
  node.inputs.forEach((input, i) => {
    const flow = flows[i];
    if (flow === undefined || reached[input] !== 1) return;
    const before = cotangents.get(input);
    cotangents.set(input, before === undefined ? flow : tracer.add(before, flow));
  });
}

/** Marks the nodes that any of the named inputs influences, so that frozen branches cost no gradient. */
function dependsOn(program: Program, names: ReadonlySet<string>): Uint8Array {
  const marks = new Uint8Array(program.nodes.length);
  program.nodes.forEach((node, index) => {
    const own = node.operation === 'input' && names.has(node.parameters.name);
    if (own || node.inputs.some((input) => marks[input] === 1)) marks[index] = 1;
  });
  return marks;
}
