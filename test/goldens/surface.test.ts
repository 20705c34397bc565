import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { report } from '../../src/cli/exit.ts';
import { type ErrorKind, errorKinds, SottoError } from '../../src/errors/index.ts';
import { encodePng } from '../../src/pictures/index.ts';
import { temporaryFolder, writeTiny } from '../cli/checkpoints.ts';
import { sottoHere } from '../cli/command.ts';
import { golden } from './golden.ts';

const folder = await temporaryFolder();

/** What an object is made of: fields and their types; of a list, its first element's. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])];
  if (value === null || typeof value !== 'object') return value === null ? 'null' : typeof value;
  return Object.fromEntries(Object.entries(value).map(([field, inner]) => [field, shapeOf(inner)]));
}

it('errors have the kinds and exit codes that they had', async () => {
  const quiet = { out: () => {}, error: () => {} } as unknown as Parameters<typeof report>[1];
  const codes = Object.keys(errorKinds).map((kind) => [
    kind,
    report(new SottoError(kind as ErrorKind, 'it failed', { remedy: 'none' }), quiet, false),
  ]);
  await golden('exit-codes', { ...Object.fromEntries(codes), unexpected: report(new Error('a defect'), quiet, false) });
});

it('--json prints the fields that it printed', { timeout: 240_000 }, async () => {
  const model = await writeTiny(join(folder, 'llama'));
  const vit = await writeTiny(join(folder, 'vit'), { family: 'vit' });
  const image = join(folder, 'picture.png');
  const noise = Uint8Array.from({ length: 3 * 20 * 16 }, (_, at) => (at * 7919) % 256);
  await writeFile(image, await encodePng({ width: 20, height: 16, data: noise }));
  const generate = ['generate', '--model', model, '--prompt', 'Once', '--max-new-tokens', '2', '--backend'];
  const classify = ['classify', '--model', vit, '--image', image, '--backend'];
  const commands: Record<string, string[]> = {
    inspect: ['inspect', model, '--tensors'],
    'cost of a shape': ['cost', '--shape', 'bert-base', '--prompt-tokens', '8'],
    'cost of a model': ['cost', '--model', model, '--prompt-tokens', '3', '--new-tokens', '2'],
    'generate, reference': [...generate, 'reference'],
    'generate, fixed': [...generate, 'fixed'],
    'generate, mpc': [...generate, 'mpc'],
    'classify, reference': [...classify, 'reference'],
    'classify, mpc': [...classify, 'mpc'],
    'an error': ['inspect', join(folder, 'nowhere')],
  };
  const entries: Record<string, unknown> = {};
  for (const [name, words] of Object.entries(commands)) {
    const { code, stdout, stderr } = await sottoHere([...words, '--json']);
    if (name !== 'an error') expect(`${code} ${stderr}`).toMatch(/^0 /);
    entries[name] = shapeOf(JSON.parse(stdout));
  }
  await golden('json', entries);
});
