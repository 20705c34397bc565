import { SottoError } from '../errors/index.ts';
import { isObject } from './json.ts';

/** Classes whose published tokenizer takes the fields of its BertNormalizer from tokenizer_config.json, by these defaults. */
const bertClasses = new Set(['BertTokenizer', 'DistilBertTokenizer', 'ElectraTokenizer']);
/** Classes whose published tokenizer takes `add_prefix_space` of its ByteLevel from there; it is false where absent. */
const byteLevelClasses = new Set(['GPT2Tokenizer', 'RobertaTokenizer', 'BartTokenizer', 'LongformerTokenizer']);

/**
 * The parts of tokenizer.json that the class named in tokenizer_config.json replaces by its own flags, whatever the file says. Empty
 * where it leaves them. A flag that is no boolean is an `input` error of `file`.
 */
export function flaggedParts(
  definition: Readonly<Record<string, unknown>>,
  config: Readonly<Record<string, unknown>>,
  file: string,
): Record<string, unknown> {
  const name = typeof config.tokenizer_class === 'string' ? config.tokenizer_class.replace(/Fast$/, '') : '';
  const flag = (field: string, otherwise: boolean | null): boolean | null => {
    const given = config[field] ?? otherwise;
    if (given !== null && typeof given !== 'boolean')
      throw new SottoError('input', 'the flag is neither true nor false', {
        place: { file, field },
        remedy: 'take tokenizer.json and tokenizer_config.json of one model',
      });
    return given;
  };
  const { normalizer, pre_tokenizer: preTokenizer } = definition;
  if (bertClasses.has(name) && isObject(normalizer) && normalizer.type === 'BertNormalizer') {
    const lowercase = flag('do_lower_case', true);
    const changed = {
      lowercase,
      strip_accents: flag('strip_accents', null),
      handle_chinese_chars: flag('tokenize_chinese_chars', true),
    };
    return { normalizer: { ...normalizer, ...changed } };
  }
  if (byteLevelClasses.has(name) && isObject(preTokenizer) && preTokenizer.type === 'ByteLevel')
    return { pre_tokenizer: { ...preTokenizer, add_prefix_space: flag('add_prefix_space', false) } };
  return {};
}
