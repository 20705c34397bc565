import { parquetWriteBuffer } from 'hyparquet-writer';
import { describe, expect, it } from 'vitest';
import { readRows } from '../../src/lab/data/index.ts';
import { type GlueTask, glueExample } from '../../src/lab/tasks/glue.ts';
import { all, testFolder } from './folder.ts';

const folder = testFolder();
const read = async (task: GlueTask, path: string) => (await all(readRows(path))).map((row) => glueExample(task, path, row));

describe('the files of a GLUE task', () => {
  it('give the same examples as TSV, JSONL and Parquet', async () => {
    const questions = ['Who wrote "it"?', 'Où?'];
    const sentences = ['A man did.', 'Là-bas.'];
    const tsv = `index\tquestion\tsentence\tlabel\n${questions.map((q, at) => `${at}\t${q}\t${sentences[at]}\t${['entailment', 'not_entailment'][at]}`).join('\n')}\n`;
    const jsonl = questions
      .map((question, label) => JSON.stringify({ question, sentence: sentences[label], label, idx: label }))
      .join('\n');
    const parquet = parquetWriteBuffer({
      columnData: [
        { name: 'question', data: questions, type: 'STRING' },
        { name: 'sentence', data: sentences, type: 'STRING' },
        { name: 'label', data: [0n, 1n], type: 'INT64' },
      ],
    });
    const due = questions.map((first, label) => ({ first, second: sentences[label], label }));
    expect(await read('qnli', folder.put('dev.tsv', tsv))).toEqual(due);
    expect(await read('qnli', folder.put('dev.jsonl', jsonl))).toEqual(due);
    expect(await read('qnli', folder.put('dev.parquet', new Uint8Array(parquet)))).toEqual(due);
  });

  it('name the line of a label out of range', async () => {
    const path = folder.put('test.tsv', 'sentence\tlabel\nfine\t1\nfine too\t-1\n');
    await expect(read('sst2', path)).rejects.toMatchObject({ kind: 'input', place: { file: path, field: 'line 3, label' } });
  });
});
