// Compares tokenizers with the reference library (PyPI `tokenizers`), which it runs beside: `npx tsx bench/tokenizers.ts [--minutes 1]
// [--seed 1] [--python python3] [--text file] [--folder of tokenizer.json files]`. Each published kind is trained by the library on real
// text, then tokenizers of components drawn by chance are compared until the time is over; all on texts of every script. Prints counts;
// exits with 1 where ids, type ids or decoded text differ.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { memoryFiles } from '../src/models/files.ts';
import { loadTokenizer, type Tokenizer } from '../src/models/tokenizer.ts';
import { drawDefinition } from './tokenizers/definitions.ts';
import { everyCodePoint, sweepDefinition, sweeps } from './tokenizers/sweep.ts';
import { type Draw, drawer, drawText } from './tokenizers/texts.ts';

const kinds =
  'gpt2 llama3 roberta nfc-qwen llama mistral gemma t5 xlm-r albert unigram-bytes bert-uncased bert-cased bert-plain clip wordlevel'.split(
    ' ',
  );

type Case = readonly [first: string, second: string | null, special: boolean];
interface Answer {
  readonly definition?: string;
  readonly refused?: string;
  readonly encoded: ([number[], number[]] | null)[];
  readonly decoded: (string | null)[];
}

class Reference {
  readonly #child: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];

  constructor(python: string) {
    this.#child = spawn(python, [join(import.meta.dirname, 'tokenizers/reference.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#waiting.shift()?.(line));
    this.#child.on('exit', () => {
      for (const take of this.#waiting.splice(0)) take('{"refused":"the reference library ended"}');
    });
  }

  ask(request: unknown): Promise<Answer> {
    return new Promise((resolve) => {
      this.#waiting.push((line) => resolve(JSON.parse(line) as Answer));
      this.#child.stdin!.write(`${JSON.stringify(request)}\n`);
    });
  }

  end(): void {
    this.#child.stdin!.end();
  }
}

const counts = { tokenizers: 0, texts: 0, ids: 0, decoded: 0, bothRefuse: 0, weRefuse: 0, theyFail: 0, different: 0 };
const refusals = new Map<string, number>();

const attempt = <T>(work: () => T): { value?: T; error?: Error } => {
  try {
    return { value: work() };
  } catch (error) {
    return { error: error as Error };
  }
};

function report(name: string, what: string, theirs: unknown, ours: unknown): void {
  counts.different++;
  if (counts.different > 12) return;
  console.log(
    `different (${name}): ${what}\n  library ${JSON.stringify(theirs)?.slice(0, 600)}\n  ours    ${JSON.stringify(ours)?.slice(0, 600)}`,
  );
}

const note = (reason: string) => refusals.set(reason, (refusals.get(reason) ?? 0) + 1);

/** Compares one tokenizer on drawn texts: what it encodes, what its ids and ids drawn by chance decode to. */
async function compare(
  reference: Reference,
  name: string,
  definition: string,
  words: readonly string[],
  texts: number,
  draw: Draw,
): Promise<void> {
  counts.tokenizers++;
  let ours: Tokenizer | undefined;
  let problem: Error | undefined;
  try {
    ours = await loadTokenizer(memoryFiles({ 'tokenizer.json': definition }));
  } catch (error) {
    problem = error as Error;
  }
  const tokens = tokensOf(definition);
  const cases: Case[] = Array.from({ length: texts }, () => [
    draw(50) === 0 ? '' : drawText(draw, words, tokens),
    draw(5) === 0 ? drawText(draw, words, tokens) : null,
    draw(4) > 0,
  ]);
  const answer = await reference.ask({ definition, encode: cases, decode: 'own' });
  if (answer.refused !== undefined) {
    if (ours === undefined) counts.bothRefuse++;
    else counts.theyFail++;
    return;
  }
  if (ours === undefined) {
    counts.weRefuse++;
    if (!name.startsWith('drawn')) console.log(`refused (${name}): ${problem!.message}`);
    note(
      problem!.message
        .replace(/^.*?\.json, /, '')
        .replace(/\[\d+\]/g, '')
        .slice(0, 90),
    );
    return;
  }
  for (const [index, [first, second, special]] of cases.entries()) {
    const theirs = answer.encoded[index]!;
    const { value, error } = attempt(() => encodeBy(ours, first, second, special));
    counts.texts++;
    if (theirs === null) {
      if (error === undefined) counts.theyFail++;
      continue;
    }
    counts.ids += theirs[0].length;
    if (error !== undefined) {
      counts.weRefuse++;
      note(error.message.replace(/"[^"]*"/, '…').slice(0, 120));
      continue;
    }
    const [ids, types] = value!;
    if (String(ids) !== String(theirs[0]) || (types !== undefined && String(types) !== String(theirs[1])))
      report(name, JSON.stringify([first, second, special]), theirs, value);
    const text = answer.decoded[index]!;
    const decoded = attempt(() => ours.decode(theirs[0]));
    counts.decoded++;
    if (text === null || decoded.error !== undefined) {
      if (text !== null) note(`decoding: ${decoded.error!.message.slice(0, 90)}`);
    } else if (text !== decoded.value) report(name, `decode ${theirs[0]}`, text, decoded.value);
  }
  const drawn = Array.from({ length: 5 }, () => Array.from({ length: draw(12) }, () => draw(ours.vocabularySize + 2)));
  const again = await reference.ask({ definition, encode: [], decode: drawn });
  for (const [index, ids] of drawn.entries()) {
    const decoded = attempt(() => ours.decode(ids));
    counts.decoded++;
    if (again.decoded[index] !== null && decoded.error === undefined && again.decoded[index] !== decoded.value)
      report(name, `decode ${ids}`, again.decoded[index], decoded.value);
  }
}

/** Every code point through every component that has a table. */
async function sweepAll(): Promise<void> {
  for (const [name, parts] of Object.entries(sweeps)) {
    const before = counts.different;
    const definition = JSON.stringify(sweepDefinition(parts));
    const ours = await loadTokenizer(memoryFiles({ 'tokenizer.json': definition }));
    const texts = [...everyCodePoint()];
    for (let from = 0; from < texts.length; from += 64) {
      const some = texts.slice(from, from + 64);
      const { encoded, refused } = await reference.ask({ definition, encode: some.map((text) => [text, null, true]) });
      if (refused !== undefined) throw new Error(`${name}: ${refused}`);
      for (const [index, text] of some.entries()) {
        counts.texts++;
        counts.ids += encoded[index]![0].length;
        const ids = ours.encode(text);
        const at = encoded[index]![0].findIndex((id, place) => id !== ids[place]);
        if (at >= 0 || ids.length !== encoded[index]![0].length)
          report(
            name,
            `U+${text.codePointAt(1)!.toString(16)} …, id ${at}`,
            encoded[index]![0].slice(at - 12, at + 12),
            ids.slice(at - 12, at + 12),
          );
      }
    }
    counts.tokenizers++;
    console.log(`sweep of ${name}: ${texts.length * 256} code points, ${counts.different - before} differences`);
  }
}

function encodeBy(ours: Tokenizer, first: string, second: string | null, special: boolean): [number[], number[] | undefined] {
  if (!special && second === null) return [ours.encode(first, { addSpecial: false }), undefined];
  const { ids, types } = ours.encodePair!(first, second ?? undefined, { addSpecial: special });
  return [ids, types];
}

function tokensOf(definition: string): string[] {
  const { model, added_tokens: added } = JSON.parse(definition);
  const own: string[] = Array.isArray(model.vocab) ? model.vocab.map(([token]: [string]) => token) : Object.keys(model.vocab);
  return [
    ...added.map(({ content }: { content: string }) => content),
    ...added.map(({ content }: { content: string }) => content),
    ...own.slice(0, 300),
  ];
}

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    python: { type: 'string', default: 'python3' },
    text: { type: 'string', default: join(import.meta.dirname, '../../shared/data/text/prose.txt') },
    folder: { type: 'string' },
    texts: { type: 'string', default: '300' },
    only: { type: 'string' },
    goldens: { type: 'string' },
    sweep: { type: 'boolean', default: false },
  },
});
/** Rules of a small charsmap: characters and short graphemes to others, to several and to none. */
const smallRules = [
  ['ﬁ', 'fi'],
  ['\u212b', '\u00e5'],
  ['①', '1'],
  ['ｶﾞ', 'ガ'],
  ['ｶ', 'カ'],
  ['e\u0301', 'é'],
  ['\u0301', ''],
  ['\u3000', ' '],
  ['\t', ' '],
  ['\r', ''],
  ['\u200d', ''],
  ['👍', 'up'],
  ['㎏', 'kg'],
];

/**
 * Writes what the library gives for small tokenizers of every kind and for some drawn by chance: the vectors of
 * test/formats/tokenizer-goldens.test.ts.
 */
async function writeGoldens(path: string): Promise<void> {
  const { definition: map } = await reference.ask({ rules: smallRules, text: values.text });
  const draw = drawer(20_261_130);
  const definitions: [string, string][] = [];
  for (const kind of kinds.filter((name) => !['t5', 'albert'].includes(name))) {
    const { definition } = await reference.ask({ train: kind, text: values.text, size: 420 });
    definitions.push([kind, definition!.replace(/("precompiled_charsmap": ?)"[^"]*"/, (_, key) => `${key}"${map}"`)]);
  }
  while (definitions.length < 60) definitions.push(['drawn', JSON.stringify(drawDefinition(draw, words, [map!]))]);
  const lines: string[] = [];
  for (const [kind, definition] of definitions) {
    const tokens = tokensOf(definition);
    const encode = Array.from({ length: 8 }, () => [
      drawText(draw, words, tokens),
      draw(3) === 0 ? drawText(draw, words, tokens) : null,
      draw(4) > 0,
    ]);
    const { encoded, decoded, refused } = await reference.ask({ definition, encode, decode: 'own' });
    if (refused !== undefined || encoded.includes(null)) continue;
    lines.push(
      JSON.stringify({
        kind,
        definition: JSON.parse(definition),
        vectors: encode.map((given, index) => [...given, ...encoded[index]!, decoded[index]]),
      }),
    );
  }
  writeFileSync(path, `${lines.join('\n')}\n`);
}

const source = readFileSync(values.text, 'utf8').slice(0, 400_000);
const words = [...new Set(source.split(/\s+/))].slice(0, 5000);
const reference = new Reference(values.python);
const charsmaps: string[] = [];
if (values.goldens !== undefined) {
  await writeGoldens(values.goldens);
  reference.end();
  process.exit(0);
}
const end = Date.now() + Number(values.minutes) * 60_000;
for (const kind of kinds) {
  if (values.only !== undefined && !values.only.split(',').includes(kind)) continue;
  const { definition, refused } = await reference.ask({ train: kind, text: values.text, size: 2000 });
  if (definition === undefined) throw new Error(`training ${kind}: ${refused}`);
  const map = /"precompiled_charsmap": ?"([^"]*)"/.exec(definition)?.[1];
  if (map !== undefined && !charsmaps.includes(map)) charsmaps.push(map);
  const before = counts.different;
  await compare(reference, kind, definition, words, Number(values.texts), drawer(Number(values.seed)));
  console.log(`${kind}: ${values.texts} texts, ${counts.different - before} differences`);
}
if (values.folder !== undefined && existsSync(values.folder)) {
  for (const file of readdirSync(values.folder).filter((file) => file.endsWith('.json'))) {
    const before = counts.different;
    await compare(
      reference,
      file,
      readFileSync(join(values.folder, file), 'utf8'),
      words,
      Number(values.texts),
      drawer(Number(values.seed)),
    );
    console.log(`${file}: ${values.texts} texts, ${counts.different - before} differences`);
  }
}
if (values.sweep) await sweepAll();
for (let seed = Number(values.seed) * 1_000_000; Date.now() < end; seed++) {
  const draw = drawer(seed);
  const definition = drawDefinition(draw, words, charsmaps);
  await compare(reference, `drawn ${seed}`, JSON.stringify(definition), words, 12, draw);
}
reference.end();
console.log(JSON.stringify(counts));
for (const [reason, count] of [...refusals].sort((a, b) => b[1] - a[1]).slice(0, 30)) console.log(`  ${count} × ${reason}`);
process.exitCode = counts.different > 0 ? 1 : 0;
