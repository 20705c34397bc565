/** Data on disk → rows, pictures, token batches: streamed, typed errors with their places, repeatable from a seed. */
export { alpacaTexts, type Document, encodePrompted, encodeText } from './alpaca.ts';
export { type CifarOptions, readCifar, readIdx } from './binary.ts';

export { openTokenCache, type TokenCache, type TokenSource } from './cache.ts';
export { type CollectionOptions, readPictureFolder, readPictureTar } from './collections.ts';
export { type Draw, type Mixture, type MixturePart, type MixtureState, mixture } from './mixture.ts';
export { type ParquetOptions, readParquet } from './parquet.ts';
export { permuted } from './permutation.ts';
export {
  type CollectOptions,
  collectPictures,
  type Picture,
  type PictureSet,
  type PictureStream,
  pictureAt,
} from './pictures.ts';
export type { Row } from './row.ts';
export {
  type RowOptions,
  readField,
  readJsonArray,
  readJsonLines,
  readRows,
  readTsv,
  textOf,
} from './rows.ts';
export { type TokenBatch, type TokenMixture, type TokenPart, tokenMixture } from './rows-of-tokens.ts';
export { readTar } from './tar.ts';
export {
  openTextPart,
  type Split,
  type SplitPart,
  splitPart,
  type TextSource,
  tokenisedWith,
  tokenizerKey,
} from './text-part.ts';
