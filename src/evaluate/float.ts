import { openClassifier, openGenerator, type PictureClassifier, type TextGenerator } from '../jobs/index.ts';
import {
  boundWeights,
  type LlamaConfig,
  type Logits,
  type Plan,
  type Preprocessor,
  preprocess,
  type RgbImage,
  type Tokenizer,
  traceLlama,
  type VitConfig,
} from '../models/index.ts';
import type { Executable, FloatBackend, Tensor } from '../program/index.ts';
import type { PictureModel, Prediction, TextModel } from './model.ts';

export interface FloatParts<C> {
  readonly config: C;
  readonly plan: Plan;
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly backend: FloatBackend;
}

/** Positions of a batch; a longer one would keep large intermediate values for no gain. */
const batchPositions = 2048;

/** A Llama on a float backend. Programs are compiled for a few lengths, the powers of two, and kept. */
export class FloatTextModel implements TextModel {
  readonly tokenizer: Tokenizer;
  readonly vocabularySize: number;
  readonly context: number;
  readonly #parts: FloatParts<LlamaConfig>;
  readonly #compiled = new Map<number, Executable>();
  #generator: TextGenerator | undefined;

  constructor(parts: FloatParts<LlamaConfig>, tokenizer: Tokenizer) {
    this.#parts = parts;
    this.tokenizer = tokenizer;
    this.vocabularySize = parts.config.vocabSize;
    this.context = parts.config.maxPositionEmbeddings;
  }

  async predict(requests: readonly Prediction[]): Promise<Logits[][]> {
    const longest = Math.max(...requests.map(({ ids }) => ids.length - 1));
    const tokens = Math.min(this.context, 2 ** Math.ceil(Math.log2(Math.max(16, longest))));
    const batch = Math.max(1, Math.floor(batchPositions / tokens));
    const executable = await this.#executable(tokens, batch);
    const results: Logits[][] = [];
    for (let start = 0; start < requests.length; start += batch)
      results.push(...(await this.#run(executable, { batch, tokens }, requests.slice(start, start + batch))));
    return results;
  }

  async write({ promptIds, newTokens, ended }: Parameters<TextModel['write']>[0]): Promise<number[]> {
    this.#generator ??= await openGenerator(this.#parts);
    return [...(await this.#generator.generate({ promptIds, maxNewTokens: newTokens, ended })).newIds];
  }

  /** Frees all compiled programs. What is asked for afterwards compiles them again. */
  async close(): Promise<void> {
    for (const executable of this.#compiled.values()) await executable.close();
    this.#compiled.clear();
    await this.#generator?.close();
    this.#generator = undefined;
  }

  async #executable(tokens: number, batch: number): Promise<Executable> {
    const kept = this.#compiled.get(tokens);
    if (kept !== undefined) return kept;
    const { config, plan, weights, backend } = this.#parts;
    const program = traceLlama(config, plan, { batch, tokens });
    const executable = await backend.compile(program, boundWeights(program, weights));
    this.#compiled.set(tokens, executable);
    return executable;
  }

  /** Rows are filled up with id 0 behind their end, where a causal model does not look. */
  async #run(
    executable: Executable,
    { batch, tokens }: { batch: number; tokens: number },
    requests: readonly Prediction[],
  ): Promise<Logits[][]> {
    const values = new Int32Array(batch * tokens);
    requests.forEach(({ ids }, row) => {
      values.set(ids.subarray(0, -1), row * tokens);
    });
    const outputs = await executable.run(new Map([['ids', { shape: [batch, tokens], values }]]));
    const logits = outputs.get('logits')!.values as Logits;
    const size = this.vocabularySize;
    return requests.map(({ ids, from }, row) =>
      Array.from({ length: ids.length - from }, (_, at) => {
        const position = row * tokens + from - 1 + at;
        return logits.subarray(position * size, (position + 1) * size);
      }),
    );
  }
}

/** Pictures of a batch. */
const batchPictures = 50;

/** The pixels of a picture as a model of `channels` colours takes them. */
export function pixelsOf(image: RgbImage, preprocessor: Preprocessor, channels: number): Float32Array {
  return preprocess(image, preprocessor, channels).values;
}

/** A vision transformer on a float backend. */
export class FloatPictureModel implements PictureModel {
  readonly labels: readonly string[];
  readonly #parts: FloatParts<VitConfig>;
  readonly #preprocessor: Preprocessor;
  #classifier: PictureClassifier | undefined;

  constructor(parts: FloatParts<VitConfig>, preprocessor: Preprocessor) {
    this.#parts = parts;
    this.#preprocessor = preprocessor;
    this.labels = parts.config.labels;
  }

  async logits(pictures: readonly RgbImage[]): Promise<Logits[]> {
    const batch = Math.min(batchPictures, pictures.length);
    this.#classifier ??= await openClassifier(this.#parts, { batch });
    const pixels = pictures.map((picture) => pixelsOf(picture, this.#preprocessor, this.#parts.config.numChannels));
    return (await this.#classifier.classify(pixels)).map(({ logits }) => logits);
  }

  /** Frees the compiled program. The next logits compile it again. */
  async close(): Promise<void> {
    await this.#classifier?.close();
    this.#classifier = undefined;
  }
}
