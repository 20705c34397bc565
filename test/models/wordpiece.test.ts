import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { encodeGlue, evaluateGlue, glueAccuracy, glueClasses, glueExample } from '../../src/lab/tasks/glue.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer } from '../../src/models/tokenizer.ts';

const vocabulary = [
  '[PAD]',
  '[UNK]',
  '[CLS]',
  '[SEP]',
  '[MASK]',
  'un',
  '##aff',
  '##able',
  'the',
  'film',
  'is',
  'great',
  '!',
  ',',
  'ecole',
  'École',
  '中',
  'un##',
  'a',
  '##b',
  '##a',
];
const folder = (config: object = {}, lines = vocabulary) =>
  memoryFiles({ 'vocab.txt': `${lines.join('\n')}\n`, 'tokenizer_config.json': JSON.stringify(config) });
const ids = (...tokens: string[]) => tokens.map((token) => vocabulary.indexOf(token));

describe('WordPiece from vocab.txt alone', () => {
  it('takes the longest pieces from the left, as the original does', async () => {
    const tokenizer = await loadTokenizer(folder());
    const encode = (text: string) => tokenizer.encode(text, { addSpecial: false });
    expect(encode('unaffable')).toEqual(ids('un', '##aff', '##able'));
    expect(encode('The film is GREAT!')).toEqual(ids('the', 'film', 'is', 'great', '!'));
    expect(encode('aba')).toEqual(ids('a', '##b', '##a'));
    // A word that cannot be put together is unknown as a whole.
    expect(encode('unaffordable film')).toEqual(ids('[UNK]', 'film'));
    expect(encode('École,\tthe\u0000中film')).toEqual(ids('ecole', ',', 'the', '中', 'film'));
    expect(encode(`a${'b'.repeat(100)} film`)).toEqual(ids('[UNK]', 'film'));
    expect(tokenizer.decode(ids('[CLS]', 'un', '##aff', '##able', 'film', '[SEP]'))).toBe('unaffable film');
  });

  it('keeps case and accents where tokenizer_config.json says so', async () => {
    const tokenizer = await loadTokenizer(folder({ do_lower_case: false }));
    expect(tokenizer.encode('École the THE', { addSpecial: false })).toEqual(ids('École', 'the', '[UNK]'));
  });

  it('frames one text and a pair, and says which text a token belongs to', async () => {
    const tokenizer = await loadTokenizer(folder());
    expect(tokenizer.encode('the film')).toEqual(ids('[CLS]', 'the', 'film', '[SEP]'));
    expect(tokenizer.encodePair!('the film', 'is great')).toEqual({
      ids: ids('[CLS]', 'the', 'film', '[SEP]', 'is', 'great', '[SEP]'),
      types: [0, 0, 0, 0, 1, 1, 1],
    });
  });

  it('is refused where the vocabulary is damaged, and byte pairs without tokenizer.json', async () => {
    const place = (field: string) => ({ kind: 'input', place: { file: 'memory/vocab.txt', field } });
    await expect(loadTokenizer(folder({}, ['[PAD]', '[UNK]', '[CLS]', 'x']))).rejects.toMatchObject(place('[SEP]'));
    await expect(loadTokenizer(folder({}, [...vocabulary, 'film']))).rejects.toMatchObject(place('line 22'));
    await expect(loadTokenizer(folder({}, ['[PAD]', '', 'x']))).rejects.toMatchObject(place('line 2'));
    await expect(loadTokenizer(memoryFiles({ 'vocab.json': '{}', 'merges.txt': '' }))).rejects.toThrow(/no tokenizer\.json/);
    await expect(loadTokenizer(memoryFiles())).rejects.toMatchObject({ kind: 'input', place: { file: 'memory/tokenizer.json' } });
  });

  it('loads or is refused with a typed error, whatever the bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 50 }), async (noise) => {
        const bytes = Uint8Array.from([...new TextEncoder().encode(`${vocabulary.slice(0, 5).join('\n')}\n`), ...noise]);
        try {
          (await loadTokenizer(memoryFiles({ 'vocab.txt': bytes }))).encode('the film');
        } catch (error) {
          expect(error).toBeInstanceOf(SottoError);
        }
      }),
    );
  });
});

describe('GLUE rows', () => {
  const row = (value: Record<string, unknown>) => ({ place: 'line 7', value });

  it('are read from the TSV files and from the data sets alike', () => {
    expect(glueExample('sst2', 'f', row({ sentence: 'good ', label: '1' }))).toEqual({
      first: 'good ',
      second: undefined,
      label: 1,
    });
    expect(glueExample('qnli', 'f', row({ index: '0', question: 'who?', sentence: 'me', label: 'not_entailment' }))).toEqual({
      first: 'who?',
      second: 'me',
      label: 1,
    });
    expect(glueExample('mnli', 'f', row({ premise: 'p', hypothesis: 'h', label: 2n }))).toMatchObject({ second: 'h', label: 2 });
    const published = { sentence1: 'p', sentence2: 'h', label1: 'neutral', gold_label: 'contradiction' };
    expect(glueExample('mnli', 'f', row(published))).toEqual({ first: 'p', second: 'h', label: 2 });
  });

  it.each([
    ['sentence', 'sst2', { label: 1 }],
    ['label', 'sst2', { sentence: 'x' }],
    ['label', 'sst2', { sentence: 'x', label: -1 }],
    ['label', 'qnli', { question: 'a', sentence: 'x', label: 2 }],
    ['gold_label', 'mnli', { sentence1: 'a', sentence2: 'x', gold_label: '-' }],
    ['question', 'qnli', { question: 5, sentence: 'x', label: 0 }],
  ] as const)('name their place where %s is missing or wrong in %s', (field, task, value) => {
    expect(() => glueExample(task, 'f', row(value))).toThrow(
      expect.objectContaining({ kind: 'input', place: { file: 'f', field: `line 7, ${field}` } }),
    );
  });

  it('lose tokens of the longer text where they are too long', async () => {
    const tokenizer = await loadTokenizer(folder());
    const example = { first: 'the film is great the film', second: 'great film', label: 0 };
    expect(encodeGlue(tokenizer, example, 9)).toEqual({
      ids: ids('[CLS]', 'the', 'film', 'is', 'great', '[SEP]', 'great', 'film', '[SEP]'),
      types: [0, 0, 0, 0, 0, 0, 1, 1, 1],
    });
    expect(encodeGlue(tokenizer, example, 6).ids).toEqual(ids('[CLS]', 'the', 'film', '[SEP]', 'great', '[SEP]'));
    expect(encodeGlue(tokenizer, { first: 'the film is', label: 0 }, 4).ids).toEqual(ids('[CLS]', 'the', 'film', '[SEP]'));
  });

  it('are scored by accuracy, classes matched by name where the model names them', async () => {
    expect(glueClasses('mnli', ['CONTRADICTION', 'neutral', 'Entailment'])).toEqual([2, 1, 0]);
    expect(glueClasses('qnli', ['LABEL_0', 'LABEL_1'])).toEqual([0, 1]);
    expect(() => glueClasses('mnli', ['a', 'b'])).toThrow(expect.objectContaining({ kind: 'model' }));
    const examples = [0, 2, 1, 1].map((label) => ({ first: 'the film', second: 'is', label }));
    expect(glueAccuracy([0, 2, 1, 0], examples).acc).toMatchObject({ value: 0.75, count: 4 });
    const classifier = {
      tokens: 8,
      close: async () => undefined,
      classify: async (texts: readonly object[]) =>
        texts.map((_, at) => ({ id: at % 3, label: '', logits: new Float64Array(3) })),
    };
    const metrics = await evaluateGlue('mnli', examples, {
      labels: ['contradiction', 'neutral', 'entailment'],
      tokenizer: await loadTokenizer(folder()),
      classifier,
    });
    expect(metrics.acc!.value).toBe(0);
  });
});
