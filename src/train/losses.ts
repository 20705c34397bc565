import { SottoError } from '../errors/index.ts';
import type { Program, Ref } from '../program/index.ts';
import { prune, size, Tracer } from '../program/index.ts';
import { graft } from './graft.ts';
import { withMixedTokens } from './mixed-text.ts';

/** The weight of each term; a term of weight 0 is not computed. */
export interface LossWeights {
  /** Negative log likelihood of the next token, nats per token. */
  readonly nll?: number;
  /** Cross-entropy against the input `targets`, a distribution over the classes for each position: labels that are mixed. */
  readonly targets?: number;
  /** Forward KL(teacher ‖ student) of the softened distributions times temperature², nats per token. */
  readonly kl?: number;
  readonly temperature?: number;
  /** Mean squared difference of the logits. */
  readonly logitMse?: number;
  /** Σ(student − teacher)² / Σ teacher² of the hidden states, mean over layers. */
  readonly hiddenMse?: number;
  /** The same of the attention blocks' outputs. */
  readonly attentionMse?: number;
  /** Mean over rows of power attentions of max(0, ln(mean power / rangeLimit))². */
  readonly range?: number;
  readonly rangeLimit?: number;
  /** The norm in which rows count, 2 by default: (mean excess^norm)^(2/norm) instead of the mean of squares. A high one sees the worst rows. */
  readonly rangeNorm?: RangeNorm | undefined;
  /** Mean over norms and rows of max(0, |ln(mean square / its geometric mean over the batch)| − ln varianceLimit)². */
  readonly variance?: number | undefined;
  readonly varianceLimit?: number | undefined;
}

export const rangeNorms = [2, 4, 8, 16] as const;
export type RangeNorm = (typeof rangeNorms)[number];

/** What a term may look at: outputs by name, and where in the trace. `weights` are per position and sum to 1. */
export interface LossContext {
  readonly ops: Tracer;
  readonly weights: LossWeights;
  readonly student: ReadonlyMap<string, Ref>;
  readonly teacher: ReadonlyMap<string, Ref> | undefined;
  readonly labels: Ref;
  /** Of mixed texts: the labels of the rows mixed in, and the share of the rows' own. */
  readonly partners: { readonly labels: Ref; readonly share: Ref } | undefined;
  readonly positionWeights: Ref;
}
type Term = (context: LossContext) => Ref;
/** A term of the loss; `LossWeights` says what each is. */
export type LossTerm = 'nll' | 'targets' | 'kl' | 'logitMse' | 'hiddenMse' | 'attentionMse' | 'range' | 'variance';

/** The table of losses: another loss is another line. */
const terms: Record<LossTerm, Term> = {
  nll: ({ ops, student, labels, partners, positionWeights }) => {
    const logits = student.get('logits')!;
    const own = ops.crossEntropy(logits, labels, positionWeights);
    if (partners === undefined) return own;
    const other = ops.crossEntropy(logits, partners.labels, positionWeights);
    return ops.add(other, ops.multiply(ops.subtract(own, other), partners.share));
  },
  targets: (context) => {
    const { ops, student } = context;
    const logits = student.get('logits')!;
    const targets = ops.input('targets', ops.shape(logits), 'public');
    const perPosition = ops.sum(ops.multiply(targets, ops.logSoftmax(logits)), [ops.shape(logits).length - 1]);
    return ops.scale(weighted(context, perPosition), -1);
  },
  kl: (context) => {
    const { ops, weights, student } = context;
    const temperature = weights.temperature ?? 1;
    const [own, theirs] = [student.get('logits')!, fromTeacher(context, 'logits')].map((logits) =>
      ops.logSoftmax(ops.scale(logits, 1 / temperature)),
    ) as [Ref, Ref];
    const perToken = ops.sum(ops.multiply(ops.exp(theirs), ops.subtract(theirs, own)), [ops.shape(own).length - 1]);
    return ops.scale(weighted(context, perToken), temperature ** 2);
  },
  logitMse: (context) => {
    const { ops, student } = context;
    const own = student.get('logits')!;
    const squares = ops.square(ops.subtract(own, fromTeacher(context, 'logits')));
    const vocabulary = ops.shape(own).at(-1)!;
    return weighted(context, ops.scale(ops.sum(squares, [ops.shape(own).length - 1]), 1 / vocabulary));
  },
  hiddenMse: (context) => relativeError(context, 'hidden.'),
  attentionMse: (context) => relativeError(context, 'attention.'),
  range: (context) => rangePenalty(context),
  variance: (context) => variancePenalty(context),
};

/** Shares of positions, by their weights; another metric is another line. */
export type Metric = 'accuracy' | 'fidelity';
const metricTerms: Record<Metric, Term> = {
  /** Where the largest logit is the label's. */
  accuracy: (context) => sameClass(context, context.labels),
  /** Where the largest logit is the teacher's. */
  fidelity: (context) => sameClass(context, context.ops.argmax(fromTeacher(context, 'logits'))),
};

function sameClass(context: LossContext, classes: Ref): Ref {
  const { ops, student } = context;
  const logits = student.get('logits')!;
  const depth = ops.shape(logits).at(-1)!;
  const both = ops.multiply(
    ops.oneHot(ops.argmax(logits), depth),
    ops.oneHot(ops.reshape(classes, ops.shape(context.labels)), depth),
  );
  return weighted(context, ops.sum(both, [ops.shape(both).length - 1]));
}

const fromTeacher = ({ teacher }: LossContext, name: string): Ref => {
  const found = teacher?.get(name);
  if (found !== undefined) return found;
  throw new SottoError('usage', `a loss compares ${name} with a teacher's, and there is none`, {
    place: { field: 'losses' },
    remedy: 'train with a teacher, or leave this loss out',
  });
};

/** Σ weights · perToken (…, 1). */
const weighted = ({ ops, positionWeights }: LossContext, perToken: Ref): Ref => {
  const flat = ops.multiply(ops.reshape(perToken, ops.shape(positionWeights)), positionWeights);
  return total(ops, flat);
};
const total = (ops: Tracer, x: Ref): Ref => ops.reshape(ops.sum(ops.reshape(x, [size(ops.shape(x))]), [0]), []);

function relativeError(context: LossContext, prefix: string): Ref {
  const { ops, student } = context;
  const names = [...student.keys()].filter((name) => name.startsWith(prefix));
  const parts = names.map((name) => {
    const [own, theirs] = [student.get(name)!, fromTeacher(context, name)];
    return ops.divide(total(ops, ops.square(ops.subtract(own, theirs))), ops.offset(total(ops, ops.square(theirs)), 1e-12));
  });
  return ops.scale(addUp(ops, parts, `outputs ${prefix}*`), 1 / names.length);
}

function addUp(ops: Tracer, parts: readonly Ref[], what: string): Ref {
  if (parts.length === 0)
    throw new SottoError('usage', `a loss needs ${what}, which the model does not give`, {
      place: { field: 'losses' },
      remedy: 'leave this loss out',
    });
  return parts.reduce((sum, part) => ops.add(sum, part));
}

/**
 * Keeps the rows' mean powers, the arguments of the reciprocals' tables, below the limit: the mean over rows of
 * max(0, ln(mean power / limit))², or another norm of it. It bounds |x| as well, as |x|^p ≤ keys · mean power. Scores and masks are looked
 * up in the student's own nodes.
 */
function rangePenalty({ ops, weights }: LossContext): Ref {
  const { rangeLimit: limit = 16, rangeNorm: norm = 2 } = weights;
  const parts = [...ops.nodes].flatMap((node) => {
    if (node.operation !== 'powerAttention' || node.scope.startsWith(teacherPrefix)) return [];
    const [scores, , mask, inverseLengths] = node.inputs as [Ref, Ref, Ref, Ref];
    const axis = node.shape.length - 1;
    // The attention's own powers: they are found once.
    const power = ops.powers(scores, mask, inverseLengths, node.parameters);
    const meanPower = ops.multiply(ops.sum(power, [axis]), inverseLengths);
    const excess = ops.relu(ops.offset(ops.log(meanPower), -Math.log(limit)));
    let powers = ops.square(excess);
    for (let p = norm; p > 2; p /= 2) powers = ops.square(powers);
    const mean = ops.scale(total(ops, powers), 1 / size(ops.shape(meanPower)));
    if (norm === 2) return [mean];
    const root = ops.exp(ops.scale(ops.log(ops.offset(mean, leastMean)), 2 / norm));
    return [ops.offset(root, -(leastMean ** (2 / norm)))];
  });
  return ops.scale(addUp(ops, parts, 'power attentions'), 1 / parts.length);
}

/** Keeps the root of a mean of zeros differentiable. */
const leastMean = 1e-20;

/**
 * Keeps the mean squares (variances, of a LayerNorm) that a norm's 1/√x sees near each other, so that one table spans them: what is
 * more than the limit's factor away from their geometric mean costs the square of its logarithm beyond that.
 */
function variancePenalty({ ops, weights }: LossContext): Ref {
  const limit = Math.log(weights.varianceLimit ?? 4);
  const mean = (x: Ref): Ref => ops.scale(total(ops, x), 1 / size(ops.shape(x)));
  const parts = [...ops.nodes].flatMap((node) => {
    if ((node.operation !== 'rmsNorm' && node.operation !== 'layerNorm') || node.scope.startsWith(teacherPrefix)) return [];
    const [x] = node.inputs as [Ref];
    const axis = node.shape.length - 1;
    const overRow = (value: Ref): Ref => ops.scale(ops.sum(value, [axis]), 1 / node.shape[axis]!);
    const centred = node.operation === 'layerNorm' ? ops.subtract(x, overRow(x)) : x;
    const logarithms = ops.log(ops.offset(overRow(ops.square(centred)), node.parameters.epsilon));
    const away = ops.subtract(logarithms, mean(logarithms));
    const excess = ops.add(ops.relu(ops.offset(away, -limit)), ops.relu(ops.offset(ops.scale(away, -1), -limit)));
    return [mean(ops.square(excess))];
  });
  return ops.scale(addUp(ops, parts, 'norms'), 1 / parts.length);
}

export const teacherPrefix = 'teacher/';

/** Programs whose outputs are compared, and what each comparison weighs. */
export interface LossOptions {
  readonly student: Program;
  readonly teacher?: Program | undefined;
  readonly losses: LossWeights;
  readonly metrics?: readonly Metric[] | undefined;
  /** Both read texts mixed with others. */
  readonly mixed?: boolean | undefined;
}

/**
 * Student, and teacher where a loss needs one, and the weighted sum of losses as one program. Its outputs: `loss`, `loss/TERM`,
 * `metric/METRIC`. Its inputs beyond the students' own: `labels` and `positionWeights` (of the shape of ids, or of the pictures'
 * batch), `targets` for the loss of that name, `partners`, `partnerLabels` and `share` where texts are mixed, and `teacher/NAME` for the
 * teacher's weights. Both see the same public inputs.
 */
export function lossProgram(options: LossOptions): Program {
  const { losses, metrics = [] } = options;
  const ops = new Tracer();
  const reads = options.mixed === true ? withMixedTokens : (program: Program): Program => program;
  const student = graft(ops, reads(options.student));
  const shared = new Map<string, Ref>();
  ops.nodes.forEach((node, index) => {
    if (node.operation === 'input' && node.parameters.owner === 'public') shared.set(node.parameters.name, index as Ref);
  });
  const logits = student.get('logits')!;
  const positions = ops.shape(logits).slice(0, -1);
  const used = (Object.keys(terms) as LossTerm[]).filter((term) => (losses[term] ?? 0) !== 0);
  const teacher = options.teacher && graft(ops, reads(options.teacher), { prefix: teacherPrefix, bind: shared });
  const context: LossContext = {
    ops,
    weights: losses,
    student,
    teacher,
    labels: ops.input('labels', positions, 'public', 'index'),
    partners:
      options.mixed === true
        ? { labels: ops.input('partnerLabels', positions, 'public', 'index'), share: shared.get('share')! }
        : undefined,
    positionWeights: ops.input('positionWeights', positions, 'public'),
  };
  const outputs = new Map<string, number>();
  const parts = used.map((term) => {
    const value = ops.within(`loss.${term}`, () => terms[term](context));
    outputs.set(`loss/${term}`, value);
    return ops.scale(value, losses[term]!);
  });
  outputs.set('loss', ops.reshape(addUp(ops, parts, 'at least one weight above 0, for a model'), []));
  for (const metric of metrics)
    outputs.set(
      `metric/${metric}`,
      ops.within(`metric.${metric}`, () => metricTerms[metric](context)),
    );
  return prune({ nodes: ops.nodes, outputs });
}
