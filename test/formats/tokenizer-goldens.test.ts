import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer, type Tokenizer } from '../../src/models/tokenizer.ts';

type Definition = Record<string, unknown>;
type Vector = [first: string, second: string | null, special: boolean, ids: number[], types: number[], text: string | null];

const load = (definition: Definition): Promise<Tokenizer> =>
  loadTokenizer(memoryFiles({ 'tokenizer.json': JSON.stringify(definition) }));
const read = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8');

describe('what the reference library (PyPI tokenizers 0.23.3) gives', () => {
  // Each case of what @huggingface/tokenizers 0.2.0 gave otherwise, and of its kind.
  const cases: {
    name: string;
    definition: Definition;
    encode: [string, string | null, number[], number[]][];
    decode: [number[], string][];
  }[] = JSON.parse(read('tokenizer-cases.json'));
  it.each(cases.map((given) => [given.name, given] as const))('%s', async (_, { definition, encode, decode }) => {
    const tokenizer = await load(definition);
    for (const [first, second, ids, types] of encode)
      expect(tokenizer.encodePair!(first, second ?? undefined), first).toEqual({ ids, types });
    for (const [ids, text] of decode) expect(tokenizer.decode(ids)).toBe(text);
  });

  // Written by `npx tsx bench/tokenizers.ts --goldens`: small tokenizers of every published kind, trained on real text, and of
  // components drawn by chance, on texts of every script.
  const goldens = read('tokenizer-goldens.jsonl')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { kind: string; definition: Definition; vectors: Vector[] });
  it.each(goldens.map((golden, index) => [`${golden.kind} ${index}`, golden] as const))(
    '%s',
    async (_, { definition, vectors }) => {
      const tokenizer = await load(definition);
      expect(vectors.length).toBe(8);
      for (const [first, second, special, ids, types, text] of vectors) {
        expect(tokenizer.encodePair!(first, second ?? undefined, { addSpecial: special })).toEqual({ ids, types });
        if (second === null) expect(tokenizer.encode(first, { addSpecial: special })).toEqual(ids);
        if (text !== null) expect(tokenizer.decode(ids)).toBe(text);
      }
    },
  );
});
