import type { BoundedTable, Composite, NodeOf, Operation, Ops, Program, Ref } from '../program/index.ts';
import { lowerings, rewrite, Tracer } from '../program/index.ts';
import { teacherPrefix } from './losses.ts';

/** Fixed point in the loop: values are rounded to `fraction` bits where a ring of so many fraction bits would truncate them. */
export interface FixedInLoop {
  readonly fraction: number;
}

/** Composites that a ring takes apart into products. */
const apart: ReadonlySet<string> = new Set<Composite>(['quadratic', 'rmsNorm', 'layerNorm', 'powerAttention']);
/** Functions that a ring looks up: their arguments have F fraction bits. */
const looked: ReadonlySet<string> = new Set<Operation>(['relu', 'sigmoid', 'silu', 'gelu', 'softmax', 'tanh', 'erf', 'exp']);
/** Public values stay so under these. */
const moves: ReadonlySet<string> = new Set<Operation>([
  'reshape',
  'transpose',
  'slice',
  'broadcast',
  'concat',
  'scale',
  'offset',
]);

/**
 * A loss program whose student computes with rounded values: factors of products (weights too) have `fraction` bits after the point,
 * one over and one over the root what their tables give; sums and products with public numbers keep every bit, as in the ring. Where a ring has
 * room for maps of untruncated operands (64 bits), training is the stricter of the two. Gradients pass as if nothing were rounded. The teacher and the losses keep full precision.
 */
export function fixedInLoop(program: Program, { fraction }: FixedInLoop): Program {
  const ops = new RoundingTracer(fraction);
  return rewrite(
    program,
    (_, { node, inputs, copy }) => {
      const own = !node.scope.startsWith(teacherPrefix) && !/^(loss|metric)\./.test(node.scope);
      return own ? ops.within(node.scope, () => ops.rounded(node, inputs)) : copy();
    },
    ops,
  );
}

/** Rounds what enters a product; lowers what a ring has no operation for. */
class RoundingTracer extends Tracer {
  readonly #fraction: number;
  /** Bits after the point that a row scalar enters products with; F for all others. */
  readonly #precise = new Map<Ref, number>();
  readonly #rounded = new Map<Ref, Ref>();
  readonly #public = new Set<Ref>();

  constructor(fraction: number) {
    super();
    this.#fraction = fraction;
  }

  plain(node: NodeOf<Operation>, inputs: readonly Ref[]): Ref {
    return this.push(node.operation, inputs, node.parameters);
  }

  /** One operation of the student. */
  rounded(node: NodeOf<Operation>, inputs: readonly Ref[]): Ref {
    const [x, y] = inputs as [Ref, Ref];
    if ((node.operation === 'rmsNorm' || node.operation === 'layerNorm') && y !== undefined) {
      // A private model has gains and biases in the matrices behind the norm: nothing is rounded between.
      const normal = this.rounded(node, [x]);
      const scaled = this.push('multiply', [normal, y], {});
      return inputs.length < 3 ? scaled : this.add(scaled, inputs[2]!);
    }
    if (apart.has(node.operation)) {
      const rule = lowerings[node.operation as Composite] as (ops: Ops<Ref>, node: NodeOf<Operation>, ...inputs: Ref[]) => Ref;
      return rule(this, node, ...inputs);
    }
    switch (node.operation) {
      case 'multiply':
        return this.product('multiply', x, y);
      case 'matmul':
        return this.product('matmul', x, y);
      case 'square':
        return this.push('square', [this.shortened(x)], {});
      case 'embedding':
      case 'gather':
        return this.shortened(this.plain(node, inputs));
      case 'softmaxAttention':
        return this.plain(node, [this.shortened(x), this.shortened(y), ...inputs.slice(2)]);
      default: {
        if (looked.has(node.operation)) return this.plain(node, [this.shortened(x), ...inputs.slice(1)]);
        const made = this.plain(node, inputs);
        this.#note(node.operation, made, inputs);
        return made;
      }
    }
  }

  product(operation: 'multiply' | 'matmul', x: Ref, y: Ref): Ref {
    const free = this.#isPublic(x) || this.#isPublic(y);
    const made = this.push(operation, free ? [x, y] : [this.shortened(x), this.shortened(y)], {});
    if (this.#isPublic(x) && this.#isPublic(y)) this.#public.add(made);
    return made;
  }

  // What lowerings call.
  override multiply = (x: Ref, y: Ref): Ref => this.product('multiply', x, y);
  override matmul = (x: Ref, y: Ref): Ref => this.product('matmul', x, y);
  override square = (x: Ref): Ref => this.push('square', [this.#isPublic(x) ? x : this.shortened(x)], {});
  override reciprocal(x: Ref, options: { epsilon: number; table?: unknown }): Ref {
    return this.#rowScalar(super.reciprocal(x, options as Parameters<Tracer['reciprocal']>[1]), options.table);
  }
  override inverseSquareRoot(x: Ref, options: { factor: number; epsilon: number; table?: unknown }): Ref {
    return this.#rowScalar(super.inverseSquareRoot(x, options as Parameters<Tracer['inverseSquareRoot']>[1]), options.table);
  }
  override powers(scores: Ref, mask: Ref, inverseLengths: Ref, options: Parameters<Tracer['powers']>[3]): Ref {
    return lowerings.powers(this, { parameters: options } as NodeOf<'powers'>, scores, mask, inverseLengths);
  }
  override rmsNorm(x: Ref, options: Parameters<Tracer['rmsNorm']>[1]): Ref {
    const inputs = options.gain === undefined ? [x] : [x, options.gain];
    return lowerings.rmsNorm(this, { parameters: options } as unknown as NodeOf<'rmsNorm'>, ...inputs);
  }

  /** x to its fraction bits, with the gradient of x: x − x is zero, and its derivative one. */
  shortened(x: Ref): Ref {
    if (this.element(x) !== 'float' || this.#isPublic(x)) return x;
    const known = this.#rounded.get(x);
    if (known !== undefined) return known;
    const unit = 2 ** (this.#precise.get(x) ?? this.#fraction);
    const near = this.scale(this.push('round', [this.scale(this.stopGradient(x), unit)], {}), 1 / unit);
    const result = this.add(near, this.subtract(x, this.stopGradient(x)));
    this.#rounded.set(x, result);
    this.#rounded.set(result, result);
    return result;
  }

  #rowScalar(made: Ref, table: unknown): Ref {
    // Before calibration says how many bits more a table has, none are taken away.
    this.#precise.set(made, this.#fraction + ((table as BoundedTable | undefined)?.extraBits ?? 6));
    return made;
  }

  #isPublic(x: Ref): boolean {
    return this.nodes[x]!.operation === 'constant' || this.#public.has(x);
  }

  #note(operation: Operation, made: Ref, inputs: readonly Ref[]): void {
    if (moves.has(operation) && inputs.every((input) => this.#isPublic(input))) this.#public.add(made);
    // A value that is only moved is rounded once, and the bits of a row scalar go where it goes.
    const precise = this.#precise.get(inputs[0]!);
    if (precise !== undefined && moves.has(operation)) this.#precise.set(made, precise);
    if (operation === 'reciprocal' || operation === 'inverseSquareRoot') this.#rowScalar(made, undefined);
  }
}
