import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import type { Bounded, BoundedTable, Domains, Program } from '../program/index.ts';

/**
 * What stands where the activation stood. `exact` is the one that config.json names; `quadratic` a·x² + b·x + c and `bilinear` a·x have
 * their coefficients among the weights (a bilinear gate is a product of two linear maps); `quartic` e·t⁴ + d·t³ + a·t² + b·t + c of
 * t = x / reach has too, `reach` being the largest |x| of its fit; `quad` is 0.125 x² + 0.25 x + 0.5.
 */
export type ActivationPlan =
  | { readonly kind: 'exact' }
  | { readonly kind: 'quadratic'; readonly per: 'layer' | 'channel' }
  | { readonly kind: 'quartic'; readonly per: 'layer' | 'channel'; readonly reach?: number | undefined }
  | { readonly kind: 'bilinear'; readonly per: 'layer' | 'channel' }
  | { readonly kind: 'quad' }
  | { readonly kind: 'relu' };

/** The coefficients of an activation in the checkpoint, `….act.a` and so on: of x², x and 1, and in a quartic of t³ and t⁴. */
export const coefficientsOf = {
  exact: [],
  relu: [],
  quad: [],
  bilinear: ['a'],
  quadratic: ['a', 'b', 'c'],
  quartic: ['a', 'b', 'c', 'd', 'e'],
} as const satisfies Record<ActivationPlan['kind'], readonly Coefficient[]>;
/** Of a polynomial activation, from the highest power to the constant. */
export type Coefficient = 'a' | 'b' | 'c' | 'd' | 'e';
/** The coefficients by the powers that they belong to, the constant first. */
export const coefficientOfPower = ['c', 'b', 'a', 'd', 'e'] as const;

/** What an activation divides its argument by: folded weights have that in the matrix before it. */
export const reachOf = (activation: ActivationPlan): number => ('reach' in activation ? (activation.reach ?? 1) : 1);

/** MPCFormer's fixed quadratic. */
export const fixedQuad = { a: 0.125, b: 0.25, c: 0.5 } as const;

/**
 * How scores become weights: softmax, or one of the forms of `powerAttention`, x^p / Σ x^p: `power` with x = 1 + s − mean(s), or with a
 * number a head for 1 where queries were scaled by it to keep powers small; `2quad`
 * (s + shift)²; `l2quad` (scale · s + shift)², both numbers learnt, one a head; `2relu` max(s, 0). `table` is how a ring evaluates
 * 1 / (mean power + epsilon), an argument that stays in a known range; without one it is a comparison function. `half` is how it evaluates
 * one over the mean of a row's half powers where those are divided by it first, because mean powers span too much for one table.
 */
export type AttentionPlan =
  | { readonly kind: 'softmax' }
  | ({
      readonly kind: 'power';
      readonly exponent: number;
      readonly offsets?: readonly number[] | undefined;
      /** `centred` where absent. */
      readonly form?: PowerForm | undefined;
      readonly half?: Bounded | undefined;
    } & Quotient)
  | ({ readonly kind: '2quad'; readonly shift: number } & Quotient)
  | ({ readonly kind: 'l2quad' } & Quotient)
  | ({ readonly kind: '2relu' } & Quotient);

export const powerForms = ['centred', 'plain', 'stable', 'length-agnostic'] as const;
/**
 * What a power attention raises and divides by. `centred`: 1 + s − mean(s), over the mean power. The others raise the scores themselves
 * (Power-Softmax, arXiv 2410.09457): `plain` over epsilon plus the sum of powers; `stable` the same of scores divided by the row's
 * largest, for training in floating point; `length-agnostic` over the mean power, so that epsilon means the same in rows of any length.
 */
export type PowerForm = (typeof powerForms)[number];

/** A division by a row's sum: what is added below, and how a ring evaluates it. */
export interface Quotient {
  readonly epsilon: number;
  readonly table?: Bounded | undefined;
}

/** How a ring evaluates 1/√ over a row's sum of squares: by table, by Newton's iteration, or where absent by comparisons. */
export interface NormPlan {
  readonly table?: Bounded | undefined;
}

/** What becomes of one layer's activation, attention and, where it does not stay as published, norm. */
export interface LayerPlan {
  readonly activation: ActivationPlan;
  readonly attention: AttentionPlan;
  readonly norm?: NormPlan | undefined;
}

/** The largest magnitudes that calibration saw under one scope: `maxAbs` of what is multiplied, and further figures. */
export interface ScopeRange {
  readonly maxAbs?: number | undefined;
  readonly [figure: string]: number | undefined;
}

/** What replaces what, layer by layer: stored under the key `sotto` of config.json. */
export interface Plan {
  readonly name?: string | undefined;
  readonly layers: readonly LayerPlan[];
  readonly finalNorm: NormPlan;
  /** What stands for the tanh of a text classifier's pooler; where absent, a quadratic per channel under a polynomial plan. */
  readonly pooler?: ActivationPlan | undefined;
  /** Where the table of token embeddings is no secret: the client holds it, and feeds its rows. */
  readonly embedding?: PublicEmbedding | undefined;
  /** The ring that tables and ranges were calibrated for. */
  readonly ring?: { readonly bits: number; readonly fraction: number } | undefined;
  readonly ranges?: Readonly<Record<string, ScopeRange>> | undefined;
  /** What a ring program needs of the ranges, as powers of two: clients get these, and never the figures. */
  readonly domains?: Domains | undefined;
}

/** A table that everybody may have; the SHA-256 of its numbers as little-endian F32 says which. */
export interface PublicEmbedding {
  readonly kind: 'public';
  readonly sha256: string;
}

/** What a plan must know of its model; every configuration and every shape has it. */
export interface PlannedModel {
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
}

const whole = (low: number, high: number) => z.number().int().min(low).max(high);
const positive = z
  .number()
  .gt(0)
  .max(2 ** 40);
const newton = z.strictObject({ method: z.literal('newton'), low: positive, high: positive, iterations: whole(1, 24) });
const table = z.discriminatedUnion('method', [
  z.strictObject({
    method: z.literal('table').optional(),
    rangeBits: whole(-16, 40),
    indexBits: whole(1, 16),
    extraBits: whole(0, 24),
    interpolation: z.enum(['linear', 'none']).optional(),
  }),
  newton.refine(({ low, high }) => low < high, { path: ['high'], error: 'must be above low' }),
]);
const norm = z.strictObject({ table: table.optional() });
const exponents = [2, 4, 8, 16];
const activation = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('exact') }),
  z.strictObject({ kind: z.literal('quadratic'), per: z.enum(['layer', 'channel']) }),
  z.strictObject({ kind: z.literal('quartic'), per: z.enum(['layer', 'channel']), reach: positive.optional() }),
  z.strictObject({ kind: z.literal('bilinear'), per: z.enum(['layer', 'channel']) }),
  z.strictObject({ kind: z.literal('quad') }),
  z.strictObject({ kind: z.literal('relu') }),
]);
const quotient = { epsilon: z.number().gt(0).max(1e6), table: table.optional() };
const power = z.strictObject({
  kind: z.literal('power'),
  exponent: z.number().refine((p) => exponents.includes(p), { error: `must be one of ${exponents.join(', ')}` }),
  offsets: z.array(z.number().gt(0).max(1e3)).min(1).max(4096).optional(),
  form: z.enum(powerForms).optional(),
  half: table.optional(),
  ...quotient,
});
const attention = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('softmax') }),
  // Only of centred scores is the mean of half powers one at least.
  power.refine(({ half, form = 'centred', exponent }) => half === undefined || (form === 'centred' && exponent >= 4), {
    path: ['half'],
    error: 'is for centred powers of 4 and more',
  }),
  z.strictObject({ kind: z.literal('2quad'), shift: z.number().min(-1e6).max(1e6), ...quotient }),
  z.strictObject({ kind: z.literal('l2quad'), ...quotient }),
  z.strictObject({ kind: z.literal('2relu'), ...quotient }),
]);
const range = z.object({ maxAbs: z.number().min(0).optional() }).catchall(z.number());
const exponent = whole(-60, 60).optional();
const domain = z
  .strictObject({ argument: exponent, low: exponent, high: exponent, weight: exponent })
  .refine(({ low, high }) => (low === undefined) === (high === undefined) && (low ?? 0) < (high ?? 1), {
    path: ['high'],
    error: 'must be above low',
  });
const planSchema = z.strictObject({
  name: z.string().max(200).optional(),
  layers: z.array(z.strictObject({ activation, attention, norm: norm.optional() })).max(1024),
  finalNorm: norm,
  pooler: activation.optional(),
  embedding: z.strictObject({ kind: z.literal('public'), sha256: z.string().regex(/^[0-9a-f]{64}$/) }).optional(),
  ring: z.strictObject({ bits: whole(8, 64), fraction: whole(1, 40) }).optional(),
  ranges: z.record(z.string().max(200), range).optional(),
  domains: z.record(z.string().max(200), domain).optional(),
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

/** Every layer polynomial: a quadratic (or a quartic) per channel, power attention, norms by default tables. */
export function fullPlan(model: PlannedModel, exponent: number, kind: 'quadratic' | 'quartic' = 'quadratic'): Plan {
  const table = defaultAttentionTable(exponent);
  const attention: AttentionPlan = { kind: 'power', exponent, epsilon: defaultEpsilon, table };
  return wholePlan(model, `full-p${exponent}${kind === 'quartic' ? '-quartic' : ''}`, { kind, per: 'channel' }, attention);
}

/** MPCFormer's (its fixed quadratic and 2Quad with c = 5), the same with what can be learnt, and 2ReLU. */
const variants = {
  mpcformer: [{ kind: 'quad' }, { kind: '2quad', shift: 5 }],
  'full-2quad': [
    { kind: 'quadratic', per: 'channel' },
    { kind: '2quad', shift: 5 },
  ],
  'full-l2quad': [{ kind: 'quadratic', per: 'channel' }, { kind: 'l2quad' }],
  'full-2relu': [{ kind: 'relu' }, { kind: '2relu' }],
} as const;

function variantPlan(model: PlannedModel, name: keyof typeof variants): Plan {
  const [activation, attention] = variants[name];
  // Where scores are not centred, mean squares have no usual size: a table needs calibration.
  const table = attention.kind === '2relu' ? {} : { table: { rangeBits: 8, indexBits: 12, extraBits: 8 } };
  return wholePlan(model, name, activation, { ...attention, epsilon: defaultEpsilon, ...table });
}

function wholePlan(model: PlannedModel, name: string, activation: ActivationPlan, attention: AttentionPlan): Plan {
  const norm: NormPlan = { table: defaultNormTable(model.hiddenSize) };
  const layer: LayerPlan = { activation, attention, norm };
  return { name, layers: Array.from({ length: model.numHiddenLayers }, () => layer), finalNorm: norm };
}

/** The last `count` layers polynomial (their errors travel least), the others exact. */
export function hybridPlan(model: PlannedModel, count: number, exponent = 4): Plan {
  const full = fullPlan(model, exponent);
  const first = model.numHiddenLayers - count;
  const layers = exactPlan(model).layers.map((layer, index) => (index < first ? layer : full.layers[index]!));
  return { name: `hybrid-${count}`, layers, finalNorm: full.finalNorm };
}

/**
 * A plan from its name (`exact`, `full-p2`, `full-p4`, `full-p8`, `full-p16`, the same with `-quartic`, `hybrid-K`, `mpcformer`, `full-2quad`, `full-l2quad`,
 * `full-2relu`) or from an object that nobody has checked.
 * Throws a `model` error that names the field; `source` is what errors print as the file.
 *
 * @example
 * ```js
 * import { loadModel } from 'sotto';
 * import { isPolynomial, parsePlan } from 'sotto/models';
 *
 * const { config } = await loadModel('artefacts/stories-teacher');
 * console.log(isPolynomial(parsePlan('full-p4', config))); // true
 * ```
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
  const exact = new Set<string>(['exact', 'relu', 'softmax', '2relu']);
  // A stable power looks for the largest of a row.
  const largest = (attention: AttentionPlan): boolean => attention.kind === 'power' && attention.form === 'stable';
  return plan.layers.every(
    ({ activation, attention }) => !exact.has(activation.kind) && !exact.has(attention.kind) && !largest(attention),
  );
}

function namedPlan(name: string, model: PlannedModel, source: string): Plan {
  if (name === 'exact') return exactPlan(model);
  const full = /^full-p(2|4|8|16)(-quartic)?$/.exec(name);
  if (full) return fullPlan(model, Number(full[1]), full[2] === undefined ? 'quadratic' : 'quartic');
  if (Object.hasOwn(variants, name)) return variantPlan(model, name as keyof typeof variants);
  const hybrid = /^hybrid-(\d{1,4})$/.exec(name);
  const count = Number(hybrid?.[1]);
  if (hybrid && count <= model.numHiddenLayers) return hybridPlan(model, count);
  throw new SottoError('model', `there is no plan ${JSON.stringify(name.slice(0, 80))} for ${model.numHiddenLayers} layers`, {
    place: { file: source, field: '(whole)' },
    remedy:
      'name exact, full-p2, full-p4, full-p8, full-p16 (each also -quartic), mpcformer, full-2quad, full-l2quad, full-2relu or hybrid-K with K at most the number of layers',
  });
}

const malformed = (reason: string, field: string, source: string, cause?: unknown) =>
  new SottoError('model', reason, {
    place: { file: source, field: field.slice(0, 120) },
    remedy: 'correct the plan, or name one of the built-in plans',
    cause,
  });

/** A private program with what its lowering must know of the plan's ranges. */
export const withDomains = (program: Program, { domains }: Plan): Program =>
  domains === undefined ? program : { ...program, domains };
