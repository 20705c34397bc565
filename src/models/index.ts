export { type BertOutput, bert, bertNames, bertStack, traceBert, traceBertPrivate } from './bert.ts';
export { block, type Context, encoderContext, type Layer } from './block.ts';
export {
  type Checkpoint,
  type CheckpointContents,
  companionFiles,
  type LoadedTensor,
  openCheckpoint,
  writeCheckpoint,
} from './checkpoint.ts';
export { type Classification, classifyFloat, type FloatVision, openClassifier, type PictureClassifier } from './classify.ts';
export { type EncodedText, type FloatEncoder, openTextClassifier, type TextClassifier } from './classify-text.ts';
export {
  type ActivationName,
  activationNames,
  type BertConfig,
  type LlamaConfig,
  type ModelConfig,
  parseBertConfig,
  parseLlamaConfig,
  parseModelConfig,
  parseVitConfig,
  supportedModelTypes,
  type VitConfig,
} from './config.ts';
export { type ByteRange, type Files, fileLabel, memoryFiles } from './files.ts';
export { type FoldedTensor, foldBert, foldLlama, foldVit, foldWeights, type ReadTensor } from './fold.ts';
export { type FoldedStack, foldedLayer, foldedName } from './folded.ts';
export { type ModelFolder, openModelFolder } from './folder.ts';
export {
  boundWeights,
  type FloatModel,
  type GeneratedIds,
  type GenerationRequest,
  generateFloat,
  openGenerator,
  type TextGenerator,
} from './generate.ts';
export {
  type LlamaOutput,
  llama,
  llamaStack,
  type PrivateGeneration,
  rotaryRows,
  traceLlama,
  traceLlamaPrivate,
  traceLlamaStep,
  wholeText,
} from './llama.ts';
export {
  type ActivationPlan,
  type AttentionPlan,
  defaultAttentionTable,
  defaultEpsilon,
  defaultNormTable,
  exactPlan,
  fullPlan,
  hybridPlan,
  isPolynomial,
  type LayerPlan,
  type NormPlan,
  type Plan,
  type PlannedModel,
  parsePlan,
  planOf,
  poolerPlan,
  type ScopeRange,
} from './plan.ts';
export { type PixelValues, type Preprocessor, parsePreprocessor, preprocess, type RgbImage } from './preprocess.ts';
export type { RopeScaling } from './rope-config.ts';
export { type NamedTensor, openSafetensors, readTensor, type TensorEntry, writeSafetensors, writeShards } from './safetensors.ts';
export { greedy, type Logits, type Sampler, type SamplingOptions, sampler, seededNormal, seededUniform } from './sample.ts';
export {
  loadShape,
  type ModelShape,
  parseShape,
  type ShapeRun,
  shapeStack,
  traceShape,
  traceShapeLayer,
} from './shapes.ts';
export { loadTokenizer, type StreamingDecoder, streamingDecoder, type Tokenizer } from './tokenizer.ts';
export { patchCount, patches, traceVit, traceVitPrivate, type VitOutput, vit, vitStack } from './vit.ts';
export {
  loadWeights,
  privateWeightShapes,
  randomBertWeights,
  randomLlamaWeights,
  randomVitWeights,
  randomWeights,
  serverInputs,
  type WeightReader,
  weightShapes,
} from './weights.ts';
