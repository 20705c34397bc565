import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer, streamingDecoder } from '../../src/models/tokenizer.ts';
import { folderFiles } from '../../src/node/files.ts';

const shared = join(process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared'), 'models');

describe.skipIf(!existsSync(shared))('published tokenizers', () => {
  it.each(['stories260K', 'babyllama-105'])('%s turns the golden ids into the golden text, whole and streamed', async (name) => {
    const tokenizer = await loadTokenizer(folderFiles(join(shared, name)));
    const golden = JSON.parse(readFileSync(join(shared, name, 'golden.json'), 'utf8'));
    expect(tokenizer.decode(golden.greedy_ids)).toBe(golden.text);
    const decoder = streamingDecoder(tokenizer);
    const pieces = golden.greedy_ids.map((id: number) => decoder.push(id));
    expect(pieces.join('') + decoder.end()).toBe(golden.text);
    expect(pieces.filter((piece: string) => piece !== '').length).toBeGreaterThan(100);
    const config = JSON.parse(readFileSync(join(shared, name, 'config.json'), 'utf8'));
    expect([tokenizer.vocabularySize, tokenizer.bosId, tokenizer.eosId]).toEqual([config.vocab_size, 1, 2]);
    expect(tokenizer.decode(tokenizer.encode(golden.text))).toBe(golden.text);
    expect(tokenizer.encode('Once upon')[0]).toBe(1);
    expect(tokenizer.encode('Once upon', { addSpecial: false })).toEqual(tokenizer.encode('Once upon').slice(1));
  });

  it('stories260K encodes the golden text as the golden ids', async () => {
    const tokenizer = await loadTokenizer(folderFiles(join(shared, 'stories260K')));
    const golden = JSON.parse(readFileSync(join(shared, 'stories260K', 'golden.json'), 'utf8'));
    expect(tokenizer.encode(golden.text)).toEqual(golden.greedy_ids);
  });
});

describe('tokenizer', () => {
  it('decodes ids of a padded vocabulary to nothing, and refuses what is no id', async () => {
    const definition = {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      model: { type: 'BPE', vocab: { a: 0, b: 1 }, merges: [] },
    };
    const tokenizer = await loadTokenizer(memoryFiles({ 'tokenizer.json': JSON.stringify(definition) }));
    expect(tokenizer.vocabularySize).toBe(2);
    expect(tokenizer.decode([0, 2, 1, 4_000_000])).toBe(tokenizer.decode([0, 1]));
    expect(tokenizer.decode([7])).toBe('');
    const decoder = streamingDecoder(tokenizer);
    expect([0, 9, 1].map((id) => decoder.push(id)).join('') + decoder.end()).toBe(tokenizer.decode([0, 1]));
    for (const id of [-1, 0.5, Number.NaN]) expect(() => tokenizer.decode([id])).toThrow(/no token with the id/);
    expect(() => tokenizer.encode('abc')).not.toThrow(TypeError);
  });
});
