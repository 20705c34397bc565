import type { Program, Ref } from '../program/index.ts';
import { gradient, prune, size, Tracer } from '../program/index.ts';
import { graft } from './graft.ts';

/** AdamW (Loshchilov and Hutter): decay is decoupled and applies to matrices, not to gains, biases and coefficients. */
export interface AdamW {
  readonly kind: 'adamw';
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly decay: number;
}

/** A tensor that is trained: its rate is `rate` times the scalar input `learningRate`. */
export interface Trained {
  readonly name: string;
  readonly rate: number;
}

export interface StepOptions {
  readonly trained: readonly Trained[];
  readonly optimiser: AdamW;
  /** Largest Euclidean norm of all gradients together; larger ones are scaled down to it. */
  readonly clip: number;
}

/** What an optimiser keeps for each trained tensor: inputs of the tensor's shape, zero at first. */
export const optimiserStates = (name: string): string[] => [`moment1/${name}`, `moment2/${name}`];

/**
 * A whole training step as one program. From a program with the output `loss` it makes one with, for every trained NAME and its
 * moments, an output `next/NAME`; the program's other outputs; and `gradientNorm` (before clipping). New inputs, all of shape []:
 * `learningRate`, and `correction1`, `correction2`: 1/(1 − β^t) at step t ≥ 1. A step whose loss or gradient is no number changes
 * nothing that matters: the caller sees `gradientNorm` and must stop.
 */
export function trainingStep(program: Program, options: StepOptions): Program {
  const names = options.trained.map(({ name }) => name);
  const differentiated = gradient(program, 'loss', names);
  const ops = new Tracer();
  const values = graft(ops, differentiated);
  const inputs = new Map<string, Ref>();
  ops.nodes.forEach((node, index) => {
    if (node.operation === 'input') inputs.set(node.parameters.name, index as Ref);
  });
  const gradients = names.map((name) => values.get(`gradient/${name}`)!);
  const { norm, factor } = ops.within('optimiser.clip', () => clipping(ops, gradients, options.clip));
  const scalars = {
    rate: ops.input('learningRate', [], 'public'),
    correction1: ops.input('correction1', [], 'public'),
    correction2: ops.input('correction2', [], 'public'),
  };
  const outputs = new Map<string, number>([...values].filter(([name]) => !name.startsWith('gradient/')));
  outputs.set('gradientNorm', norm);
  options.trained.forEach(({ name, rate }, i) => {
    ops.within(`optimiser.${name}`, () => {
      const parameter = inputs.get(name)!;
      const update = adamW(ops, options.optimiser, {
        parameter,
        gradient: gradients[i]!,
        factor,
        moments: optimiserStates(name).map((state) => ops.input(state, ops.shape(parameter), 'public')) as [Ref, Ref],
        ...scalars,
        rate: ops.scale(scalars.rate, rate),
      });
      outputs.set(`next/${name}`, update.parameter);
      optimiserStates(name).forEach((state, k) => {
        outputs.set(`next/${state}`, update.moments[k]!);
      });
    });
  });
  return prune({ nodes: ops.nodes, outputs });
}

/** The global norm, and min(1, clip / norm). */
function clipping(ops: Tracer, gradients: readonly Ref[], clip: number): { norm: Ref; factor: Ref } {
  const squares = gradients.map((g) => ops.reshape(ops.sum(ops.reshape(ops.square(g), [size(ops.shape(g))]), [0]), []));
  const norm = ops.sqrt(squares.reduce((sum, square) => ops.add(sum, square)));
  const limit = ops.constant([clip], []);
  return { norm, factor: ops.divide(limit, ops.maximum(norm, limit)) };
}

interface Update {
  readonly parameter: Ref;
  readonly gradient: Ref;
  /** What clipping multiplies the gradient by. */
  readonly factor: Ref;
  readonly moments: readonly [Ref, Ref];
  readonly rate: Ref;
  readonly correction1: Ref;
  readonly correction2: Ref;
}

/**
 * A pass over a tensor costs as much as another, so what is the same for all of its elements is multiplied first:
 * rate · (c₁m / (√(c₂v) + ε)) is (rate·c₁/√c₂) · m / (√v + ε/√c₂).
 */
function adamW(ops: Tracer, settings: AdamW, update: Update): { parameter: Ref; moments: [Ref, Ref] } {
  const { parameter, gradient: g, factor, moments, rate, correction1, correction2 } = update;
  const root = ops.sqrt(correction2);
  const m = ops.add(ops.scale(moments[0], settings.beta1), ops.multiply(g, ops.scale(factor, 1 - settings.beta1)));
  const scaled = ops.multiply(g, ops.scale(factor, Math.sqrt(1 - settings.beta2)));
  const v = ops.add(ops.scale(moments[1], settings.beta2), ops.square(scaled));
  const epsilon = ops.divide(ops.constant([settings.epsilon], []), root);
  const direction = ops.divide(m, ops.add(ops.sqrt(v), epsilon));
  const change = ops.multiply(direction, ops.divide(ops.multiply(rate, correction1), root));
  const plain = ops.shape(parameter).length < 2 || settings.decay === 0;
  const kept = plain ? parameter : ops.multiply(parameter, ops.offset(ops.scale(rate, -settings.decay), 1));
  return { parameter: ops.subtract(kept, change), moments: [m, v] };
}

/** Linear warm-up to 1, then half a cosine down to `floor`, as a factor of the rate; `step` counts from 1 to `steps`. */
export function schedule(step: number, options: { steps: number; warmup: number; floor: number }): number {
  const { steps, warmup, floor } = options;
  if (step <= warmup) return step / warmup;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  return floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress));
}
