export { block, type Context, encoderContext, type Layer } from './block.ts';
export { type FoldedStack, foldedLayer, foldedName } from './folded.ts';
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
  type ScopeRange,
} from './plan.ts';
