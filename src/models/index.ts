export { type BertOutput, traceBert, traceBertPrivate } from './bert.ts';
export { boundWeights } from './bound.ts';
export {
  type Checkpoint,
  type CheckpointContents,
  companionFiles,
  type LoadedTensor,
  openCheckpoint,
  writeCheckpoint,
} from './checkpoint.ts';
export {
  type ActivationName,
  type BertConfig,
  type LlamaConfig,
  type ModelConfig,
  parseLlamaConfig,
  parseModelConfig,
  supportedModelTypes,
  type VitConfig,
} from './config.ts';
export { layoutOf } from './families/index.ts';
export { type ByteRange, type Files, memoryFiles } from './files.ts';
export { type FoldedTensor, foldWeights, type ReadTensor } from './fold.ts';
export { type ModelFolder, openModelFolder } from './folder.ts';
export {
  type LlamaOutput,
  llama,
  type PrivateGeneration,
  rotaryRows,
  traceLlama,
  traceLlamaPrivate,
  traceLlamaStep,
} from './llama.ts';
export {
  type ActivationPlan,
  type AttentionPlan,
  defaultEpsilon,
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
  type ScopeRange,
} from './plan.ts';
export { type PixelValues, type Preprocessor, parsePreprocessor, preprocess, type RgbImage } from './preprocess.ts';
export type { RopeScaling } from './rope-config.ts';
export { type NamedTensor, openSafetensors, readTensor, type TensorEntry, writeSafetensors } from './safetensors.ts';
export { greedy, type Logits, type Sampler, type SamplingOptions, sampler, seededNormal, seededUniform } from './sample.ts';
export {
  loadShape,
  type ModelShape,
  parseShape,
  type ShapeRun,
  traceShape,
  traceShapeLayer,
} from './shapes.ts';
export { loadTokenizer, type StreamingDecoder, streamingDecoder, type Tokenizer } from './tokenizer.ts';
export { traceVit, traceVitPrivate, type VitOutput } from './vit.ts';
export {
  blockMatrices,
  coefficientNames,
  firstWeights,
  loadWeights,
  randomInputs,
  serverInputs,
} from './weights.ts';
