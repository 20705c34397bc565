import { z } from 'zod';
import {
  activation,
  checked,
  divides,
  epsilon,
  extent,
  type LlamaConfig,
  layers,
  misfit,
  orDefault,
  planIn,
  tokenId,
  width,
} from '../configuration.ts';
import { all, any, exactly, fullAttention, neutralFields, nothing } from '../fields.ts';
import { endTokens } from '../generation-config.ts';
import type { Layout, Matrix } from '../layout.ts';
import { ropeFields, ropeOf } from '../rope-config.ts';
import type { Family } from './family.ts';

const schema = z.object({
  hidden_size: orDefault(width, 4096),
  intermediate_size: orDefault(extent(2 ** 20), 11008),
  num_hidden_layers: orDefault(layers, 32),
  num_attention_heads: orDefault(extent(4096), 32),
  num_key_value_heads: extent(4096).nullish(),
  head_dim: extent(8192).nullish(),
  vocab_size: orDefault(extent(2 ** 22), 32000),
  max_position_embeddings: orDefault(extent(2 ** 24), 2048),
  rms_norm_eps: orDefault(epsilon, 1e-6),
  hidden_act: orDefault(activation, 'silu'),
  tie_word_embeddings: orDefault(z.boolean(), false),
  attention_bias: orDefault(z.boolean(), false),
  mlp_bias: orDefault(z.boolean(), false),
  bos_token_id: tokenId.nullable().optional(),
  eos_token_id: endTokens,
});

const neutral = [
  {
    reason: 'parts that relatives of the family have, unless they are off',
    fields: {
      ...all(exactly(1), 'pretraining_tp', 'partial_rotary_factor', 'rotary_pct', 'logit_scale', 'logits_scaling'),
      ...all(exactly(1), 'embedding_multiplier', 'residual_multiplier'),
      ...all(
        exactly(false),
        'rope_interleaved',
        'qk_layernorm',
        'use_qk_norm',
        'use_sliding_window',
        'alibi',
        'use_parallel_residual',
      ),
      ...all(nothing, 'sliding_window', 'clip_qkv', 'embedding_scale', 'attn_temperature_tuning'),
      ...all(fullAttention, 'layer_types'),
    },
  },
  {
    reason: 'names of classes, where nothing is classified',
    fields: any('id2label', 'label2id', 'num_labels', 'problem_type', 'is_decoder'),
  },
  {
    reason: 'notes of those who made the checkpoint: max_position_embeddings decides',
    fields: any(
      'max_sequence_length',
      'model_max_length',
      'tokenizer_model_max_length',
      'tokenizer_padding_side',
      'is_llama_config',
    ),
  },
];

const architectures = { llama: ['LlamaForCausalLM', 'LLaMAForCausalLM'] };
const taken = { architectures, neutral: neutralFields(neutral, true), others: ropeFields };

/** config.json of a Llama, with the published defaults, checked field by field and across fields. */
function parse(raw: unknown, file = 'config.json'): LlamaConfig {
  const fields = checked(schema, raw, file, taken);
  const heads = fields.num_attention_heads;
  const keyValueHeads = fields.num_key_value_heads ?? heads;
  if (fields.head_dim == null) divides(fields.hidden_size, heads, 'num_attention_heads', 'hidden_size', file);
  divides(heads, keyValueHeads, 'num_key_value_heads', 'num_attention_heads', file);
  const headDim = fields.head_dim ?? fields.hidden_size / heads;
  if (headDim % 2 !== 0) throw misfit(`the head dimension ${headDim} is odd, rotary positions turn pairs`, 'head_dim', file);
  return {
    family: 'llama',
    hiddenSize: fields.hidden_size,
    intermediateSize: fields.intermediate_size,
    numHiddenLayers: fields.num_hidden_layers,
    numAttentionHeads: heads,
    numKeyValueHeads: keyValueHeads,
    headDim,
    vocabSize: fields.vocab_size,
    maxPositionEmbeddings: fields.max_position_embeddings,
    rmsNormEps: fields.rms_norm_eps,
    ...ropeOf(raw as Record<string, unknown>, file),
    hiddenAct: fields.hidden_act,
    tieWordEmbeddings: fields.tie_word_embeddings,
    attentionBias: fields.attention_bias,
    mlpBias: fields.mlp_bias,
    bosTokenId: fields.bos_token_id === undefined ? 1 : fields.bos_token_id,
    eosTokenIds: asList(fields.eos_token_id === undefined ? 2 : fields.eos_token_id),
    plan: planIn(raw),
  };
}

const asList = (ids: number | number[] | null): number[] => (ids === null ? [] : Array.isArray(ids) ? ids : [ids]);

function layout(config: LlamaConfig): Layout {
  const { hiddenSize: d, intermediateSize: ff, vocabSize, headDim, attentionBias, mlpBias } = config;
  const [wide, narrow] = [config.numAttentionHeads * headDim, config.numKeyValueHeads * headDim];
  const matrix = (name: string, out: number, inputs: number, bias = false): Matrix => ({ name, out, inputs, bias });
  return {
    hiddenSize: d,
    intermediateSize: ff,
    numHiddenLayers: config.numHiddenLayers,
    heads: config.numAttentionHeads,
    keyValueHeads: config.numKeyValueHeads,
    headDim,
    norm: 'rms',
    normBias: false,
    epsilon: config.rmsNormEps,
    normPlace: 'before',
    activation: config.hiddenAct,
    embedding: { kind: 'tokens', words: 'model.embed_tokens.weight', vocabSize },
    block: (index) => {
      const part = (name: string): string => `model.layers.${index}.${name}`;
      return {
        attention: {
          norm: part('input_layernorm'),
          query: matrix(part('self_attn.q_proj'), wide, d, attentionBias),
          key: matrix(part('self_attn.k_proj'), narrow, d, attentionBias),
          value: matrix(part('self_attn.v_proj'), narrow, d, attentionBias),
          out: matrix(part('self_attn.o_proj'), d, wide, attentionBias),
          quad: part('self_attn.quad'),
        },
        mlp: {
          norm: part('post_attention_layernorm'),
          gate: matrix(part('mlp.gate_proj'), ff, d, mlpBias),
          up: matrix(part('mlp.up_proj'), ff, d, mlpBias),
          down: matrix(part('mlp.down_proj'), d, ff, mlpBias),
          act: part('mlp.act'),
        },
      };
    },
    finalNorm: 'model.norm',
    head: matrix(config.tieWordEmbeddings ? 'model.embed_tokens' : 'lm_head', vocabSize, d),
    ...(config.tieWordEmbeddings ? { tied: 'lm_head.weight' } : {}),
  };
}

export const llama: Family<LlamaConfig> = {
  architectures,
  job: 'writes text',
  fields: [...Object.keys(schema.shape), ...ropeFields],
  neutral,
  unread: [
    {
      name: /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/,
      reason: 'frequencies that older versions saved; config.json says what they are',
    },
  ],
  parse,
  layout,
};
