import { describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer } from '../../src/models/tokenizer.ts';

const template = {
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [
    { SpecialToken: { id: '<s>', type_id: 0 } },
    { Sequence: { id: 'A', type_id: 0 } },
    { Sequence: { id: 'B', type_id: 1 } },
  ],
  special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
};
const byteLevel = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true };

const load = (config: Record<string, unknown>, postProcessor: unknown = null) => {
  const special = (content: string, id: number) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const definition = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special('<unk>', 0), special('<s>', 1), special('</s>', 2)],
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
    post_processor: postProcessor,
    decoder: null,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: false,
      ignore_merges: false,
      vocab: { '<unk>': 0, '<s>': 1, '</s>': 2, '▁': 3, a: 4, b: 5 },
      merges: [],
    },
  };
  const files = { 'tokenizer.json': JSON.stringify(definition), 'tokenizer_config.json': JSON.stringify(config) };
  return loadTokenizer(memoryFiles(files));
};

// Ids of AutoTokenizer of transformers 4.57.6 (tokenizers 0.22.2) on these very files: 'ab', and the pair 'a', 'b'.
const published: [flags: Record<string, boolean>, single: number[], pair: number[], types: number[]][] = [
  [{}, [1, 3, 4, 5], [1, 3, 4, 1, 3, 5], [0, 0, 0, 1, 1, 1]],
  [{ add_bos_token: false }, [3, 4, 5], [3, 4, 3, 5], [0, 0, 1, 1]],
  [{ add_eos_token: true }, [1, 3, 4, 5, 2], [1, 3, 4, 2, 1, 3, 5, 2], [0, 0, 0, 0, 1, 1, 1, 1]],
  [{ add_bos_token: false, add_eos_token: true }, [3, 4, 5, 2], [3, 4, 2, 3, 5, 2], [0, 0, 0, 1, 1, 1]],
];

describe('begin and end tokens of tokenizer_config.json', () => {
  for (const name of ['LlamaTokenizer', 'LlamaTokenizerFast'])
    for (const [kind, postProcessor] of [
      ['no template', null],
      ['a template', template],
      ['a byte-level one', byteLevel],
    ] as const)
      it.each(published)(`${name} over ${kind}: %j`, async (flags, single, pair, types) => {
        const tokenizer = await load({ tokenizer_class: name, bos_token: '<s>', eos_token: '</s>', ...flags }, postProcessor);
        expect(tokenizer.encode('ab')).toEqual(single);
        expect(tokenizer.encode('ab', { addSpecial: false })).toEqual([3, 4, 5]);
        expect(tokenizer.encodePair!('a', 'b')).toEqual({ ids: pair, types });
      });

  it('leaves the template to other classes, whatever the flags', async () => {
    for (const flags of published.map(([given]) => given)) {
      const config = { tokenizer_class: 'PreTrainedTokenizerFast', bos_token: '<s>', eos_token: '</s>', ...flags };
      expect((await load(config)).encode('ab')).toEqual([3, 4, 5]);
      expect((await load(config, template)).encode('ab')).toEqual([1, 3, 4, 5]);
    }
  });

  it('takes tokens that are objects, and those of the class where none are named', async () => {
    const llama = { tokenizer_class: 'LlamaTokenizerFast' };
    expect((await load(llama)).encode('ab')).toEqual([1, 3, 4, 5]);
    expect((await load({ ...llama, bos_token: { content: 'b', lstrip: false } })).encode('a')).toEqual([5, 3, 4]);
    // One that the vocabulary has not is added behind it.
    expect((await load({ ...llama, bos_token: '<nobody>' })).encode('a')).toEqual([6, 3, 4]);
    expect((await load({ ...llama, add_eos_token: true, eos_token: 'constructor' })).encode('a')).toEqual([1, 3, 4, 6]);
  });

  it.each([
    [{ add_bos_token: 'yes' }, 'add_bos_token'],
    [{ add_eos_token: 1 }, 'add_eos_token'],
    [{ bos_token: null }, 'bos_token'],
  ])('refuses %j', async (fields, field) => {
    await expect(load({ tokenizer_class: 'LlamaTokenizer', ...fields })).rejects.toMatchObject({
      kind: 'input',
      place: { file: 'memory/tokenizer_config.json', field },
    });
  });
});
