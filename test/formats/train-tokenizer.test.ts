import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type TrainedTokenizer, trainBytePairTokenizer } from '../../src/lab/tokenizer.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer, streamingDecoder } from '../../src/models/tokenizer.ts';

const texts = join(process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared'), 'data/text/tinystories_1800.txt');
const load = (trained: TrainedTokenizer) =>
  loadTokenizer(memoryFiles(Object.fromEntries(Object.entries(trained).map(([path, value]) => [path, JSON.stringify(value)]))));

const sentences = [
  'the cat sat on the mat, the cat ate the rat.\nThen the rat ran — “no!” it said; the end.',
  'Där äter grüne Öchslein größere Äpfel als die größten Ochsen, sagte Größe zu Öl.',
  '猫は猫が好きです。猫は魚が好きです。',
  'aaaaaaaa aaaaaaaa abababab <0x41> <0x41> <0x41> <0x41>',
];
/** Every text that is Unicode, save what the layout cannot tell apart: ▁ from a space, special tokens from their names. */
const anyText = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    fc.constantFrom(...sentences, '\uFEFFa mark \uFEFF of the byte order'),
  )
  .filter((text) => !/\p{Surrogate}|▁|<unk>|<s>|<\/s>/u.test(text));

describe('byte-pair tokenizer', () => {
  it('finds the pairs that occur most, and equal ones in a fixed order', () => {
    const trained = trainBytePairTokenizer(['ab ab ab ac ac'], { vocabularySize: 259 + 4 + 3, characterCoverage: 1 });
    const model = trained['tokenizer.json'].model as { vocab: Record<string, number>; merges: string[][] };
    // a 5, ▁ 5, b 3, c 2: the pair ▁a stands five times, then ▁ab three, then ▁ac two.
    expect(model.merges).toEqual([
      ['▁', 'a'],
      ['▁a', 'b'],
      ['▁a', 'c'],
    ]);
    const ties = trainBytePairTokenizer(['zw zw xy xy'], { vocabularySize: 259 + 5 + 4, characterCoverage: 1 });
    expect((ties['tokenizer.json'].model as typeof model).merges.map((pair) => pair.join(''))).toEqual([
      '▁x',
      '▁z',
      '▁xy',
      '▁zw',
    ]);
    expect([model.vocab['<unk>'], model.vocab['<0x00>'], model.vocab['▁a'], model.vocab['▁ac'], model.vocab.c]).toEqual([
      0, 3, 259, 261, 265,
    ]);
  });

  it('returns every Unicode text, whole and streamed', async () => {
    const tokenizer = await load(trainBytePairTokenizer(sentences, { vocabularySize: 400 }));
    fc.assert(
      fc.property(anyText, (text) => {
        const ids = tokenizer.encode(text);
        expect(ids[0]).toBe(1);
        expect(tokenizer.decode(ids)).toBe(text);
        const decoder = streamingDecoder(tokenizer);
        const pieces = ids.map((id) => decoder.push(id));
        pieces.push(decoder.end());
        expect(pieces.join('')).toBe(text);
        for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u);
      }),
      { numRuns: 400 },
    );
  });

  it('streams any ids, sense or not, as decoding them at once', async () => {
    const trained = trainBytePairTokenizer(sentences, { vocabularySize: 300 });
    const tidy = {
      ...trained,
      'tokenizer_config.json': { ...trained['tokenizer_config.json'], clean_up_tokenization_spaces: true },
    };
    for (const tokenizer of [await load(trained), await load(tidy)]) {
      fc.assert(
        fc.property(fc.array(fc.nat(tokenizer.vocabularySize - 1), { maxLength: 30 }), (ids) => {
          const decoder = streamingDecoder(tokenizer);
          expect(ids.map((id) => decoder.push(id)).join('') + decoder.end()).toBe(tokenizer.decode(ids));
        }),
        { numRuns: 200 },
      );
    }
  });

  it('encodes word by word as the whole text at once', async () => {
    const trained = trainBytePairTokenizer([...sentences, 'a  b   c    d  the   cat'], { vocabularySize: 420 });
    const spaced = fc
      .array(fc.constantFrom('the', 'cat', 'x', ' ', '  ', '\n', 'ä', '▁', '<s>'), { maxLength: 20 })
      .map((parts) => parts.join(''));
    // Published vocabularies also join spaces, and some join words across them.
    const model = trained['tokenizer.json'].model as { vocab: Record<string, number>; merges: string[][] };
    const withMerges = (pairs: string[][]) => {
      const tokens = new Set([...Object.keys(model.vocab), ...pairs.flatMap((pair) => [...pair, pair.join('')])]);
      const vocab = Object.fromEntries([...tokens].map((token, id) => [token, id]));
      const changed = { ...model, vocab, merges: [...model.merges, ...pairs] };
      return load({ ...trained, 'tokenizer.json': { ...trained['tokenizer.json'], model: changed } });
    };
    for (const extra of [[], [['▁', '▁']], [['▁the', '▁']]]) {
      const tokenizer = await withMerges(extra);
      // A merge across words, of a character that no text here has, keeps the text whole.
      const whole = await withMerges([...extra, ['\u{10fffe}', '▁']]);
      fc.assert(
        fc.property(fc.oneof(anyText, spaced), (text) => {
          fc.pre(!text.includes('\u{10fffe}'));
          expect(tokenizer.encode(text)).toEqual(whole.encode(text));
        }),
        { numRuns: 200 },
      );
    }
  });

  it('refuses a vocabulary that cannot hold the bytes, and special tokens that collide', () => {
    expect(() => trainBytePairTokenizer(['a'], { vocabularySize: 259 })).toThrow(/cannot be trained/);
    expect(() => trainBytePairTokenizer(['a'], { vocabularySize: 300, special: ['a', 'a', 'b'] })).toThrow(/special/);
    expect(() => trainBytePairTokenizer(['a'], { vocabularySize: 300, special: ['<0x41>', 'a', 'b'] })).toThrow(/special/);
  });

  it('is loadable when trained on nothing', async () => {
    const tokenizer = await load(trainBytePairTokenizer([], { vocabularySize: 512 }));
    expect(tokenizer.decode(tokenizer.encode('héllo  world'))).toBe('héllo  world');
  });

  it.skipIf(!existsSync(texts))('trains 512 tokens on 1.5 MB of stories twice the same, shorter than bytes by half', async () => {
    const text = readFileSync(texts, 'utf8').slice(0, 1_500_000);
    const train = () => trainBytePairTokenizer(text.split('\n\n'), { vocabularySize: 512 });
    const begin = performance.now();
    const trained = train();
    expect((performance.now() - begin) / 1000).toBeLessThan(10);
    expect(JSON.stringify(train())).toBe(JSON.stringify(trained));
    const tokenizer = await load(trained);
    expect(tokenizer.vocabularySize).toBe(512);
    const sample = text.slice(0, 20_000);
    const ids = tokenizer.encode(sample);
    expect(tokenizer.decode(ids)).toBe(sample);
    expect(ids.length).toBeLessThan(sample.length / 2);
  });
});
