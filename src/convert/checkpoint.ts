import { SottoError } from '../errors/index.ts';
import type { Checkpoint } from '../models/checkpoint.ts';
import { type LlamaConfig, parseModelConfig } from '../models/config.ts';
import { traceLlama } from '../models/index.ts';
import type { Plan } from '../models/plan.ts';
import { exactPlan } from '../models/plan.ts';
import type { NamedTensor } from '../models/safetensors.ts';
import type { FloatBackend, Tensor } from '../program/index.ts';
import { fitActivation, type Initialisation } from './activation.ts';
import { fitAttention, foldShifts } from './attention.ts';
import { type CalibrationOptions, calibrate } from './calibrate.ts';
import type { Subject } from './observe.ts';

/** Rows of token ids of one length, `batch` of them a run. */
export interface CalibrationIds {
  readonly rows: readonly Int32Array[];
  readonly batch: number;
}

export interface ConversionOptions {
  readonly checkpoint: Checkpoint;
  /** What becomes of each layer. Its tables may be absent: calibration chooses them. */
  readonly plan: Plan;
  readonly calibration: CalibrationIds;
  readonly backend: FloatBackend;
  readonly initialisation: Initialisation;
  /** Weights the samples of a gate's fit by the square of what it multiplies; true by default. */
  readonly weighted?: boolean;
  readonly margin?: number;
  /** False leaves ranges and tables out, for a model that will be trained first; true by default. */
  readonly calibrated?: boolean;
  readonly progress?: (report: LayerReport) => void;
}

/** How well one layer's replacements fit on the calibration data: relative squared errors, where something was replaced. */
export interface LayerReport {
  readonly layer: number;
  readonly attention?: number;
  readonly activation?: number;
}

export interface Conversion {
  /** config.json of the converted model: the published fields and the calibrated plan under `sotto`. */
  readonly config: Record<string, unknown>;
  readonly plan: Plan;
  readonly tensors: NamedTensor[];
  readonly layers: readonly LayerReport[];
}

/** A Llama as a subject of conversion, observed on rows of token ids. Rows beyond whole batches are left out. */
export function llamaSubject(config: LlamaConfig, { rows, batch }: CalibrationIds): Subject<Plan> {
  const tokens = rows[0]?.length ?? 0;
  if (rows.length < batch || rows.some((row) => row.length !== tokens))
    throw new SottoError('input', `${rows.length} rows of token ids do not make a batch of ${batch} rows of one length`, {
      remedy: 'give more calibration text, or a smaller batch',
    });
  const shape = [batch, tokens];
  const feeds = Array.from({ length: Math.floor(rows.length / batch) }, (_, at) => {
    const values = new Int32Array(batch * tokens);
    for (let i = 0; i < batch; i++) values.set(rows[at * batch + i]!, i * tokens);
    return new Map<string, Tensor>([['ids', { shape, values }]]);
  });
  return {
    layers: config.numHiddenLayers,
    activation: config.hiddenAct,
    trace: (plan) => traceLlama(config, plan, { batch, tokens }),
    feeds,
  };
}

/**
 * Replaces what the plan replaces, layer by layer, each fitted on activations that its converted predecessors produce, then calibrates
 * ranges and tables. Nothing is trained. Errors: `model` for architectures without a conversion, `range` where no table fits.
 */
export async function convertCheckpoint(options: ConversionOptions): Promise<Conversion> {
  const { checkpoint, plan, calibration, backend } = options;
  const config = parseModelConfig(checkpoint.config);
  if (config.family !== 'llama')
    throw new SottoError('model', `there is no conversion for ${config.family} yet`, { remedy: 'convert a llama checkpoint' });
  const subject = llamaSubject(config, calibration);
  const weights = new Map<string, Tensor>(await checkpoint.readAll());
  let current: Plan = { ...exactPlan(config), ...(plan.name === undefined ? {} : { name: plan.name }) };
  const layers: LayerReport[] = [];
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const wanted = plan.layers[layer]!;
    let report: LayerReport = { layer };
    if (wanted.attention.kind === 'power') {
      const { exponent, epsilon } = wanted.attention;
      const program = subject.trace(current);
      const heads = config.numAttentionHeads;
      const fit = await fitAttention(subject, { program, layer, heads, weights, backend, exponent, epsilon });
      for (const part of ['weight', 'bias']) {
        const name = `model.layers.${layer}.self_attn.q_proj.${part}`;
        const tensor = weights.get(name);
        if (tensor !== undefined)
          weights.set(name, { shape: tensor.shape, values: foldShifts(tensor.values as Float32Array, fit.shifts) });
      }
      report = { ...report, attention: fit.relativeError };
    }
    current = withLayer(current, layer, { ...current.layers[layer]!, attention: wanted.attention });
    if (wanted.activation.kind === 'quadratic') {
      const { per } = wanted.activation;
      const { initialisation, weighted = true } = options;
      const program = subject.trace(current);
      const fit = await fitActivation(subject, { program, layer, weights, backend, per, initialisation, weighted });
      for (const part of ['a', 'b', 'c'] as const)
        weights.set(`model.layers.${layer}.mlp.act.${part}`, { shape: [fit[part].length], values: fit[part] });
      report = { ...report, activation: fit.relativeError };
    }
    current = withLayer(current, layer, wanted);
    layers.push(report);
    options.progress?.(report);
  }
  const calibrated =
    options.calibrated === false
      ? current
      : await calibrateLlama(config, current, { weights, calibration, backend, ...marginOf(options) });
  return {
    config: { ...checkpoint.config, sotto: calibrated },
    plan: calibrated,
    tensors: [...weights].map(([name, { shape, values }]) => ({ name, shape, values: values as Float32Array })),
    layers,
  };
}

const marginOf = ({ margin }: { margin?: number }) => (margin === undefined ? {} : { margin });

function withLayer(plan: Plan, layer: number, made: Plan['layers'][number]): Plan {
  return { ...plan, layers: plan.layers.map((old, index) => (index === layer ? made : old)) };
}

/** Chooses tables and records ranges of a Llama under a plan; for use again after training has moved the weights. */
export function calibrateLlama(
  config: LlamaConfig,
  plan: Plan,
  options: Omit<CalibrationOptions, 'hiddenSize' | 'normEpsilon'> & { readonly calibration: CalibrationIds },
): Promise<Plan> {
  const { calibration, ...rest } = options;
  const size = { hiddenSize: config.hiddenSize, normEpsilon: config.rmsNormEps };
  return calibrate(llamaSubject(config, calibration), plan, { ...rest, ...size });
}
