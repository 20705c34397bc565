import { stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import {
  FloatPictureModel,
  FloatTextModel,
  folderClasses,
  type LabelledPicture,
  numberedClasses,
  type PictureModel,
  pixelsOf,
  type RunCost,
  type TextModel,
} from '../evaluate/index.ts';
import { type Classification, classOf, type TextAsk } from '../jobs/index.ts';
import { type PictureStream, readCifar, readIdx, readPictureFolder, readPictureTar } from '../lab/data/index.ts';
import type { GlueModel } from '../lab/tasks/glue.ts';
import { type Logits, type Preprocessor, parsePreprocessor, type RgbImage } from '../models/index.ts';
import { readJson } from '../models/json.ts';
import { temporaryFolder } from '../node/temporary.ts';
import { type LaunchOptions, type LaunchResult, launchLocal } from '../party/index.ts';
import { encodePng } from '../pictures/index.ts';
import type { FloatBackend } from '../program/index.ts';
import { encoder, fixedClassifier, floatClassifier, mostTokens } from './encoders.ts';
import type { LoadedModel } from './model.ts';
import { classifier, classifyPixels } from './pictures.ts';
import { fixedScorer, writer, writeText } from './text.ts';

/** How a model is run for an evaluation. */
export type EvaluationBackend =
  | { readonly kind: 'float'; readonly backend: FloatBackend }
  | { readonly kind: 'fixed'; readonly ring: RingParameters }
  | {
      readonly kind: 'mpc';
      readonly ring: RingParameters;
      readonly rangeFlags: boolean;
      readonly transport: LaunchOptions['transport'];
      readonly timeoutMilliseconds: number;
      /** Milliseconds. */
      readonly now: () => number;
    };

/** A language model for the text tasks on any backend. */
export async function evaluatedText(model: LoadedModel, by: EvaluationBackend): Promise<TextModel> {
  const config = writer(model);
  const tokenizer = await model.tokenizer();
  if (by.kind === 'float') {
    const weights = await model.weights();
    return new FloatTextModel({ config, plan: model.plan, weights, backend: by.backend }, tokenizer);
  }
  const common = { tokenizer, vocabularySize: config.vocabSize, context: config.maxPositionEmbeddings };
  return by.kind === 'fixed' ? { ...common, ...fixedText(model, by.ring) } : { ...common, ...privateText(model, by) };
}

type Runs<M> = Pick<M, keyof M & ('predict' | 'write' | 'costs' | 'logits')>;

/** The exact integers of a private run. */
function fixedText(model: LoadedModel, ring: RingParameters): Runs<TextModel> {
  const { vocabSize } = writer(model);
  const score = fixedScorer(model, ring);
  return {
    predict: (requests) =>
      inTurn(requests, async ({ ids, from }) => {
        // What comes last is predicted and predicts nothing.
        const logits = await score(ids.slice(0, -1));
        return Array.from({ length: ids.length - from }, (_, i) =>
          logits.subarray((from - 1 + i) * vocabSize, (from + i) * vocabSize),
        );
      }),
    write: async ({ promptIds, newTokens, ended }) =>
      cutWhere(ended, (await writeText(model, 'fixed', { promptIds, newTokens, ring })).newIds),
  };
}

/** A run writes its whole length: where it would have ended early the rest is cut. */
function cutWhere(ended: ((ids: readonly number[]) => boolean) | undefined, ids: readonly number[]): number[] {
  for (let length = 1; ended !== undefined && length < ids.length; length++)
    if (ended(ids.slice(0, length))) return ids.slice(0, length);
  return [...ids];
}

type Private = Extract<EvaluationBackend, { kind: 'mpc' }>;

/** Three processes a run. A private program opens the logits behind its prompt alone, so that every predicted token is a run of its own. */
function privateText(model: LoadedModel, by: Private): Runs<TextModel> {
  const meter = meterOf(model, by);
  const generate = (ids: readonly number[], newTokens: number): Promise<LaunchResult> =>
    meter.run({ kind: 'generate', prompt: { ids }, newTokens });
  return {
    costs: () => meter.costs,
    predict: async (requests) => {
      const results: Logits[][] = [];
      for (const { ids, from } of requests) {
        const rows: Logits[] = [];
        for (let at = from; at < ids.length; at++) rows.push(firstLogits(await generate([...ids.subarray(0, at)], 1)));
        results.push(rows);
      }
      return results;
    },
    write: async ({ promptIds, newTokens, ended }) => cutWhere(ended, (await generate(promptIds, newTokens)).client.newIds),
  };
}

function firstLogits({ logits }: LaunchResult): Logits {
  if (logits[0] !== undefined) return logits[0];
  throw new SottoError('peer', 'ended without logits', { place: { party: 'client' }, remedy: 'run it again' });
}

/** Private runs of one model, with what each of them took. */
function meterOf(model: LoadedModel, { now, kind: _, ...how }: Private) {
  const costs: RunCost[] = [];
  return {
    costs,
    async run(task: LaunchOptions['task']): Promise<LaunchResult> {
      const start = now();
      const folder = model.checkpoint.files.name;
      const run = await launchLocal({ model: folder, task, ...how, keepLogits: true });
      const bytes = [run.client, run.server, run.dealer]
        .flatMap(({ sentBytes }) => Object.values(sentBytes))
        .reduce((sum, sent) => sum + sent, 0);
      costs.push({ bytes, seconds: (now() - start) / 1000 });
      return run;
    },
  };
}

/** The preprocessor of a vision model. */
export async function preprocessorOf(model: LoadedModel): Promise<Preprocessor> {
  const { files } = model.checkpoint;
  const path = 'preprocessor_config.json';
  return parsePreprocessor(await readJson(files, path, 2 ** 20), `${files.name}/${path}`);
}

/** A classifier of pictures for the picture tasks on any backend. */
export async function evaluatedPictures(model: LoadedModel, by: EvaluationBackend): Promise<PictureModel> {
  const config = classifier(model);
  const preprocessor = await preprocessorOf(model);
  const { labels } = config;
  if (by.kind === 'float')
    return new FloatPictureModel({ config, plan: model.plan, weights: await model.weights(), backend: by.backend }, preprocessor);
  if (by.kind === 'mpc') return { labels, ...privatePictures(model, by) };
  const { ring } = by;
  return {
    labels,
    logits: (pictures) =>
      inTurn(pictures, async (picture) => {
        const pixels = pixelsOf(picture, preprocessor, config.numChannels);
        return (await classifyPixels(model, 'fixed', pixels, ring)).logits;
      }),
  };
}

/** The client's process reads a picture from a file, which is written for it without loss. */
function privatePictures(model: LoadedModel, by: Private): Runs<PictureModel> {
  const meter = meterOf(model, by);
  return {
    costs: () => meter.costs,
    logits: async (pictures) => {
      const folder = await temporaryFolder('eval');
      try {
        return await inTurn(pictures, async ({ data, width, height }) => {
          const image = join(folder.path, 'picture.png');
          await writeFile(image, await encodePng({ data, width, height }));
          return firstLogits(await meter.run({ kind: 'classify', image }));
        });
      } finally {
        await folder.remove();
      }
    },
  };
}

/** A classifier of texts of up to 128 tokens for the text tasks on any backend. */
export async function evaluatedEncoder(model: LoadedModel, by: EvaluationBackend): Promise<GlueModel> {
  const { labels } = encoder(model);
  const tokenizer = await model.tokenizer();
  if (by.kind === 'float') return { labels, tokenizer, classifier: await floatClassifier(model, by.backend) };
  if (by.kind === 'fixed') return { labels, tokenizer, classifier: fixedClassifier(model, by.ring) };
  return { labels, tokenizer, ...privateEncoder(model, by) };
}

/** Three processes a text. */
function privateEncoder(model: LoadedModel, by: Private): Pick<GlueModel, 'classifier' | 'costs'> {
  const config = encoder(model);
  const meter = meterOf(model, by);
  const classify = (texts: readonly TextAsk[]): Promise<Classification[]> =>
    inTurn(texts, async (text) => {
      const logits = firstLogits(await meter.run({ kind: 'classify', ...text }));
      return classOf(config.labels, Float64Array.from(logits));
    });
  return { costs: () => meter.costs, classifier: { tokens: mostTokens(config), classify, close: async () => {} } };
}

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}

/**
 * Labelled pictures from an IDX file of pictures (its labels beside it), a binary batch of CIFAR, a folder of class folders or a tar
 * of those. `folderClasses` and `numberedClasses` say which class a folder or a number is.
 */
export async function readLabelledPictures(path: string, labels: readonly string[], limit: number): Promise<LabelledPicture[]> {
  const { stream, numbers } = await openPictures(path, labels);
  const pictures: LabelledPicture[] = [];
  for await (const { width, height, channels, data, label } of limit > 0 ? stream.pictures() : []) {
    const image: RgbImage = { width, height, data: channels === 3 ? data : threefold(data) };
    pictures.push({ image, label: numbers(label) });
    if (pictures.length >= limit) break;
  }
  return pictures;
}

async function openPictures(
  path: string,
  labels: readonly string[],
): Promise<{ stream: PictureStream; numbers: (label: number) => number }> {
  const refuse = (reason: string, remedy: string): never => {
    throw new SottoError('input', reason, { place: { file: path }, remedy });
  };
  const found = await stat(path).catch(() =>
    refuse('the path does not exist', 'name a folder, a tar or an IDX file of pictures'),
  );
  const isTar = /\.(tar|tar\.gz|tgz)$/.test(path);
  if (!found.isDirectory() && !isTar) {
    const name = basename(path);
    const cifar = { 10: 'cifar10', 100: 'cifar100' } as const;
    if (name.endsWith('.bin') && (labels.length === 10 || labels.length === 100)) {
      const classes = numberedClasses(labels, labels.length === 10 ? cifarNames : []);
      return {
        stream: readCifar([path], { format: cifar[labels.length], classes: labels }),
        numbers: (label) => classes[label]!,
      };
    }
    if (!name.includes('images'))
      return refuse(
        'the file is neither a tar nor named like an IDX file of pictures',
        'name a file such as t10k-images-idx3-ubyte.gz',
      );
    const labelFile = join(path, '..', name.replace('images', 'labels').replace('idx3', 'idx1'));
    const classes = numberedClasses(labels, Object.keys(labels));
    return { stream: readIdx(path, labelFile, { classes: labels.length }), numbers: (label) => classes[label]! };
  }
  const stream = isTar ? await readPictureTar(path) : await readPictureFolder(path);
  const classes = folderClasses(path, stream.classes, labels);
  return { stream, numbers: (label) => classes[label]! };
}

/** CIFAR-10's classes by their numbers in its binary batches. */
const cifarNames = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'] as const;

function threefold(grey: Uint8Array): Uint8Array {
  const data = new Uint8Array(3 * grey.length);
  for (let i = 0; i < grey.length; i++) data.fill(grey[i]!, 3 * i, 3 * i + 3);
  return data;
}
