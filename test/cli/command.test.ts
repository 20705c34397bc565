import { describe, expect, it } from 'vitest';
import { errorKinds } from '../../src/errors/index.ts';
import { sotto, sottoHere } from './command.ts';

const commands = [
  'generate',
  'classify',
  'cost',
  'convert',
  'train',
  'pull',
  'inspect',
  'demo',
  'serve',
  'dealer',
  'helper',
  'party',
];

describe('the command line', () => {
  it('lists its commands and documents every exit code', async () => {
    const { code, stdout } = await sotto(['--help']);
    expect(code).toBe(0);
    for (const name of commands) expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
    for (const [kind, meaning] of Object.entries(errorKinds)) expect(stdout).toContain(`${kind}: ${meaning}`);
  });

  it.each([...commands, 'party client', 'party server', 'party dealer'])('%s explains itself', async (name) => {
    const { code, stdout } = await sottoHere([...name.split(' '), '--help']);
    expect(code).toBe(0);
    if (!name.includes(' ')) expect(stdout).toMatch(/Examples:\n {2}\$ (\w+=\S+ )?sotto /);
    // What stands prints no result: its logs may be JSON.
    const standing = ['serve', 'dealer', 'helper'].includes(name);
    if (name !== 'party') expect(stdout).toContain(standing ? '--log' : '--json');
  });

  it('prints its version', async () => {
    expect((await sotto(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each([[[]], [['fly']], [['generate', '--fly']], [['cost', '--prompt-tokens']]])(
    'refuses %j with exit code 2 and one line',
    async (words: string[]) => {
      const { code, stdout, stderr } = await sotto(words);
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toMatch(/^sotto: [^\n]+ — see `sotto --help`[^\n]*\n$/);
    },
  );

  it('gives errors as one JSON object where JSON was asked for', async () => {
    const { code, stdout } = await sotto(['inspect', 'no/such/folder', '--json']);
    expect(code).toBe(3);
    expect(JSON.parse(stdout)).toEqual({
      error: {
        kind: 'input',
        message: expect.any(String),
        place: { file: 'no/such/folder/config.json' },
        remedy: expect.any(String),
      },
    });
  });
});
