import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { plainBeyondThisMachine } from '../../src/node/sockets.ts';
import { temporary, writeLlama } from '../party/models.ts';
import { root as project, sotto, sottoHere } from './command.ts';

vi.setConfig({ testTimeout: 90_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const file = join(root, 'prompt.txt');
const secret = 'the bird sang in the tree';
const generate = ['generate', '--model', model, '--max-new-tokens', '3', '--json'];
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
  writeFileSync(file, `${secret}\n`);
});
afterAll(remove);

it('a prompt from a file or from standard input is the one of the command line, less its line break', async () => {
  const given = JSON.parse((await sotto([...generate, '--prompt', secret])).stdout) as { ids: number[] };
  const fromFile = JSON.parse((await sotto([...generate, '--prompt-file', file])).stdout) as { ids: number[] };
  expect(fromFile.ids).toEqual(given.ids);
  const child = spawn(process.execPath, [join(project, 'bin/sotto.js'), ...generate, '--prompt-file', '-']);
  let out = '';
  child.stdout.on('data', (part) => void (out += String(part)));
  child.stdin.end(secret);
  await once(child, 'close');
  expect((JSON.parse(out) as { ids: number[] }).ids).toEqual(given.ids);
});

it('a prompt from a file stands in no list of processes, whatever processes a private run starts', async () => {
  const words = [join(project, 'bin/sotto.js'), ...generate, '--backend', 'mpc', '--prompt-file', file];
  const child = spawn(process.execPath, words, { stdio: 'ignore' });
  let seen = '';
  while (child.exitCode === null && child.signalCode === null) {
    for (const id of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
      for (const name of ['cmdline', 'environ']) {
        try {
          seen += readFileSync(`/proc/${id}/${name}`, 'latin1').includes(secret) ? `${id} ${name} ` : '';
        } catch {
          // Of somebody else, or gone.
        }
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(child.exitCode).toBe(0);
  expect(seen).toBe('');
});

it('a prompt that cannot be read, is no text or is given twice is refused', async () => {
  writeFileSync(join(root, 'bytes'), new Uint8Array([0xff, 0xfe]));
  for (const [words, code] of [
    [['--prompt-file', join(root, 'nowhere')], 3],
    [['--prompt-file', join(root, 'bytes')], 3],
    [['--prompt-file', file, '--prompt', 'x'], 2],
    [['--prompt-file', file, '--prompt-ids', '1'], 2],
    [[], 2],
  ] as const)
    expect((await sottoHere([...generate, ...words])).code, words.join(' ')).toBe(code);
});

it('a text that the context cuts is said to be cut', async () => {
  const words = generate.with(generate.indexOf('3'), '500');
  const { code, stderr } = await sotto([...words, '--prompt-ids', '5,9']);
  expect(code).toBe(0);
  expect(stderr).toContain('500 new tokens were asked for');
});

it.each([
  ['tcp:0.0.0.0:1', true],
  ['ws:example.org:1/a', true],
  ['tcp:[2001:db8::1]:1', true],
  ['tcp:127.0.0.1:1', false],
  ['ws:localhost:1', false],
  ['tcp:[::1]:1', false],
  ['tls:0.0.0.0:1', false],
  ['wss:example.org:1', false],
  ['unix:/a', false],
])('%s is plain and goes beyond this machine: %s', (address, beyond) => expect(plainBeyondThisMachine(address)).toBe(beyond));
