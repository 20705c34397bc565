import type { RingParameters } from '../backends/ring/index.ts';
import type { Logits, Sampler } from '../models/index.ts';
import { type FloatName, usualFloat } from '../node/float.ts';
import type { LoadedModel } from './model.ts';
import { writeText } from './text.ts';

/** What a backend would have said at the steps of another run. */
export interface BackendAgreement {
  /** Whether the backend, given the same tokens before, chose the same one at every step. */
  readonly sameIds: boolean;
  /** Over all logits of all steps; undefined where the run revealed none. */
  readonly maxAbsLogitError: number | undefined;
}
/** With the exact integers, and with the float backend that is there. */
export interface Agreement extends Partial<Record<FloatName, BackendAgreement>> {
  readonly fixed: BackendAgreement;
}

/** The run that backends are compared with. */
export interface AgreementRequest {
  /** Prompt and continuation of the run under test, and the logits that each new token was chosen from, where it revealed any. */
  readonly ids: readonly number[];
  readonly promptTokens: number;
  readonly logits: readonly Logits[] | undefined;
  readonly ring: RingParameters;
  /** A new one for every backend, each with the run's seed. */
  readonly sampler: () => Sampler;
}

/**
 * Runs the backends `fixed` and `onnx` (`reference` where ONNX Runtime is not installed) on a run's own tokens and compares what they would have said at every step. The process that
 * calls this has both sides' secrets: it is a test harness.
 */
export async function agree(model: LoadedModel, request: AgreementRequest): Promise<Agreement> {
  const fixed = request.logits === undefined ? await compareTokens(model, request) : await compare(model, 'fixed', request);
  const float = usualFloat();
  return { fixed, [float]: await compare(model, float, request) };
}

/** The exact integers of a run that reveals tokens alone: the choice is part of its program. Where one differs, what follows may too. */
async function compareTokens(model: LoadedModel, { ids, promptTokens, ring }: AgreementRequest): Promise<BackendAgreement> {
  const newTokens = ids.length - promptTokens;
  const own = await writeText(model, 'fixed', { promptIds: ids.slice(0, promptTokens), newTokens, ring, reveal: 'token' });
  return { sameIds: own.ids.join() === ids.join(), maxAbsLogitError: undefined };
}

async function compare(
  model: LoadedModel,
  backend: 'fixed' | FloatName,
  { ids, promptTokens, logits, ring, sampler }: AgreementRequest,
): Promise<BackendAgreement> {
  const forced = ids.slice(promptTokens);
  const choose = sampler();
  let sameIds = true;
  let maxAbsLogitError = 0;
  let step = 0;
  await writeText(model, backend, {
    promptIds: ids.slice(0, promptTokens),
    newTokens: forced.length,
    ring,
    sample: (own) => {
      const theirs = logits?.[step];
      for (let i = 0; logits !== undefined && i < own.length; i++) {
        const error = Math.abs(own[i]! - (theirs?.[i] ?? Number.NaN));
        if (!(error <= maxAbsLogitError)) maxAbsLogitError = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
      }
      const id = forced[step++]!;
      if (choose(own) !== id) sameIds = false;
      return id;
    },
  });
  return { sameIds: sameIds && step === forced.length, maxAbsLogitError: logits === undefined ? undefined : maxAbsLogitError };
}
