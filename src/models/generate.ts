import { SottoError } from '../errors/index.ts';
import type { Executable, FloatBackend, Program, Tensor } from '../program/index.ts';
import type { LlamaConfig } from './configuration.ts';
import { rotaryRows, traceLlamaStep } from './llama.ts';
import type { Plan } from './plan.ts';
import { greedy, type Logits, type Sampler } from './sample.ts';
import { checkVocabulary } from './vocabulary.ts';

export interface FloatModel {
  readonly config: LlamaConfig;
  readonly plan: Plan;
  /** Published tensors by name; others are ignored. */
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly backend: FloatBackend;
}

/** A prompt as token ids, and how it is to be continued. */
export interface GenerationRequest {
  readonly promptIds: readonly number[];
  readonly maxNewTokens: number;
  /** Greedy where absent. */
  readonly sample?: Sampler | undefined;
  /** Each new token as it is chosen. An error that it throws ends the text. */
  readonly onToken?: ((id: number) => void) | undefined;
  /** Keeps the logits that each new token was chosen from. */
  readonly keepLogits?: boolean | undefined;
}

export interface GeneratedIds {
  /** Prompt and new ids; an end-of-text id is the last where one came. */
  readonly ids: readonly number[];
  readonly newIds: readonly number[];
  /** What ended it: an end-of-text id, the number asked for, or the end of the context. */
  readonly stopped: 'eos' | 'length' | 'context';
  /** Per new token, (V); empty unless kept. */
  readonly logits: readonly Logits[];
}

/** A compiled step program that writes any number of texts, one at a time. */
export interface TextGenerator {
  /** Positions of a text, prompt included. */
  readonly capacity: number;
  /** Throws an `input` error where the prompt is empty, longer than the capacity, or has ids outside of the vocabulary. */
  generate(request: GenerationRequest): Promise<GeneratedIds>;
  /** Frees the compiled program. */
  close(): Promise<void>;
}

/** Compiles the step program of a model. `capacity` is at most, and without it exactly, the length the model was made for. */
export async function openGenerator(model: FloatModel, options: { capacity?: number } = {}): Promise<TextGenerator> {
  const capacity = options.capacity ?? model.config.maxPositionEmbeddings;
  const program = traceLlamaStep(model.config, model.plan, { capacity });
  const step = await model.backend.compile(program, boundWeights(program, model.weights));
  return {
    capacity,
    generate: (request) => generate(model.config, step, capacity, request),
    close: () => step.close(),
  };
}

/** One text in the clear; `openGenerator` is cheaper for several. Throws an `input` error where the prompt is empty or too long. */
export async function generateFloat(options: FloatModel & GenerationRequest): Promise<GeneratedIds> {
  const limit = options.config.maxPositionEmbeddings;
  checkPrompt(options.config, options, limit);
  const capacity = Math.min(limit, options.promptIds.length + options.maxNewTokens);
  const generator = await openGenerator(options, { capacity });
  try {
    return await generator.generate(options);
  } finally {
    await generator.close();
  }
}

async function generate(
  config: LlamaConfig,
  step: Executable,
  capacity: number,
  request: GenerationRequest,
): Promise<GeneratedIds> {
  checkPrompt(config, request, capacity);
  const { promptIds, maxNewTokens, sample = greedy, onToken, keepLogits = false } = request;
  const ids = [...promptIds];
  const logits: Logits[] = [];
  let cache = emptyCache(config, capacity);
  const finished = (stopped: GeneratedIds['stopped']): GeneratedIds => ({
    ids,
    newIds: ids.slice(promptIds.length),
    stopped,
    logits,
  });
  for (let position = 0; ; position++) {
    const made = ids.length - promptIds.length;
    if (made === maxNewTokens) return finished('length');
    if (position === capacity) return finished('context');
    const outputs = await step.run(new Map([...positionFeeds(config, capacity, position, ids[position]!), ...cache]));
    cache = nextCache(outputs);
    if (position < promptIds.length - 1) continue;
    const last = outputs.get('logits')!.values as Logits;
    const id = sample(last);
    if (keepLogits) logits.push(last);
    ids.push(id);
    onToken?.(id);
    if (config.eosTokenIds.includes(id)) return finished('eos');
  }
}

/** The inputs of the step program that depend on the position: see traceLlamaStep. */
function positionFeeds(config: LlamaConfig, capacity: number, position: number, id: number): [string, Tensor][] {
  const { cos, sin } = rotaryRows(config, position, 1);
  const slot = new Float64Array(capacity);
  slot[position] = 1;
  return [
    ['ids', { shape: [1, 1], values: Int32Array.of(id) }],
    ['cos', { shape: [1, config.headDim], values: cos }],
    ['sin', { shape: [1, config.headDim], values: sin }],
    ['slot', { shape: [capacity, 1], values: slot }],
    ['mask', { shape: [1, capacity], values: new Float64Array(capacity).fill(1, 0, position + 1) }],
    ['inverseLength', { shape: [1, 1], values: Float64Array.of(1 / (position + 1)) }],
  ];
}

function emptyCache(config: LlamaConfig, capacity: number): [string, Tensor][] {
  const shape = [config.numKeyValueHeads, capacity, config.headDim];
  const length = shape[0]! * shape[1]! * shape[2]!;
  const layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => layer);
  return layers.flatMap((layer) =>
    ['key', 'value'].map((part): [string, Tensor] => [`cache.${part}.${layer}`, { shape, values: new Float32Array(length) }]),
  );
}

function nextCache(outputs: ReadonlyMap<string, Tensor>): [string, Tensor][] {
  const prefix = 'next/';
  return [...outputs].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]);
}

/** The tensors that a program asks of the server, and no others. */
export function boundWeights(program: Program, weights: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const bound = new Map<string, Tensor>();
  for (const node of program.nodes) {
    if (node.operation !== 'input' || node.parameters.owner !== 'server') continue;
    const { name } = node.parameters;
    const tensor = weights.get(name);
    if (tensor === undefined)
      throw new SottoError('model', 'the weights lack this tensor', {
        place: { tensor: name },
        remedy: 'load the weights for this plan; `sotto convert` adds what a polynomial plan needs',
      });
    bound.set(name, tensor);
  }
  return bound;
}

function checkPrompt(config: LlamaConfig, { promptIds, maxNewTokens }: GenerationRequest, capacity: number): void {
  const refuse = (reason: string, field: string, remedy: string): never => {
    throw new SottoError('input', reason, { place: { field }, remedy });
  };
  if (promptIds.length === 0) refuse('the prompt is empty', 'prompt', 'give at least the beginning-of-text token');
  if (promptIds.length > capacity)
    refuse(`the prompt has ${promptIds.length} tokens, the context ${capacity}`, 'prompt', 'shorten the prompt');
  checkVocabulary(promptIds, config.vocabSize, 'prompt');
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 0)
    refuse(`${maxNewTokens} new tokens`, 'maxNewTokens', 'ask for a whole number from 0 on');
}
