import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { readField, readParquet, readRows, textOf } from '../../src/lab/data/index.ts';
import { all, testFolder } from './folder.ts';

const folder = testFolder();
const values = async (path: string, separator?: string) => (await all(readRows(path, { separator }))).map((row) => row.value);
const failure = (work: Promise<unknown>): Promise<SottoError> =>
  work.then(
    () => Promise.reject(new Error('nothing was thrown')),
    (error) => error,
  );

describe('readers of rows', () => {
  const rows = [{ text: 'one', n: 1 }, { text: 'zwei "2" [x] {y}\\' }, { text: 'três\n', list: [1, { a: [] }] }];

  it('give the rows of JSONL, of a JSON array and of both packed with gzip', async () => {
    const lines = `${rows.map((row) => JSON.stringify(row)).join('\r\n')}\n\n`;
    const array = `\uFEFF ${JSON.stringify(rows, null, 1)} \n`;
    expect(await values(folder.put('a.jsonl', lines))).toEqual(rows);
    expect(await values(folder.put('a.jsonl.gz', gzipSync(lines)))).toEqual(rows);
    expect(await values(folder.put('a.json', array))).toEqual(rows);
    expect(await values(folder.put('a.json.gz', gzipSync(array)))).toEqual(rows);
    expect(await values(folder.put('empty.json', '[ ]'))).toEqual([]);
    expect(await values(folder.put('empty.jsonl', ''))).toEqual([]);
  });

  it('give any array of objects back, cut anywhere by the chunks of the file', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { maxLength: 5 }), async (list) => {
        const sound = JSON.parse(JSON.stringify(list));
        expect(await values(folder.put(`any${run++ % 3}.json`, JSON.stringify(sound)))).toEqual(sound);
        const filler = ' '.repeat(2 ** 18 - 1 - (run % 40));
        expect(await values(folder.put('long.json', `[${filler}${JSON.stringify(sound).slice(1)}`))).toEqual(sound);
      }),
      { numRuns: 30 },
    );
  });

  it('give the documents of a text between separators, wherever its chunks end', async () => {
    const documents = Array.from({ length: 40 }, (_, at) => `ein Märchen ${at} ${'ü'.repeat(9000 + 97 * at)}`);
    const path = folder.put('stories.txt', documents.join('\n<|endoftext|>\n'));
    expect(await values(path)).toEqual(documents.map((text) => ({ text })));
    expect(await values(folder.put('odd.dat', 'a--b----c'), '--')).toEqual([{ text: 'a' }, { text: 'b' }, { text: 'c' }]);
  });

  it('give tab-separated fields under the names of the first line', async () => {
    const path = folder.put('dev.tsv', 'sentence\tlabel\nit "is\t1\r\n\nbad\t0');
    expect(await values(path)).toEqual([
      { sentence: 'it "is', label: '1' },
      { sentence: 'bad', label: '0' },
    ]);
  });

  const broken: [string, string | Uint8Array, string, RegExp][] = [
    ['half.jsonl', '{"a":1}\n{"a":', 'line 2', /not valid JSON/],
    ['list.jsonl', '{"a":1}\n\n[1]', 'line 3', /not a JSON object/],
    ['bytes.jsonl', Buffer.from([0x7b, 0x22, 0xff]), 'line 1', /UTF-8/],
    ['cut.json', '[{"a":1},{"a"', 'row 1', /ends in the middle/],
    ['row.json', '[{"a":1},{"a"}]', 'row 1', /not valid JSON/],
    ['comma.json', '[{"a":1},]', 'row 1', /nothing between commas/],
    ['after.json', '[{"a":1}] x', 'row 1', /follows the end/],
    ['object.json', '{"a":1}', '(whole)', /JSON array/],
    ['wide.tsv', 'a\tb\n1\t2\n3', 'line 3', /1 fields where the header names 2/],
    ['cut.jsonl.gz', gzipSync('{"a":1}\n'.repeat(999)).subarray(0, 30), 'gzip', /ends in the middle/],
  ];
  it.each(broken)('name the place in %s', async (name, bytes, field, reason) => {
    const path = folder.put(name, bytes);
    const error = await failure(values(path));
    expect(error).toBeInstanceOf(SottoError);
    expect(error).toMatchObject({ kind: 'input', place: { file: path, field } });
    expect(error.reason).toMatch(reason);
  });

  it('refuse a missing field, a field that is no text, a missing file and an unknown format', async () => {
    const path = folder.put('fields.jsonl', '{"text":"a"}\n{"text":5}\n');
    expect(await failure(all(readField(path, 'text')))).toMatchObject({ place: { file: path, field: 'line 2, text' } });
    expect(() => textOf(path, { place: 'row 0', value: {} }, 'toString')).toThrow(/is missing/);
    expect(await failure(values(join(folder.path, 'none.jsonl')))).toMatchObject({ kind: 'input' });
    expect(() => readRows('x.docx')).toThrow(expect.objectContaining({ kind: 'usage' }));
  });

  it('give rows or a typed error, whatever the bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('f.json', 'f.jsonl', 'f.tsv', 'f.txt', 'f.json.gz'),
        fc.uint8Array({ maxLength: 60 }),
        fc.boolean(),
        async (name, noise, framed) => {
          const bytes = framed
            ? Buffer.concat([Buffer.from(name.endsWith('parquet') ? 'PAR1' : '[{'), noise, Buffer.from('PAR1')])
            : noise;
          await all(readRows(folder.put(name, bytes))).catch((error) => expect(error).toBeInstanceOf(SottoError));
        },
      ),
      { numRuns: 120 },
    );
  });
});

/** A zstd frame of one raw block. */
function storedZstd(bytes: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(12 + bytes.length);
  frame.writeUInt32LE(0xfd2fb528, 0);
  frame[4] = 0xa0;
  frame.writeUInt32LE(bytes.length, 5);
  frame.writeUIntLE((bytes.length << 3) | 1, 9, 3);
  frame.set(bytes, 12);
  return frame;
}

describe('the reader of Parquet', () => {
  const text = Array.from({ length: 2500 }, (_, at) => `Zeile ${at % 700} – ${'x'.repeat(at % 13)}`);
  const label = Int32Array.from(text, (_, at) => at % 3);
  const columnData = [
    { name: 'text', data: text, type: 'STRING' as const },
    { name: 'label', data: [...label], type: 'INT32' as const },
  ];
  const compressors = { GZIP: gzipSync, BROTLI: brotliCompressSync, ZSTD: storedZstd };

  it.each(['SNAPPY', 'GZIP', 'BROTLI', 'ZSTD', 'UNCOMPRESSED'] as const)(
    'gives the rows of every row group under %s',
    async (codec) => {
      const bytes = new Uint8Array(parquetWriteBuffer({ columnData, codec, compressors, rowGroupSize: 1000 }));
      const path = folder.put(`rows.${codec}.parquet`, bytes);
      const rows = await all(readRows(path));
      expect(rows.map((row) => row.value)).toEqual(text.map((value, at) => ({ text: value, label: label[at] })));
      expect(rows[2001]!.place).toBe('row 2001');
    },
  );

  it('reads chosen columns only, and refuses a missing one and a damaged file by name', async () => {
    const bytes = new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 1000 }));
    const path = folder.put('whole.parquet', bytes);
    expect(await failure(all(readParquet(path, { columns: ['sentence'] })))).toMatchObject({
      kind: 'input',
      place: { field: 'sentence' },
    });
    const chosen = await all(readParquet(path, { columns: ['label'] }));
    expect(chosen[7]!.value).toEqual({ label: 1 });
    const cut = folder.put('cut.parquet', bytes.subarray(0, bytes.length / 2));
    expect(await failure(all(readParquet(cut)))).toMatchObject({ kind: 'input', place: { file: cut } });
  });

  const small = new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'text', data: ['a', 'b', 'ccc'], type: 'STRING' }] }));

  it('gives rows or a typed error, whichever byte is damaged', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(small.length - 1), fc.nat(255), async (at, value) => {
        const bytes = small.slice();
        bytes[at] = value;
        const path = folder.put('hurt.parquet', bytes);
        await all(readParquet(path, { patienceSeconds: 1 })).catch((error) => expect(error).toBeInstanceOf(SottoError));
      }),
      { numRuns: 12 },
    );
  }, 60_000);

  it('gives up on a file that would keep the library busy for ever', async () => {
    const bytes = small.slice();
    // A length in the header of the first page.
    bytes[10] = 65;
    const path = folder.put('endless.parquet', bytes);
    const error = await failure(all(readParquet(path, { patienceSeconds: 0.5 })));
    expect(error).toMatchObject({ kind: 'resource', place: { file: path, field: 'row group 0' } });
  });
});

const shared = join(process.env.SOTTO_SHARED ?? '../shared', 'data', 'text');
describe.skipIf(!existsSync(shared))('published text sets', () => {
  it('have the rows that their description names', async () => {
    const count = async (name: string, field: string) => (await all(readField(join(shared, name), field))).length;
    expect(await count('c4_sample.jsonl', 'text')).toBe(300);
    expect(await count('alpaca_5000.json', 'instruction')).toBe(5000);
    expect(await count('python_stdlib.jsonl', 'text')).toBe(211);
    expect(await count('tinystories_1800.txt', 'text')).toBe(1800);
  });
});
