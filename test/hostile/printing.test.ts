import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { painter, terminalOver } from '../../src/cli/terminal.ts';
import { printable, printableJson, SottoError } from '../../src/errors/index.ts';
import { logger } from '../../src/party/log.ts';
import { encodePng } from '../../src/pictures/index.ts';
import { temporaryFolder, writeTiny } from '../cli/checkpoints.ts';
import { sottoHere } from '../cli/command.ts';

/** Clears the screen, titles the window, reverses what follows, and moves to the line before. */
const escapes = '\u001b[2J\u001b]0;owned\u0007\u009b31m\u202e\r\u0008\u0000\u{e0041}';
const controls = /[\p{Cc}\u202a-\u202e\u2066-\u2069\u2028\u2029\ufdd0-\ufdef]|[\u{e0000}-\u{e0fff}]/u;
const raw = (text: string): string => text.replaceAll(/[\n\t]/g, '');

describe('text that somebody else wrote', () => {
  it('keeps its length, its lines and its scripts, and loses every control', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const shown = printable(text);
        expect(shown.length).toBe(text.length);
        expect(raw(shown)).not.toMatch(controls);
        expect(printable(shown)).toBe(shown);
        expect(JSON.parse(printableJson(text))).toBe(text);
        expect(printableJson({ [text]: text })).not.toMatch(controls);
      }),
    );
    const scripts = 'Zeile\n\tنیم‌فاصله 👩‍👩‍👧 e\u0301 日本語 \u00ad';
    expect(printable(scripts)).toBe(scripts);
  });

  it('is made printable in pieces as it is at once', () => {
    const text = `a${escapes}b\n`;
    expect([...text].map(printable).join('')).toBe(printable(text));
  });

  it('cannot dress as what sotto says itself', () => {
    const shown: string[] = [];
    const terminal = terminalOver({
      out: (text) => void shown.push(text),
      error: (text) => void shown.push(text),
      outIsTerminal: true,
      errorIsTerminal: true,
      columns: 80,
      now: () => 0,
      environment: {},
      onInterrupt: () => () => undefined,
      packageFolder: '',
      workingFolder: () => process.cwd(),
    });
    const paint = painter(terminal);
    terminal.styled(`${paint('bold', `x\ufdd0${escapes}`)}\n`);
    const [before, bold, end, more] = shown.pop()!.split('\u001b');
    expect([before, bold!.slice(0, 4), end, more]).toEqual(['', '[1mx', '[0m\n', undefined]);
    expect(bold).not.toMatch(controls);
    for (const write of [terminal.out, terminal.error]) {
      write(`\ufdd0\ufdd6${escapes}`);
      expect(shown.pop()).not.toMatch(controls);
    }
    terminal.redraw(escapes);
    expect(shown.pop()!.replace('\r\u001b[2K', '')).not.toMatch(controls);
  });

  it('is printable in errors and in logs of either form', () => {
    const place = { file: escapes, field: escapes, party: escapes };
    const error = new SottoError('peer', escapes, { place, remedy: escapes });
    for (const said of [error.message, error.reason, error.remedy, ...Object.values(error.place)])
      expect(said).not.toMatch(controls);
    for (const format of ['json', 'text'] as const) {
      const lines: string[] = [];
      logger(
        format,
        (line) => void lines.push(line),
        () => new Date(0),
      )('info', 'listening', { address: escapes, reason: escapes });
      expect(raw(lines.join(''))).not.toMatch(controls);
    }
  });
});

describe('a model folder with escape sequences', async () => {
  const folder = await temporaryFolder();
  const [vision, writer, picture] = ['vit', 'llama', 'picture.png'].map((name) => join(folder, name)) as [string, string, string];
  beforeAll(async () => {
    await writeTiny(vision, { family: 'vit', fields: { id2label: { 0: `fox${escapes}`, 1: escapes } } });
    await writeTiny(writer, { planFields: { name: `plan${escapes}` } });
    await writeFile(picture, await encodePng({ width: 8, height: 8, data: new Uint8Array(8 * 8 * 3).fill(0xa7) }));
  });

  it.each([
    ['labels', () => ['classify', '--model', vision, '--image', picture, '--backend', 'reference'], 0],
    ['labels in JSON', () => ['classify', '--model', vision, '--image', picture, '--backend', 'reference', '--json'], 0],
    ['a plan', () => ['inspect', writer], 0],
    ['a plan in JSON', () => ['inspect', writer, '--json'], 0],
    ['the name of a file', () => ['inspect', join(folder, escapes.replaceAll('\u0000', ''))], 3],
    ['a word of the command line', () => ['inspect', writer, `--${escapes}`], 2],
  ] as const)('shows %s as text', async (_, words, code) => {
    const ended = await sottoHere(words());
    expect(ended.code).toBe(code);
    expect(raw(ended.stdout)).not.toMatch(controls);
    expect(raw(ended.stderr)).not.toMatch(controls);
  });
});
