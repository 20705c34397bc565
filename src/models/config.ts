export {
  type ActivationName,
  activationNames,
  type BertConfig,
  type LlamaConfig,
  type ModelConfig,
  type VitConfig,
} from './configuration.ts';
export {
  parseBertConfig,
  parseLlamaConfig,
  parseModelConfig,
  parseVitConfig,
  supportedModelTypes,
} from './families/index.ts';
