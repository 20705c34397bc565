import { SottoError } from '../errors/index.ts';

/** What a field may say and yet be read over. null is harmless in every one of them: it sets nothing. */
interface Harmless {
  /** As errors and docs/checkpoints.md print it. */
  readonly values: string;
  readonly holds: (value: unknown) => boolean;
}

const anything: Harmless = { values: 'anything', holds: () => true };
export const nothing: Harmless = { values: 'null', holds: () => false };
const empty: Harmless = { values: 'nothing', holds: (value) => typeof value === 'object' && Object.keys(value!).length === 0 };
export const exactly = (...values: readonly unknown[]): Harmless => ({
  values: values.map((value) => JSON.stringify(value)).join(' or '),
  holds: (value) => values.includes(value),
});
export const fullAttention: Harmless = {
  values: '"full_attention" for every layer',
  holds: (value) => Array.isArray(value) && value.every((kind) => kind === 'full_attention'),
};

/** Fields that are read over for one reason. */
export interface FieldGroup {
  readonly reason: string;
  readonly fields: Readonly<Record<string, Harmless>>;
}

export const all = (rule: Harmless, ...names: string[]): Record<string, Harmless> =>
  Object.fromEntries(names.map((name) => [name, rule]));
export const any = (...names: string[]): Record<string, Harmless> => all(anything, ...names);

/** Of generation_config.json, and of older config.json files, which hold the same. */
export const writingFields: readonly FieldGroup[] = [
  {
    reason: 'how many tokens are asked for, and whether one is drawn or the likeliest is taken, is for the caller to choose',
    fields: any(
      'max_length',
      'max_new_tokens',
      'max_time',
      'do_sample',
      'temperature',
      'top_k',
      'top_p',
      'top_h',
      'min_p',
      'typical_p',
      'epsilon_cutoff',
      'eta_cutoff',
    ),
  },
  {
    reason: 'of several beams, several texts or a text of an encoder, and there is one text',
    fields: {
      ...all(exactly(1), 'num_beams', 'num_beam_groups', 'num_return_sequences'),
      ...any('early_stopping', 'length_penalty', 'diversity_penalty', 'low_memory'),
      ...any('encoder_repetition_penalty', 'encoder_no_repeat_ngram_size', 'decoder_start_token_id'),
    },
  },
  {
    reason: 'changes which token is the likeliest, or where a text ends, unless it is off',
    fields: {
      ...all(exactly(1), 'repetition_penalty'),
      ...all(exactly(0), 'min_length', 'min_new_tokens', 'no_repeat_ngram_size'),
      ...all(exactly(1), 'guidance_scale'),
      ...all(exactly(false), 'token_healing'),
      ...all(
        empty,
        'suppress_tokens',
        'begin_suppress_tokens',
        'bad_words_ids',
        'force_words_ids',
        'stop_strings',
        'constraints',
      ),
      ...all(nothing, 'sequence_bias', 'forced_bos_token_id', 'forced_eos_token_id', 'exponential_decay_length_penalty'),
      ...all(nothing, 'penalty_alpha', 'dola_layers', 'watermarking_config'),
    },
  },
  {
    reason: 'how the published library runs and returns: the numbers are the same',
    fields: any(
      'use_cache',
      'cache_implementation',
      'cache_config',
      'max_cache_len',
      'return_legacy_cache',
      'prefill_chunk_size',
      'renormalize_logits',
      'remove_invalid_values',
      'output_attentions',
      'output_hidden_states',
      'output_scores',
      'output_logits',
      'return_dict_in_generate',
      'is_assistant',
      'num_assistant_tokens',
      'num_assistant_tokens_schedule',
      'assistant_confidence_threshold',
      'assistant_early_exit',
      'assistant_lookbehind',
      'assistant_ensemble_weight',
      'target_lookbehind',
      'max_matching_ngram_size',
      'prompt_lookup_num_tokens',
      'use_mtp',
      'speculation_type',
      'compile_config',
      'disable_compile',
      'continuous_batching_config',
    ),
  },
  {
    reason: 'the tokenizer puts the begin token, and no text is padded',
    fields: any('bos_token_id', 'pad_token_id'),
  },
  {
    reason: 'says what wrote the file',
    fields: any('_from_model_config', '_commit_hash', 'transformers_version', 'trust_remote_code'),
  },
];

/** Of config.json of every family. */
const commonFields: readonly FieldGroup[] = [
  {
    reason: 'says where the folder comes from and what wrote it',
    fields: any(
      '_name_or_path',
      'name_or_path',
      '_commit_hash',
      'transformers_version',
      'transformers.js_config',
      'auto_map',
      'finetuning_task',
      'task_specific_params',
      'language',
      'license',
      'tokenizer_class',
      'prefix',
      'torchscript',
      'unsloth_version',
      'unsloth_fixed',
      '_num_labels',
      '_pre_quantization_dtype',
    ),
  },
  {
    reason: 'how the published library runs and returns: the numbers are the same',
    fields: any(
      'use_cache',
      'return_dict',
      'use_return_dict',
      'output_attentions',
      'output_hidden_states',
      'output_past',
      'chunk_size_feed_forward',
      'gradient_checkpointing',
      '_attn_implementation',
      '_attn_implementation_internal',
      '_attn_implementation_autoset',
      'attn_implementation',
      '_flash_attn_2_enabled',
      'use_flash_attention',
      'use_flash_attn',
      '_experts_implementation',
      'tf_legacy_loss',
      'use_bfloat16',
    ),
  },
  {
    reason: 'of training alone',
    fields: any(
      'initializer_range',
      'initializer_factor',
      'attention_dropout',
      'attention_probs_dropout_prob',
      'hidden_dropout',
      'hidden_dropout_prob',
      'classifier_dropout',
      'embedding_dropout',
      'resid_dropout',
      'label_smoothing',
    ),
  },
  {
    reason: 'tokens with a duty that the tokenizer knows',
    fields: any('pad_token_id', 'unk_token_id', 'sep_token_id', 'cls_token_id', 'mask_token_id'),
  },
  {
    reason: 'the type that the published library computes in; each tensor says how it is stored',
    fields: all(
      exactly(...['float16', 'bfloat16', 'float32', 'float64'].flatMap((name) => [name, `torch.${name}`])),
      'torch_dtype',
      'dtype',
    ),
  },
  {
    reason: 'parts that other architectures have, unless they are off',
    fields: {
      ...all(exactly(false), 'is_encoder_decoder', 'add_cross_attention', 'tie_encoder_decoder'),
      ...all(nothing, 'cross_attention_hidden_size', 'logits_soft_cap', 'final_logit_softcapping', 'attn_logit_softcapping'),
      ...all(empty, 'pruned_heads'),
    },
  },
];

/** Of an encoder, which writes nothing, whatever a file says of writing. */
const unwrittenFields = writingFields.map(({ reason, fields }) => ({ reason, fields: any(...Object.keys(fields)) }));

/** Fields of config.json that are read over in a family, `own` and those of all. */
export const neutralFields = (own: readonly FieldGroup[], writes: boolean): readonly FieldGroup[] => [
  ...(writes ? writingFields : []),
  ...own,
  ...commonFields,
  ...(writes ? [] : unwrittenFields),
];

/** A field's name as an error may print it, whatever file it comes from. */
export const printableField = (name: string): string => name.slice(0, 120).replace(/[^\x20-\x7e]/g, '?');

/** Words of a checkpoint whose weights are codes. */
const quantisation = /quanti[sz]|compress|sparsity/i;

/**
 * Every field of a settings file is used, or says nothing that matters here, or is refused by its name: `used` are the first, `groups` the
 * second. Throws `model` errors.
 */
export function checkFields(
  raw: Readonly<Record<string, unknown>>,
  used: ReadonlySet<string>,
  groups: readonly FieldGroup[],
  file: string,
): void {
  for (const [name, value] of Object.entries(raw)) {
    if (used.has(name) || value === null || value === undefined) continue;
    const rule = groups.find(({ fields }) => Object.hasOwn(fields, name))?.fields[name];
    if (rule?.holds(value) !== true) throw refusedField(name, value, rule, file);
  }
}

function refusedField(name: string, value: unknown, rule: Harmless | undefined, file: string): SottoError {
  const place = { file, field: printableField(name) };
  if (rule === undefined && quantisation.test(name))
    return new SottoError('model', `the weights are quantised${methodOf(value)}, and sotto does not dequantise`, {
      place,
      remedy: 'take the checkpoint in float32, float16 or bfloat16',
    });
  return new SottoError(
    'model',
    rule === undefined
      ? 'sotto does not know what this field changes'
      : `${brief(value)} asks for something that sotto does not do: ${rule.values} is taken`,
    {
      place,
      remedy: 'take a checkpoint without it; where the model is known to be the same without it, remove the field from the file',
    },
  );
}

function methodOf(value: unknown): string {
  const method = typeof value === 'object' && value !== null ? (value as Record<string, unknown>).quant_method : undefined;
  return typeof method === 'string' ? ` (${printableField(method).slice(0, 40)})` : '';
}

const brief = (value: unknown): string =>
  typeof value === 'object' ? `a ${Array.isArray(value) ? 'list' : 'table'}` : printableField(JSON.stringify(value)).slice(0, 60);
