import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { commandLine } from '../../src/cli/main.ts';
import { terminalOver } from '../../src/cli/terminal.ts';
import { writeCheckpoint } from '../../src/models/checkpoint.ts';
import { parseBertConfig } from '../../src/models/config.ts';
import { randomBertWeights } from '../../src/models/weights.ts';
import { folderFiles } from '../../src/node/files.ts';
import { encodePng } from '../../src/pictures/index.ts';
import { stories, temporaryFolder, writeTiny } from './checkpoints.ts';
import { root } from './command.ts';

/** Whoever pastes an example stands in this folder: beside the files that the examples name, and with no sotto at home. */
const folder = await temporaryFolder();

/** What a line gets beside its words, so that it takes a second: the same command, smaller. By what it begins with. */
const shortened: readonly (readonly [beginning: string, more: string])[] = [
  ['demo', '--max-new-tokens 1'],
  ['generate --model stories-teacher --prompt-ids', '--max-new-tokens 4'],
  ['generate --model stories-polynomial', '--max-new-tokens 1'],
  ['eval --model stories-polynomial', '--window 8 --limit 1'],
  ['convert --model stories-teacher', '--rows 2 --tokens 8'],
  ['party client', '--max-new-tokens 1'],
];
/** Lines that stand until they are ended, by what they say once they stand. */
const standing: readonly (readonly [beginning: string, says: RegExp])[] = [
  ['demo --browser', /open this in a browser/],
  ['dealer', /listening/],
  ['serve', /listening/],
  ['party dealer', /waiting on/],
  ['party server', /waiting on/],
];
/** Lines that end where what does not ship begins (data of days of training, a hub, half a minute of measuring): by what they then say. */
const ended: readonly (readonly [beginning: string, says: RegExp])[] = [
  ['train', /corpora|runs\/models/],
  ['pull', /mirror|hub|127\.0\.0\.1/],
];

interface Example {
  readonly command: string;
  /** As a shell reads it, without the prompt. */
  readonly line: string;
}

function examples(): Example[] {
  let shown = '';
  const terminal = terminalOver({
    out: (text) => {
      shown += text;
    },
    error: () => undefined,
    outIsTerminal: false,
    errorIsTerminal: false,
    columns: 100,
    now: () => 0,
    environment: {},
    onInterrupt: () => () => undefined,
    packageFolder: root,
    workingFolder: () => process.cwd(),
  });
  const all: Example[] = [];
  const visit = (command: Command, name: string): void => {
    shown = '';
    command.outputHelp();
    for (const [, line] of shown.matchAll(/^ {2}\$ ((?:.*\\\n)*.*)$/gm)) all.push({ command: name, line: line! });
    for (const inner of command.commands) visit(inner, `${name} ${inner.name()}`.trim());
  };
  visit(commandLine(terminal), '');
  return all;
}

const all = examples();
/** Without a comment. */
const bare = (line: string): string => line.replace(/\s+#.*$/, '');
const ports: number[] = [];
const running = new Set<ChildProcess>();

const matching = <T extends readonly [string, unknown]>(table: readonly T[], line: string): T | undefined =>
  table.find(([beginning]) => line.replace(/^(\w+=\S+ )?sotto /, '').startsWith(beginning));

/** A line in a shell, with free ports in place of those that it names. */
function paste(line: string, more = ''): { child: ChildProcess; said: () => string; end: Promise<number | null> } {
  const free = line.replace(/:(7001|7002|9100)\b/g, (_, port: string) => `:${ports[['7001', '7002', '9100'].indexOf(port)]}`);
  const script = `sotto() { exec "$NODE" "$SOTTO" "$@"; }\n${bare(free)} ${more}`;
  const { PATH } = process.env;
  const env = { PATH, HOME: join(folder, 'home'), NODE: process.execPath, SOTTO: join(root, 'bin/sotto.js') };
  const child = spawn('bash', ['-c', script], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  const end = new Promise<number | null>((resolve) => {
    child.on('close', (code) => {
      running.delete(child);
      resolve(code);
    });
  });
  return { child, said: () => said, end };
}

/** A line that stands, once it has said so. */
async function stand(line: string, says: RegExp) {
  const pasted = paste(line);
  await expect.poll(() => pasted.child.exitCode !== null || says.test(pasted.said()), { timeout: 25_000 }).toBe(true);
  expect(pasted.said()).toMatch(says);
  return pasted;
}

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

async function writeEncoder(): Promise<void> {
  const words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'film', 'is', 'great', 'bad'];
  const config = {
    ...{ model_type: 'bert', hidden_size: 12, intermediate_size: 18, num_hidden_layers: 2, num_attention_heads: 3 },
    ...{ vocab_size: words.length, max_position_embeddings: 16, id2label: { 0: 'negative', 1: 'positive' } },
  };
  const tensors = [...randomBertWeights(parseBertConfig(config), 9)].map(([name, { shape, values }]) => ({
    name,
    shape,
    values: values as Float32Array,
  }));
  await writeCheckpoint(folderFiles(join(folder, 'bert-sst2')), { config, tensors, extra: { 'vocab.txt': words.join('\n') } });
}

beforeAll(async () => {
  expect(inject('buildFailure')).toBe('');
  while (ports.length < 3) ports.push(await freePort());
  await writeTiny(join(folder, 'vit'), { family: 'vit', plan: 'exact' });
  await writeEncoder();
  const picture = await encodePng({ width: 8, height: 8, data: Uint8Array.from({ length: 192 }, (_, at) => (at * 37) % 256) });
  mkdirSync(join(folder, 'photos'));
  for (const name of ['cat.png', 'photos/1.png', 'photos/2.png']) writeFileSync(join(folder, name), picture);
  writeFileSync(join(folder, 'reviews.txt'), 'the film is great\nbad film\n');
  writeFileSync(join(folder, 'review.txt'), 'the film is great\n');
  for (const name of ['stories.txt', 'corpus.txt']) writeFileSync(join(folder, name), stories.join('<|endoftext|>'));
  writeFileSync(join(folder, 'lambada.jsonl'), '{"text":"Once upon a time"}\n');
  writeFileSync(join(folder, 'scores.jsonl'), '{"loglikelihood":-1,"greedy":true}\n');
  cpSync(join(root, 'shapes/gpt2.json'), join(folder, 'my-shape.json'));
  cpSync(join(root, 'artefacts/machine.json'), join(folder, 'mine.json'));
});
afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

/** Measured elsewhere, for half a minute. */
const measures = 'sotto cost --measure-machine mine.json';
const of = (command: string): string[] => all.filter((example) => example.command === command).map(({ line }) => line);
const once = (line: string): boolean => matching(standing, line) === undefined && line !== measures;
// What one example writes another one reads.
const order = ['certificates', 'convert', 'calibrate'];
const single = [...new Set(all.map(({ line }) => bare(line)))]
  .filter((line) => once(line) && !line.includes('party client'))
  .sort(
    (a, b) =>
      Number(order.some((name) => b.includes(`sotto ${name} `))) - Number(order.some((name) => a.includes(`sotto ${name} `))),
  );

describe('examples of the help, pasted', { timeout: 60_000 }, () => {
  it('are there for every command', () => {
    const commands = new Set(all.map(({ command }) => command.split(' ')[0]));
    for (const { name } of commandLine({ packageFolder: root } as never).commands.map((c) => ({ name: c.name() })))
      expect([name, commands.has(name) || of('serve').some((line) => line.startsWith(`sotto ${name} `))]).toEqual([name, true]);
  });

  it.each(single.map((line) => [line]))('%s', async (line) => {
    const early = matching(ended, line);
    const local = early?.[0] === 'pull' ? `HF_ENDPOINT=http://127.0.0.1:${ports[0]} ${line.replace(/^\w+=\S+ /, '')}` : line;
    const { end, said } = paste(local, matching(shortened, line)?.[1]);
    const code = await end;
    if (early === undefined) expect([code, said()]).toEqual([0, expect.any(String)]);
    else {
      expect(said()).toMatch(early[1]);
      expect([2, 3, 6]).toContain(code);
    }
  });

  it('stand for one run, three parties beside each other', async () => {
    const [dealer, server, client] = of('party') as [string, string, string];
    const parties = [await stand(dealer, standing[3]![1]), await stand(server, standing[4]![1])];
    const { end, said } = paste(client, matching(shortened, client)?.[1]);
    expect([await end, said()]).toEqual([0, expect.stringContaining('Once upon a time')]);
    expect(await Promise.all(parties.map((party) => party.end))).toEqual([0, 0]);
  });

  it('stand for many runs until they are told to end', async () => {
    const [dealer, server] = of('serve') as [string, string];
    const parties = [await stand(dealer, standing[1]![1]), await stand(server, standing[2]![1])];
    for (const { child } of parties.reverse()) child.kill('SIGTERM');
    expect(await Promise.all(parties.map((party) => party.end))).toEqual([0, 0]);
  });

  it('stand over TLS, and serve a page', async () => {
    const page = of('demo').find((line) => line.includes('--browser'))!;
    const own = [await stand(of('party')[3]!, standing[3]![1]), await stand(page, standing[0]![1])];
    for (const { child } of own) child.kill('SIGTERM');
    expect(await own[1]!.end).toBe(0);
    await own[0]!.end;
  });
});
