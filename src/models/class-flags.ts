import { SottoError } from '../errors/index.ts';
import { isObject } from './json.ts';

/** Classes whose published tokenizer takes the fields of its BertNormalizer from tokenizer_config.json, by these defaults. */
const bertClasses = new Set(['BertTokenizer', 'DistilBertTokenizer', 'ElectraTokenizer', 'MPNetTokenizer']);
/** Classes whose published tokenizer takes `add_prefix_space` of its ByteLevel from there; it is false where absent. */
const byteLevelClasses = new Set([
  'GPT2Tokenizer',
  'RobertaTokenizer',
  'BartTokenizer',
  'LongformerTokenizer',
  'GPTNeoXTokenizer',
  'CodeGenTokenizer',
]);
/** Classes whose published tokenizer makes its parts anew where `add_prefix_space` is given, from a file that is not read here. */
const sentencePieceClasses = new Set([
  'LlamaTokenizer',
  'CodeLlamaTokenizer',
  'T5Tokenizer',
  'XLMRobertaTokenizer',
  'CamembertTokenizer',
]);

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
  if (sentencePieceClasses.has(name)) {
    const wanted = flag('add_prefix_space', null);
    if (wanted !== null && wanted !== putsSpaceBefore(definition))
      throw new SottoError('input', 'the flag contradicts the parts of tokenizer.json, which do otherwise with the first word', {
        place: { file, field: 'add_prefix_space' },
        remedy: 'take tokenizer.json and tokenizer_config.json of one model',
      });
  }
  return {};
}

/** Whether a normalizer or pre-tokenizer puts something before the first word. */
function putsSpaceBefore({ normalizer, pre_tokenizer: preTokenizer }: Readonly<Record<string, unknown>>): boolean {
  const parts = [normalizer, preTokenizer].flatMap((part) => {
    const { normalizers, pretokenizers } = isObject(part) ? part : {};
    const steps = normalizers ?? pretokenizers;
    return Array.isArray(steps) ? steps : [part];
  });
  return parts.some(
    (part) =>
      isObject(part) &&
      (part.type === 'Prepend' ||
        (part.type === 'Metaspace' && part.prepend_scheme !== 'never' && part.add_prefix_space !== false)),
  );
}
