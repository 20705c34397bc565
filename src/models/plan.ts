import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import type { BoundedTable } from '../program/index.ts';

/** What stands where the activation stood. `exact` is the one that config.json names; coefficients of a quadratic are weights. */
export type ActivationPlan =
  | { readonly kind: 'exact' }
  | { readonly kind: 'quadratic'; readonly per: 'layer' | 'channel' }
  | { readonly kind: 'relu' };

/** How scores become weights: softmax, or the centred power of `powerAttention` with its table of 1 / (mean power + epsilon). */
export type AttentionPlan =
  | { readonly kind: 'softmax' }
  | { readonly kind: 'power'; readonly exponent: number; readonly epsilon: number; readonly table?: BoundedTable | undefined };

/** The table of 1/√ over a row's sum of squares; without one the norm runs on float backends only. */
export interface NormPlan {
  readonly table?: BoundedTable | undefined;
}

export interface LayerPlan {
  readonly activation: ActivationPlan;
  readonly attention: AttentionPlan;
  readonly norm?: NormPlan | undefined;
}

/** The largest magnitudes that calibration saw under one scope; further figures may stand beside `maxAbs`. */
export interface ScopeRange {
  readonly maxAbs: number;
  readonly [figure: string]: number;
}

/** What replaces what, layer by layer: stored under the key `sotto` of config.json. */
export interface Plan {
  readonly name?: string | undefined;
  readonly layers: readonly LayerPlan[];
  readonly finalNorm: NormPlan;
  /** What stands for the tanh of a text classifier's pooler; where absent, a quadratic per channel under a polynomial plan. */
  readonly pooler?: ActivationPlan | undefined;
  /** The ring that tables and ranges were calibrated for. */
  readonly ring?: { readonly bits: number; readonly fraction: number } | undefined;
  readonly ranges?: Readonly<Record<string, ScopeRange>> | undefined;
}

/** What a plan must know of its model; every configuration and every shape has it. */
export interface PlannedModel {
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
}

const whole = (low: number, high: number) => z.number().int().min(low).max(high);
const table = z.strictObject({
  rangeBits: whole(-16, 40),
  indexBits: whole(1, 16),
  extraBits: whole(0, 24),
  interpolation: z.enum(['linear', 'none']).optional(),
});
const norm = z.strictObject({ table: table.optional() });
const exponents = [2, 4, 8, 16];
const activation = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('exact') }),
  z.strictObject({ kind: z.literal('quadratic'), per: z.enum(['layer', 'channel']) }),
  z.strictObject({ kind: z.literal('relu') }),
]);
const attention = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('softmax') }),
  z.strictObject({
    kind: z.literal('power'),
    exponent: z.number().refine((p) => exponents.includes(p), { error: `must be one of ${exponents.join(', ')}` }),
    epsilon: z.number().gt(0).max(1e6),
    table: table.optional(),
  }),
]);
const range = z.object({ maxAbs: z.number().min(0) }).catchall(z.number());
const planSchema = z.strictObject({
  name: z.string().max(200).optional(),
  layers: z.array(z.strictObject({ activation, attention, norm: norm.optional() })).max(1024),
  finalNorm: norm,
  pooler: activation.optional(),
  ring: z.strictObject({ bits: whole(8, 64), fraction: whole(1, 40) }).optional(),
  ranges: z.record(z.string().max(200), range).optional(),
});

/** Where no calibration has said better: row sums of squares up to twice the width, one node a unit. */
export function defaultNormTable(hiddenSize: number): BoundedTable {
  const bits = Math.max(11, Math.ceil(Math.log2(hiddenSize)) + 1);
  return { rangeBits: bits, indexBits: 13, extraBits: 4, interpolation: 'none' };
}

/** The same for the mean power of a row (powers are divided by the row's length before the reciprocal). */
export function defaultAttentionTable(exponent: number): BoundedTable {
  return exponent <= 4 ? { rangeBits: 5, indexBits: 10, extraBits: 8 } : { rangeBits: 7, indexBits: 11, extraBits: 10 };
}

export const defaultEpsilon = 1e-3;

/** The published model as it is. */
export function exactPlan(model: PlannedModel): Plan {
  const layer: LayerPlan = { activation: { kind: 'exact' }, attention: { kind: 'softmax' } };
  return { name: 'exact', layers: Array.from({ length: model.numHiddenLayers }, () => layer), finalNorm: {} };
}

/** Every layer polynomial: a quadratic per channel, power attention, norms by default tables. */
export function fullPlan(model: PlannedModel, exponent: number): Plan {
  const layers = Array.from({ length: model.numHiddenLayers }, () => polynomialLayer(model, exponent));
  return { name: `full-p${exponent}`, layers, finalNorm: { table: defaultNormTable(model.hiddenSize) } };
}

/** The last `count` layers polynomial (their errors travel least), the others exact. */
export function hybridPlan(model: PlannedModel, count: number, exponent = 4): Plan {
  const full = fullPlan(model, exponent);
  const first = model.numHiddenLayers - count;
  const layers = exactPlan(model).layers.map((layer, index) => (index < first ? layer : full.layers[index]!));
  return { name: `hybrid-${count}`, layers, finalNorm: full.finalNorm };
}

function polynomialLayer(model: PlannedModel, exponent: number): LayerPlan {
  return {
    activation: { kind: 'quadratic', per: 'channel' },
    attention: { kind: 'power', exponent, epsilon: defaultEpsilon, table: defaultAttentionTable(exponent) },
    norm: { table: defaultNormTable(model.hiddenSize) },
  };
}

/**
 * A plan from its name (`exact`, `full-p2`, `full-p4`, `full-p8`, `full-p16`, `hybrid-K`) or from an object that nobody has checked.
 * Throws a `model` error that names the field; `source` is what errors print as the file.
 */
export function parsePlan(value: unknown, model: PlannedModel, source = 'plan'): Plan {
  if (typeof value === 'string') return namedPlan(value, model, source);
  const result = planSchema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0]!;
    const extra = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 3) : [];
    throw malformed(issue.message, [...issue.path, ...extra].map(String).join('.') || '(whole)', source, result.error);
  }
  const { layers } = result.data;
  if (layers.length !== model.numHiddenLayers)
    throw malformed(`the plan has ${layers.length} layers, the model ${model.numHiddenLayers}`, 'layers', source);
  return result.data;
}

/** The plan that a checkpoint carries under the key `sotto`; the exact one where it carries none. */
export function planOf(config: PlannedModel & { readonly plan: unknown }, file = 'config.json'): Plan {
  return config.plan === undefined ? exactPlan(config) : parsePlan(config.plan, config, `${file}, sotto`);
}

/** What stands for the tanh of a text classifier's pooler. */
export const poolerPlan = (plan: Plan): ActivationPlan =>
  plan.pooler ?? (isPolynomial(plan) ? { kind: 'quadratic', per: 'channel' } : { kind: 'exact' });

/** True where no part of the plan needs an exponential, an error function or a comparison. */
export function isPolynomial(plan: Plan): boolean {
  return plan.layers.every((layer) => layer.activation.kind === 'quadratic' && layer.attention.kind === 'power');
}

function namedPlan(name: string, model: PlannedModel, source: string): Plan {
  if (name === 'exact') return exactPlan(model);
  const full = /^full-p(2|4|8|16)$/.exec(name);
  if (full) return fullPlan(model, Number(full[1]));
  const hybrid = /^hybrid-(\d{1,4})$/.exec(name);
  const count = Number(hybrid?.[1]);
  if (hybrid && count <= model.numHiddenLayers) return hybridPlan(model, count);
  throw new SottoError('model', `there is no plan ${JSON.stringify(name.slice(0, 80))} for ${model.numHiddenLayers} layers`, {
    place: { file: source, field: '(whole)' },
    remedy: 'name exact, full-p2, full-p4, full-p8, full-p16 or hybrid-K with K at most the number of layers',
  });
}

const malformed = (reason: string, field: string, source: string, cause?: unknown) =>
  new SottoError('model', reason, {
    place: { file: source, field: field.slice(0, 120) },
    remedy: 'correct the plan, or name one of the built-in plans',
    cause,
  });
