import { describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer } from '../../src/models/tokenizer.ts';
import { checkVocabulary, withinVocabulary } from '../../src/models/vocabulary.ts';

const tokenizer = () =>
  loadTokenizer(
    memoryFiles({
      'tokenizer.json': JSON.stringify({
        added_tokens: [],
        normalizer: null,
        pre_tokenizer: null,
        post_processor: null,
        decoder: null,
        model: { type: 'BPE', vocab: { a: 0, b: 1, c: 2, d: 3 }, merges: [] },
      }),
      'tokenizer_config.json': JSON.stringify({ bos_token: 'b', eos_token: 'd' }),
    }),
  );

describe('a vocabulary smaller than its tokenizer’s', () => {
  it('takes texts that need none of the tokens beyond, and refuses the others', async () => {
    const smaller = withinVocabulary(await tokenizer(), 3);
    expect(smaller.encode('abc')).toEqual([0, 1, 2]);
    expect(() => smaller.encode('abd')).toThrow(
      expect.objectContaining({ kind: 'input', reason: 'token 3 of a vocabulary of 3' }),
    );
    expect(() => smaller.encodePair!('a', 'd')).toThrow(expect.objectContaining({ kind: 'input' }));
    expect(smaller.encodePair!('a', 'b').ids).toEqual([0, 1]);
    expect([smaller.bosId, smaller.eosId]).toEqual([1, null]);
    expect(smaller.decode([3])).toBe((await tokenizer()).decode([3]));
  });

  it('is no matter where it is not smaller', async () => {
    const own = await tokenizer();
    for (const size of [4, 64, Infinity]) expect(withinVocabulary(own, size)).toBe(own);
  });

  it.each([[3], [-1], [0.5], [Number.NaN], [2 ** 31]])('has no token %s', (id) => {
    expect(() => checkVocabulary([0, id], 3, 'prompt')).toThrow(
      expect.objectContaining({ kind: 'input', place: { field: 'prompt' } }),
    );
    expect(() => checkVocabulary([0, 2], 3, 'prompt')).not.toThrow();
  });
});
