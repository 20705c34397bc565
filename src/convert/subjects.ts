import { SottoError } from '../errors/index.ts';
import { traceBert } from '../models/bert.ts';
import type { BertConfig, LlamaConfig, ModelConfig, VitConfig } from '../models/config.ts';
import { classifiesPictures, classifiesTexts, writesText } from '../models/families/index.ts';
import { layoutOf, traceLlama, traceVit } from '../models/index.ts';
import type { Plan } from '../models/plan.ts';
import type { Tensor } from '../program/index.ts';
import type { Targets } from './fisher.ts';
import type { Subject } from './observe.ts';

/** Rows of token ids of one length, `batch` of them a run. */
export interface CalibrationIds {
  readonly rows: readonly Int32Array[];
  readonly batch: number;
}

/** Batches of preprocessed pictures, each (batch, C, S, S) and all of one shape. */
export interface CalibrationPixels {
  readonly pixels: readonly Tensor[];
  /** The classes of each batch, for fits that weigh by the loss. */
  readonly labels?: readonly Int32Array[] | undefined;
}
/** Texts as an encoder reads them. */
export interface CalibrationTexts {
  readonly encoded: readonly { readonly ids: ArrayLike<number>; readonly types: ArrayLike<number> }[];
}
/**
 * Samples that fits and ranges look at: rows of token ids, encoded texts or pairs, or preprocessed pixels, as the family reads.
 */
export type Calibration = CalibrationIds | CalibrationPixels | CalibrationTexts;

/** The subject that a configuration describes, observed on data of its kind; anything else is a `usage` error. */
export function subjectOf(config: ModelConfig, calibration: Calibration): Subject<Plan> {
  if (writesText(config) && 'rows' in calibration) return llamaSubject(config, calibration);
  if (classifiesPictures(config) && 'pixels' in calibration) return vitSubject(config, calibration);
  if (classifiesTexts(config) && 'encoded' in calibration) return bertSubject(config, calibration);
  throw new SottoError('usage', `a ${config.family} cannot be calibrated on ${'pixels' in calibration ? 'pictures' : 'texts'}`, {
    remedy: 'give texts for a language model, pictures for a vision model',
  });
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
    ...common(config),
    trace: (plan) => traceLlama(config, plan, { batch, tokens, blocks: 1 }),
    feeds,
    targets: feeds.map((feed) => nextTokens(feed.get('ids')!.values as Int32Array, { batch, tokens })),
  };
}

/** Each token's successor in its row; the last of a row has none and weighs nothing. */
function nextTokens(ids: Int32Array, { batch, tokens }: { batch: number; tokens: number }): Targets {
  const shape = [batch, tokens];
  const last = (i: number): boolean => i % tokens === tokens - 1;
  const weight = 1 / Math.max(1, batch * (tokens - 1));
  return {
    labels: { shape, values: ids.map((id, i) => (last(i) ? id : ids[i + 1]!)) },
    weights: { shape, values: Float32Array.from(ids, (_, i) => (last(i) ? 0 : weight)) },
  };
}

/** A vision transformer as a subject of conversion. */
export function vitSubject(config: VitConfig, { pixels, labels }: CalibrationPixels): Subject<Plan> {
  const shape = pixels[0]?.shape ?? [];
  const side = config.imageSize;
  const due = [shape[0] ?? 1, config.numChannels, side, side];
  if (pixels.length === 0 || pixels.some((tensor) => tensor.shape.join() !== due.join()))
    throw new SottoError('input', 'the pictures are none, or not all of one batch and of the size that the model takes', {
      remedy: `give tensors of shape [${due}]`,
    });
  return {
    ...common(config),
    trace: (plan) => traceVit(config, plan, { batch: due[0]! }),
    feeds: pixels.map((tensor) => new Map([['pixels', tensor]])),
    targets: labels?.map((values) => ({
      labels: { shape: [values.length], values },
      weights: { shape: [values.length], values: new Float32Array(values.length).fill(1 / values.length) },
    })),
  };
}

/** A BERT that classifies, observed on texts of one length a feed. */
export function bertSubject(config: BertConfig, { encoded }: CalibrationTexts): Subject<Plan> {
  if (encoded.length === 0)
    throw new SottoError('input', 'there is no calibration text', {
      remedy: 'give at least one text of the kind that it classifies',
    });
  const tokens = Math.max(...encoded.map(({ ids }) => ids.length));
  const padded = (values: ArrayLike<number>): Tensor => {
    const row = new Int32Array(tokens);
    row.set(values);
    return { shape: [1, tokens], values: row };
  };
  return {
    ...common(config),
    trace: (plan) => traceBert(config, plan, { batch: 1, tokens }),
    feeds: encoded.map(({ ids, types }) => {
      const mask = new Float32Array(tokens).fill(1, 0, ids.length);
      return new Map<string, Tensor>([
        ['ids', padded(ids)],
        ['types', padded(types)],
        ['mask', { shape: [1, tokens], values: mask }],
      ]);
    }),
  };
}

const common = (config: ModelConfig) => ({ config, layout: layoutOf(config) });
