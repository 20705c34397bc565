import type { Program, Ref } from '../program/index.ts';
import { gradient, prune, size, Tracer } from '../program/index.ts';
import { floatInputs, graft } from './graft.ts';

/** AdamW (Loshchilov and Hutter): decay is decoupled and applies to matrices, not to gains, biases and coefficients. */
export interface AdamW {
  readonly kind: 'adamw';
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly decay: number;
}

/** Gradient descent with heavy-ball momentum: m ← beta1·m + g, w ← w − rate·m, decay as AdamW's. */
export interface Sgd {
  readonly kind: 'sgd';
  readonly beta1: number;
  readonly decay: number;
}
/** AdamW or SGD, with its rates. */
export type Optimiser = AdamW | Sgd;

/** A tensor that is trained: its rate is `rate` times the scalar input `learningRate`. */
export interface Trained {
  readonly name: string;
  readonly rate: number;
}

/** What a step of training moves, and how. */
export interface StepOptions {
  readonly trained: readonly Trained[];
  readonly optimiser: Optimiser;
  /** Largest Euclidean norm of all gradients together; larger ones are scaled down to it. None where null. */
  readonly clip: number | null;
  /** Computes each layer's values again on the way back instead of keeping them. */
  readonly checkpoint?: 'layers' | undefined;
  /** Adds an output `gradientNorm/PART` for every numbered layer and for the rest. */
  readonly partNorms?: boolean | undefined;
  /** Sharpness-aware minimisation: the gradient is the one found `radius` away, along the gradient here. */
  readonly sam?: { readonly radius: number } | undefined;
  /** Micro-batches whose mean gradient makes one step; 1 where absent. */
  readonly accumulate?: number | undefined;
}

/** What an optimiser keeps for each trained tensor: inputs of the tensor's shape, zero at first. */
export const optimiserStates = (name: string, kind: Optimiser['kind'] = 'adamw'): string[] =>
  Array.from({ length: updates[kind].moments }, (_, i) => `moment${i + 1}/${name}`);

type Passes = Pick<StepOptions, 'sam' | 'accumulate'>;

/** What a step of several passes sums up for each trained tensor: inputs of its shape; what they hold before a step has no effect. */
export const passStates = (name: string, { sam, accumulate = 1 }: Passes): string[] => [
  ...(sam === undefined ? [] : [`ascent/${name}`]),
  ...(accumulate === 1 ? [] : [`accumulated/${name}`]),
];

/** One run of the program of a step, over the micro-batch `micro`; only the last run of a step changes weights. */
export interface Pass {
  readonly micro: number;
  readonly last: boolean;
  /** Away from the weights, where the ascent led. */
  readonly away: boolean;
  /** What the program is fed beside the batch, the rate and the corrections. */
  readonly scalars: ReadonlyMap<string, number>;
}

/** The runs that make up one step: each micro-batch once, with SAM each once more after all of them. */
export function passes({ sam, accumulate = 1 }: Passes): Pass[] {
  if (sam === undefined && accumulate === 1) return [{ micro: 0, last: true, away: false, scalars: new Map() }];
  const phases = sam === undefined ? [false] : [false, true];
  return phases.flatMap((away) =>
    Array.from({ length: accumulate }, (_, micro): Pass => {
      const last = micro === accumulate - 1 && away === (sam !== undefined);
      const ascending = sam !== undefined && !away;
      const scalars = new Map([
        ['update', last ? 1 : 0],
        ['away', away ? 1 : 0],
        ['ascentKept', ascending && micro === 0 ? 0 : 1],
        ['ascentShare', ascending ? 1 / accumulate : 0],
        ['gradientKept', !ascending && micro > 0 ? 1 : 0],
        ['gradientShare', ascending ? 0 : 1 / accumulate],
      ]);
      return { micro, last, away, scalars };
    }),
  );
}

/**
 * A whole training step as one program. From a program with the output `loss` it makes one with, for every trained NAME and its
 * moments, an output `next/NAME`; the program's other outputs; and `gradientNorm` (before clipping). New inputs, all of shape []:
 * `learningRate`, and `correction1`, `correction2`: 1/(1 − β^t) at step t ≥ 1. A step whose loss or gradient is no number changes
 * nothing that matters: the caller sees `gradientNorm` and must stop. With SAM or accumulation a step is several runs, `passes` in
 * order, each fed its scalars as well, with `learningRate` 0 before the last; the states of `passStates` carry sums between them.
 */
export function trainingStep(program: Program, options: StepOptions): Program {
  const names = options.trained.map(({ name }) => name);
  const ops = new Tracer();
  const scalar = scalars(ops);
  const outputs = new Map<string, number>();
  const { values, parameters, gradients } = stepGradients(ops, gradient(program, 'loss', names, options.checkpoint && layerOf), {
    ...options,
    names,
    scalar,
    outputs,
  });
  const { norm, factor } = ops.within('optimiser.clip', () => clipping(ops, gradients, options.clip));
  for (const [name, value] of values) if (!name.startsWith('gradient/')) outputs.set(name, value);
  outputs.set('gradientNorm', norm);
  if (options.partNorms === true)
    for (const [part, members] of parts(names))
      outputs.set(
        `gradientNorm/${part}`,
        ops.within('optimiser.norms', () =>
          normOf(
            ops,
            members.map((i) => gradients[i]!),
          ),
        ),
      );
  const update = onePass(options) ? undefined : scalar('update');
  options.trained.forEach(({ name, rate }, i) => {
    ops.within(`optimiser.${name}`, () => {
      const parameter = parameters[i]!;
      const states = optimiserStates(name, options.optimiser.kind);
      const next = updated(ops, options.optimiser, {
        parameter,
        gradient: gradients[i]!,
        factor,
        moments: states.map((state) => ops.input(state, ops.shape(parameter), 'public')),
        rate: ops.scale(scalar('learningRate'), rate),
        scalar,
        update,
      });
      outputs.set(`next/${name}`, next.parameter);
      states.forEach((state, k) => {
        outputs.set(`next/${state}`, next.moments[k]!);
      });
    });
  });
  return prune({ nodes: ops.nodes, outputs });
}

/** The layer of a student that a scope belongs to. */
const layerOf = (scope: string): string | undefined => /^layers\.\d+/.exec(scope)?.[0];

/** Tensors by numbered layer, and the rest, in order. */
function parts(names: readonly string[]): Map<string, number[]> {
  const found = new Map<string, number[]>();
  names.forEach((name, i) => {
    const layer = /\.(\d+)\./.exec(name)?.[1];
    const part = layer === undefined ? 'rest' : `layers.${layer}`;
    found.set(part, [...(found.get(part) ?? []), i]);
  });
  return found;
}

const onePass = ({ sam, accumulate = 1 }: Passes): boolean => sam === undefined && accumulate === 1;

/** Inputs of shape [], each declared when it is first asked for. */
function scalars(ops: Tracer): (name: string) => Ref {
  const made = new Map<string, Ref>();
  return (name) => {
    const found = made.get(name) ?? ops.input(name, [], 'public');
    made.set(name, found);
    return found;
  };
}

interface GradientOptions extends Passes {
  readonly names: readonly string[];
  readonly scalar: (name: string) => Ref;
  /** Takes the next values of the sums. */
  readonly outputs: Map<string, number>;
}

/** The gradients that the step goes by: here or where SAM's ascent led, of this micro-batch and those before it. */
function stepGradients(ops: Tracer, program: Program, options: GradientOptions) {
  const { names, sam, accumulate = 1, scalar, outputs } = options;
  const shapes = floatInputs(program);
  const parameters = names.map((name) => ops.input(name, shapes.get(name)!, 'server'));
  const sums = (kind: string): Ref[] => names.map((name, i) => ops.input(`${kind}/${name}`, ops.shape(parameters[i]!), 'public'));
  const ascents = sam === undefined ? [] : sums('ascent');
  const points = sam === undefined ? parameters : moved(ops, parameters, ascents, ops.scale(scalar('away'), sam.radius));
  const bind = new Map(names.map((name, i) => [name, points[i]!]));
  const values = graft(ops, program, { bind });
  const found = names.map((name) => values.get(`gradient/${name}`)!);
  const summed = (before: readonly Ref[], kind: 'ascent' | 'gradient'): Ref[] =>
    before.map((sum, i) => ops.add(ops.multiply(sum, scalar(`${kind}Kept`)), ops.multiply(found[i]!, scalar(`${kind}Share`))));
  const name = (kind: string, refs: readonly Ref[]): void => {
    refs.forEach((ref, i) => {
      outputs.set(`next/${kind}/${names[i]}`, ref);
    });
  };
  name('ascent', summed(ascents, 'ascent'));
  if (accumulate === 1) return { values, parameters, gradients: found };
  const gradients = summed(sums('accumulated'), 'gradient');
  name('accumulated', gradients);
  return { values, parameters, gradients };
}

/** Parameters moved by `distance` along all ascents together, taken as one vector. */
function moved(ops: Tracer, parameters: readonly Ref[], ascents: readonly Ref[], distance: Ref): Ref[] {
  return ops.within('optimiser.ascent', () => {
    const step = ops.divide(distance, ops.offset(normOf(ops, ascents), 1e-12));
    return parameters.map((parameter, i) => ops.add(parameter, ops.multiply(ascents[i]!, step)));
  });
}

/** The global norm, and min(1, clip / norm). */
function clipping(ops: Tracer, gradients: readonly Ref[], clip: number | null): { norm: Ref; factor: Ref } {
  const found = normOf(ops, gradients);
  if (clip === null) return { norm: found, factor: ops.constant([1], []) };
  const limit = ops.constant([clip], []);
  return { norm: found, factor: ops.divide(limit, ops.maximum(found, limit)) };
}

/** The Euclidean norm of all tensors together. */
function normOf(ops: Tracer, tensors: readonly Ref[]): Ref {
  const squares = tensors.map((x) => ops.reshape(ops.sum(ops.reshape(ops.square(x), [size(ops.shape(x))]), [0]), []));
  return ops.sqrt(squares.reduce((sum, square) => ops.add(sum, square)));
}

interface Update {
  readonly parameter: Ref;
  readonly gradient: Ref;
  /** What clipping multiplies the gradient by. */
  readonly factor: Ref;
  readonly moments: readonly Ref[];
  readonly rate: Ref;
  readonly scalar: (name: string) => Ref;
  /** 1, or 0 for a pass that leaves the moments alone (the rate is then 0 too); always 1 where absent. */
  readonly update: Ref | undefined;
}

interface Updated {
  readonly parameter: Ref;
  readonly moments: readonly Ref[];
}
type Rule<O extends Optimiser> = (ops: Tracer, settings: O, update: Update) => Updated;

/** The table of optimisers: how many moments each keeps, and its step. */
const updates: { readonly [K in Optimiser['kind']]: { readonly moments: number; readonly rule: Rule<Optimiser & { kind: K }> } } =
  {
    adamw: { moments: 2, rule: adamW },
    sgd: { moments: 1, rule: sgd },
  };
const updated = (ops: Tracer, settings: Optimiser, update: Update): Updated =>
  (updates[settings.kind].rule as Rule<Optimiser>)(ops, settings, update);

/** What the gradient is multiplied by: clipping's factor, or zero in a pass that leaves the moments alone. */
const gradientFactor = (ops: Tracer, { factor, update }: Update): Ref =>
  update === undefined ? factor : ops.multiply(factor, update);

/** A moment times beta, or itself in a pass that leaves it alone. */
const faded = (ops: Tracer, { update }: Update, moment: Ref, beta: number): Ref =>
  update === undefined ? ops.scale(moment, beta) : ops.multiply(moment, ops.offset(ops.scale(update, beta - 1), 1));

/** A parameter after its decay, which matrices alone have. */
function decayed(ops: Tracer, { parameter, rate }: Update, decay: number): Ref {
  const plain = ops.shape(parameter).length < 2 || decay === 0;
  return plain ? parameter : ops.multiply(parameter, ops.offset(ops.scale(rate, -decay), 1));
}

/**
 * A pass over a tensor costs as much as another, so what is the same for all of its elements is multiplied first:
 * rate · (c₁m / (√(c₂v) + ε)) is (rate·c₁/√c₂) · m / (√v + ε/√c₂).
 */
function adamW(ops: Tracer, settings: AdamW, update: Update): Updated {
  const { gradient: g, moments, rate, scalar } = update;
  const factor = gradientFactor(ops, update);
  const root = ops.sqrt(scalar('correction2'));
  const m = ops.add(faded(ops, update, moments[0]!, settings.beta1), ops.multiply(g, ops.scale(factor, 1 - settings.beta1)));
  const scaled = ops.multiply(g, ops.scale(factor, Math.sqrt(1 - settings.beta2)));
  const v = ops.add(faded(ops, update, moments[1]!, settings.beta2), ops.square(scaled));
  const epsilon = ops.divide(ops.constant([settings.epsilon], []), root);
  const direction = ops.divide(m, ops.add(ops.sqrt(v), epsilon));
  const change = ops.multiply(direction, ops.divide(ops.multiply(rate, scalar('correction1')), root));
  return { parameter: ops.subtract(decayed(ops, update, settings.decay), change), moments: [m, v] };
}

function sgd(ops: Tracer, settings: Sgd, update: Update): Updated {
  const step = ops.multiply(update.gradient, gradientFactor(ops, update));
  const m = ops.add(faded(ops, update, update.moments[0]!, settings.beta1), step);
  return { parameter: ops.subtract(decayed(ops, update, settings.decay), ops.multiply(m, update.rate)), moments: [m] };
}

/** Linear warm-up to 1, then half a cosine down to `floor`, as a factor of the rate; `step` counts from 1 to `steps`. */
export function schedule(step: number, options: { steps: number; warmup: number; floor: number }): number {
  const { steps, warmup, floor } = options;
  if (step <= warmup) return step / warmup;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  return floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress));
}
