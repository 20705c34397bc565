import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { encodePng } from '../../src/pictures/index.ts';
import { temporaryFolder, writeTiny } from '../cli/checkpoints.ts';
import { root } from '../cli/command.ts';

const folder = await temporaryFolder();

/** Runs a program with the package as it is installed, from the root of the checkout. */
function node(...words: string[]): Promise<string> {
  expect(inject('buildFailure')).toBe('');
  const child = spawn(process.execPath, words, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('close', (code) => (code === 0 ? resolve(stdout) : reject(new Error(`exit code ${code}: ${stderr}`))));
  });
}

async function visionModel(): Promise<string[]> {
  const picture = join(folder, 'picture.png');
  const data = Uint8Array.from({ length: 192 }, (_, at) => (at * 37) % 256);
  writeFileSync(picture, await encodePng({ width: 8, height: 8, data }));
  return [await writeTiny(join(folder, 'vit'), { family: 'vit', plan: 'exact' }), picture];
}

/** What each file is given, so that it is short, and what it prints. */
const files: Record<string, { words?: () => Promise<string[]>; prints: RegExp }> = {
  'classify.mjs': { words: visionModel, prints: /^(fox|ball|park), in the clear \1\n/ },
  'cost.mjs': { prints: /^online [\d.]+ MB, \d+ hops, [\d.]+ s on wan\n$/ },
  'eight-lines.mjs': { words: async () => ['1'], prints: /^Once upon a time.*\n(\{[^}]*hops: \d+ \}\n)\1$/ },
  'parties.mjs': { words: async () => ['1'], prints: /^the client reads Once upon a time.*\nthe server saw [0-9a-f]+\n$/ },
  'program.mjs': { prints: /^clear {4}(.*)\nintegers \1\nprivate {2}\1\n\d+ bytes in \d+ hops\n$/ },
};

describe('examples/library', { timeout: 60_000 }, () => {
  it('is run whole', () => {
    expect(readdirSync(join(root, 'examples/library')).sort()).toEqual(Object.keys(files));
    const page = readFileSync(join(root, 'examples/README.md'), 'utf8');
    for (const name of Object.keys(files)) expect(page).toContain(name);
  });

  it.each(Object.entries(files))('%s', async (name, { words, prints }) => {
    expect(await node(join('examples/library', name), ...((await words?.()) ?? []))).toMatch(prints);
  });

  it('has the eight lines of the README', () => {
    const inReadme = /## Eight lines\n\n```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))![1]!;
    const own = readFileSync(join(root, 'examples/library/eight-lines.mjs'), 'utf8');
    const calls = (code: string) =>
      [...code.matchAll(/\b(loadModel|convert|generatePrivately|console\.log)\(/g)].map(([, name]) => name);
    expect(calls(inReadme)).toEqual(calls(own));
  });
});

/** The examples of docstrings, by file and place in it. */
function docstringExamples(): [place: string, code: string][] {
  const found: [string, string][] = [];
  for (const entry of readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (!entry.endsWith('.ts')) continue;
    const text = readFileSync(join(root, 'src', entry), 'utf8');
    for (const [at, [, block]] of [...text.matchAll(/ \* @example\n \* ```js\n((?: \*.*\n)*?) \* ```\n/g)].entries())
      found.push([`${entry} ${at + 1}`, block!.replace(/^ \* ?/gm, '')]);
  }
  return found.sort(([a], [b]) => (a < b ? -1 : 1));
}

describe('examples of docstrings', { timeout: 60_000 }, () => {
  const examples = docstringExamples();

  it('are found', () => {
    expect(examples.length).toBeGreaterThanOrEqual(8);
  });

  it.each(examples)('%s prints what its comments say', async (_, code) => {
    const said = [...code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(([, value]) => value);
    expect(said.length).toBeGreaterThan(0);
    expect((await node('--input-type=module', '--eval', code)).trimEnd().split('\n')).toEqual(said);
  });
});
