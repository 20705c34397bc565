import { describe, expect, it } from 'vitest';
import type { RingProgram } from '../../src/backends/ring/index.ts';
import { SottoError } from '../../src/errors/index.ts';
import { beginPicture, beginText, beginWrite, type Job, type Written } from '../../src/jobs/index.ts';
import { positionsFor } from '../../src/jobs/lengths.ts';
import { jobProgram } from '../../src/jobs/program.ts';
import { parseModelConfig } from '../../src/models/config.ts';
import { parsePlan } from '../../src/models/plan.ts';
import { encoderVocabulary, llamaFields } from '../party/models.ts';

const program = (operation: string): RingProgram => ({ ring: { bits: 64, fraction: 16 }, nodes: [{ operation }] }) as never;
const word = (value: number) => ({ shape: [1], values: Float64Array.of(value) });
const config = { vocabSize: 10, maxPositionEmbeddings: 16, eosTokenIds: [9] };

/** Tokens are the opened values, and 9 ends the text. */
function opening(operation: string): { job: Job<Written>; shown: number[] } {
  const shown: number[] = [];
  const ask = { prompt: { ids: [1] }, newTokens: 4, reveal: 'token' as const, onToken: (id: number) => void shown.push(id) };
  const job = beginWrite({ config }, ask);
  job.watch(program(operation));
  return { job, shown };
}
const next = (job: Job<unknown>): number => job.input('token.1').values[0]!;

describe('what a run opens', () => {
  it('is shown at once where no flag comes', () => {
    const { job, shown } = opening('reveal');
    expect(job.take('choice.0', word(4))).toBe('more');
    expect(shown).toEqual([4]);
  });

  it('waits for its flag, which may come after it or before, while the run reads it', () => {
    const { job, shown } = opening('flag');
    job.take('choice.0', word(4));
    expect([shown, next(job)]).toEqual([[], 4]);
    job.take('range.0', word(0));
    job.take('range.1', word(0));
    expect(shown).toEqual([4]);
    job.take('choice.1', word(5));
    expect(shown).toEqual([4, 5]);
  });

  it('is never shown once a value left the range, nor anything after it', () => {
    const { job, shown } = opening('flag');
    job.take('choice.0', word(4));
    job.take('range.0', word(0));
    job.take('choice.1', word(5));
    expect(job.take('range.1', word(1))).toBe('failed');
    for (const name of ['choice.2', 'range.2']) expect(job.take(name, word(0))).toBe('failed');
    expect([shown, next(job)]).toEqual([[4], 0]);
    expect(() => job.answer()).toThrow(expect.objectContaining({ kind: 'range' }));
  });

  it('is done once all of the text is known to be right', () => {
    const { job, shown } = opening('flag');
    expect(job.take('choice.0', word(9))).toBe('more');
    expect(job.take('choice.1', word(3))).toBe('more');
    expect(job.take('range.0', word(0))).toBe('more');
    expect(job.take('range.1', word(0))).toBe('done');
    expect([job.answer().newIds, job.answer().stopped, shown]).toEqual([[9], 'eos', [9]]);
  });

  it('fails by a value that is no token, or by a callback, and tells it at the end alone', () => {
    const { job, shown } = opening('reveal');
    expect(job.take('choice.0', word(10))).toBe('failed');
    expect(job.take('choice.1', word(4))).toBe('failed');
    expect(shown).toEqual([]);
    expect(() => job.answer()).toThrow(expect.objectContaining({ kind: 'peer' }));
    const full = new SottoError('input', 'the screen is full', { remedy: 'clear it' });
    const throwing = () => {
      throw full;
    };
    const thrown = beginWrite({ config }, { prompt: { ids: [1] }, newTokens: 2, reveal: 'token', onToken: throwing });
    expect([thrown.take('choice.0', word(3)), next(thrown)]).toEqual(['failed', 0]);
    expect(() => thrown.answer()).toThrow(full);
  });
});

const bert = parseModelConfig({
  ...{ model_type: 'bert', hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2 },
  ...{ vocab_size: encoderVocabulary.length, max_position_embeddings: 40 },
});
const vit = parseModelConfig({
  ...{ model_type: 'vit', hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2 },
  ...{ image_size: 8, patch_size: 4, num_labels: 3 },
});
const llama = parseModelConfig(llamaFields);
if (bert.family !== 'bert' || vit.family !== 'vit') throw new Error('other families');

describe('what is asked of a secret length', () => {
  const sizes = (job: Job<unknown>) => ['prompt', 'types', 'padding.mask'].map((name) => job.input(name).values.length);

  it.each([
    ['more tokens than bytes reach', () => ({ ids: Array<number>(30).fill(5), types: Array<number>(30).fill(0) })],
    ['a token that there is not', () => ({ ids: [999], types: [0] })],
    ['a type that there is not', () => ({ ids: [5], types: [7] })],
    [
      'a decoder that throws',
      () => {
        throw new SottoError('input', 'no token for this', { remedy: 'none' });
      },
    ],
  ])('is the same run of a text of which a tokenizer makes %s', (_, encodePair) => {
    const begin = (make: () => { ids: number[]; types: number[] }) =>
      beginText({ config: bert, tokenizer: { encodePair: make } }, { text: 'the film' }, { padding: 'steps' });
    const [well, badly] = [begin(() => ({ ids: [2, 5, 6, 3], types: [0, 0, 0, 0] })), begin(encodePair)];
    expect(badly.asked).toEqual(well.asked);
    expect(well.asked).toEqual({ task: 'classify', promptTokens: 16, padded: true, newTokens: 1 });
    expect([well.read(), badly.read()]).toEqual(['more', 'failed']);
    expect(sizes(badly)).toEqual(sizes(well));
    expect([...well.input('padding.mask').values]).toEqual([1, 1, 1, 1, ...Array<number>(12).fill(0)]);
    expect(() => badly.answer()).toThrow(expect.objectContaining({ kind: 'input' }));
  });

  it('counts the bytes of both texts of a pair, and room for the tokens around each', () => {
    const positions = (text: string, pair?: string): number =>
      beginText(
        { config: bert, tokenizer: { encodePair: () => ({ ids: [2], types: [0] }) } },
        { text, pair },
        { padding: 'steps' },
      ).asked.promptTokens;
    expect(positions('x'.repeat(12))).toBe(16);
    expect(positions('x'.repeat(6), 'x'.repeat(6))).toBe(positionsFor(12, 2));
    expect(positions('x'.repeat(12), '')).toBe(24);
    expect(positions('ü'.repeat(7))).toBe(24);
    expect(positions('x'.repeat(500))).toBe(40);
  });

  it('of a picture that cannot be preprocessed is a run of another picture, and an error at its end', () => {
    const preprocessor = { resize: null, scale: 1, mean: [0, 0, 0], deviation: [1, 1, 1] } as const;
    const image = { width: 5, height: 7, data: new Uint8Array(105) };
    const job = beginPicture({ config: vit, preprocessor }, { image }, { watched: true });
    expect(job.read()).toBe('failed');
    expect(job.input('pixels').shape).toEqual([3, 8, 8]);
    expect(() => job.answer()).toThrow(expect.objectContaining({ kind: 'input' }));
    expect(() => beginPicture({ config: vit, preprocessor }, { image })).toThrow(expect.objectContaining({ kind: 'input' }));
  });
});

describe('a program', () => {
  const planOf = (model: typeof bert | typeof llama) => parsePlan('full-p2', model);

  it('is made for the jobs of a model alone', () => {
    const asked = { task: 'classify', promptTokens: 16, newTokens: 1 } as const;
    const refused = (model: typeof bert | typeof llama, change: object) =>
      expect(() => jobProgram(model, planOf(model), { ...asked, ...change })).toThrow(expect.objectContaining({ kind: 'usage' }));
    refused(llama, {});
    for (const model of [bert, vit]) {
      refused(model, { task: 'generate' });
      // A policy that opens tokens alone must not be given as a way to logits.
      refused(model, { reveal: 'token' });
      refused(model, { newTokens: 2 });
    }
    refused(vit, { padded: true });
    for (const padded of [false, true]) jobProgram(bert, planOf(bert), { ...asked, padded });
  });
});
