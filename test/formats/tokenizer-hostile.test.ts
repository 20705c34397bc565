import { describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer, type Tokenizer } from '../../src/models/tokenizer.ts';

// A tokenizer.json from a stranger: what it costs is bounded by the text's length, and what it cannot mean is refused by name.

const alphabet = Array.from('abcdefghijklmnopqrstuvwxyz ▁');
const words = { type: 'WordLevel', unk_token: '<unk>', vocab: { '<unk>': 0, a: 1, b: 2 } };
const definition = (parts: Record<string, unknown>): Record<string, unknown> => ({
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: null,
  model: words,
  ...parts,
});
const load = (parts: Record<string, unknown>): Promise<Tokenizer> =>
  loadTokenizer(memoryFiles({ 'tokenizer.json': JSON.stringify(definition(parts)) }));
const split = (pattern: string) => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false });
const replace = (pattern: Record<string, string>, content: string) => ({ type: 'Replace', pattern, content });
const input = (text: RegExp) => expect.objectContaining({ kind: 'input', message: expect.stringMatching(text) });

describe('a hostile tokenizer', () => {
  it.each([
    ['(?:a|a)*b', 'a'.repeat(60)],
    ['(?:a+)+b', 'a'.repeat(400)],
    ['(?:a|aa)+$', `${'a'.repeat(400)}b`],
    ['(?:[a-z]+[a-z]+)+!', 'x'.repeat(400)],
    ['(?=(?:a|a)*b)a', 'a'.repeat(60)],
    ['(?<=a)(?:a?){30}a{30}b', 'a'.repeat(31)],
    ['a*a*a*a*a*a*b', 'a'.repeat(600)],
    [String.raw`\s+$`, `${' '.repeat(20_000)}x`],
  ])('cannot hang a text by its pattern %s', async (pattern, text) => {
    const tokenizer = await load({ pre_tokenizer: split(pattern) });
    expect(() => tokenizer.encode(text)).toThrow(input(/more steps than a text of its length may/));
    expect(tokenizer.encode('ab').length).toBeGreaterThan(0);
  });

  it('cannot overflow a stack by its pattern', async () => {
    const tokenizer = await load({ pre_tokenizer: split('(?:ab|b)+') });
    expect(tokenizer.encode('ab'.repeat(50_000))).toEqual([0]);
  });

  it.each([
    ['a Replace chain', Array.from({ length: 60 }, () => replace({ String: 'a' }, 'aa'))],
    ['a Replace by pattern', Array.from({ length: 60 }, () => replace({ Regex: 'a' }, 'aaaa'))],
    ['Prepend and Replace', [{ type: 'Prepend', prepend: 'a'.repeat(5000) }, replace({ String: 'a' }, 'a'.repeat(5000))]],
  ])('cannot make a text grow without bound: %s', async (_, normalizers) => {
    const tokenizer = await load({ normalizer: { type: 'Sequence', normalizers } });
    expect(() => tokenizer.encode('a b a')).toThrow(input(/grows to more than 40 times/));
  });

  it('cannot make ids decode without bound', async () => {
    const long = 'x'.repeat(2 ** 20);
    const tokenizer = await load({ model: { ...words, vocab: { '<unk>': 0, [long]: 1 } } });
    expect(() => tokenizer.decode(new Array<number>(17).fill(1))).toThrow(input(/decode to more than/));
    const grows = Array.from({ length: 30 }, () => replace({ String: 'a' }, 'aa'));
    const doubled = await load({ decoder: { type: 'Sequence', decoders: grows } });
    expect(() => doubled.decode([1, 1])).toThrow(input(/grows to more than/));
  });

  it('cannot make a word cost its square', async () => {
    const vocab = { '<unk>': 0, ['a'.repeat(10_000)]: 1, b: 2 };
    const piece = {
      type: 'WordPiece',
      unk_token: '<unk>',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 1e9,
      vocab,
    };
    const tokenizer = await load({ model: piece });
    expect(() => tokenizer.encode('c'.repeat(20_000))).toThrow(input(/more steps/));
    const unigram = {
      type: 'Unigram',
      unk_id: 0,
      vocab: [
        ['<unk>', 0],
        ['a', -1],
        ['a'.repeat(10_000), -9],
      ],
    };
    const scored = await load({ model: unigram });
    expect(() => scored.encode('a'.repeat(20_000))).toThrow(input(/more steps/));
    const added = { id: 3, content: `${'a'.repeat(10_000)}b`, special: true, normalized: false };
    const found = await load({ added_tokens: [added] });
    expect(() => found.encode('a'.repeat(20_000))).toThrow(input(/more steps/));
  });

  it.each([
    ['a back-reference', String.raw`(a)\1`, /\\1 is not supported/],
    ['recursion', String.raw`(?<n>a\g<n>?b)`, /\\g is not supported/],
    ['a callout', '(*FAIL)', /callout/],
    ['a condition', '(?(1)a|b)', /\(\?\( is not supported/],
    ['an absence', '(?~a)', /\(\?~ is not supported/],
    ['a repetition of nothing', '(?:a*)*', /can be empty/],
    ['many repetitions', '(?:(?:(?:abc){999}){999}){999}', /too long/],
    ['deep nesting', `${'('.repeat(1000)}a${')'.repeat(1000)}`, /nests deeper/],
    ['a long pattern', 'a'.repeat(20_000), /more than 10000 characters/],
    ['a property that is not known', String.raw`\p{Klingon}`, /Klingon/],
    ['an open class', '[a', /no end/],
    ['an open group', '(a', /no \)/],
    ['case beyond ASCII', '(?i)é', /beyond ASCII/],
    ['case of letters that one equals', '(?i)ss', /where case is ignored/],
  ])('is refused with its field where a pattern has %s', async (_, pattern, reason) => {
    const field = 'pre_tokenizer.pattern.Regex';
    await expect(load({ pre_tokenizer: split(pattern) })).rejects.toMatchObject({ kind: 'input', place: { field } });
    await expect(load({ pre_tokenizer: split(pattern) })).rejects.toThrow(reason);
  });

  it.each([
    ['normalizer', { type: 'Unheard' }, 'normalizer.type'],
    ['pre_tokenizer', { type: 'Split', pattern: { Regex: 'a' }, behavior: 'removed', invert: false }, 'pre_tokenizer.behavior'],
    ['pre_tokenizer', { type: 'FixedLength', length: 0 }, 'pre_tokenizer.length'],
    ['pre_tokenizer', { type: 'Metaspace', replacement: '▁▁' }, 'pre_tokenizer.replacement'],
    ['normalizer', replace({ Regex: 'a*' }, 'b'), 'normalizer.pattern'],
    ['normalizer', { type: 'Precompiled', precompiled_charsmap: 'AAAA' }, 'normalizer.precompiled_charsmap'],
    ['normalizer', { type: 'Precompiled', precompiled_charsmap: '////////' }, 'normalizer.precompiled_charsmap'],
    ['normalizer', { type: 'Precompiled', precompiled_charsmap: 'A'.repeat(2 ** 22) }, 'normalizer.precompiled_charsmap'],
    ['normalizer', { type: 'Sequence', normalizers: new Array(65).fill({ type: 'NFC' }) }, 'normalizer.normalizers'],
    ['decoder', { type: 'CTC', pad_token: '', word_delimiter_token: '|', cleanup: true }, 'decoder.pad_token'],
    ['post_processor', { type: 'BertProcessing', sep: ['a'], cls: ['b', 1] }, 'post_processor.sep'],
    ['model', { ...words, type: 'Markov' }, 'model.type'],
    ['model', { type: 'BPE', dropout: 0.1, vocab: { a: 0 }, merges: [] }, 'model.dropout'],
    ['model', { type: 'BPE', vocab: { a: 0, b: 1 }, merges: ['a b'] }, 'model.merges'],
    ['model', { type: 'Unigram', unk_id: 7, vocab: [['a', 0]] }, 'model.unk_id'],
  ])('is refused with its field where its %s is wrong', async (part, value, field) => {
    const problem = await load({ [part]: value }).catch((error: unknown) => error);
    expect(problem).toMatchObject({ kind: 'input' });
    expect((problem as { place: { field: string } }).place.field.startsWith(field)).toBe(true);
  });

  it('is refused where its parts nest or repeat too much', async () => {
    let nested: Record<string, unknown> = { type: 'NFC' };
    for (let depth = 0; depth < 30; depth++) nested = { type: 'Sequence', normalizers: [nested] };
    await expect(load({ normalizer: nested })).rejects.toThrow(/nest too deep/);
    const inner = {
      type: 'Sequence',
      processors: new Array(60).fill({ type: 'RobertaProcessing', sep: ['b', 1], cls: ['a', 0] }),
    };
    await expect(load({ post_processor: { type: 'Sequence', processors: new Array(60).fill(inner) } })).rejects.toThrow(
      /more than 200 components/,
    );
  });

  it('meets half a character with an error, not with another text', async () => {
    const tokenizer = await load({});
    expect(() => tokenizer.encode('a\ud800')).toThrow(input(/half a character/));
    await expect(load({ normalizer: { type: 'Prepend', prepend: '\ud83d' } })).rejects.toThrow(/half a character/);
  });

  it('that points outside its map is refused when it is met', async () => {
    // A map whose only unit sends every byte far beyond its end.
    const bytes = new Uint8Array(12);
    new DataView(bytes.buffer).setUint32(0, 4, true);
    new DataView(bytes.buffer).setUint32(4, 0xfffffc00, true);
    const map = Buffer.from(bytes).toString('base64');
    const far = load({ normalizer: { type: 'Precompiled', precompiled_charsmap: map } });
    await expect(far.then((tokenizer) => tokenizer.encode('é'))).rejects.toMatchObject({ kind: 'input' });
  });
});

describe('a text of any length', () => {
  it('is encoded in time by the patterns of published tokenizers', async () => {
    const published = [
      String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
      String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
    ];
    for (const pattern of published) {
      const tokenizer = await load({ pre_tokenizer: split(pattern) });
      for (const text of [
        ' '.repeat(20_000),
        'a'.repeat(20_000),
        `${' '.repeat(10_000)}\n`.repeat(3),
        '!'.repeat(20_000),
        `${'a '.repeat(20_000)}`,
      ])
        expect(tokenizer.encode(text).length).toBeGreaterThan(0);
    }
    const merges = alphabet.flatMap((left) => alphabet.slice(0, 5).map((right) => [left, right]));
    const tokens = [...alphabet, ...new Set(merges.map((pair) => pair.join('')))];
    const model = { type: 'BPE', vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges };
    const tokenizer = await load({ model });
    expect(tokenizer.encode('abcde'.repeat(10_000)).length).toBe(30_000);
  });
});
