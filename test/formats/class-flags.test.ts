import { describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer } from '../../src/models/tokenizer.ts';

// What transformers 5.24 (and 4) makes of the flags of tokenizer_config.json, which it takes before tokenizer.json's own fields.

const vocab = Object.fromEntries(
  ['[UNK]', 'The', 'the', 'thé', 'Thé', '中', '中文', '##文', '文', 'ĠThe', 'T', 'h', 'e'].map((token, id) => [token, id]),
);
const bert = (lowercase: boolean) => ({
  added_tokens: [],
  normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab },
});
const byteLevel = (space: boolean) => ({
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: space, trim_offsets: true, use_regex: true },
  post_processor: null,
  decoder: null,
  model: { type: 'WordLevel', unk_token: '[UNK]', vocab },
});
const encode = async (definition: unknown, config: Record<string, unknown>, text: string): Promise<string[]> => {
  const files = { 'tokenizer.json': JSON.stringify(definition), 'tokenizer_config.json': JSON.stringify(config) };
  const names = Object.keys(vocab);
  return (await loadTokenizer(memoryFiles(files))).encode(text).map((id) => names[id]!);
};

describe('flags of a tokenizer class', () => {
  it.each(['BertTokenizer', 'BertTokenizerFast', 'DistilBertTokenizer', 'ElectraTokenizerFast'])(
    '%s takes case, accents and Chinese characters from tokenizer_config.json',
    async (name) => {
      const config = { tokenizer_class: name };
      for (const own of [true, false]) {
        expect(await encode(bert(own), config, 'Thé')).toEqual(['the']);
        expect(await encode(bert(own), { ...config, do_lower_case: true }, 'Thé')).toEqual(['the']);
        expect(await encode(bert(own), { ...config, do_lower_case: false }, 'The Thé')).toEqual(['The', 'Thé']);
        expect(await encode(bert(own), { ...config, do_lower_case: false, strip_accents: true }, 'Thé')).toEqual(['The']);
        expect(await encode(bert(own), { ...config, strip_accents: false }, 'Thé')).toEqual(['thé']);
        expect(await encode(bert(own), config, '中文')).toEqual(['中', '文']);
        expect(await encode(bert(own), { ...config, tokenize_chinese_chars: false }, '中文')).toEqual(['中文']);
      }
    },
  );

  it.each(['GPT2Tokenizer', 'RobertaTokenizerFast', 'BartTokenizer', 'LongformerTokenizer'])(
    '%s takes the space before the first word from there',
    async (name) => {
      for (const own of [true, false]) {
        expect(await encode(byteLevel(own), { tokenizer_class: name }, 'The')).toEqual(['The']);
        expect(await encode(byteLevel(own), { tokenizer_class: name, add_prefix_space: true }, 'The')).toEqual(['ĠThe']);
      }
    },
  );

  it('other classes keep what tokenizer.json says', async () => {
    for (const name of [undefined, 'PreTrainedTokenizerFast', 'TokenizersBackend']) {
      const config = { ...(name && { tokenizer_class: name }), do_lower_case: false, add_prefix_space: false };
      expect(await encode(bert(true), config, 'The')).toEqual(['the']);
      expect(await encode(byteLevel(true), config, 'The')).toEqual(['ĠThe']);
    }
  });

  it('flags of another kind are refused', async () => {
    const config = { tokenizer_class: 'BertTokenizer', do_lower_case: 'no' };
    await expect(encode(bert(true), config, 'a')).rejects.toMatchObject({ kind: 'input', place: { field: 'do_lower_case' } });
  });
});
