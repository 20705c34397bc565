import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { readDocuments } from '../../src/evaluate/perplexity.ts';
import { Row, readRows } from '../../src/evaluate/rows.ts';
import { choiceFormats, givenLikelihoods, lambadaRequest } from '../../src/lab/tasks/choices.ts';
import { outputOf, readCompletions } from '../../src/lab/tasks/completions.ts';
import { codeTask } from '../../src/lab/tasks/humaneval.ts';
import { turnsOf } from '../../src/lab/tasks/mt-bench.ts';
import { temporaryFolder } from '../cli/checkpoints.ts';

const path = join(await temporaryFolder(), 'rows.jsonl');
const given = (text: string | Uint8Array): string => {
  writeFileSync(path, text);
  return path;
};
const typed = async (work: () => unknown): Promise<void> => {
  try {
    await work();
  } catch (error) {
    expect(error).toBeInstanceOf(SottoError);
    expect((error as SottoError).kind).toBe('input');
  }
};

describe('rows', () => {
  it('are one object a line or a list of objects, empty lines left out and limited', async () => {
    const lines = await readRows(given('{"a":1}\n\n  \r\n{"a":2}\r\n{"a":3}'), 2);
    expect(lines.map(({ line, fields }) => [line, fields.a])).toEqual([
      [1, 1],
      [4, 2],
    ]);
    expect((await readRows(given('[{"a":1},\n{"a":2}]'))).map(({ fields }) => fields.a)).toEqual([1, 2]);
  });

  it('that are torn, doubled or not text name file and line', async () => {
    await expect(readRows(given('{"a":1}\n{"a":'))).rejects.toThrow(/rows\.jsonl:2/);
    await expect(readRows(given('{"a":1,"a":2}'))).rejects.toThrow(/names the key "a" twice/);
    await expect(readRows(given(Uint8Array.of(0x7b, 0xff, 0x7d)))).rejects.toThrow(/not valid UTF-8/);
    await expect(readRows(join(path, '../absent'))).rejects.toMatchObject({ kind: 'input' });
  });

  it('of any bytes are read or refused with a typed error', async () => {
    const line = fc.oneof(fc.string(), fc.json(), fc.constant('{"text": "a"}'), fc.constant('['));
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array(),
          fc.array(line).map((lines) => Buffer.from(lines.join('\n'))),
        ),
        async (bytes) => {
          const file = given(bytes);
          await typed(() => readRows(file));
          await typed(() => readDocuments(file, 3));
          await typed(async () => readCompletions([new Row('d', 1, { id: 1 })], file));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('with fields of any kind are taken or refused by every format', async () => {
    const names = [
      'question',
      'choices',
      'label',
      'answerKey',
      'goal',
      'sentence',
      'answer',
      'text',
      'turns',
      'prompt',
      'entry_point',
      'filtered_resps',
      'loglikelihoods',
      'completion',
    ];
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constant(['a', 'b']),
      fc.constant({ text: ['a'], label: ['A'] }),
      fc.constant(1),
      fc.constant('a _ b'),
    );
    const readers = [...Object.values(choiceFormats), lambadaRequest, codeTask, turnsOf, outputOf];
    const question = choiceFormats.arc_easy(new Row('q', 1, { question: 'q', choices: ['a', 'b'], label: 0 }));
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.constantFrom(...names), value), async (fields) => {
        const row = new Row('rows.jsonl', 1, fields);
        for (const reader of readers) await typed(() => reader(row));
        await typed(() => givenLikelihoods(question, row));
      }),
      { numRuns: 300 },
    );
  });
});

describe('completions', () => {
  const rows = [new Row('d', 1, { task_id: 'a' }), new Row('d', 2, { task_id: 'b' })];

  it('may be several for a task, in any order, and more than the limit left', async () => {
    const file = given(
      '{"task_id":"b","completion":"1"}\n{"task_id":"a","completion":"2"}\n{"task_id":"b","completion":"3"}\n{"task_id":"z","completion":"4"}',
    );
    expect((await readCompletions(rows, file, { several: true })).given.map((own) => own.map(outputOf))).toEqual([
      ['2'],
      ['1', '3'],
    ]);
  });

  it('that leave a task out are refused', async () => {
    await expect(readCompletions(rows, given('{"task_id":"b","completion":"1"}'))).rejects.toThrow(/no completion for task_id a/);
  });
});
