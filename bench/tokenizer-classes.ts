// Compares tokenizers with what two versions of transformers make of one folder, by class and by what tokenizer_config.json says:
// `npx tsx bench/tokenizer-classes.ts --text file --python python-with-4 --python python-with-5`. Where the versions agree, sotto gives
// the same ids or refuses the folder by a field; exits with 1 where it does neither. Where they differ the counts say with whom it goes.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { memoryFiles } from '../src/models/files.ts';
import { loadTokenizer } from '../src/models/tokenizer.ts';

interface Row {
  readonly note: string;
  readonly definition: unknown;
  readonly config: unknown;
  readonly encoded: number[][] | null;
  readonly pair: number[] | null;
}

const { values } = parseArgs({ options: { text: { type: 'string' }, python: { type: 'string', multiple: true } } });
if (values.text === undefined || values.python?.length !== 2) throw new Error('--text file --python first --python second');
const [first, second] = values.python.map((python) => {
  const done = spawnSync(python, [join(import.meta.dirname, 'tokenizers/classes.py'), values.text!], {
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 30,
  });
  return JSON.parse(String(done.stdout)) as { texts: string[]; rows: Row[] };
});

const counts = new Map<string, number>();
const count = (name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
let wrong = 0;
for (const [index, row] of first!.rows.entries()) {
  const other = second!.rows[index]!;
  const theirs = [row, other].map(({ encoded, pair }) => JSON.stringify([encoded, pair]));
  let ours = 'refused';
  try {
    const files = { 'tokenizer.json': JSON.stringify(row.definition), 'tokenizer_config.json': JSON.stringify(row.config) };
    const tokenizer = await loadTokenizer(memoryFiles(files));
    ours = JSON.stringify([
      first!.texts.map((text) => tokenizer.encode(text)),
      tokenizer.encodePair!('The design', 'a zebra').ids,
    ]);
  } catch {
    // Counted below.
  }
  const agree = theirs[0] === theirs[1];
  if (agree && row.encoded === null) count('refused by both versions');
  else if (agree && ours === theirs[0]) count('the versions agree, and so does sotto');
  else if (agree && ours === 'refused') count('the versions agree, and sotto refuses');
  else if (agree) {
    wrong++;
    console.log(`different: ${row.note}`);
  } else if (ours === 'refused') count('the versions differ, and sotto refuses');
  else
    count(
      `the versions differ, and sotto is as ${theirs.includes(ours) ? `the ${ours === theirs[0] ? 'first' : 'second'}` : 'neither'}`,
    );
}
for (const [name, cases] of counts) console.log(`${cases} × ${name}`);
console.log(`${wrong} × the versions agree, and sotto differs`);
process.exitCode = wrong > 0 ? 1 : 0;
