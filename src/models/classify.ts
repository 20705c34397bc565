import { SottoError } from '../errors/index.ts';
import type { FloatBackend, Tensor } from '../program/index.ts';
import type { VitConfig } from './configuration.ts';
import { boundWeights } from './generate.ts';
import type { Plan } from './plan.ts';
import { greedy } from './sample.ts';
import { traceVit } from './vit.ts';

/** A class and what it was chosen from. */
export interface Classification {
  /** The class with the largest logit, by number and by name. */
  readonly id: number;
  readonly label: string;
  /** (classes). */
  readonly logits: Float64Array;
}

/** A compiled classifier for pictures of (C, S, S) preprocessed pixels. */
export interface PictureClassifier {
  /** One result a picture, in order. Throws an `input` error where a picture has another number of values than C · S · S. */
  classify(pictures: readonly (Float32Array | Float64Array)[]): Promise<Classification[]>;
  /** Frees the compiled program. */
  close(): Promise<void>;
}

export interface FloatVision {
  readonly config: VitConfig;
  readonly plan: Plan;
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly backend: FloatBackend;
}

/** Compiles a classifier that takes `batch` pictures a run; an unfilled last batch is filled with blanks. */
export async function openClassifier(model: FloatVision, { batch = 1 }: { batch?: number } = {}): Promise<PictureClassifier> {
  const { config, plan, weights, backend } = model;
  const program = traceVit(config, plan, { batch });
  const executable = await backend.compile(program, boundWeights(program, weights));
  const shape = [batch, config.numChannels, config.imageSize, config.imageSize];
  const pixelCount = config.numChannels * config.imageSize ** 2;
  const classes = config.labels.length;

  const classifyBatch = async (pictures: readonly (Float32Array | Float64Array)[]): Promise<Classification[]> => {
    const values = new Float64Array(batch * pixelCount);
    for (const [index, picture] of pictures.entries()) values.set(picture, index * pixelCount);
    const outputs = await executable.run(new Map([['pixels', { shape, values }]]));
    const all = outputs.get('logits')!.values;
    return pictures.map((_, index) => {
      const logits = Float64Array.from(all.subarray(index * classes, (index + 1) * classes));
      const id = greedy(logits);
      return { id, label: config.labels[id]!, logits };
    });
  };
  return {
    async classify(pictures) {
      const wrong = pictures.find((picture) => picture.length !== pixelCount);
      if (wrong !== undefined)
        throw new SottoError('input', `a picture of ${wrong.length} values where ${pixelCount} are due`, {
          place: { tensor: 'pixels' },
          remedy: `preprocess pictures to ${config.numChannels} planes of ${config.imageSize} × ${config.imageSize}`,
        });
      const results: Classification[] = [];
      for (let start = 0; start < pictures.length; start += batch)
        results.push(...(await classifyBatch(pictures.slice(start, start + batch))));
      return results;
    },
    close: () => executable.close(),
  };
}

/** Pictures in the clear; `openClassifier` is cheaper for several calls. */
export async function classifyFloat(
  options: FloatVision & { readonly pictures: readonly (Float32Array | Float64Array)[]; readonly batch?: number },
): Promise<Classification[]> {
  const classifier = await openClassifier(options, { batch: options.batch ?? 1 });
  try {
    return await classifier.classify(options.pictures);
  } finally {
    await classifier.close();
  }
}
