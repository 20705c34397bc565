import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Row, readRows } from '../../src/evaluate/rows.ts';
import { scorePictures } from '../../src/evaluate/teacher.ts';
import { readPictureFolder } from '../../src/lab/data/index.ts';
import { readTsv } from '../../src/lab/data/rows.ts';
import { joinCompletions, outputOf } from '../../src/lab/tasks/completions.ts';
import { glueClasses } from '../../src/lab/tasks/glue.ts';
import { alignedClasses, folderClasses, numberedClasses } from '../../src/models/class-names.ts';
import { temporaryFolder } from '../cli/checkpoints.ts';
import { all } from '../data/folder.ts';
import { evaluate } from './command.ts';

const folder = await temporaryFolder();
const lines = (rows: readonly object[], end = '\n'): string => rows.map((row) => JSON.stringify(row)).join(end);
const file = (name: string, content: string | Uint8Array): string => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
const rowsOf = (name: string, rows: readonly Record<string, unknown>[]) => rows.map((row, at) => new Row(name, at + 1, row));

/** Right answers are 0, 1, 2; `sure(n)` says so of answer n. */
const questions = [0, 1, 2].map((label) => ({ question: 'q', choices: ['a', 'b', 'c'], label }));
const sure = (answer: number) => ({ loglikelihoods: [0, 1, 2].map((choice) => (choice === answer ? -1 : -9)) });
const score = (data: string, completions: string, ...words: string[]) =>
  evaluate(['--task', 'arc_easy', '--data', data, '--completions', completions, ...words]);

describe('given outputs', () => {
  const data = file('plain.jsonl', lines(questions));
  const named = file('named.jsonl', lines(questions.map((row, at) => ({ id: `q${at}`, ...row }))));

  it("are joined by the row's number from 0 where the data names no rows, in any order, unpacked and with any line end", async () => {
    const turned = [2, 0, 1].map((row) => ({ doc_id: row, ...sure(row) }));
    for (const given of [
      file('turned.jsonl', lines(turned)),
      file('turned-crlf.jsonl', `\ufeff${lines(turned, '\r\n\r\n')}\r\n`),
      file('turned.jsonl.gz', gzipSync(lines(turned))),
      file('idx.jsonl', lines(turned.map(({ doc_id, ...rest }) => ({ idx: doc_id, ...rest })))),
    ]) {
      const { result } = await score(data, given);
      expect(result).toMatchObject({ metrics: { acc: { value: 1, count: 3 } }, settings: { joined_by: 'doc_id' } });
    }
  });

  it('are joined by the identifier that both sides have', async () => {
    const given = file('by-id.jsonl', lines([1, 2, 0].map((row) => ({ id: `q${row}`, ...sure(row) }))));
    expect((await score(named, given)).result).toMatchObject({ metrics: { acc: { value: 1 } }, settings: { joined_by: 'id' } });
    const packed = file('named.jsonl.gz', gzipSync(lines(questions.map((row, at) => ({ id: `q${at}`, ...row })))));
    expect((await score(packed, given)).result).toMatchObject({ metrics: { acc: { value: 1 } } });
  });

  it('for translations too', async () => {
    const [source, reference] = [
      file('src.de', 'eins\r\nzwei\r\n'),
      file('ref.en', 'the first one here\nthe second one there\n'),
    ];
    const said = ['the second one there', 'the first one here'].map((completion, at) => ({ doc_id: 1 - at, completion }));
    const words = ['--task', 'wmt22', '--data', source, '--references', reference, '--completions'];
    const { result } = await evaluate([...words, file('hyp.jsonl', lines(said))]);
    expect(result.metrics.bleu!.value).toBeCloseTo(100, 9);
    const plain = file('hyp.en.gz', gzipSync('the first one here\r\nthe second one there\r\n'));
    expect((await evaluate([...words, plain])).result.metrics.bleu!.value).toBeCloseTo(100, 9);
    const longer = file('long.en', 'the first one here\n\nthe second one there\n');
    expect((await evaluate([...words, longer])).error).toMatch(/3 translations for 2 sentences/);
  });

  it.each<[string, string, readonly object[], RegExp]>([
    ['no names where the data has them', named, [0, 1, 2].map(sure), /do not say which row/],
    [
      'other names than the data',
      data,
      [0, 1, 2].map((at) => ({ task_id: at, ...sure(at) })),
      /by task_id, which the data does not have/,
    ],
    [
      'names in some rows alone',
      named,
      [{ id: 'q0', ...sure(0) }, sure(1), { id: 'q2', ...sure(2) }],
      /given\.jsonl:2, field id.*missing/,
    ],
    [
      'a row twice',
      named,
      [0, 1, 1, 2].map((at) => ({ id: `q${at}`, ...sure(at) })),
      /given\.jsonl:3, field id.*as in row 2 already/,
    ],
    [
      'a number twice',
      data,
      [0, 1, 0, 2].map((at) => ({ doc_id: at, ...sure(at) })),
      /given\.jsonl:3, field doc_id.*as in row 1/,
    ],
    [
      'a number below 0',
      data,
      [-1, 0, 1, 2].map((at) => ({ doc_id: at, ...sure(1) })),
      /given\.jsonl:1, field doc_id.*number from 0/,
    ],
    ['more lines than rows', data, [0, 1, 2, 2].map(sure), /4 completions for 3 rows/],
    ['an identifier that is a list', named, [{ id: ['q0'], ...sure(0) }], /field id.*neither a text nor a whole number/],
    ['a missing row', named, [0, 2].map((at) => ({ id: `q${at}`, ...sure(at) })), /no completion for id q1/],
  ])('with %s are typed errors that name the row', async (_, known, given, message) => {
    const { code, error } = await score(known, file('given.jsonl', lines(given)));
    expect(error).toMatch(message);
    expect(code).toBe(3);
  });

  it('of data whose rows share an identifier are refused, rows within the limit or beyond it', async () => {
    const twice = file('twice.jsonl', lines(questions.map((row, at) => ({ id: Math.min(at, 1), ...row }))));
    const given = file('given.jsonl', lines([0, 1].map((id) => ({ id, ...sure(id) }))));
    expect((await score(twice, given)).error).toMatch(/twice\.jsonl:3, field id.*is 1, as in row 2 already/);
    expect((await score(twice, given, '--limit', '1')).error).toMatch(/as in row 2 already/);
  });

  it('may leave out what a limit does, in any order', async () => {
    const some = file('some.jsonl', lines([1, 0].map((row) => ({ doc_id: row, ...sure(row) }))));
    expect((await score(data, some, '--limit', '2')).result).toMatchObject({ metrics: { acc: { value: 1, count: 2 } } });
    const first = file('first.jsonl', lines([0, 1].map(sure)));
    expect((await score(data, first, '--limit', '2')).result).toMatchObject({ settings: { joined_by: 'line' } });
  });

  it('give the same pairs whatever their order', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.oneof(fc.integer(), fc.string({ minLength: 1 })), { minLength: 1, selector: String }),
        fc.infiniteStream(fc.nat()),
        (ids, draws) => {
          const known = rowsOf(
            'd',
            ids.map((task_id) => ({ task_id })),
          );
          const given = ids
            .map((id) => ({ task_id: String(id), completion: `of ${id}` }))
            .toSorted(() => (draws.next().value % 3) - 1);
          const joined = joinCompletions(known, rowsOf('c', given), 'c');
          expect(joined.given.map(([own]) => outputOf(own!))).toEqual(ids.map((id) => `of ${id}`));
        },
      ),
    );
  });

  it('that are packed to more than a file may hold, or cut short, are typed errors', async () => {
    const cut = file('cut.jsonl.gz', gzipSync(lines(questions)).subarray(0, 30));
    await expect(readRows(cut)).rejects.toMatchObject({ kind: 'input', place: { file: cut } });
    const bomb = file('bomb.jsonl.gz', gzipSync(Buffer.alloc(2 ** 28 + 1)));
    await expect(readRows(bomb)).rejects.toMatchObject({ kind: 'resource', place: { file: bomb } });
  });
});

describe('class folders', () => {
  const classes = (folders: string[], labels: string[]) => folderClasses('pictures', folders, labels);

  it("are the model's classes by their names, whatever the order and the spelling", () => {
    expect(classes(['cat', 'dog'], ['dog', 'cat', 'bird'])).toEqual([1, 0]);
    expect(classes(['Golden_retriever', 'moving-van'], ['moving van', 'golden retriever'])).toEqual([1, 0]);
    expect(classes(['10', '2'], ['2', '10'])).toEqual([1, 0]);
  });

  it('that are numbers are counted in numeric order, or are their numbers where one is 0', () => {
    const names = Array.from({ length: 12 }, (_, at) => `class of ${'abcdefghijkl'[at]}`);
    const oneToTwelve = ['1', '10', '11', '12', '2', '3', '4', '5', '6', '7', '8', '9'];
    expect(classes(oneToTwelve, names)).toEqual(oneToTwelve.map((name) => Number(name) - 1));
    expect(classes(['0', '10', '7'], names)).toEqual([0, 10, 7]);
    expect(() => classes(['1', '2'], names)).toThrow(/"1" is none of the model's 12 classes/);
    expect(() => classes(['1', '01'], ['a', 'b'])).toThrow(/the same number/);
  });

  it('of other names are never guessed where the model names its classes', () => {
    expect(() => classes(['apple', 'pear'], ['cat', 'dog'])).toThrow(/"apple" is none/);
    expect(() => classes(['cat', 'hound'], ['cat', 'dog'])).toThrow(/"hound" is none/);
    expect(classes(['apple', 'pear'], ['LABEL_0', 'LABEL_1'])).toEqual([0, 1]);
    expect(
      classes(
        ['n02', 'n01'].map((name) => `${name}000000`),
        ['tench, Tinca tinca', 'goldfish'],
      ),
    ).toEqual([1, 0]);
  });

  it('that could be two classes, or are one class twice, are refused', () => {
    expect(() => classes(['crane'], ['crane', 'bird', 'crane'])).toThrow(/may be the class 0 or 2/);
    expect(() => classes(['cat', 'Cat'], ['CAT', 'dog'])).toThrow(/two folders are the class "CAT"/);
  });

  it('give training their classes in numeric order where all are numbers', async () => {
    const { mkdirSync } = await import('node:fs');
    for (const name of ['1', '2', '10']) {
      mkdirSync(join(folder, 'tree', name), { recursive: true });
      writeFileSync(join(folder, 'tree', name, 'a.png'), '');
    }
    expect((await readPictureFolder(join(folder, 'tree'))).classes).toEqual(['1', '2', '10']);
  });
});

describe('classes by number', () => {
  it("are the model's own where it names the same ones in another order", () => {
    expect(numberedClasses(['dog', 'cat'], ['cat', 'dog'])).toEqual([1, 0]);
    expect(numberedClasses(['1', '0'], ['0', '1'])).toEqual([1, 0]);
    expect(numberedClasses(['LABEL_0', 'LABEL_1'], ['cat', 'dog'])).toEqual([0, 1]);
    expect(numberedClasses(['cat', 'fish'], ['cat', 'dog'])).toEqual([0, 1]);
  });

  it("are a teacher's of the same names, or of the same numbers where one of the models names none", () => {
    expect(alignedClasses(['cat', 'dog'], ['Dog', 'Cat'])).toEqual([1, 0]);
    expect(alignedClasses(['cat', 'dog'], ['LABEL_0', 'LABEL_1'])).toEqual([0, 1]);
    expect(alignedClasses(['crane', 'crane'], ['crane', 'crane'])).toEqual([0, 1]);
    expect(alignedClasses(['cat', 'dog'], ['cat', 'fish'])).toBeUndefined();
    expect(alignedClasses(['cat'], ['cat', 'dog'])).toBeUndefined();
  });

  it("put a teacher's logits in the student's order before the two are compared", async () => {
    const image = { width: 1, height: 1, data: new Uint8Array(3) };
    const model = (labels: string[], logits: number[]) => ({ labels, logits: async () => [Float64Array.from(logits)] });
    const [student, teacher] = [model(['cat', 'dog', 'fox'], [1, 5, 2]), model(['fox', 'cat', 'dog'], [2, 1, 5])];
    const { fidelity, cosine, teacher_acc } = await scorePictures(student, teacher, [{ image, label: 1 }]);
    expect([fidelity!.value, teacher_acc!.value]).toEqual([1, 1]);
    expect(cosine!.value).toBeCloseTo(1, 12);
    const stranger = model(['fox', 'cat', 'ship'], [2, 1, 5]);
    await expect(scorePictures(student, stranger, [{ image, label: 1 }])).rejects.toThrow(/name other classes/);
  });

  it('of GLUE go by the names that a model has, and are refused where it has others', () => {
    expect(glueClasses('sst2', ['POSITIVE', 'NEGATIVE'])).toEqual([1, 0]);
    expect(glueClasses('sst2', ['pos', 'neg'])).toEqual([1, 0]);
    expect(glueClasses('sst2', ['LABEL_0', 'LABEL_1'])).toEqual([0, 1]);
    expect(() => glueClasses('sst2', ['good', 'bad'])).toThrow(/"good", "bad" are not those of the task/);
  });
});

describe('tab-separated rows', () => {
  it('with a byte order mark, blank lines and any line end are one object a row; a name twice in the header is refused', async () => {
    const good = file('good.tsv', '\ufeffsentence\tlabel\r\na "quoted text\t1\r\n\r\nb\t0\r\n');
    expect((await all(readTsv(good))).map(({ place, value }) => [place, value])).toEqual([
      ['line 2', { sentence: 'a "quoted text', label: '1' }],
      ['line 4', { sentence: 'b', label: '0' }],
    ]);
    const twice = file('twice.tsv', 'label\tsentence\tlabel\n1\ta\t0\n');
    await expect(all(readTsv(twice))).rejects.toMatchObject({
      kind: 'input',
      place: { field: 'line 1' },
      reason: /"label" twice/,
    });
  });
});
