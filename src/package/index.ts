/**
 * sotto: private inference for transformers. `loadModel` opens a checkpoint; what it gives converts, writes in the clear, and runs
 * the whole private protocol in one process. Real parties are processes of their own: see `sotto/mpc`.
 */
import type { Costs } from '../backends/cost/index.ts';
import { type RingParameters, usualRing } from '../backends/ring/index.ts';
import type { Classification } from '../jobs/index.ts';
import {
  type Files,
  type ModelConfig,
  memoryFiles,
  type Plan,
  parsePlan,
  type Sampler,
  type SamplingOptions,
  sampler,
  streamingDecoder,
  type Tokenizer,
  writeCheckpoint,
} from '../models/index.ts';
import { embeddingFile } from '../models/public-embedding.ts';
import { checkRanges, isMeasured, ringFor } from '../models/ranges.ts';
import { folderFiles } from '../node/files.ts';
import { usualFloat } from '../node/float.ts';
import { type ConvertOptions, convertModel, writeConversion } from './conversion.ts';
import { classifyTexts, classifyTextsFixed, rehearseTexts, type TextPair } from './encoders.ts';
import { forecastModel, type RunForecast } from './forecast.ts';
import { type CalibrateOptions, calibrationSamples, measuredModel } from './measure.ts';
import { type LoadedModel, openModel, requireMeasured } from './model.ts';
import { classifyPixels, type Picture, pixelsOf, rehearsePicture } from './pictures.ts';
import { type ClearBackend, fittingTokens, rehearseText, type TextRequest, writer, writeText } from './text.ts';

export { type ErrorKind, errorKinds, type Place, SottoError } from '../errors/index.ts';
export type {
  CalibrateOptions,
  Classification,
  ClearBackend,
  ConvertOptions,
  Costs,
  Files,
  ModelConfig,
  Picture,
  Plan,
  RingParameters,
  RunForecast,
  SamplingOptions,
  Tokenizer,
};

/** The ring of a plan that was not calibrated for another one: 64 bits, 16 of fraction. */
export const defaultRing: RingParameters = usualRing;

/** How a text is continued. */
export interface TextOptions {
  /** Tokens to write at most; 64 unless told, fewer where the context ends. */
  readonly newTokens?: number;
  /** Greedy where absent. */
  readonly sampling?: SamplingOptions;
  readonly ring?: RingParameters;
  /** Of a private run: whether it notices values out of range and ends in a `range` error. It does unless this is false. */
  readonly rangeFlags?: boolean;
  /** Pieces of the text as they come, the prompt first. */
  readonly onText?: (piece: string) => void;
}

/** What was written. */
export interface Text {
  /** Prompt and continuation. */
  readonly text: string;
  readonly ids: readonly number[];
  readonly promptTokens: number;
  /** What ended it: an end-of-text token, the number asked for, or the end of the context. */
  readonly stopped: 'eos' | 'length' | 'context';
}

/** What the parties sent, as counted on their channels, and the forecast from the program alone, which is equal. */
export interface Ledger extends Costs {
  readonly forecast: Costs;
}

/** A checkpoint and everything that can be done with it. */
export interface Model {
  readonly config: ModelConfig;
  readonly plan: Plan;
  /** The tokenizer of the folder, read once. Throws an `input` error where it is missing, malformed or of an unknown kind. */
  tokenizer(): Promise<Tokenizer>;
  /** Continues a text, or token numbers, in the clear. Errors: `input` for prompts that do not fit, `model` for other architectures. */
  generate(prompt: string | readonly number[], options?: TextOptions & { backend?: ClearBackend }): Promise<Text>;
  /**
   * The same under the whole protocol, with client, server and dealer in this process: for trying and testing, since one process
   * then holds both sides' secrets. Needs a polynomial plan.
   */
  generatePrivately(prompt: string | readonly number[], options?: TextOptions): Promise<Text & Ledger>;
  /** Names a picture: a file's path, a file's bytes, or (C, S, S) preprocessed pixels. */
  classify(picture: Picture, options?: { backend?: ClearBackend; ring?: RingParameters }): Promise<Classification>;
  /**
   * The same under the whole protocol, with client, server and dealer in this process. Needs a polynomial plan; errors as of
   * `generatePrivately`.
   */
  classifyPrivately(
    picture: Picture,
    options?: { ring?: RingParameters; rangeFlags?: boolean },
  ): Promise<Classification & Ledger>;
  /**
   * Classifies a text, or a pair of texts that a BERT is asked about. Errors: `input` for texts that do not fit the model, `model` for other
   * architectures; `range` on `fixed`, for a model that was not calibrated.
   */
  classifyText(text: TextPair, options?: { backend?: ClearBackend; ring?: RingParameters }): Promise<Classification>;
  /** The same under the whole protocol, with client, server and dealer in this process; errors as of `generatePrivately`. */
  classifyTextPrivately(
    text: TextPair,
    options?: { ring?: RingParameters; rangeFlags?: boolean },
  ): Promise<Classification & Ledger>;
  /** Bytes, hops and offline material of a private run, from the program alone; with what range flags cost unless they are false. */
  forecast(run: {
    promptTokens: number;
    newTokens?: number;
    ring?: RingParameters;
    plan?: Plan | string;
    rangeFlags?: boolean;
  }): RunForecast;
  /**
   * The same model with the ranges of its values, measured on samples, or on text of its own where it writes: what a private run needs of a
   * model that was not calibrated. A model that writes is measured by itself before its first private run. What was found is kept beside the
   * model, or under ~/.sotto. Errors: `range` for encoders without samples, and where the values do not fit the ring.
   */
  calibrate(options?: CalibrateOptions): Promise<Model>;
  /** A polynomial model, fitted and calibrated but not trained, held in memory until it is saved. */
  convert(options?: ConvertOptions): Promise<Model>;
  /** Writes a folder in the Hugging Face layout. */
  save(folder: string | Files): Promise<void>;
}

/**
 * Opens a checkpoint in the Hugging Face layout. Errors: `input` for damaged files, `model` for architectures sotto does not know.
 *
 * @example
 * ```js
 * import { loadModel } from 'sotto';
 *
 * const model = await loadModel('artefacts/stories-polynomial');
 * const { text, ids, promptTokens } = await model.generate('Once upon a time', { newTokens: 8 });
 * console.log(ids.length - promptTokens); // 8
 * const { online } = model.forecast({ promptTokens, newTokens: 8 }).total;
 * console.log(online.hops > 0); // true
 * ```
 */
export async function loadModel(folder: string | Files): Promise<Model> {
  return new FolderModel(await openModel(folder));
}

class FolderModel implements Model {
  readonly config: ModelConfig;
  readonly plan: Plan;
  readonly #model: LoadedModel;
  /** By the ring that was asked for. */
  readonly #measurements = new Map<string, Promise<LoadedModel>>();

  constructor(model: LoadedModel) {
    this.#model = model;
    this.config = model.config;
    this.plan = model.plan;
  }

  tokenizer(): Promise<Tokenizer> {
    return this.#model.tokenizer();
  }

  async generate(prompt: string | readonly number[], options: TextOptions & { backend?: ClearBackend } = {}): Promise<Text> {
    const model = options.backend === 'fixed' ? await this.#measured(options.ring) : this.#model;
    const { request, finish } = await this.#request(model.plan, prompt, options);
    return finish(await writeText(model, options.backend ?? usualFloat(), request));
  }

  /** With the ranges of its values, for a ring: measured once where they are not in the plan. */
  async #measured(ring?: RingParameters): Promise<LoadedModel> {
    if (isMeasured(this.#model.plan)) return this.#model;
    const key = `${ring?.bits} ${ring?.fraction}`;
    const known = this.#measurements.get(key) ?? measuredModel(this.#model, ring === undefined ? {} : { ring });
    this.#measurements.set(key, known);
    return await known;
  }

  async calibrate(options: CalibrateOptions = {}): Promise<Model> {
    const { texts, pictures, ring, say } = options;
    const samples = await calibrationSamples(this.#model, { texts, pictures });
    return new FolderModel(await measuredModel(this.#model, { ring, samples, say }));
  }

  async generatePrivately(prompt: string | readonly number[], options: TextOptions = {}): Promise<Text & Ledger> {
    const model = await this.#measured(options.ring);
    const { request, finish } = await this.#request(model.plan, prompt, options);
    checkRanges(model.plan, request.ring, model.checkpoint.files.name);
    const made = await rehearseText(model, request);
    return { ...finish(made), ...made.measured, forecast: made.forecast };
  }

  async #request(
    plan: Plan,
    prompt: string | readonly number[],
    { newTokens = 64, sampling, ring = ringFor({}, plan), rangeFlags, onText }: TextOptions,
  ) {
    const tokenizer = await this.tokenizer();
    const promptIds = typeof prompt === 'string' ? tokenizer.encode(prompt) : [...prompt];
    fittingTokens(writer(this.#model), promptIds.length, newTokens);
    const decoder = streamingDecoder(tokenizer);
    const say = (piece: string): void => {
      if (piece !== '') onText?.(piece);
    };
    const waiting = onText === undefined ? [] : [...promptIds];
    const sample: Sampler | undefined = sampling === undefined ? undefined : sampler(sampling);
    const onToken = (id: number): void => {
      if (onText !== undefined) say([...waiting.splice(0), id].map((next) => decoder.push(next)).join(''));
    };
    const request: TextRequest = { promptIds, newTokens, ring, rangeFlags, sample, onToken };
    const finish = ({ ids, stopped }: { ids: readonly number[]; stopped: Text['stopped'] }): Text => {
      if (onText !== undefined) say(decoder.end());
      return { text: tokenizer.decode(ids), ids, promptTokens: promptIds.length, stopped };
    };
    return { request, finish };
  }

  async classify(picture: Picture, { backend = usualFloat(), ring }: { backend?: ClearBackend; ring?: RingParameters } = {}) {
    const model = backend === 'fixed' ? await this.#measured(ring) : this.#model;
    return await classifyPixels(model, backend, await this.#pixels(picture), ring ?? ringFor({}, model.plan));
  }

  async classifyPrivately(picture: Picture, { ring, rangeFlags }: { ring?: RingParameters; rangeFlags?: boolean } = {}) {
    const model = await this.#measured(ring);
    const [pixels, used] = [await this.#pixels(picture), ring ?? ringFor({}, model.plan)];
    const { measured, ledgers: _, ...rest } = await rehearsePicture(model, pixels, used, rangeFlags);
    return { ...rest, ...measured };
  }

  async classifyText(text: TextPair, { backend = usualFloat(), ring }: { backend?: ClearBackend; ring?: RingParameters } = {}) {
    const model = backend === 'fixed' ? await this.#measured(ring) : this.#model;
    const [found] =
      backend === 'fixed'
        ? await classifyTextsFixed(model, [text], ring ?? ringFor({}, model.plan))
        : await classifyTexts(model, [text], { backend });
    return found!;
  }

  async classifyTextPrivately(text: TextPair, { ring, rangeFlags }: { ring?: RingParameters; rangeFlags?: boolean } = {}) {
    const model = await this.#measured(ring);
    const { measured, ledgers: _, ...rest } = await rehearseTexts(model, text, ring ?? ringFor({}, model.plan), rangeFlags);
    return { ...rest, ...measured };
  }

  async #pixels(picture: Picture): Promise<Float32Array | Float64Array> {
    return await pixelsOf(this.#model, picture);
  }

  forecast({ promptTokens, newTokens = 1, ring, plan, rangeFlags }: Parameters<Model['forecast']>[0]): RunForecast {
    const chosen = plan === undefined ? this.plan : typeof plan === 'string' ? parsePlan(plan, this.config) : plan;
    if (plan === undefined) requireMeasured(this.#model);
    const run = { promptTokens, newTokens };
    return forecastModel(this.#model, { ring: ring ?? ringFor({}, chosen), run, plan: chosen, rangeFlags });
  }

  async convert(options: ConvertOptions = {}): Promise<Model> {
    const conversion = await convertModel(this.#model, options);
    const files = memoryFiles({}, `${this.#model.checkpoint.files.name} (converted)`);
    await writeConversion(files, conversion, this.#model);
    return await loadModel(files);
  }

  async save(folder: string | Files): Promise<void> {
    const { checkpoint } = this.#model;
    const tensors = [...(await checkpoint.readAll())].map(([name, tensor]) => ({ name, ...tensor }));
    const files = typeof folder === 'string' ? folderFiles(folder) : folder;
    // What clients of a public embedding need goes with the plan that says so.
    const published = this.plan.embedding === undefined ? {} : { [embeddingFile]: await checkpoint.files.read(embeddingFile) };
    await writeCheckpoint(files, { config: checkpoint.config, tensors, companions: checkpoint.files, extra: published });
  }
}

export type { Setting } from '../backends/cost/forecast.ts';
export type { FloatName } from '../node/float.ts';
export type { TextPair };
