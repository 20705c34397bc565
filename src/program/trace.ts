import { elementOf, shapeOf } from './shapes.ts';
import type {
  Bounded,
  Element,
  Node,
  NodeOf,
  Operation,
  Ops,
  Owner,
  PowerArgument,
  Powers,
  Program,
  Ref,
  Shape,
} from './types.ts';

/** How a ring evaluates the function where it is not to be exact; comparisons and exact divisions where absent. */
export type Table = { table?: Bounded | undefined };

/** Records what a model does as a program. Also used to build programs from programs (lowering, gradients). */
export class Tracer implements Ops<Ref> {
  readonly nodes: Node[] = [];
  #scope = '';

  /** Appends a node of any operation; the one place where shapes are computed. */
  push<P extends Operation>(operation: P, inputs: readonly Ref[], parameters: NodeOf<P>['parameters'], scope = this.#scope): Ref {
    const draft = { operation, inputs, parameters, scope } as unknown as Node;
    const shape = shapeOf(
      draft,
      inputs.map((i) => this.nodes[i]!.shape),
    );
    const element = elementOf(
      draft,
      inputs.map((i) => this.nodes[i]!.element),
    );
    return (this.nodes.push({ ...draft, shape, element }) - 1) as Ref;
  }

  input(name: string, shape: Shape, owner: Exclude<Owner, 'shared'>, element: Element = 'float'): Ref {
    return this.push('input', [], { name, shape, owner, element });
  }
  constant(values: ArrayLike<number>, shape: Shape, element: Element = 'float'): Ref {
    return this.push('constant', [], { shape, values: Float64Array.from(values), element });
  }
  reshape(x: Ref, shape: Shape): Ref {
    return this.shape(x).join() === shape.join() ? x : this.push('reshape', [x], { shape });
  }
  transpose(x: Ref, permutation: readonly number[]): Ref {
    return permutation.every((axis, i) => axis === i) ? x : this.push('transpose', [x], { permutation });
  }
  slice(x: Ref, axis: number, start: number, end: number): Ref {
    return start === 0 && end === this.shape(x)[axis] ? x : this.push('slice', [x], { axis, start, end });
  }
  pad(x: Ref, axis: number, before: number, after: number): Ref {
    return before === 0 && after === 0 ? x : this.push('pad', [x], { axis, before, after });
  }
  concat(parts: readonly Ref[], axis: number): Ref {
    return parts.length === 1 ? parts[0]! : this.push('concat', parts, { axis });
  }
  broadcast(x: Ref, shape: Shape): Ref {
    return this.shape(x).join() === shape.join() ? x : this.push('broadcast', [x], { shape });
  }
  add(x: Ref, y: Ref): Ref {
    return this.push('add', [x, y], {});
  }
  subtract(x: Ref, y: Ref): Ref {
    return this.push('subtract', [x, y], {});
  }
  multiply(x: Ref, y: Ref): Ref {
    return this.push('multiply', [x, y], {});
  }
  divide(x: Ref, y: Ref): Ref {
    return this.push('divide', [x, y], {});
  }
  maximum(x: Ref, y: Ref): Ref {
    return this.push('maximum', [x, y], {});
  }
  scale(x: Ref, by: number): Ref {
    return by === 1 ? x : this.push('scale', [x], { by });
  }
  offset(x: Ref, by: number): Ref {
    return by === 0 ? x : this.push('offset', [x], { by });
  }
  square(x: Ref): Ref {
    return this.push('square', [x], {});
  }
  exp(x: Ref): Ref {
    return this.push('exp', [x], {});
  }
  log(x: Ref): Ref {
    return this.push('log', [x], {});
  }
  sqrt(x: Ref): Ref {
    return this.push('sqrt', [x], {});
  }
  tanh(x: Ref): Ref {
    return this.push('tanh', [x], {});
  }
  erf(x: Ref): Ref {
    return this.push('erf', [x], {});
  }
  step(x: Ref): Ref {
    return this.push('step', [x], {});
  }
  round(x: Ref): Ref {
    return this.push('round', [x], {});
  }
  stopGradient(x: Ref): Ref {
    return this.push('stopGradient', [x], {});
  }
  matmul(x: Ref, y: Ref): Ref {
    return this.push('matmul', [x, y], {});
  }
  sum(x: Ref, axes: readonly number[]): Ref {
    return axes.every((axis) => this.shape(x)[axis] === 1) ? x : this.push('sum', [x], { axes });
  }
  max(x: Ref, axis: number): Ref {
    return this.push('max', [x], { axis });
  }
  gather(table: Ref, indices: Ref): Ref {
    return this.push('gather', [table, indices], {});
  }
  scatterAdd(indices: Ref, values: Ref, rows: number): Ref {
    return this.push('scatterAdd', [indices, values], { rows });
  }
  oneHot(indices: Ref, depth: number): Ref {
    return this.push('oneHot', [indices], { depth });
  }
  argmax(x: Ref): Ref {
    return this.push('argmax', [x], {});
  }

  relu(x: Ref): Ref {
    return this.push('relu', [x], {});
  }
  sigmoid(x: Ref): Ref {
    return this.push('sigmoid', [x], {});
  }
  silu(x: Ref): Ref {
    return this.push('silu', [x], {});
  }
  gelu(x: Ref): Ref {
    return this.push('gelu', [x], {});
  }
  quadratic(x: Ref, a: Ref, b: Ref, c: Ref): Ref {
    return this.push('quadratic', [x, a, b, c], {});
  }
  softmax(x: Ref): Ref {
    return this.push('softmax', [x], {});
  }
  logSoftmax(x: Ref): Ref {
    return this.push('logSoftmax', [x], {});
  }
  reciprocal(x: Ref, options: { epsilon: number } & Table): Ref {
    return this.push('reciprocal', [x], { epsilon: options.epsilon, table: options.table });
  }
  inverseSquareRoot(x: Ref, options: { factor: number; epsilon: number } & Table): Ref {
    return this.push('inverseSquareRoot', [x], { factor: options.factor, epsilon: options.epsilon, table: options.table });
  }
  rmsNorm(x: Ref, options: { gain?: Ref | undefined; epsilon: number } & Table): Ref {
    const inputs = options.gain === undefined ? [x] : [x, options.gain];
    return this.push('rmsNorm', inputs, { epsilon: options.epsilon, table: options.table });
  }
  layerNorm(x: Ref, options: { gain?: Ref | undefined; bias?: Ref | undefined; epsilon: number } & Table): Ref {
    const inputs = options.gain === undefined || options.bias === undefined ? [x] : [x, options.gain, options.bias];
    return this.push('layerNorm', inputs, { epsilon: options.epsilon, table: options.table });
  }
  rotary(x: Ref, cos: Ref, sin: Ref): Ref {
    return this.push('rotary', [x, cos, sin], {});
  }
  softmaxAttention(scores: Ref, values: Ref, mask: Ref): Ref {
    return this.push('softmaxAttention', [scores, values, mask], {});
  }
  powers(scores: Ref, mask: Ref, inverseLengths: Ref, { argument, offsets, exponent }: Powers): Ref {
    return this.push('powers', [scores, mask, inverseLengths], { argument, offsets, exponent });
  }
  powerAttention(
    scores: Ref,
    values: Ref,
    mask: Ref,
    inverseLengths: Ref,
    options: {
      argument?: PowerArgument | undefined;
      offsets?: readonly number[] | undefined;
      exponent: number;
      epsilon: number;
      half?: Bounded | undefined;
    } & Table,
    secret?: { readonly keep: Ref; readonly shares: Ref } | undefined,
  ): Ref {
    const { argument = 'centred', offsets, exponent, epsilon, table, half } = options;
    const parameters = { argument, offsets, exponent, epsilon, table, half };
    const counted = secret === undefined ? [] : [secret.keep, secret.shares];
    return this.push('powerAttention', [scores, values, mask, inverseLengths, ...counted], parameters);
  }
  embedding(table: Ref, indices: Ref): Ref {
    return this.push('embedding', [table, indices], {});
  }
  crossEntropy(logits: Ref, labels: Ref, weights: Ref): Ref {
    return this.push('crossEntropy', [logits, labels, weights], {});
  }

  nf4(codes: Ref, scales: Ref, options: { shape: Shape; block: number }): Ref {
    return this.push('nf4', [codes, scales], { shape: options.shape, block: options.block });
  }

  shape(x: Ref): Shape {
    return this.nodes[x]!.shape;
  }
  element(x: Ref): Element {
    return this.nodes[x]!.element;
  }
  transposed(x: Ref): Ref {
    const rank = this.shape(x).length;
    return this.transpose(x, [...Array(rank - 2).keys(), rank - 1, rank - 2]);
  }
  scope<R>(label: string, body: () => R): R {
    const outer = this.#scope;
    this.#scope = outer === '' ? label : `${outer}.${label}`;
    try {
      return body();
    } finally {
      this.#scope = outer;
    }
  }
  /** Runs `body` with the scope set to exactly `scope`. */
  within<R>(scope: string, body: () => R): R {
    const outer = this.#scope;
    this.#scope = scope;
    try {
      return body();
    } finally {
      this.#scope = outer;
    }
  }
}

/**
 * The program of what `model` computes, with its named results as outputs. Throws a `model` error where shapes do not fit.
 *
 * @example
 * ```js
 * import { referenceBackend, trace } from 'sotto/program';
 *
 * const program = trace((ops) => ({ y: ops.square(ops.input('x', [2], 'client')) }));
 * const executable = await referenceBackend().compile(program, new Map());
 * const { values } = (await executable.run(new Map([['x', { shape: [2], values: [3, -4] }]]))).get('y');
 * console.log([...values].join()); // 9,16
 * ```
 */
export function trace(model: (ops: Ops<Ref>) => Readonly<Record<string, Ref>>): Program {
  const tracer = new Tracer();
  const outputs = new Map(Object.entries(model(tracer)));
  return prune({ nodes: tracer.nodes, outputs });
}

/** The same program without the nodes that no output needs (inputs stay: they are the program's signature). */
export function prune(program: Program): Program {
  const needed = new Uint8Array(program.nodes.length);
  for (const index of program.outputs.values()) needed[index] = 1;
  for (let i = program.nodes.length - 1; i >= 0; i--) {
    const node = program.nodes[i]!;
    if (node.operation === 'input') needed[i] = 1;
    if (needed[i] === 1) for (const input of node.inputs) needed[input] = 1;
  }
  const moved = new Int32Array(program.nodes.length);
  const nodes: Node[] = [];
  program.nodes.forEach((node, i) => {
    if (needed[i] === 0) return;
    moved[i] = nodes.push({ ...node, inputs: node.inputs.map((input) => moved[input]!) } as Node) - 1;
  });
  return { nodes, outputs: new Map([...program.outputs].map(([name, index]) => [name, moved[index]!])) };
}
