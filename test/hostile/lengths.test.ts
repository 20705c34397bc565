import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { positionsFor } from '../../src/jobs/lengths.ts';
import { temporary, vocabularySize } from '../party/models.ts';
import { type Json, type Outcome, run, writeHostile } from './parties.ts';

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
afterAll(remove);

/** Two prompts of as many bytes that a hostile tokenizer tells apart by the letter e. */
const prompts = ['the the', 'thi thi'] as const;
const newTokens = 2;

const replace = (tokenizer: Json, content: string): void => {
  const step = { type: 'Replace', pattern: { String: 'e' }, content };
  const { normalizer } = tokenizer as { normalizer: Json | null };
  tokenizer.normalizer = { type: 'Sequence', normalizers: [step, ...(normalizer === null ? [] : [normalizer])] };
};
const added = (tokenizer: Json, id: number): void => {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  (tokenizer.added_tokens as Json[]).push({ id, content: 'e', ...flags });
};

const tokenizers: Record<string, (tokenizer: Json) => void> = {
  'a letter becomes several tokens': (tokenizer) => replace(tokenizer, 'q z q'),
  'a letter becomes more tokens than there are positions': (tokenizer) => replace(tokenizer, 'q z '.repeat(20)),
  'a letter becomes a token that the model does not have': (tokenizer) => added(tokenizer, vocabularySize + 5),
  'a letter has no token': (tokenizer) => {
    (tokenizer.model as Json).byte_fallback = false;
    (tokenizer.model as Json).unk_token = null;
    replace(tokenizer, '\u{10ffff}');
  },
};

const folderOf = (name: string): string => join(root, name.replaceAll(' ', '-'));

describe.each(Object.entries(tokenizers))('a server in whose tokenizer %s', (name, tokenizer) => {
  beforeAll(() => writeHostile(folderOf(name), { tokenizer }));

  it('sees the same run of two texts of as many bytes', async () => {
    const outcomes: Outcome[] = [];
    for (const text of prompts) outcomes.push(await run(root, folderOf(name), { prompt: { text }, newTokens }));
    const [one, other] = outcomes;
    expect(one!.transcript).toEqual(other!.transcript);
    expect(Object.keys(one!.transcript)).toHaveLength(2);
    for (const { report } of outcomes)
      if (report instanceof Error) expect(report).toMatchObject({ name: 'SottoError', kind: 'input' });
    expect(other!.report).not.toBeInstanceOf(Error);
  });
});

it('a server whose end tokens are what one text begins with sees both texts run to the end', async () => {
  const honest = folderOf('plain');
  await writeHostile(honest, {});
  const first = async (text: string): Promise<number> => {
    const { report } = await run(root, honest, { prompt: { text }, newTokens: 1 });
    if (report instanceof Error) throw report;
    return report.newIds[0]!;
  };
  // Of texts of as many bytes, two that this model continues with different tokens.
  const begins = new Map<number, string>();
  for (const text of ['the the', 'a small', 'sang in', 'bird an', 'wind st', 'tree. A'])
    if (begins.size < 2) begins.set(await first(text), text);
  const [[end, one], [, two]] = [...begins] as [[number, string], [number, string]];
  const ending = folderOf('ending');
  await writeHostile(ending, { config: { eos_token_id: [end] } });
  const [ended, other] = [
    await run(root, ending, { prompt: { text: one }, newTokens: 3 }),
    await run(root, ending, { prompt: { text: two }, newTokens: 3 }),
  ];
  expect(ended.transcript).toEqual(other.transcript);
  expect(ended.report).toMatchObject({ newIds: [end], stopped: 'eos' });
  expect(other.report).not.toMatchObject({ newIds: [end] });
});

it('would have told the texts apart by their tokens', async () => {
  const name = 'a letter becomes several tokens';
  const [one, other] = [
    await run(root, folderOf(name), { prompt: { text: prompts[0] }, newTokens, padding: 'none' }),
    await run(root, folderOf(name), { prompt: { text: prompts[1] }, newTokens, padding: 'none' }),
  ];
  expect(one.transcript).not.toEqual(other.transcript);
});

describe('an honest server', () => {
  const folder = join(root, 'honest');
  beforeAll(() => writeHostile(folder, {}));

  it('gives a padded text the tokens that it gives a plain one', async () => {
    const text = 'the bird';
    const [padded, plain] = [
      await run(root, folder, { prompt: { text }, newTokens: 3 }),
      await run(root, folder, { prompt: { text }, newTokens: 3, padding: 'none' }),
    ];
    if (padded.report instanceof Error || plain.report instanceof Error) throw padded.report;
    expect(padded.report.newIds).toEqual(plain.report.newIds);
    expect(padded.report.promptIds).toEqual(plain.report.promptIds);
    expect(padded.report.hops).toBe(padded.report.forecast.online.hops);
  });

  it('has a callback fail before a padded run and sees it run', async () => {
    const onPrompt = (): void => {
      throw new SottoError('input', 'the screen is full', { remedy: 'clear it' });
    };
    const [failed, well] = [
      await run(root, folder, { prompt: { text: prompts[0] }, newTokens, onPrompt }),
      await run(root, folder, { prompt: { text: prompts[0] }, newTokens }),
    ];
    expect(failed.report).toMatchObject({ reason: 'the screen is full' });
    expect(failed.transcript).toEqual(well.transcript);
  });
});

it('makes steps of the bytes alone, and room for a token a byte and four more', () => {
  expect([1, 12, 13, 20, 21, 28, 29, 44, 45, 60, 400].map((bytes) => positionsFor(bytes))).toEqual([
    16, 16, 24, 24, 32, 32, 48, 48, 64, 64, 512,
  ]);
  for (let bytes = 0; bytes < 3000; bytes++) {
    expect(positionsFor(bytes)).toBeGreaterThanOrEqual(bytes + 4);
    expect(positionsFor(bytes + 1)).toBeGreaterThanOrEqual(positionsFor(bytes));
    expect(positionsFor(bytes)).toBeLessThanOrEqual(Math.max(16, 1.5 * (bytes + 4)));
  }
});
