import { simulate } from '../backends/fixed/index.ts';
import { quantise, type RingParameters, type RingProgram, wordBitsOf } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { beginWrite, generateFloat, type Job, type Rehearsed, runFixed, runRehearsed, type Written } from '../jobs/index.ts';
import { createWasmKernels } from '../kernels/index.ts';
import { layoutOf, writesText } from '../models/families/index.ts';
import { type LlamaConfig, type Sampler, traceLlamaPrivate } from '../models/index.ts';
import { wordsOf } from '../models/layout.ts';
import { type EmbeddingTable, embeddingTable } from '../models/public-embedding.ts';
import { checkVocabulary } from '../models/vocabulary.ts';
import { type FloatName, withFloatBackend } from '../node/float.ts';
import type { Device } from '../node/onnx.ts';
import type { FloatBackend } from '../program/index.ts';
import { type LoadedModel, privateModel, rehearsal, requireMeasured } from './model.ts';

/** Where a text is computed in the clear: two float backends, and the exact integers of a private run. */
export type ClearBackend = FloatName | 'fixed';

export interface TextRequest {
  readonly promptIds: readonly number[];
  readonly newTokens: number;
  readonly ring: RingParameters;
  /** What a private program opens: `token`, the likeliest of each step alone. All logits where absent, and in the clear. */
  readonly reveal?: 'logits' | 'token' | undefined;
  /** Whether a private run notices values out of range: it does unless this is false. In the clear nothing asks. */
  readonly rangeFlags?: boolean | undefined;
  /** Greedy where absent. */
  readonly sample?: Sampler | undefined;
  readonly onToken?: ((id: number) => void) | undefined;
  readonly keepLogits?: boolean | undefined;
  /** Of the onnx backend; the processor where absent. */
  readonly device?: Device | undefined;
}

/** The Llama of a model that writes. Throws a `model` error for other architectures. */
export function writer(model: LoadedModel): LlamaConfig {
  if (writesText(model.config)) return model.config;
  throw new SottoError('model', `a ${model.config.family} does not write text`, {
    place: { file: model.checkpoint.files.name },
    remedy: 'classify pictures with it, or name the folder of a llama',
  });
}

/** Writes a text in the clear. */
export async function writeText(model: LoadedModel, backend: ClearBackend, request: TextRequest): Promise<Written> {
  const config = writer(model);
  if (backend === 'fixed') {
    requireMeasured(model);
    return await runFixed(privateModel(model), await writing(model, request), request.ring);
  }
  const { newTokens, reveal: _, device, ring: __, rangeFlags: ___, ...rest } = request;
  const write = async (float: FloatBackend): Promise<Written> =>
    generateFloat({
      config,
      plan: model.plan,
      weights: await model.weights(),
      backend: float,
      maxNewTokens: newTokens,
      ...rest,
    });
  return await withFloatBackend(backend, write, device);
}

/** What is written under a private program, by the client's table where the plan says that it is public. */
async function writing(model: LoadedModel, { promptIds, ...ask }: TextRequest): Promise<Job<Written>> {
  const config = writer(model);
  return beginWrite({ config, table: await clientTable(model, config) }, { ...ask, prompt: { ids: promptIds } });
}

/** How many tokens fit behind a prompt: the last one needs no position. Throws an `input` error where the prompt does not fit. */
export function fittingTokens(config: LlamaConfig, promptTokens: number, newTokens: number): number {
  const limit = config.maxPositionEmbeddings;
  if (promptTokens > limit)
    throw new SottoError('input', `the prompt has ${promptTokens} tokens, the context ${limit}`, {
      place: { field: 'prompt' },
      remedy: 'shorten the prompt',
    });
  return Math.min(newTokens, limit - promptTokens + 1);
}

/** The client's table, where the plan says that it is public. */
async function clientTable(model: LoadedModel, config: LlamaConfig): Promise<EmbeddingTable | undefined> {
  if (model.plan.embedding === undefined) return undefined;
  return embeddingTable((await model.weights()).get(wordsOf(layoutOf(config)))!.values as Float32Array, config.hiddenSize);
}

/**
 * Logits of texts in the exact integers of a private run that reads each of them as its prompt, and opens every position: for n ids n
 * rows of the vocabulary, end to end. One program serves all texts of a length.
 */
export function fixedScorer(model: LoadedModel, ring: RingParameters): (ids: Int32Array) => Promise<Float64Array> {
  const config = writer(model);
  requireMeasured(model);
  const kernels = createWasmKernels(wordBitsOf(ring.bits));
  let known: { readonly tokens: number; readonly program: RingProgram } | undefined;
  return async (ids) => {
    checkVocabulary(ids, config.vocabSize, 'prompt');
    if (known?.tokens !== ids.length) {
      const whole = { promptTokens: ids.length, newTokens: 1, everyPosition: true };
      known = { tokens: ids.length, program: quantise(traceLlamaPrivate(config, model.plan, whole), ring) };
    }
    const weights = await model.privateWeights();
    const table = await clientTable(model, config);
    const prompt = table?.rows([...ids]) ?? { shape: [ids.length], values: ids };
    const simulated = await simulate(known.program, {
      kernels,
      weights: async (name) => weights.get(name)!,
      inputs: async () => prompt,
    });
    return simulated.get('logits.0')!.values as Float64Array;
  };
}

export interface RehearsedText extends Written, Omit<Rehearsed<Written>, 'answer'> {}

/**
 * The whole protocol with client, server and dealer in this process. A text that ends early runs on to its length unseen: what the
 * run sends depends on the lengths alone. Throws a `range` error, at the run's end, where a value left the range in which it is exact.
 */
export async function rehearseText(model: LoadedModel, request: TextRequest): Promise<RehearsedText> {
  requireMeasured(model);
  const job = await writing(model, request);
  const { answer, ...costs } = await runRehearsed(privateModel(model), job, rehearsal(request.ring, request.rangeFlags));
  return { ...answer, ...costs };
}
