import { describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { publicFile } from '../../src/models/public-config.ts';
import { loadTokenizer } from '../../src/models/tokenizer.ts';

const added = (id: number, content: string, lstrip = false) => ({
  id,
  content,
  single_word: false,
  lstrip,
  rstrip: false,
  normalized: false,
  special: true,
});
const tokens = ['?', '<s>', '</s>', 'x', 'new', '[UNK]', '[CLS]', '[SEP]', '[PAD]', '[MASK]', 'y', 'the'];
const definition = (more: Record<string, unknown> = {}) => ({
  version: '1.0',
  added_tokens: [added(0, '?'), added(1, '<s>'), added(2, '</s>', true)],
  normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: null,
  decoder: null,
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
  },
  ...more,
});
const load = (config: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  loadTokenizer(
    memoryFiles({ 'tokenizer.json': JSON.stringify(definition(more)), 'tokenizer_config.json': JSON.stringify(config) }),
  );

const texts = ['x <s> y', 'x the <new> Y', 'ax newx a <q> x', 'x [MASK] y', 'x </s> y'];
// Ids of AutoTokenizer of transformers 4.57.6 and of 5.24.0, which agree, on these files and texts.
const published: [config: Record<string, unknown>, ids: number[][]][] = [
  [
    { tokenizer_class: 'PreTrainedTokenizerFast' },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', added_tokens_decoder: { '1': { content: 'the', special: true } } },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', added_tokens_decoder: { '77': { content: '<new>' } } },
    [
      [3, 1, 10],
      [3, 11, 12, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', added_tokens_decoder: { '2': { content: '</s>', special: true } } },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    {
      tokenizer_class: 'PreTrainedTokenizerFast',
      added_tokens_decoder: {
        '9': { content: '<q>', rstrip: true, lstrip: true, special: false },
        '10': { content: '<new>', special: true },
      },
    },
    [
      [3, 1, 10],
      [3, 11, 13, 10],
      [5, 5, 5, 12, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    {
      tokenizer_class: 'PreTrainedTokenizerFast',
      added_tokens_decoder: { '10': { content: '<q>', special: false }, '9': { content: '<new>', special: true } },
    },
    [
      [3, 1, 10],
      [3, 11, 12, 10],
      [5, 5, 5, 13, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    {
      tokenizer_class: 'PreTrainedTokenizerFast',
      added_tokens_decoder: { '4': { content: 'new', single_word: true, normalized: true } },
    },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', added_tokens_decoder: { '10': { content: 'Y', normalized: true } } },
    [
      [3, 1, 12],
      [3, 11, 5, 4, 5, 12],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 12],
      [3, 2, 12],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', added_tokens_decoder: { '10': { content: 'Y', normalized: false } } },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 12],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', eos_token: '<q>' },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 12, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    {
      tokenizer_class: 'PreTrainedTokenizerFast',
      eos_token: { content: '<q>', lstrip: true, __type: 'AddedToken', rstrip: false, single_word: false, normalized: true },
    },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 12, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', mask_token: '[MASK]' },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 9, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', additional_special_tokens: ['<new>', '[MASK]'] },
    [
      [3, 1, 10],
      [3, 11, 12, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 9, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'PreTrainedTokenizerFast', extra_special_tokens: { image_token: '<new>' } },
    [
      [3, 1, 10],
      [3, 11, 12, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'BertTokenizer', pad_token: null },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 9, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'MPNetTokenizer' },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 10],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
  [
    { tokenizer_class: 'MPNetTokenizer', do_lower_case: false },
    [
      [3, 1, 10],
      [3, 11, 5, 4, 5, 5],
      [5, 5, 5, 5, 5, 5, 3],
      [3, 5, 5, 5, 10],
      [3, 2, 10],
    ],
  ],
];

describe('tokens that tokenizer_config.json adds', () => {
  it.each(published)('%j', async (config, ids) => {
    // The second is what a client of a server has.
    for (const fields of [config, publicFile('tokenizer_config.json', config) as Record<string, unknown>]) {
      const tokenizer = await load(fields);
      expect(texts.map((text) => tokenizer.encode(text, { addSpecial: false }))).toEqual(ids);
    }
  });

  it('counts them into the vocabulary and leaves special ones out of a text', async () => {
    const tokenizer = await load({ eos_token: '<q>', added_tokens_decoder: { 3: { content: '<new>' } } });
    expect([tokenizer.vocabularySize, tokenizer.eosId]).toEqual([14, 13]);
    expect(tokenizer.decode([3, 12, 13, 10])).toBe('x <new> y');
  });

  it.each([
    [{ split_special_tokens: true }, 'split_special_tokens'],
    [{ added_tokens_decoder: [] }, 'added_tokens_decoder'],
    [{ added_tokens_decoder: { one: { content: 'x' } } }, 'added_tokens_decoder'],
    [{ added_tokens_decoder: { 1: { content: '' } } }, 'added_tokens_decoder.1'],
    [{ added_tokens_decoder: { 1: { content: 'x', lstrip: 1 } } }, 'added_tokens_decoder.1'],
    [{ additional_special_tokens: [7] }, 'additional_special_tokens'],
    [{ extra_special_tokens: 'x' }, 'extra_special_tokens'],
    [{ mask_token: 4 }, 'mask_token'],
  ])('refuses %j', async (config, field) => {
    await expect(load(config)).rejects.toMatchObject({ kind: 'input', place: { file: 'memory/tokenizer_config.json', field } });
  });

  // Both versions make the parts of these classes anew where the flag is given, from a file or by rules that are not tokenizer.json's.
  it.each(['LlamaTokenizer', 'LlamaTokenizerFast', 'T5Tokenizer', 'XLMRobertaTokenizer'])(
    '%s: add_prefix_space is refused where it contradicts the parts of tokenizer.json',
    async (name) => {
      const config = (flag: unknown) => ({ tokenizer_class: name, add_prefix_space: flag });
      const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false };
      const refusal = { kind: 'input', place: { field: 'add_prefix_space' } };
      for (const parts of [
        { pre_tokenizer: metaspace },
        { normalizer: { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }] } },
      ]) {
        await expect(load(config(false), parts)).rejects.toMatchObject(refusal);
        for (const flag of [true, null]) await load(config(flag), parts);
      }
      await expect(load(config(true))).rejects.toMatchObject(refusal);
      await load(config(false), { pre_tokenizer: { ...metaspace, prepend_scheme: 'never' } });
    },
  );
});
