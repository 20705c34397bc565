import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sharedModels } from '../models/tiny.ts';
import { temporaryFolder, writeTiny } from './checkpoints.ts';
import { root, sotto, sottoHere, sottoJson } from './command.ts';

interface Generated {
  ids: number[];
  text: string;
  seconds: number;
  stopped: string;
  setup: Record<string, number>;
  offline: Record<string, number>;
  online: { clientToServerBytes: number; serverToClientBytes: number; hops: number };
  forecast: unknown;
  parties: Record<string, { processId: number; saw: string }>;
  agreement: Record<'fixed' | 'onnx', { sameIds: boolean; maxAbsLogitError: number }>;
  harness: string;
}

const folder = await temporaryFolder();
const polynomial = await writeTiny(join(folder, 'polynomial'));
const exact = await writeTiny(join(folder, 'exact'), { plan: 'exact' });
const asked = ['generate', '--model', polynomial, '--prompt', 'Once upon', '--max-new-tokens', '5'];

describe('sotto generate', () => {
  it('writes the same tokens on every backend in the clear', async () => {
    const runs = await Promise.all(
      ['onnx', 'reference', 'fixed'].map((backend) => sottoJson<Generated>([...asked, '--backend', backend])),
    );
    expect(runs[0]!.text).toMatch(/^Once upon/);
    expect(runs[0]!.seconds).toBeGreaterThan(0);
    for (const { ids, text } of runs.slice(1)) expect({ ids, text }).toEqual({ ids: runs[0]!.ids, text: runs[0]!.text });
  });

  it('prints the text alone on stdout without --json', async () => {
    const { ids, text } = await sottoJson<Generated>(asked);
    expect(ids.length).toBeGreaterThan(5);
    expect((await sotto(asked)).stdout).toBe(`${text}\n`);
  });

  it('takes token numbers as they are, and gives the same text for the same seed', async () => {
    const sampled = [
      'generate',
      '--model',
      polynomial,
      '--prompt-ids',
      '1,270',
      '--temperature',
      '1',
      '--top-p',
      '0.9',
      '--seed',
      '4',
    ];
    const [first, again] = await Promise.all([sottoJson<Generated>(sampled), sottoJson<Generated>(sampled)]);
    expect(first.ids.slice(0, 2)).toEqual([1, 270]);
    expect(again.ids).toEqual(first.ids);
  });

  it('runs privately between three processes, sends what was forecast, and agrees with fixed and onnx', async () => {
    const shipped = join(root, 'artefacts/stories-polynomial');
    const words = ['generate', '--model', shipped, '--prompt', 'Once upon', '--max-new-tokens', '3'];
    const run = await sottoJson<Generated>([...words, '--backend', 'mpc', '--check']);
    const { setup, offline, online, forecast, parties, agreement } = run;
    expect({ setup, offline, online }).toEqual(forecast);
    expect(Object.keys(setup)).toEqual(['clientSentBytes', 'serverSentBytes', 'dealerSentBytes']);
    expect(online.hops).toBeGreaterThan(10);
    expect(new Set(Object.values(parties).map(({ processId }) => processId)).size).toBe(3);
    expect(agreement.fixed.sameIds && agreement.onnx.sameIds).toBe(true);
    expect(agreement.fixed.maxAbsLogitError).toBeLessThan(0.01);
    expect(agreement.onnx.maxAbsLogitError).toBeLessThan(0.05);
    expect(run.harness).toContain('trusted');
  });

  it('ends at the end of the context with every backend', async () => {
    const ids = Array.from({ length: 30 }, () => 262).join(',');
    const long = ['generate', '--model', polynomial, '--prompt-ids', ids, '--max-new-tokens', '20', '--seed', '9'];
    const [clear, fixed] = await Promise.all([sottoJson<Generated>(long), sottoJson<Generated>([...long, '--backend', 'fixed'])]);
    expect(clear.stopped).toBe('context');
    expect(fixed.stopped).toBe('context');
    expect(fixed.ids).toEqual(clear.ids);
  });

  it.each([
    {
      why: 'a prompt longer than the context',
      words: ['--prompt-ids', Array(40).fill(7).join(',')],
      code: 3,
      says: /40 tokens, the context 32/,
    },
    {
      why: 'a token outside the vocabulary',
      words: ['--prompt-ids', '1,300', '--backend', 'fixed'],
      code: 3,
      says: /vocabulary of 300/,
    },
    { why: 'no prompt', words: [], code: 2, says: /--prompt/ },
    { why: 'two prompts', words: ['--prompt', 'a', '--prompt-ids', '1'], code: 2, says: /cannot be used with/ },
    { why: 'an unknown setting', words: ['--prompt', 'a', '--setting', 'moon'], code: 2, says: /Allowed choices are dealer/ },
    {
      why: 'a draw without logits',
      words: ['--prompt', 'a', '--reveal', 'token', '--temperature', '1'],
      code: 2,
      says: /--reveal/,
    },
    { why: 'an unknown backend', words: ['--prompt', 'a', '--backend', 'moon'], code: 2, says: /onnx, reference, fixed, mpc/ },
    { why: 'an unknown option', words: ['--promt', 'a'], code: 2, says: /unknown option '--promt'/ },
    {
      why: 'a ring without room for products',
      words: ['--prompt', 'a', '--ring', '24', '--fraction', '16', '--backend', 'fixed'],
      code: 2,
      says: /at most 11 fraction bits/,
    },
    { why: 'a ring that is too wide', words: ['--prompt', 'a', '--ring', '65'], code: 2, says: /from 4 to 64/ },
    { why: 'words for numbers', words: ['--prompt', 'a', '--temperature', 'hot'], code: 2, says: /Expected a number/ },
  ])('refuses $why with exit code $code, one line and no text', async ({ words, code, says }) => {
    const ended = await sottoHere(['generate', '--model', polynomial, ...words]);
    expect(ended.code).toBe(code);
    expect(ended.stdout).toBe('');
    expect(ended.stderr).toMatch(says);
    expect(ended.stderr).toMatch(/^sotto: [^\n]*\n$/);
  });

  it('runs an exact model in the ring as it is', async () => {
    const words = ['generate', '--model', exact, '--prompt', 'Once', '--max-new-tokens', '4', '--json', '--backend'];
    const [ring, float] = await Promise.all(['fixed', 'reference'].map((backend) => sottoHere([...words, backend])));
    expect([ring!.code, float!.code]).toEqual([0, 0]);
    expect(JSON.parse(ring!.stdout).ids).toEqual(JSON.parse(float!.stdout).ids);
  });

  it('refuses a ring that is too narrow for what calibration met, naming the scope', async () => {
    const ranges = { 'layers.1.mlp.norm': { maxAbs: 40, maxSquares: 70_000 } };
    const calibrated = await writeTiny(join(folder, 'calibrated'), { planFields: { ranges } });
    const ended = await sottoHere([
      'generate',
      '--model',
      calibrated,
      '--prompt',
      'a',
      '--backend',
      'fixed',
      '--ring',
      '40',
      '--fraction',
      '14',
    ]);
    expect(ended.code).toBe(5);
    expect(ended.stderr).toContain('layers.1.mlp.norm');
  });

  it('gives no text where a value left the ring that nobody measured, privately as in fixed, unless told not to look', async () => {
    const wild = await writeTiny(join(folder, 'wild'), { factors: { 'model.layers.0.mlp.down_proj.weight': 2 ** 30 } });
    const words = ['generate', '--model', wild, '--prompt-ids', '1,270', '--max-new-tokens', '2', '--json', '--backend'];
    const ended = await Promise.all(
      [
        [...words, 'fixed'],
        [...words, 'mpc'],
        [...words, 'mpc', '--no-range-flags'],
      ].map(sottoHere),
    );
    expect(ended.map(({ code }) => code)).toEqual([5, 5, 0]);
    expect(JSON.parse(ended[1]!.stdout)).toMatchObject({ error: { kind: 'range' } });
  });

  it('names the file of a damaged checkpoint', async () => {
    const damaged = await writeTiny(join(folder, 'damaged'));
    await writeFile(join(damaged, 'model.safetensors'), new Uint8Array(20));
    const ended = await sotto(['generate', '--model', damaged, '--prompt', 'a']);
    expect(ended.code).toBe(3);
    expect(ended.stderr).toContain('damaged/model.safetensors');
  });

  const golden = join(sharedModels, 'stories260K/golden.json');
  describe.skipIf(!existsSync(golden))('on published models', () => {
    it.each([
      ['stories260K', 'onnx'],
      ['stories260K', 'reference'],
      ['babyllama-105', 'onnx'],
      ['babyllama-105', 'reference'],
    ])('%s writes its golden text on %s', async (name, backend) => {
      const model = join(sharedModels, name);
      const expected = JSON.parse(readFileSync(join(model, 'golden.json'), 'utf8')) as Record<string, number[]> & {
        text: string;
      };
      const [prompt, ids] = [expected.prompt_ids!, expected.greedy_ids!];
      const words = [
        'generate',
        '--model',
        model,
        '--prompt-ids',
        prompt.join(','),
        '--max-new-tokens',
        `${ids.length - prompt.length}`,
      ];
      const made = await sottoJson<Generated>([...words, '--backend', backend]);
      expect(made.ids).toEqual(ids);
      expect(made.text).toBe(expected.text);
    });
  });
});
