import { usedFields } from './families/index.ts';
import { isObject } from './json.ts';

/** What of a plan a program is traced from, or a client feeds by. Names and calibration's ranges stay with the server. */
const planFields = ['layers', 'finalNorm', 'pooler', 'embedding', 'ring', 'domains'] as const;

/** Settings of a tokenizer that change what ids a text has, or how ids are read. */
const tokenizerFields = [
  'tokenizer_class',
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'cls_token',
  'pad_token',
  'mask_token',
  'additional_special_tokens',
  'extra_special_tokens',
  'added_tokens_decoder',
  'split_special_tokens',
  'add_bos_token',
  'add_eos_token',
  'add_prefix_space',
  'legacy',
  'clean_up_tokenization_spaces',
  'do_lower_case',
  'strip_accents',
  'tokenize_chinese_chars',
  'remove_space',
] as const;

/** What a picture's preprocessor is made from. */
const preprocessorFields = [
  'do_resize',
  'size',
  'resample',
  'do_rescale',
  'rescale_factor',
  'do_normalize',
  'image_mean',
  'image_std',
  'do_center_crop',
] as const;

const picked = (raw: Readonly<Record<string, unknown>>, names: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(names.filter((name) => Object.hasOwn(raw, name)).map((name) => [name, raw[name]]));

/** What a client needs of config.json: the fields that the family's definition reads, and the plan. No path, no range, no note. */
export function publicConfig(raw: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const fields = picked(raw, ['model_type', ...usedFields(raw.model_type)]);
  if (raw.sotto === undefined) return fields;
  return { ...fields, sotto: isObject(raw.sotto) ? picked(raw.sotto, planFields) : raw.sotto };
}

/** The files that a client reads, and what it needs of each; all of it where undefined. */
export const publicFiles: Readonly<Record<string, readonly string[] | undefined>> = {
  'tokenizer.json': undefined,
  'tokenizer_config.json': tokenizerFields,
  'preprocessor_config.json': preprocessorFields,
};

/** The part of a public file that a client needs, as text. */
export function publicFile(name: string, content: unknown): unknown {
  const fields = publicFiles[name];
  return fields === undefined || !isObject(content) ? content : picked(content, fields);
}
