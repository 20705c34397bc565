import { SottoError } from '../errors/index.ts';
import { powerOf } from '../models/block.ts';
import type { Checkpoint } from '../models/checkpoint.ts';
import { parseModelConfig } from '../models/config.ts';
import {
  type ActivationPlan,
  type AttentionPlan,
  coefficientOfPower,
  type LayerPlan,
  type Plan,
  planOf,
} from '../models/plan.ts';
import type { NamedTensor } from '../models/safetensors.ts';
import type { FloatBackend, Tensor } from '../program/index.ts';
import { fitActivation, fitLine, type Initialisation } from './activation.ts';
import { type AttentionFit, fitAttention, foldShifts } from './attention.ts';
import { type CalibrationOptions, calibrate, headRanges } from './calibrate.ts';
import type { Subject } from './observe.ts';
import { type Calibration, subjectOf } from './subjects.ts';

/** What is converted, into which plan, and on which samples its fits look. */
export interface ConversionOptions {
  /** Published, or converted in part already. */
  readonly checkpoint: Pick<Checkpoint, 'config' | 'readAll'>;
  /** What becomes of each layer; what already is so stays as it is. Its tables may be absent: calibration chooses them. */
  readonly plan: Plan;
  readonly calibration: Calibration;
  readonly backend: FloatBackend;
  readonly initialisation: Initialisation;
  /** Weights the samples of a gate's fit by the square of what it multiplies; true by default. */
  readonly weighted?: boolean;
  /** Decides the coefficients of `naive`. */
  readonly seed?: number;
  /** See CalibrationOptions. */
  readonly margin?: number;
  readonly ring?: CalibrationOptions['ring'];
  readonly method?: CalibrationOptions['method'];
  /** Scales the queries of heads whose powers meet a larger |x| in calibration so that it is this. The model stays the same function. */
  readonly headRange?: number | undefined;
  /** The same where the powers of a row, or powers times values, sum up to more: what decides how many fraction bits a narrow ring has. */
  readonly headSum?: number | undefined;
  /** See AttentionFit. */
  readonly meanPowerLimit?: number;
  /** False leaves ranges and tables out, for a model that will be trained first; true by default. */
  readonly calibrated?: boolean;
  /** After each layer, with the errors of its fits. */
  readonly progress?: (report: LayerReport) => void;
}

/** How well one layer's replacements fit on the calibration data: relative squared errors, where something was replaced. */
export interface LayerReport {
  readonly layer: number;
  readonly attention?: number;
  readonly activation?: number;
}

/** A converted model in memory: `writeConversion` makes a checkpoint folder of it. */
export interface Conversion {
  /** config.json of the converted model: the published fields and the calibrated plan under `sotto`. */
  readonly config: Record<string, unknown>;
  readonly plan: Plan;
  readonly tensors: NamedTensor[];
  readonly layers: readonly LayerReport[];
}

/**
 * Replaces what the plan replaces, layer by layer, each fitted on activations that its converted predecessors produce, then calibrates
 * ranges and tables. Nothing is trained. Errors: `model` for architectures without a conversion, `range` where no table fits.
 */
export async function convertCheckpoint(options: ConversionOptions): Promise<Conversion> {
  const { checkpoint, plan, backend } = options;
  const config = parseModelConfig(checkpoint.config);
  const subject = subjectOf(config, options.calibration);
  const weights = new Map<string, Tensor>(await checkpoint.readAll());
  let current: Plan = { ...planOf(config), ...nameOf(plan) };
  const layers: LayerReport[] = [];
  for (let layer = 0; layer < subject.layout.numHiddenLayers; layer++) {
    const { attention, activation } = plan.layers[layer]!;
    const own = current.layers[layer]!;
    checkKept(own, plan.layers[layer]!, layer);
    const at: Place = { subject, layer, weights, backend };
    const attentionError =
      own.attention.kind === 'softmax' ? await replaceAttention(at, current, attention, limitOf(options)) : undefined;
    current = withLayer(current, layer, { ...own, attention });
    const replaced =
      'per' in activation && own.activation.kind === 'exact'
        ? await replaceActivation(at, current, activation, options)
        : undefined;
    current = withLayer(current, layer, {
      ...plan.layers[layer]!,
      activation: replaced?.activation ?? kept(own.activation, activation),
    });
    const report = {
      layer,
      ...(attentionError === undefined ? {} : { attention: attentionError }),
      ...(replaced === undefined ? {} : { activation: replaced.relativeError }),
    };
    layers.push(report);
    options.progress?.(report);
  }
  if (options.headRange !== undefined || options.headSum !== undefined)
    current = await rescaled({ subject, weights, backend }, current, options);
  const calibrated =
    options.calibrated === false ? current : await calibrate(subject, current, { weights, backend, ...calibrationOf(options) });
  return {
    config: { ...checkpoint.config, sotto: calibrated },
    plan: calibrated,
    tensors: [...weights].map(([name, { shape, values }]) => ({ name, shape, values: values as Float32Array })),
    layers,
  };
}

/** What was converted before can be kept, not undone or changed. */
function checkKept(own: LayerPlan, wanted: LayerPlan, layer: number): void {
  const activation = own.activation.kind === 'exact' || same(own.activation, wanted.activation);
  const attention = own.attention.kind === 'softmax' || same(own.attention, wanted.attention);
  if (activation && attention) return;
  throw new SottoError('model', 'the layer is converted already, in another way', {
    place: { scope: `layers.${layer}.${activation ? 'attention.weights' : 'mlp.act'}` },
    remedy: 'start from the published checkpoint, or keep what this one has',
  });
}

/** What a layer that was converted before had fitted stays. */
const kept = (own: ActivationPlan, wanted: ActivationPlan): ActivationPlan => (own.kind === 'exact' ? wanted : own);

/** Alike but for what is fitted: their tables, which calibration chooses, and how far a quartic reaches. */
const same = (a: object, b: object): boolean => bare(a) === bare(b);
const bare = (part: object): string =>
  JSON.stringify(
    Object.entries(part)
      .filter(([name]) => !['table', 'half', 'reach'].includes(name))
      .sort(([one], [other]) => (one < other ? -1 : 1)),
  );

interface Place {
  readonly subject: Subject<Plan>;
  readonly layer: number;
  /** Changed in place. */
  readonly weights: Map<string, Tensor>;
  readonly backend: FloatBackend;
}

/**
 * Fits what an attention has to fit: the shifts of a layer's heads, which are folded into its query matrix, or scale and shift of an
 * `l2quad`, which are weights. Gives the relative error, or undefined where the plan's form has nothing to fit.
 */
async function replaceAttention(
  { subject, layer, weights, backend }: Place,
  plan: Plan,
  attention: AttentionPlan,
  limit: { meanPowerLimit?: number },
): Promise<number | undefined> {
  if (attention.kind !== 'l2quad' && (attention.kind !== 'power' || powerOf(attention).argument !== 'centred')) return undefined;
  const settings: AttentionFit = {
    ...limit,
    epsilon: attention.epsilon,
    ...(attention.kind === 'power' ? { exponent: attention.exponent } : { exponent: 2, centre: 'head' }),
  };
  const program = subject.trace(plan);
  const fit = await fitAttention(subject, { ...settings, program, layer, heads: subject.layout.heads, weights, backend });
  if (fit.means !== undefined) {
    const { means } = fit;
    const put = (part: 'scale' | 'shift', f: (c: number, head: number) => number): void => {
      weights.set(`${subject.layout.block(layer).attention.quad}.${part}`, {
        shape: [subject.layout.heads],
        values: Float32Array.from(fit.shifts, f),
      });
    };
    put('scale', (c) => 1 / c);
    put('shift', (c, head) => 1 - means[head]! / c);
    return fit.relativeError;
  }
  scaleQueries({ subject, layer, weights }, fit.shifts);
  return fit.relativeError;
}

/**
 * Scales every head of a power attention whose largest |x| or sum on calibration is above what is asked for so that it is that: its queries,
 * the number that stands for 1, and with it epsilon. Weights are quotients, so that nothing else changes; but in a ring the powers are as
 * small as asked for. What lies within it stays: scaled up, the powers of a head that looks everywhere would sum up to more than any other's.
 */
async function rescaled(
  at: Omit<Place, 'layer'>,
  plan: Plan,
  { headRange = Number.POSITIVE_INFINITY, headSum = Number.POSITIVE_INFINITY }: Pick<ConversionOptions, 'headRange' | 'headSum'>,
): Promise<Plan> {
  const { subject, weights, backend } = at;
  let made = plan;
  for (let layer = 0; layer < subject.layout.numHiddenLayers; layer++) {
    const { attention } = plan.layers[layer]!;
    if (attention.kind !== 'power') continue;
    const offsets = attention.offsets ?? Array.from({ length: subject.layout.heads }, () => 1);
    const { exponent } = attention;
    const { largest, sums } = await headRanges(subject, { plan: made, layer, weights, backend });
    const factors = largest.map((most, head) => Math.max(1, most / headRange, (sums[head]! / headSum) ** (1 / exponent)));
    scaleQueries({ ...at, layer }, factors);
    const scaled = { ...attention, offsets: offsets.map((offset, head) => offset / factors[head]!) };
    made = withLayer(made, layer, { ...made.layers[layer]!, attention: scaled });
  }
  return made;
}

/** Divides the queries of every head. */
function scaleQueries({ subject, layer, weights }: Omit<Place, 'backend'>, by: Float64Array): void {
  for (const part of ['weight', 'bias']) {
    const name = `${subject.layout.block(layer).attention.query.name}.${part}`;
    const tensor = weights.get(name);
    if (tensor === undefined) continue;
    weights.set(name, { shape: tensor.shape, values: foldShifts(tensor.values as Float32Array, by) });
  }
}

/** Fits a layer's polynomials or lines and adds their coefficients to the weights; gives what the plan has of them and the relative error. */
async function replaceActivation(
  { subject, layer, weights, backend }: Place,
  plan: Plan,
  activation: ActivationPlan & { per: 'layer' | 'channel' },
  { initialisation, weighted = true, seed }: Pick<ConversionOptions, 'initialisation' | 'weighted' | 'seed'>,
): Promise<{ activation: ActivationPlan; relativeError: number }> {
  const { kind, per } = activation;
  const program = subject.trace(plan);
  const options = { program, layer, weights, backend, per, initialisation, weighted, seed };
  if (kind === 'bilinear') {
    const { a, relativeError } = await fitLine(subject, options);
    weights.set(`${subject.layout.block(layer).mlp.act}.a`, { shape: [a.length], values: a });
    return { activation, relativeError };
  }
  const { coefficients, reach, relativeError } = await fitActivation(subject, { ...options, degree: kind === 'quartic' ? 4 : 2 });
  coefficients.forEach((values, power) => {
    weights.set(`${subject.layout.block(layer).mlp.act}.${coefficientOfPower[power]}`, { shape: [values.length], values });
  });
  return { activation: kind === 'quartic' ? { ...activation, reach } : activation, relativeError };
}

const limitOf = ({ meanPowerLimit }: { meanPowerLimit?: number }) => (meanPowerLimit === undefined ? {} : { meanPowerLimit });
const nameOf = ({ name }: Plan) => (name === undefined ? {} : { name });
const calibrationOf = ({ margin, ring, method }: ConversionOptions) => ({
  ...(margin === undefined ? {} : { margin }),
  ...(ring === undefined ? {} : { ring }),
  method,
});

function withLayer(plan: Plan, layer: number, made: Plan['layers'][number]): Plan {
  return { ...plan, layers: plan.layers.map((old, index) => (index === layer ? made : old)) };
}
