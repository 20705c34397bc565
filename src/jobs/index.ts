/** Jobs: what is asked of a model, as values with a state, and the runners that need neither files nor sockets. */
export {
  beginPicture,
  beginText,
  type Classification,
  classOf,
  type EncodedText,
  type TextAsk,
} from './classify.ts';
export { type PrivateModel, runFixed } from './fixed.ts';
export {
  classifyFloat,
  type FloatEncoder,
  type FloatVision,
  openClassifier,
  openTextClassifier,
  type PictureClassifier,
  type TextClassifier,
} from './float-classify.ts';
export {
  compileTexts,
  type FloatModel,
  type GenerationRequest,
  generateFloat,
  openGenerator,
  type TextGenerator,
  writeTogether,
} from './float-write.ts';
export { type Job, mapJob } from './job.ts';
export { jobProgram } from './program.ts';
export { type RehearsalSettings, type Rehearsed, runRehearsed } from './rehearse.ts';
export { beginWrite, type Prompt, type WriteAsk, type Written } from './write.ts';
