import { z } from 'zod';
import { initialisations } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { activationNames } from '../models/config.ts';
import { pathProblem } from '../models/files.ts';
import { powerForms } from '../models/plan.ts';
import { rangeNorms } from './losses.ts';

const count = (limit: number) => z.number().int().min(1).max(limit);
const share = z.number().min(0).max(1);
const weight = z.number().min(0).max(1e6);

const optimiserSchema = z.strictObject({
  kind: z.enum(['adamw', 'sgd']),
  /** Learning rate after the warm-up. */
  rate: z.number().gt(0).max(1),
  /** Factor of the rate for the coefficients of activations. */
  coefficientRate: z.number().min(0).max(100).default(1),
  warmup: z.number().int().min(0).max(1e7).default(0),
  /** Share of the rate that is left at the last step. */
  floor: share.default(0.1),
  beta1: share.default(0.9),
  beta2: share.default(0.95),
  epsilon: z.number().gt(0).max(1).default(1e-8),
  decay: z.number().min(0).max(10).default(0),
  /** Largest norm of all gradients together; null leaves them as they are. */
  clip: z.number().gt(0).max(1e6).nullable().default(1),
  /** Sharpness-aware minimisation: two passes a step, the second `radius` away along the first one's gradient. */
  sam: z.strictObject({ radius: z.number().gt(0).max(100) }).optional(),
});

const path = z
  .string()
  .max(1024)
  .refine((name) => pathProblem(name) === null, { error: 'the path must stay inside the data folder' });

/** One data set of a mixture, streamed from the data folder. */
const mixturePartSchema = z.strictObject({
  file: path,
  /** `alpaca`: rows of instruction, input and output, whose prompts are read but not learnt. */
  format: z.enum(['jsonl', 'json', 'alpaca', 'text', 'parquet']),
  /** Where a row has its text. */
  field: z.string().min(1).max(200).default('text'),
  /** Rows of this set, out of the sum of all shares. */
  share: count(1e6),
});

/** Texts as a whole, or a mixture of data sets in exact proportions. */
const dataSchema = z.strictObject({
  /** Text files, looked up in the data folder, joined in this order. */
  text: z.array(z.string().min(1).max(1024)).min(1).max(64).optional(),
  mixture: z.array(mixturePartSchema).min(1).max(64).optional(),
  separator: z.string().min(1).max(100).default('<|endoftext|>'),
  /** Every n-th document (of each data set) is held back for evaluation. */
  holdOutEvery: z.number().int().min(2).max(1e6).default(20),
  /** Every n-th further one is used by nothing at all: for a last report. */
  reserveEvery: z.number().int().min(2).max(1e6).optional(),
});

/** Further documents, none of them held back: what a model writes, for where there is little text. */
const writtenSchema = z.strictObject({
  /** The writer's folder, looked up in the models folder. */
  model: z.string().min(1).max(1024),
  texts: count(1e7),
  /** Tokens of the writer a text, at most. */
  length: count(2 ** 17),
  temperature: z.number().min(0).max(10).default(1),
  seed: z
    .number()
    .int()
    .min(0)
    .max(2 ** 48),
});

const seed = z
  .number()
  .int()
  .min(0)
  .max(2 ** 48);

/** What texts and pictures have in common. */
const steps = {
  name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,79}$/),
  seed,
  batch: count(2 ** 14),
  steps: count(1e8),
  /** Micro-batches of `batch` rows whose mean gradient makes one step; 1 where absent. */
  accumulate: count(1e4).optional(),
  optimiser: optimiserSchema,
  /** Computes each layer's values again on the way back instead of keeping them: less memory, more time. */
  checkpoint: z.literal('layers').optional(),
  /** Adds the gradient's norm of every layer to the log. */
  logGradientNorms: z.boolean().optional(),
  checkpointEvery: count(1e8).default(100),
  evaluateEvery: count(1e8).default(100),
  /** What the result's weights are stored in. */
  dtype: z.enum(['F32', 'F16', 'BF16']).default('F32'),
};

const common = {
  ...steps,
  data: dataSchema,
  written: writtenSchema.optional(),
  /** Tokens a row. */
  context: count(2 ** 17),
  /** Rows of held-back text per evaluation, at most. */
  evaluateRows: count(1e6).default(64),
};

const split = {
  /** Pictures held back for evaluation, chosen by `splitSeed` alone: a teacher and its students hold back the same ones. */
  heldOut: count(1e6).default(5000),
  splitSeed: seed.default(0),
  /** Takes the first ones only. */
  limit: count(1e8).optional(),
};
const classNames = z.array(z.string().min(1).max(200)).min(2).max(65536).optional();

/** Labelled pictures, looked up in the data folder. */
const pictureDataSchema = z.discriminatedUnion('format', [
  /** MNIST's: two files, packed with gzip or not. */
  z.strictObject({ format: z.literal('idx'), images: path, labels: path, classes: count(256).default(10), ...split }),
  /** `under/class/name.jpg` in a tar, packed with gzip or not. */
  z.strictObject({ format: z.literal('tar'), file: path, under: path.optional(), classes: classNames, ...split }),
  z.strictObject({ format: z.literal('folder'), folder: path, under: path.optional(), classes: classNames, ...split }),
  /** The published binary batches. */
  z.strictObject({ format: z.enum(['cifar10', 'cifar100']), files: z.array(path).min(1).max(64), ...split }),
]);

const augmentationSchema = z.strictObject({
  randAugment: z.strictObject({ operations: z.number().int().min(0).max(14), magnitude: z.number().min(0).max(10) }).optional(),
  cropPadding: z.number().int().min(0).max(1024).optional(),
  flip: z.boolean().optional(),
  fill: z.number().int().min(0).max(255).optional(),
  translation: share.optional(),
  /** Mixup: a weight from Beta(alpha, alpha) for each batch. Labels are mixed like the pixels; a teacher reads the mixed pixels. */
  mixup: z.strictObject({ alpha: z.number().gt(0).max(1000) }).optional(),
});

const vision = {
  ...steps,
  data: pictureDataSchema,
  augmentation: augmentationSchema.optional(),
  /** Held-back pictures per evaluation, at most. */
  evaluateRows: count(1e6).default(5000),
};

const visionPretrainSchema = z.strictObject({
  kind: z.literal('vision-pretrain'),
  ...vision,
  model: z.strictObject({
    hiddenSize: count(2 ** 14),
    intermediateSize: count(2 ** 16),
    layers: count(512),
    heads: count(1024),
    /** Pixels a side; divides the pictures' side. */
    patchSize: count(4096),
    activation: z.enum(activationNames).default('gelu'),
    normEpsilon: z.number().gt(0).max(0.1).default(1e-6),
  }),
  /** What a channel's values in [0, 1] are shifted and divided by; grey pictures take the first. */
  normalise: z
    .strictObject({
      mean: z.tuple([share, share, share]),
      deviation: z.tuple([z.number().gt(0).max(1), z.number().gt(0).max(1), z.number().gt(0).max(1)]),
    })
    .default({ mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] }),
});

const pretrainSchema = z.strictObject({
  kind: z.literal('pretrain'),
  ...common,
  tokenizer: z.strictObject({ vocabularySize: count(2 ** 20) }),
  model: z.strictObject({
    hiddenSize: count(2 ** 14),
    intermediateSize: count(2 ** 16),
    layers: count(512),
    heads: count(1024),
    keyValueHeads: count(1024),
    ropeTheta: z.number().gt(0).max(1e12).default(10000),
    normEpsilon: z.number().gt(0).max(0.1).default(1e-5),
    /** Power attention in place of softmax from the first step on. */
    power: z
      .strictObject({
        exponent: z.union([2, 4, 8, 16].map((value) => z.literal(value))),
        form: z.enum(powerForms).optional(),
        /** Weight of the penalty on mean powers above `rangeLimit`. */
        range: weight.default(0.5),
        rangeLimit: z.number().gt(0).max(1e6).default(6),
        /** Weight of the penalty on mean squares before norms far from their middle. */
        variance: weight.default(0.05),
        margin: z.number().min(1).max(1e3).default(4),
        calibrationRows: count(1e5).default(16),
      })
      .optional(),
  }),
});

export const lossSchema = z.strictObject({
  nll: weight.default(0),
  kl: weight.default(0),
  temperature: z.number().gt(0).max(100).default(1),
  logitMse: weight.default(0),
  hiddenMse: weight.default(0),
  attentionMse: weight.default(0),
  range: weight.default(0),
  rangeLimit: z.number().gt(0).max(1e6).default(16),
  /** The norm in which the rows' excesses count: 2, 4, 8 or 16; the higher, the more the worst rows alone. */
  rangeNorm: z.union(rangeNorms.map((value) => z.literal(value))).optional(),
  /** Penalty on mean squares before norms that are more than a factor of `varianceLimit` (4) from their geometric mean. */
  variance: weight.optional(),
  varianceLimit: z.number().gt(1).max(1e6).optional(),
});

const conversionSchema = z.strictObject({
  /** Exponent of the power that replaces softmax: 2, 4, 8 or 16; 0 keeps softmax. */
  exponent: z.union([0, 2, 4, 8, 16].map((value) => z.literal(value))),
  /** What the power raises and divides by: see the plan's forms. */
  form: z.enum(powerForms).optional(),
  /** `none` keeps the activation. */
  activation: z.enum(['none', 'layer', 'channel']),
  /** Of the polynomial that replaces it: 2, or 4 where arguments span too much for a parabola. */
  degree: z.union([z.literal(2), z.literal(4)]).optional(),
  /** How many layers are converted, counted from the last; all where absent. */
  layers: count(512).optional(),
  /** Widens the heads of a Llama to so many dimensions first, a multiple of what they have: powers tell keys apart by more of them. */
  headDim: count(1024).optional(),
  initialisation: z.enum(initialisations).default('direct'),
  /** Rows of text, or pictures, of the fits and of the final calibration. */
  calibrationRows: count(1e5).default(16),
  /** Attention starts with mean powers below this; training may sharpen it from there. */
  meanPowerLimit: z.number().min(1).max(1e9).default(200),
  /** What the tables' ranges allow beyond what calibration saw. */
  margin: z.number().min(1).max(1e3).default(2),
});

/** Trains low-rank adapters and the activations' coefficients alone; the adapters are merged into the result. */
const loraSchema = z.strictObject({
  rank: count(1024),
  alpha: z.number().gt(0).max(1e4).default(16),
  /** Matrices by the last part of their names: q_proj, query. */
  matrices: z.array(z.string().min(1).max(100)).min(1).max(64),
});

/** Progressive replacement: each stage converts (or leaves) what the one before trained, and trains it; rates warm up and fall anew. */
const stageSchema = z.strictObject({
  /** How many layers are converted from here on, counted from the last; the recipe's number where absent. */
  layers: count(512).optional(),
  steps: count(1e8),
  /** In place of the recipe's, where given. */
  losses: lossSchema.optional(),
  conversion: conversionSchema.omit({ layers: true, headDim: true }).optional(),
  optimiser: z
    .strictObject({
      rate: z.number().gt(0).max(1).optional(),
      coefficientRate: z.number().min(0).max(100).optional(),
      warmup: z.number().int().min(0).max(1e7).optional(),
    })
    .optional(),
});

/** How the matrices of layers are held: 4-bit codes, `block` elements to a scale. */
const packingSchema = z.strictObject({
  format: z.literal('nf4'),
  block: z.union([16, 32, 64, 128, 256].map((value) => z.literal(value))).default(64),
  /** The blocks' scales as 8-bit codes, 256 to a scale. */
  doubleQuantisation: z.boolean().optional(),
});

/** What distillations have in common. */
const student = {
  /** The teacher's folder, looked up in the models folder. */
  teacher: z.string().min(1).max(1024),
  conversion: conversionSchema,
  lora: loraSchema.optional(),
  /** With adapters: the student's matrices, which are held, in 4 bits. */
  base: packingSchema.optional(),
  /** The teacher's matrices in 4 bits; full precision where absent. */
  teacherBase: packingSchema.optional(),
  /** Rounds the student's values to so many fraction bits where a ring would truncate them. */
  quantise: z.strictObject({ fraction: z.number().int().min(2).max(24) }).optional(),
  losses: lossSchema,
  /** 0 converts and calibrates alone. With stages it is the sum of theirs. */
  steps: z.number().int().min(0).max(1e8),
  stages: z.array(stageSchema).min(1).max(64).optional(),
};

const distillSchema = z.strictObject({
  kind: z.literal('distill'),
  ...common,
  ...student,
  /** Mixup of the embeddings of two rows: a weight from Beta(alpha, alpha) for each batch. The teacher reads the mixture too. */
  mixup: z.strictObject({ alpha: z.number().gt(0).max(1000) }).optional(),
});

const visionDistillSchema = z.strictObject({
  kind: z.literal('vision-distill'),
  ...vision,
  ...student,
});

const recipeSchema = z.discriminatedUnion('kind', [pretrainSchema, distillSchema, visionPretrainSchema, visionDistillSchema]);
/** A training as a file describes it, checked and with its defaults filled in; `kind` tells which. */
export type Recipe = z.output<typeof recipeSchema>;
/** A model that writes, from random weights or from a checkpoint, on texts. */
export type PretrainRecipe = z.output<typeof pretrainSchema>;
/** A converted model that writes, which learns from the model that it was made from. */
export type DistillRecipe = z.output<typeof distillSchema>;
/** A vision transformer, from random weights or from a checkpoint, on labelled pictures. */
export type VisionPretrainRecipe = z.output<typeof visionPretrainSchema>;
/** A converted vision transformer, which learns from the model that it was made from. */
export type VisionDistillRecipe = z.output<typeof visionDistillSchema>;
/** A recipe that reads pictures. */
export type VisionRecipe = VisionPretrainRecipe | VisionDistillRecipe;
export type TextRecipe = PretrainRecipe | DistillRecipe;

/** Checks a recipe and fills in its defaults. Unknown keys and values out of range are `input` errors that name the field. */
export function parseRecipe(raw: unknown, file = 'recipe'): Recipe {
  const result = recipeSchema.safeParse(raw);
  if (result.success) return checkStages(result.data, file);
  const issue = result.error.issues[0]!;
  const keys = issue.code === 'unrecognized_keys' ? issue.keys : [];
  throw new SottoError('input', issue.message.slice(0, 300), {
    place: { file, field: [...issue.path, ...keys.slice(0, 1)].map(String).join('.').slice(0, 120) || '(whole)' },
    remedy: 'correct the field; the folder recipes/ has examples',
    cause: result.error,
  });
}

function checkText(recipe: Recipe, file: string): void {
  if (recipe.kind !== 'pretrain' && recipe.kind !== 'distill') return;
  const { text, mixture } = recipe.data;
  const problem =
    (text === undefined) === (mixture === undefined)
      ? 'a recipe reads either texts or a mixture'
      : mixture !== undefined && recipe.kind === 'pretrain'
        ? 'a tokenizer is trained on texts, not on a mixture'
        : mixture !== undefined && recipe.written !== undefined
          ? 'what a model writes is added to texts, not to a mixture'
          : undefined;
  if (problem === undefined) return;
  throw new SottoError('input', problem, { place: { file, field: 'data' }, remedy: 'give one of text and mixture' });
}

function checkStages(recipe: Recipe, file: string): Recipe {
  checkText(recipe, file);
  const stages = 'stages' in recipe ? recipe.stages : undefined;
  const sum = stages?.reduce((total, { steps }) => total + steps, 0) ?? recipe.steps;
  if ('base' in recipe && recipe.base !== undefined && recipe.lora === undefined)
    throw new SottoError('input', 'matrices in 4 bits cannot be trained', {
      place: { file, field: 'base' },
      remedy: 'add adapters (lora)',
    });
  if (sum === recipe.steps) return recipe;
  throw new SottoError('input', `the stages have ${sum} steps together, the recipe says ${recipe.steps}`, {
    place: { file, field: 'steps' },
    remedy: 'give the sum of the stages',
  });
}
