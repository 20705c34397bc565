import { type Costs, forecast } from '../backends/cost/index.ts';
import { simulate } from '../backends/fixed/index.ts';
import { type Rehearsal, rehearse } from '../backends/mpc/index.ts';
import {
  isFlag,
  outOfRange,
  privateProgram,
  quantise,
  type RingParameters,
  type RingProgram,
  Withheld,
  wordBitsOf,
} from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { createWasmKernels } from '../kernels/index.ts';
import {
  type GeneratedIds,
  generateFloat,
  greedy,
  type LlamaConfig,
  type Logits,
  type Sampler,
  traceLlamaPrivate,
} from '../models/index.ts';
import { type EmbeddingTable, embeddingTable, embeddingTensor } from '../models/public-embedding.ts';
import { checkVocabulary } from '../models/vocabulary.ts';
import { type FloatName, withFloatBackend } from '../node/float.ts';
import type { Device } from '../node/onnx.ts';
import { nodePlatform } from '../party/platform.ts';
import type { FloatBackend, Program, Tensor } from '../program/index.ts';
import { type LoadedModel, requireMeasured } from './model.ts';

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
  if (model.config.family === 'llama') return model.config;
  throw new SottoError('model', `a ${model.config.family} does not write text`, {
    place: { file: model.checkpoint.files.name },
    remedy: 'classify pictures with it, or name the folder of a llama',
  });
}

/** Writes a text in the clear. */
export async function writeText(model: LoadedModel, backend: ClearBackend, request: TextRequest): Promise<GeneratedIds> {
  if (backend === 'fixed') return await simulateText(model, request);
  const write = async (float: FloatBackend): Promise<GeneratedIds> =>
    generateFloat({
      config: writer(model),
      plan: model.plan,
      weights: await model.weights(),
      backend: float,
      maxNewTokens: request.newTokens,
      ...request,
    });
  return await withFloatBackend(backend, write, request.device);
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

/** The client's side of a private program that writes: its inputs by name, and what its outputs become. */
class Writing {
  readonly newIds: number[] = [];
  readonly logits: Logits[] = [];
  readonly #request: TextRequest;
  readonly #ends: readonly number[];

  readonly #table: EmbeddingTable | undefined;

  constructor(config: LlamaConfig, request: TextRequest, table: EmbeddingTable | undefined) {
    this.#table = table;
    this.#request = request;
    this.#ends = config.eosTokenIds;
  }

  get ended(): boolean {
    return this.#ends.includes(this.newIds.at(-1) ?? -1);
  }

  input(name: string): Tensor {
    const { promptIds } = this.#request;
    const ids = name === 'prompt' ? promptIds : [this.newIds.at(-1)!];
    return this.#table?.rows(ids) ?? { shape: [ids.length], values: Int32Array.from(ids) };
  }

  /** Logits, or where no more is revealed the token itself. Gives what shows it. */
  output(opened: Float64Array): () => void {
    if (this.ended) return () => undefined;
    const { sample = greedy, keepLogits = false, reveal = 'logits', onToken } = this.#request;
    const id = reveal === 'token' ? opened[0]! : sample(opened);
    if (keepLogits && reveal === 'logits') this.logits.push(opened);
    this.newIds.push(id);
    return () => onToken?.(id);
  }

  result(fitted: number): GeneratedIds {
    const { promptIds, newTokens } = this.#request;
    const stopped = this.ended ? 'eos' : fitted < newTokens ? 'context' : 'length';
    return { ids: [...promptIds, ...this.newIds], newIds: this.newIds, stopped, logits: this.logits };
  }
}

/** Ends a simulation whose text is complete. */
class TextEnded extends Error {}

interface PrivateText {
  readonly program: Program;
  readonly writing: Writing;
  readonly newTokens: number;
  readonly weight: (name: string) => Promise<Tensor>;
}

async function preparePrivately(model: LoadedModel, request: TextRequest): Promise<PrivateText> {
  const config = writer(model);
  requireMeasured(model);
  checkIds(config, request.promptIds);
  const newTokens = fittingTokens(config, request.promptIds.length, request.newTokens);
  const run = { promptTokens: request.promptIds.length, newTokens, reveal: request.reveal } as const;
  const program = traceLlamaPrivate(config, model.plan, run);
  const weights = await model.privateWeights();
  return {
    program,
    writing: new Writing(config, request, await clientTable(model, config)),
    newTokens,
    weight: async (name) => weights.get(name)!,
  };
}

/** The client's table, where the plan says that it is public. */
async function clientTable(model: LoadedModel, { hiddenSize }: LlamaConfig): Promise<EmbeddingTable | undefined> {
  if (model.plan.embedding === undefined) return undefined;
  return embeddingTable((await model.weights()).get(embeddingTensor)!.values as Float32Array, hiddenSize);
}

async function simulateText(model: LoadedModel, request: TextRequest): Promise<GeneratedIds> {
  const { program, writing, newTokens, weight } = await preparePrivately(model, request);
  try {
    await simulate(quantise(program, request.ring), {
      kernels: createWasmKernels(wordBitsOf(request.ring.bits)),
      weights: weight,
      inputs: async (name) => {
        if (writing.ended) throw new TextEnded();
        return writing.input(name);
      },
      onOutput: (_, value) => writing.output(value.values as Float64Array)(),
    });
  } catch (error) {
    if (!(error instanceof TextEnded)) throw error;
  }
  return writing.result(newTokens);
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
    checkIds(config, [...ids]);
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

export interface RehearsedText extends GeneratedIds {
  /** As counted on the channels, and as forecast from the program alone: equal. */
  readonly measured: Costs;
  readonly forecast: Costs;
  readonly ledgers: Pick<Rehearsal, 'client' | 'server'>;
}

/**
 * The whole protocol with client, server and dealer in this process. A text that ends early runs on to its length unseen: what the
 * run sends depends on the lengths alone. Throws a `range` error, at the run's end, where a value left the range in which it is exact.
 */
export async function rehearseText(model: LoadedModel, request: TextRequest): Promise<RehearsedText> {
  const { program: own, writing, newTokens, weight } = await preparePrivately(model, request);
  const program = privateProgram(own, request.ring, { rangeFlags: request.rangeFlags !== false });
  const withheld = new Withheld(program);
  let left = false;
  const platform = () => nodePlatform(request.ring.bits);
  const { measured, client, server } = await rehearse({
    program,
    platforms: { client: platform(), server: platform(), dealer: platform() },
    weight,
    input: async (name) => writing.input(name),
    output: (name, { values }) => {
      if (!isFlag(name)) withheld.add(writing.output(values as Float64Array));
      else if (values[0] === 0) withheld.told();
      else left = true;
    },
  });
  if (left) throw outOfRange();
  return { ...writing.result(newTokens), measured, forecast: forecast(program).total, ledgers: { client, server } };
}

function checkIds(config: LlamaConfig, ids: readonly number[]): void {
  if (ids.length === 0)
    throw new SottoError('input', 'the prompt is empty', {
      place: { field: 'prompt' },
      remedy: 'give at least the beginning-of-text token',
    });
  checkVocabulary(ids, config.vocabSize, 'prompt');
}
