/** `sotto/convert`: published checkpoints into polynomial ones. */
export * from '../convert/index.ts';
export { type ConvertOptions, convertModel, writeConversion } from './conversion.ts';
