import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  alpacaTexts,
  type Document,
  encodePrompted,
  encodeText,
  mixture,
  openTextPart,
  openTokenCache,
  permuted,
  type TokenPart,
  type TokenSource,
  tokenizerKey,
  tokenMixture,
} from '../../src/lab/data/index.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { loadTokenizer, type Tokenizer } from '../../src/models/tokenizer.ts';
import { folderFiles } from '../../src/node/files.ts';
import { testFolder } from './folder.ts';

const folder = testFolder();

describe('a permutation without a table', () => {
  it('hits every place once, for any count and key', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 700 }), fc.integer(), fc.integer(), (count, seed, epoch) => {
        const seen = new Set(Array.from({ length: count }, (_, index) => permuted(index, count, seed, epoch)));
        expect(seen.size).toBe(count);
        expect(Math.max(...seen)).toBe(count - 1);
      }),
    );
  });

  it('has no order left: neighbours land anywhere', () => {
    const count = 5000;
    const order = Array.from({ length: count }, (_, index) => permuted(index, count, 3));
    const gaps = order.slice(1).map((at, i) => Math.abs(at - order[i]!) / count);
    expect(Math.abs(gaps.reduce((a, b) => a + b) / gaps.length - 1 / 3)).toBeLessThan(0.02);
  });
});

describe('a mixture', () => {
  const parts = [
    { name: 'c4', count: 70, weight: 50 },
    { name: 'alpaca', count: 1000, weight: 30 },
    { name: 'python', count: 13, weight: 20 },
  ];

  it('holds its proportions exactly after every block and takes every item once an epoch', () => {
    const mixed = mixture(parts, 5);
    expect(mixed.blockLength).toBe(10);
    const counts = [0, 0, 0];
    const seen = new Set<string>();
    for (let drawn = 1; drawn <= 700; drawn++) {
      const { part, index, epoch } = mixed.next();
      counts[part]!++;
      expect(seen.has(`${part}/${epoch}/${index}`)).toBe(false);
      seen.add(`${part}/${epoch}/${index}`);
      if (drawn % 10 === 0) expect(counts).toEqual([drawn * 0.5, drawn * 0.3, drawn * 0.2]);
    }
    for (let index = 0; index < 13; index++) expect(seen.has(`2/9/${index}`)).toBe(true);
  });

  it('goes on from its stored state as if it had never stopped, wherever that was', () => {
    const whole = Array.from({ length: 300 }, (_, at) => mixture(parts, 9).at(at));
    fc.assert(
      fc.property(fc.nat(299), (stop) => {
        const first = mixture(parts, 9);
        for (let at = 0; at < stop; at++) first.next();
        const second = mixture(parts, 9, JSON.parse(JSON.stringify(first.state)));
        expect(Array.from({ length: 300 - stop }, () => second.next())).toEqual(whole.slice(stop));
      }),
      { numRuns: 20 },
    );
    expect(Array.from({ length: 300 }, (_, at) => mixture(parts, 10).at(at))).not.toEqual(whole);
  });

  it('refuses a state of another mixture and parts that cannot be', () => {
    const { state } = mixture(parts, 1);
    const other = expect.objectContaining({ kind: 'input' });
    expect(() => mixture(parts, 2, state)).toThrow(other);
    expect(() => mixture([{ ...parts[0]!, count: 71 }, ...parts.slice(1)], 1, state)).toThrow(other);
    expect(() => mixture([{ name: 'a', count: 5, weight: 0.5 }], 1)).toThrow(expect.objectContaining({ kind: 'usage' }));
    expect(() => mixture([], 1)).toThrow(/no parts/);
  });
});

/** One token a character: ids are character codes, 1 begins and 2 ends a text; `##` is one token across any border. */
const letters: Tokenizer = {
  encode: (text) => [...text.replaceAll('##', '\x05')].map((letter) => letter.charCodeAt(0)),
  decode: (ids) => String.fromCharCode(...ids),
  vocabularySize: 200,
  bosId: 1,
  eosId: 2,
  tidiesSpaces: false,
};

describe('Alpaca rows', () => {
  it('become the prompt of the release with and without an input', () => {
    const row = (value: Record<string, unknown>) => alpacaTexts('f', { place: 'row 3', value });
    const plain = row({ instruction: 'Do.', input: '', output: 'Done.' });
    expect(plain.prompt).toMatch(
      /^Below is an instruction that describes a task\. Write.*\n\n### Instruction:\nDo\.\n\n### Response:$/s,
    );
    expect(row({ instruction: 'Do.', input: 'this', output: '' }).prompt).toMatch(/### Input:\nthis\n\n### Response:$/);
    expect(() => row({ instruction: 'Do.', output: 1 })).toThrow(
      expect.objectContaining({ place: { file: 'f', field: 'row 3, output' } }),
    );
    expect(() => row({ instruction: ' ', output: '' })).toThrow(/instruction is empty/);
  });

  it('are masked up to where the tokens of the answer begin', () => {
    expect(encodePrompted(letters, 'ab', 'cd')).toEqual({ ids: Int32Array.of(1, 97, 98, 99, 100, 2), masked: 3 });
    // A token that covers the end of the prompt and the beginning of the answer is learnt.
    expect(encodePrompted(letters, 'a#', '#d')).toEqual({ ids: Int32Array.of(1, 97, 5, 100, 2), masked: 2 });
  });
});

describe('a token cache', () => {
  const file = folder.put('source.txt', 'whatever the texts come from');
  const documents = Array.from(
    { length: 30 },
    (_, at): Document => ({ ids: Int32Array.from({ length: 5 + at }, (_, i) => (at * 7 + i) % 50), masked: at % 3 }),
  );
  let made = 0;
  const source = (recipe = 'r'): TokenSource => ({
    file,
    recipe,
    vocabularySize: 50,
    documents: async function* () {
      made++;
      yield* documents;
    },
  });
  const place = join(folder.path, 'caches');

  it('gives back ids and masks, and is made once for the same file and recipe', async () => {
    made = 0;
    const cache = await openTokenCache(place, source());
    cache.close();
    const again = await openTokenCache(place, source());
    expect(made).toBe(1);
    expect([again.documents, again.tokens]).toEqual([30, documents.reduce((sum, { ids }) => sum + ids.length, 0)]);
    for (const [at, { ids, masked }] of documents.entries()) {
      const read = new Int32Array(ids.length);
      const masks = new Uint8Array(ids.length);
      again.read(again.start(at), again.start(at + 1), read, masks);
      expect(read).toEqual(ids);
      expect([...masks]).toEqual(Array.from(ids, (_, i) => (i < masked ? 0 : 1)));
    }
    again.close();
    (await openTokenCache(place, source('other'))).close();
    writeFileSync(file, 'other bytes');
    (await openTokenCache(place, source())).close();
    writeFileSync(file, 'whatever the texts come from');
    expect(made).toBe(3);
    expect(readdirSync(place)).toHaveLength(3);
  });

  it('is made again where it was cut, and refuses ids outside the vocabulary', async () => {
    const cache = await openTokenCache(place, source());
    cache.close();
    truncateSync(cache.path, 40);
    const again = await openTokenCache(place, source());
    expect(again.documents).toBe(30);
    again.close();
    const bytes = readFileSync(cache.path);
    bytes.writeInt32LE(77, 32 + 4 * 9);
    writeFileSync(cache.path, bytes);
    const hurt = await openTokenCache(place, source());
    expect(() => hurt.read(5, 12, new Int32Array(7))).toThrow(
      expect.objectContaining({ kind: 'input', place: { file: cache.path, field: 'token 9' } }),
    );
    hurt.close();
    rmSync(cache.path);
  });

  it('leaves nothing behind where making it failed', async () => {
    const before = readdirSync(place);
    const failing = {
      ...source('fails'),
      documents: async function* () {
        yield documents[0]!;
        throw new Error('a broken row');
      },
    };
    await expect(openTokenCache(place, failing)).rejects.toThrow();
    expect(readdirSync(place)).toEqual(before);
  });

  it('feeds batches in exact proportions, prompts weighing nothing, the same after a resume', async () => {
    const text = await openTokenCache(place, source());
    const prompted = await openTokenCache(place, {
      ...source('prompted'),
      documents: async function* () {
        for (let at = 0; at < 9; at++) yield { ids: Int32Array.of(40, 41, 42, 43 + (at % 3)), masked: 2 };
      },
    });
    const parts: TokenPart[] = [
      { name: 'text', cache: text, weight: 50, rows: 'stream' },
      { name: 'prompted', cache: prompted, weight: 50, rows: 'document' },
    ];
    const options = { batch: 4, tokens: 6, seed: 3 };
    const mixed = tokenMixture(parts, options);
    const flat = documents.flatMap(({ ids }) => [...ids]);
    for (let step = 0; step < 30; step++) {
      const { ids, labels, weights } = mixed.batch(step);
      expect(weights.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
      const rows = Array.from({ length: 4 }, (_, i) => ({
        ids: [...ids.subarray(6 * i, 6 * i + 6)],
        labels: [...labels.subarray(6 * i, 6 * i + 6)],
        weights: weights.subarray(6 * i, 6 * i + 6),
      }));
      const short = rows.filter((row) => row.ids[0] === 40 && row.ids[1] === 41 && row.ids[4] === 0);
      expect(short).toHaveLength(2);
      for (const row of short) {
        expect(row.labels.slice(0, 3)).toEqual([41, 42, row.ids[3]]);
        expect([...row.weights].map((weight) => weight > 0)).toEqual([false, true, true, false, false, false]);
      }
      for (const row of rows) {
        if (short.includes(row)) continue;
        const found = flat.some(
          (_, at) => row.ids.every((id, i) => flat[at + i] === id) && row.labels.every((id, i) => flat[at + i + 1] === id),
        );
        expect(found).toBe(true);
      }
    }
    for (let step = 0; step < 5; step++) mixed.next();
    const resumed = tokenMixture(parts, { ...options, resume: JSON.parse(JSON.stringify(mixed.state)) });
    expect(resumed.next()).toEqual(mixed.batch(5));
    expect(() => tokenMixture(parts, { ...options, batch: 3, resume: mixed.state })).toThrow(/middle of a batch/);
    expect(() => tokenMixture(parts, { ...options, tokens: 4000 })).toThrow(/no row of 4000/);
    text.close();
    prompted.close();
  });

  it('takes texts with nothing masked', () => {
    expect(encodeText(letters, 'ab')).toEqual({ ids: Int32Array.of(1, 97, 98, 2), masked: 0 });
  });
});

describe('text data sets as parts of a mixture', () => {
  const made = { tokenizer: letters, tokenizerKey: 'letters', folder: join(folder.path, 'parts') };

  it('are tokenised by their format, and name a broken row without leaving a cache', async () => {
    const text = await openTextPart(
      {
        name: 'text',
        file: folder.put('t.jsonl', '{"code":"ab"}\n{"code":"c"}'),
        format: { kind: 'text', field: 'code' },
        weight: 1,
      },
      made,
    );
    expect([text.rows, text.cache.documents, text.cache.tokens]).toEqual(['stream', 2, 7]);
    const prompted = await openTextPart(
      { name: 'a', file: folder.put('a.json', '[{"instruction":"do","output":"x"}]'), format: { kind: 'alpaca' }, weight: 1 },
      made,
    );
    const ids = new Int32Array(prompted.cache.tokens);
    const masks = new Uint8Array(ids.length);
    prompted.cache.read(0, ids.length, ids, masks);
    expect([...masks].lastIndexOf(0)).toBe(ids.length - 3);
    text.cache.close();
    prompted.cache.close();
    const broken = folder.put('b.json', '[{"instruction":"do","output":"x"},{"instruction":"do"}]');
    const before = readdirSync(made.folder);
    await expect(openTextPart({ name: 'b', file: broken, format: { kind: 'alpaca' }, weight: 1 }, made)).rejects.toMatchObject({
      kind: 'input',
      place: { file: broken, field: 'row 1, output' },
    });
    expect(readdirSync(made.folder)).toEqual(before);
  });

  it('have another key for another tokenizer', async () => {
    const key = (text: string, path = 'tokenizer.json') => tokenizerKey(memoryFiles({ [path]: text }));
    expect(await key('{}')).toBe(await key('{}'));
    expect(new Set([await key('{}'), await key('{ }'), await key('{}', 'vocab.txt')]).size).toBe(3);
  });

  const shared = process.env.SOTTO_SHARED ?? '../shared';
  it.skipIf(!existsSync(join(shared, 'models', 'stories260K')))(
    'of web pages, instructions and code are mixed 50, 30 and 20',
    async () => {
      const files = folderFiles(join(shared, 'models', 'stories260K'));
      const own = { tokenizer: await loadTokenizer(files), tokenizerKey: await tokenizerKey(files), folder: made.folder };
      const lines = (name: string, count: number) =>
        folder.put(
          name,
          readFileSync(join(shared, 'data/text', name), 'utf8')
            .split('\n')
            .slice(0, count)
            .join('\n'),
        );
      const alpaca = JSON.parse(readFileSync(join(shared, 'data/text/alpaca_5000.json'), 'utf8')).slice(0, 60);
      const parts = [
        await openTextPart({ name: 'c4', file: lines('c4_sample.jsonl', 20), format: { kind: 'text' }, weight: 50 }, own),
        await openTextPart(
          { name: 'alpaca', file: folder.put('alpaca.json', JSON.stringify(alpaca)), format: { kind: 'alpaca' }, weight: 30 },
          own,
        ),
        await openTextPart({ name: 'python', file: lines('python_stdlib.jsonl', 3), format: { kind: 'text' }, weight: 20 }, own),
      ];
      const mixed = tokenMixture(parts, { batch: 10, tokens: 512, seed: 1 });
      for (let step = 0; step < 3; step++) {
        const { ids, weights } = mixed.next();
        const asked = Array.from({ length: 10 }, (_, row) =>
          own.tokenizer.decode([...ids.subarray(512 * row, 512 * row + 40)]).includes('Below is an instruction'),
        );
        expect(asked.filter(Boolean)).toHaveLength(3);
        for (const [row, prompted] of asked.entries()) expect(weights[512 * row]! > 0).toBe(!prompted);
      }
      for (const { cache } of parts) cache.close();
    },
  );
});
