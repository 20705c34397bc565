import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { printableField } from './fields.ts';
import { isObject } from './json.ts';

/** Rotary positions beyond those trained on, as published; null is none. */
export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalMaxPositions: number;
    };

const theta = z.number().gt(0).max(1e12);
const factor = z.number().min(1).max(1e4);
const frequencyFactor = z.number().gt(0).max(1e4);
const positions = z
  .number()
  .int()
  .min(1)
  .max(2 ** 24);
/** What every kind may say beside its own. */
const common = {
  rope_type: z.string().nullish(),
  rope_theta: theta.nullish(),
  partial_rotary_factor: z.literal(1, { error: 'a part of each head that is not turned is not supported' }).nullish(),
};

const settings = z
  .preprocess(
    (raw) => (isObject(raw) ? { ...raw, type: raw.rope_type ?? raw.type ?? 'default' } : raw),
    z.discriminatedUnion(
      'type',
      [
        z.strictObject({ ...common, type: z.literal('default') }),
        // The original length is a note here: every position is divided alike.
        z.strictObject({ ...common, type: z.literal('linear'), factor, original_max_position_embeddings: positions.nullish() }),
        z
          .strictObject({
            ...common,
            type: z.literal('llama3'),
            factor,
            low_freq_factor: frequencyFactor,
            high_freq_factor: frequencyFactor,
            original_max_position_embeddings: positions,
          })
          .refine((value) => value.high_freq_factor > value.low_freq_factor, {
            path: ['high_freq_factor'],
            error: 'must exceed low_freq_factor',
          }),
      ],
      { error: 'this scaling of rotary positions is not supported: only default, linear and llama3 are' },
    ),
  )
  .transform((value): { readonly theta: number | undefined; readonly scaling: RopeScaling | null } => ({
    theta: value.rope_theta ?? undefined,
    scaling:
      value.type === 'default'
        ? null
        : value.type === 'linear'
          ? { type: value.type, factor: value.factor }
          : {
              type: value.type,
              factor: value.factor,
              lowFrequencyFactor: value.low_freq_factor,
              highFrequencyFactor: value.high_freq_factor,
              originalMaxPositions: value.original_max_position_embeddings,
            },
  }));

/** The fields of config.json that say how positions turn. Readers of different ages look in different ones of them. */
export const ropeFields = ['rope_theta', 'rope_scaling', 'rope_parameters'] as const;

/**
 * Base and scaling of rotary positions, from `rope_theta` and `rope_scaling` (transformers 4) or `rope_parameters` (5). Either may hold the
 * base too; files that say a thing twice must say the same, since published readers differ in whom they believe. Throws `model` errors.
 */
export function ropeOf(
  raw: Readonly<Record<string, unknown>>,
  file: string,
): { ropeTheta: number; ropeScaling: RopeScaling | null } {
  const top = parsed(theta.nullish(), raw.rope_theta, 'rope_theta', file);
  const nested = (['rope_scaling', 'rope_parameters'] as const).flatMap((field) => {
    const value = raw[field];
    if (value === null || value === undefined) return [];
    if (
      isObject(value) &&
      typeof value.type === 'string' &&
      typeof value.rope_type === 'string' &&
      value.type !== value.rope_type
    )
      throw disagreement(`${field}.rope_type`, 'type', file);
    return [{ field, ...parsed(settings, value, field, file) }];
  });
  const bases = [
    ...(top == null ? [] : [{ field: 'rope_theta', theta: top }]),
    ...nested.filter((one) => one.theta !== undefined),
  ];
  const strange = bases.find((one) => one.theta !== bases[0]!.theta);
  if (strange !== undefined) throw disagreement(bases[0]!.field, strange.field, file);
  const [first, second] = nested;
  if (second !== undefined && JSON.stringify(first!.scaling) !== JSON.stringify(second.scaling))
    throw disagreement(first!.field, second.field, file);
  return { ropeTheta: bases[0]?.theta ?? 10000, ropeScaling: first?.scaling ?? null };
}

const disagreement = (field: string, other: string, file: string) =>
  new SottoError('model', `the field and ${other} disagree, and published readers differ in which they believe`, {
    place: { file, field },
    remedy: 'keep the one that the model was trained with',
  });

function parsed<T extends z.ZodType>(schema: T, value: unknown, field: string, file: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const extra = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  throw new SottoError('model', extra.length > 0 ? 'sotto does not know what this field changes' : issue.message, {
    place: { file, field: printableField([field, ...issue.path, ...extra].map(String).join('.')) },
    remedy: 'correct the field, or take a checkpoint that sotto supports',
    cause: result.error,
  });
}
