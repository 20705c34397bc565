import { SottoError } from '../errors/index.ts';
import type { BertConfig, VitConfig } from '../models/config.ts';
import { type PaddedLengths, paddedIds, paddingInput } from '../models/padding.ts';
import { type Preprocessor, preprocess, type RgbImage } from '../models/preprocess.ts';
import { greedy, type Logits } from '../models/sample.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import { checkVocabulary } from '../models/vocabulary.ts';
import { size, type Tensor } from '../program/index.ts';
import { type Asked, indices, inputNamed, type Job, startJob, type Taken } from './job.ts';
import { bytesOf, checkWithin, type PaddingPolicy, positionsFor } from './lengths.ts';

/** A class and what it was chosen from. */
export interface Classification {
  /** The class with the largest logit, by number and by name. */
  readonly id: number;
  readonly label: string;
  /** (classes). */
  readonly logits: Float64Array;
}

/** A picture as it was decoded, or its (C, S, S) preprocessed pixels. */
export type PictureAsk = { readonly image: RgbImage } | { readonly pixels: Float32Array | Float64Array };

/** What of a vision transformer a picture is named by; the preprocessor is for pictures that are not preprocessed. */
export interface PictureNamer {
  readonly config: Pick<VitConfig, 'numChannels' | 'imageSize' | 'labels'>;
  readonly preprocessor?: Preprocessor | undefined;
}

/**
 * A picture named: input `pixels`, output `logits`. A picture that cannot be preprocessed is run as a grey one, and the error is the answer's;
 * with `watched` false nobody sees that, and it is thrown here.
 */
export function beginPicture(
  { config, preprocessor }: PictureNamer,
  ask: PictureAsk,
  { watched = false }: { readonly watched?: boolean } = {},
): Job<Classification> {
  const { numChannels, imageSize } = config;
  const shape = [numChannels, imageSize, imageSize];
  let pixels: Float32Array | Float64Array = new Float32Array(size(shape));
  const read = (): void => {
    const made = 'pixels' in ask ? ask.pixels : preprocess(ask.image, preprocessor!, numChannels).values;
    if (made.length !== pixels.length)
      throw new SottoError('input', `a picture of ${made.length} values where ${pixels.length} are due`, {
        place: { tensor: 'pixels' },
        remedy: `preprocess pictures to ${numChannels} planes of ${imageSize} × ${imageSize}`,
      });
    pixels = made;
  };
  const named = naming(config.labels);
  const input = (name: string): Tensor => inputNamed({ pixels: { shape, values: pixels } }, name);
  return startJob({ asked: { task: 'classify', promptTokens: 1, newTokens: 1 }, read, input, ...named }, { secret: watched });
}

/** A text or a pair of texts as token ids, and which text each token belongs to. */
export interface EncodedText {
  readonly ids: readonly number[];
  readonly types: readonly number[];
}

/** A text, or a pair of texts of which the model is asked about both; or what a tokenizer made of them. */
export type TextAsk = { readonly text: string; readonly pair?: string | undefined } | EncodedText;

/** What of a BERT a text is classified by; the tokenizer is for texts that are not encoded. */
export interface TextNamer {
  readonly config: Pick<
    BertConfig,
    'vocabSize' | 'typeVocabSize' | 'maxPositionEmbeddings' | 'firstPosition' | 'padTokenId' | 'labels'
  >;
  readonly tokenizer?: Pick<Tokenizer, 'encodePair'> | undefined;
  /** The most tokens of a text, where they are fewer than the model's. */
  readonly capacity?: number | undefined;
}

/**
 * A text or a pair of texts classified: inputs `prompt`, `types` and those of padding, output `logits`. A text without padding (the usual)
 * is read at once: `input` errors of `field` where it does not fit. With `steps` of its bytes these are the answer's.
 */
export function beginText(
  model: TextNamer,
  ask: TextAsk,
  { padding = 'none', field = 'text' }: { readonly padding?: PaddingPolicy; readonly field?: string } = {},
): Job<Classification> {
  const { config } = model;
  const most = Math.min(config.maxPositionEmbeddings - config.firstPosition, model.capacity ?? Number.POSITIVE_INFINITY);
  const encoded = (): EncodedText => {
    const { ids, types } = 'ids' in ask ? ask : model.tokenizer!.encodePair!(ask.text, ask.pair);
    checkText(config, { ids, types }, most, field);
    return { ids, types };
  };
  const named = naming(config.labels);
  if (padding === 'none') {
    const { ids, types } = encoded();
    const inputs = { prompt: indices(ids), types: indices(types) };
    const asked: Asked = { task: 'classify', promptTokens: ids.length, newTokens: 1 };
    return startJob({ asked, read: () => {}, input: (name) => inputNamed(inputs, name), ...named }, { secret: false });
  }
  const positions = Math.min(stepOf(ask), most);
  const filled = ({ ids, types }: EncodedText) => {
    checkWithin(ids.length, positions, field);
    const lengths: PaddedLengths = { kind: 'encoder', real: ids.length, positions, newTokens: 1 };
    return {
      ids: paddedIds(ids, lengths, Math.min(config.padTokenId, config.vocabSize - 1)),
      types: paddedIds(types, lengths, 0),
      lengths,
    };
  };
  // A text of secret length that cannot be read is run as another one, of as many positions.
  let text = filled({ ids: [0], types: [0] });
  return startJob(
    {
      asked: { task: 'classify', promptTokens: positions, padded: true, newTokens: 1 },
      read: () => {
        text = filled(encoded());
      },
      input: (name) =>
        paddingInput(name, text.lengths) ?? inputNamed({ prompt: indices(text.ids), types: indices(text.types) }, name),
      ...named,
    },
    { secret: true },
  );
}

function stepOf(ask: TextAsk): number {
  if ('ids' in ask) return positionsFor(ask.ids.length);
  if (ask.pair === undefined) return positionsFor(bytesOf(ask.text));
  return positionsFor(bytesOf(ask.text) + bytesOf(ask.pair), 2);
}

function checkText(config: TextNamer['config'], { ids, types }: EncodedText, most: number, field: string): void {
  const refuse = (reason: string, remedy = 'encode texts with the tokenizer of this model'): never => {
    throw new SottoError('input', reason, { place: { field }, remedy });
  };
  if (ids.length < 1 || ids.length > most) refuse(`${ids.length} tokens where 1 to ${most} are taken`, 'shorten the text');
  if (types.length !== ids.length) refuse(`${types.length} token types for ${ids.length} tokens`);
  checkVocabulary(ids, config.vocabSize, field);
  const { typeVocabSize } = config;
  if (!types.every((type) => Number.isInteger(type) && type >= 0 && type < typeVocabSize))
    refuse(`a token type is not one of ${typeVocabSize}`);
}

/** The class of the largest logit. */
export function classOf(labels: readonly string[], logits: Float64Array): Classification {
  const id = greedy(logits);
  return { id, label: labels[id]!, logits };
}

/** What is made of a classifier's logits. */
function naming(labels: readonly string[]): { take: (logits: Logits) => Taken; answer: () => Classification } {
  let opened: Float64Array | undefined;
  return {
    take: (logits) => {
      if (logits.length !== labels.length) throw new Error(`${logits.length} logits of ${labels.length} classes`);
      opened = Float64Array.from(logits);
      return { last: true };
    },
    answer: () => classOf(labels, opened ?? Float64Array.of()),
  };
}
