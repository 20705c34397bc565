import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { parseModelConfig } from '../../src/models/config.ts';
import { families } from '../../src/models/families/index.ts';
import { neutralFields, writingFields } from '../../src/models/fields.ts';
import { generationEnds } from '../../src/models/generation-config.ts';

/** `to_dict()` of each configuration class of the published library, by version: every field that it writes, at its default. */
const dumps: Record<string, Record<string, Record<string, unknown>>> = JSON.parse(
  readFileSync(join(import.meta.dirname, 'published-defaults.json'), 'utf8'),
);

const refusal = (work: () => unknown): SottoError => {
  try {
    work();
  } catch (error) {
    if (error instanceof SottoError) return error;
    throw error;
  }
  throw new Error('was taken');
};

const llama = (fields: Record<string, unknown>) => parseModelConfig({ model_type: 'llama', ...fields });

describe('fields of config.json', () => {
  for (const [version, classes] of Object.entries(dumps))
    it.each(['llama', 'vit', 'bert', 'roberta'])(`of the published library ${version} are all known: %s`, (type) => {
      const whole = parseModelConfig(classes[type]);
      expect(whole).toEqual(parseModelConfig({ model_type: type, ...(type === 'roberta' ? { layer_norm_eps: 1e-12 } : {}) }));
    });

  // What published folders hold, by heart: Llama 2 and 3.1, TinyLlama, SmolLM2, DeepSeek Coder, google/vit, bert-base, a RoBERTa of tweets.
  it.each<[string, Record<string, unknown>]>([
    [
      'llama',
      {
        _name_or_path: 'meta-llama/Llama-2-7b-hf',
        architectures: ['LlamaForCausalLM'],
        pretraining_tp: 1,
        rope_scaling: null,
        torch_dtype: 'float16',
        transformers_version: '4.31.0.dev0',
        use_cache: true,
        pad_token_id: 0,
        max_sequence_length: 2048,
      },
    ],
    [
      'llama',
      {
        architectures: ['LlamaForCausalLM'],
        attention_bias: false,
        attention_dropout: 0.0,
        eos_token_id: [128001, 128008, 128009],
        mlp_bias: false,
        rope_theta: 500000.0,
        rope_scaling: {
          factor: 8.0,
          low_freq_factor: 1.0,
          high_freq_factor: 4.0,
          original_max_position_embeddings: 8192,
          rope_type: 'llama3',
        },
        torch_dtype: 'bfloat16',
      },
    ],
    [
      'llama',
      {
        is_llama_config: true,
        rope_interleaved: false,
        rope_theta: 100000,
        'transformers.js_config': { dtype: 'q4' },
        initializer_range: 0.041666666666666664,
        tie_word_embeddings: true,
        head_dim: 64,
        hidden_size: 576,
        num_attention_heads: 9,
        num_key_value_heads: 3,
      },
    ],
    [
      'llama',
      {
        rope_scaling: { factor: 4.0, type: 'linear' },
        _flash_attn_2_enabled: false,
        sliding_window: null,
        unsloth_version: '2024.9',
        layer_types: ['full_attention'],
      },
    ],
    [
      'llama',
      {
        architectures: ['LlamaForCausalLM'],
        dtype: 'bfloat16',
        rope_parameters: { rope_theta: 500000.0, rope_type: 'default' },
        auto_map: { AutoModelForCausalLM: 'modeling.Model' },
      },
    ],
    [
      'vit',
      {
        architectures: ['ViTForImageClassification'],
        attention_probs_dropout_prob: 0.0,
        encoder_stride: 16,
        hidden_dropout_prob: 0.0,
        problem_type: 'single_label_classification',
        qkv_bias: true,
        id2label: { 0: 'cat', 1: 'dog' },
        label2id: { cat: '0', dog: '1' },
      },
    ],
    [
      'bert',
      {
        architectures: ['BertForSequenceClassification'],
        gradient_checkpointing: false,
        position_embedding_type: 'absolute',
        type_vocab_size: 2,
        use_cache: true,
        directionality: 'bidi',
        pooler_fc_size: 768,
        pooler_num_attention_heads: 12,
        pooler_num_fc_layers: 3,
        pooler_size_per_head: 128,
        pooler_type: 'first_token_transform',
        finetuning_task: 'sst-2',
      },
    ],
    [
      'roberta',
      {
        architectures: ['RobertaForSequenceClassification'],
        bos_token_id: 0,
        eos_token_id: 2,
        pad_token_id: 1,
        output_past: true,
        gradient_checkpointing: false,
        max_position_embeddings: 514,
        type_vocab_size: 1,
        layer_norm_eps: 1e-5,
        problem_type: 'single_label_classification',
      },
    ],
  ])('of published folders are taken: %s, %j', (type, fields) => {
    expect(() => parseModelConfig({ model_type: type, ...fields })).not.toThrow();
  });

  it.each<[type: string, field: string, value: unknown]>([
    ['llama', 'quantization_config', { quant_method: 'gptq', bits: 4 }],
    ['llama', 'quantization_config', { quant_method: 'awq' }],
    ['llama', 'quantization_config', { quant_method: 'fp8', weight_block_size: [128, 128] }],
    ['llama', 'quantization_config', { load_in_8bit: true, quant_method: 'bitsandbytes' }],
    ['llama', 'quantization_config', 'what'],
    ['llama', 'quantization_config', {}],
    ['llama', 'compression_config', { format: 'pack-quantized' }],
    ['llama', 'quantization', { group_size: 64, bits: 4 }],
    ['llama', 'sparsity_config', {}],
    ['llama', 'torch_dtype', 'int8'],
    ['llama', 'dtype', 'float8_e4m3fn'],
    ['llama', 'partial_rotary_factor', 0.5],
    ['llama', 'rotary_pct', 0.25],
    ['llama', 'pretraining_tp', 2],
    ['llama', 'sliding_window', 4096],
    ['llama', 'use_sliding_window', true],
    ['llama', 'layer_types', ['full_attention', 'sliding_attention']],
    ['llama', 'qk_layernorm', true],
    ['llama', 'rope_interleaved', true],
    ['llama', 'logit_scale', 0.0625],
    ['llama', 'final_logit_softcapping', 30],
    ['llama', 'attn_logit_softcapping', 50],
    ['llama', 'embedding_multiplier', 12],
    ['llama', 'attention_multiplier', 0.0078125],
    ['llama', 'num_local_experts', 8],
    ['llama', 'is_encoder_decoder', true],
    ['llama', 'add_cross_attention', true],
    ['llama', 'pruned_heads', { 0: [1] }],
    ['llama', 'repetition_penalty', 1.2],
    ['llama', 'forced_eos_token_id', 2],
    ['llama', 'num_beams', 5],
    ['llama', 'architectures', ['LlamaForSequenceClassification']],
    ['llama', 'architectures', ['LlamaForCausalLM', 'Other']],
    ['llama', 'architectures', 'LlamaForCausalLM'],
    ['llama', 'hidden_activation', 'relu'],
    ['llama', 'a_new_switch', false],
    ['llama', 'layer_norm_eps', 1e-5],
    ['vit', 'is_decoder', true],
    ['vit', 'problem_type', 'multi_label_classification'],
    ['vit', 'architectures', ['ViTModel']],
    ['vit', 'num_labels', 3],
    ['vit', 'use_mask_token', true],
    ['bert', 'position_embedding_type', 'relative_key'],
    ['bert', 'is_decoder', true],
    ['bert', 'add_cross_attention', true],
    ['bert', 'problem_type', 'multi_label_classification'],
    ['bert', 'architectures', ['BertForTokenClassification']],
    ['bert', 'architectures', ['RobertaForSequenceClassification']],
    ['roberta', 'architectures', ['RobertaForMaskedLM']],
    ['bert', 'embedding_size', 128],
    ['bert', 'rope_theta', 10000],
    ['bert', 'quantization_config', { quant_method: 'bitsandbytes' }],
  ])('are refused by their names: of a %s, %s %j', (type, field, value) => {
    const labels = type === 'vit' ? { id2label: { 0: 'a', 1: 'b' } } : {};
    const error = refusal(() => parseModelConfig({ model_type: type, ...labels, [field]: value }, 'here/config.json'));
    expect(error).toMatchObject({ kind: 'model', place: { file: 'here/config.json', field } });
  });

  it('that are null set nothing, whatever their names', () => {
    expect(llama({ whatever: null, quantization_config: null, sliding_window: null })).toEqual(llama({}));
  });

  it('are printed without their control characters', () => {
    expect(refusal(() => llama({ 'x\u001b[2J\u202e': 1 })).place.field).toBe('x?[2J?');
    expect(refusal(() => llama({ quantization_config: { quant_method: '\u001b[2J' } })).message).not.toContain('\u001b');
    expect(refusal(() => llama({ torch_dtype: '\u001b[2J' })).message).not.toContain('\u001b');
  });

  it('that are read over stand in the documentation with their reasons', () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/checkpoints.md'), 'utf8');
    for (const groups of [
      writingFields,
      ...Object.values(families).map(({ neutral, job }) => neutralFields(neutral, job === 'writes text')),
    ])
      for (const { reason, fields } of groups) {
        expect(page).toContain(reason);
        for (const name of Object.keys(fields)) expect(page).toContain(`\`${name}\``);
      }
    for (const { reason } of Object.values(families).flatMap(({ unread }) => unread)) expect(page).toContain(reason);
  });
});

describe('rotary positions', () => {
  const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  const scaled = { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalMaxPositions: 8192 };
  const linear = { type: 'linear', factor: 2 };

  it.each<[fields: Record<string, unknown>, ropeTheta: number, ropeScaling: unknown]>([
    [{}, 10000, null],
    [{ rope_theta: 5e5 }, 5e5, null],
    [{ rope_theta: null, rope_scaling: null, rope_parameters: null }, 10000, null],
    [{ rope_theta: 5e5, rope_scaling: { type: 'linear', factor: 2 } }, 5e5, linear],
    [{ rope_scaling: { rope_type: 'linear', type: 'linear', factor: 2, original_max_position_embeddings: 4096 } }, 10000, linear],
    [{ rope_scaling: { rope_type: 'llama3', ...llama3 }, rope_theta: 5e5 }, 5e5, scaled],
    [{ rope_scaling: { rope_type: 'default' } }, 10000, null],
    [{ rope_scaling: { rope_type: 'llama3', rope_theta: 5e5, ...llama3 } }, 5e5, scaled],
    [{ rope_parameters: { rope_theta: 5e5 } }, 5e5, null],
    [{ rope_parameters: { rope_theta: 5e5, rope_type: 'llama3', ...llama3 } }, 5e5, scaled],
    [{ rope_parameters: { rope_type: 'linear', factor: 2, partial_rotary_factor: 1 }, rope_theta: 7 }, 7, linear],
    [{ rope_parameters: { rope_theta: 7, rope_type: 'default' }, rope_theta: 7, partial_rotary_factor: 1 }, 7, null],
    [
      { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'linear', factor: 2, rope_theta: 7 } },
      7,
      linear,
    ],
  ])('are as published: %j', (fields, ropeTheta, ropeScaling) => {
    expect(llama(fields)).toMatchObject({ ropeTheta, ropeScaling });
  });

  it.each<[fields: Record<string, unknown>, field: string]>([
    [{ rope_theta: 1e4, rope_parameters: { rope_theta: 5e5, rope_type: 'default' } }, 'rope_theta'],
    [{ rope_theta: 1e4, rope_scaling: { rope_theta: 5e5, rope_type: 'default' } }, 'rope_theta'],
    [{ rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'default' } }, 'rope_scaling'],
    [{ rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'linear', factor: 4 } }, 'rope_scaling'],
    [{ rope_scaling: { type: 'dynamic', factor: 2 } }, 'rope_scaling.type'],
    [{ rope_scaling: { rope_type: 'yarn', factor: 2 } }, 'rope_scaling.type'],
    [{ rope_scaling: { rope_type: 'longrope', short_factor: [1], long_factor: [1] } }, 'rope_scaling.type'],
    [{ rope_scaling: { type: 'su' } }, 'rope_scaling.type'],
    [{ rope_scaling: { type: 'linear', rope_type: 'llama3', ...llama3 } }, 'rope_scaling.rope_type'],
    [{ rope_scaling: { factor: 2 } }, 'rope_scaling.factor'],
    [{ rope_scaling: { type: 'linear' } }, 'rope_scaling.factor'],
    [{ rope_scaling: { type: 'linear', factor: 2, attention_factor: 2 } }, 'rope_scaling.attention_factor'],
    [{ rope_scaling: { type: 'default', mrope_section: [16, 24, 24] } }, 'rope_scaling.mrope_section'],
    [
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 } },
      'rope_scaling.original_max_position_embeddings',
    ],
    [{ rope_scaling: { rope_type: 'llama3', ...llama3, high_freq_factor: 1 } }, 'rope_scaling.high_freq_factor'],
    [{ rope_scaling: [] }, 'rope_scaling'],
    [{ rope_scaling: 'linear' }, 'rope_scaling'],
    [{ rope_parameters: { rope_theta: 5e5, rope_type: 'yarn', factor: 2 } }, 'rope_parameters.type'],
    [{ rope_parameters: { rope_theta: 5e5, partial_rotary_factor: 0.5 } }, 'rope_parameters.partial_rotary_factor'],
    [{ rope_parameters: { rope_theta: 0 } }, 'rope_parameters.rope_theta'],
    [
      { rope_parameters: { full_attention: { rope_type: 'default' }, sliding_attention: { rope_type: 'default' } } },
      'rope_parameters.full_attention',
    ],
    [{ rope_theta: '10000' }, 'rope_theta'],
    [{ original_max_position_embeddings: 4096 }, 'original_max_position_embeddings'],
  ])('are refused by name: %j', (fields, field) => {
    expect(refusal(() => llama(fields))).toMatchObject({ kind: 'model', place: { field } });
  });
});

describe('fields of generation_config.json', () => {
  it.each(Object.keys(dumps))('of the published library %s are all known', (version) => {
    expect(generationEnds(dumps[version]!.generation!, 'generation_config.json')).toBe(undefined);
  });
});
