import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { PythonSandbox } from '../../src/lab/tasks/sandbox.ts';
import { taskNamed } from '../../src/lab/tasks/tasks.ts';
import { boundWeights, type LlamaConfig, traceLlama } from '../../src/models/index.ts';
import { openModel } from '../../src/package/model.ts';
import { encodePng } from '../../src/pictures/index.ts';
import { stories, temporaryFolder, writeTiny } from '../cli/checkpoints.ts';
import { evaluate } from './command.ts';

const shared = process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared');
const folder = await temporaryFolder();
const sandbox = await PythonSandbox.open().catch(() => undefined);
const file = (name: string, content: string | Uint8Array | readonly unknown[]): string => {
  const path = join(folder, name);
  writeFileSync(
    path,
    typeof content === 'string' || content instanceof Uint8Array ? content : content.map((row) => JSON.stringify(row)).join('\n'),
  );
  return path;
};

const arc = file('arc.jsonl', [
  { question: 'What did the fox see?', choices: ['a red ball', 'a dog', 'the park'], label: 0 },
  { question: 'Who went to the park?', choices: ['the fox', 'the little girl'], label: 1 },
]);
const text = file(
  'text.jsonl',
  stories.map((story) => ({ text: story })),
);

let student: string;
let teacher: string;
beforeAll(async () => {
  // Weights of one seed: the two differ in their plan alone.
  student = await writeTiny(join(folder, 'student'), { plan: 'full-p2' });
  teacher = await writeTiny(join(folder, 'teacher'), { plan: 'exact' });
});

describe('sotto eval', () => {
  it('prints task, model, backend, and every metric with count and interval', async () => {
    const { code, result } = await evaluate(['--task', 'arc-easy', '--model', student, '--data', arc]);
    expect(code).toBe(0);
    expect(result).toMatchObject({ task: 'arc_easy', model: student, backend: 'onnx' });
    expect(Object.keys(result.metrics)).toEqual(['acc', 'acc_norm']);
    for (const metric of Object.values(result.metrics)) {
      expect(Object.keys(metric).sort()).toEqual(['count', 'high', 'low', 'value']);
      expect(metric.count).toBe(2);
      expect(metric.low! <= metric.value && metric.value <= metric.high!).toBe(true);
    }
  });

  it('computes the same perplexity on onnx, on reference and in the ring', async () => {
    const value = async (...words: string[]) => {
      const { result, error } = await evaluate([
        '--task',
        'perplexity',
        '--model',
        student,
        '--data',
        text,
        '--window',
        '12',
        ...words,
      ]);
      expect(error).toBe('');
      return result.metrics.perplexity!.value;
    };
    const [onnx, reference] = [await value(), await value('--backend', 'reference')];
    expect(reference).toBeCloseTo(onnx, 3);
    const short = ['--limit', '1', '--stride', '12'];
    expect(
      Math.abs((await value('--backend', 'fixed', '--fraction', '20', ...short)) / (await value(...short)) - 1),
    ).toBeLessThan(0.01);
  });

  it('gives a model as its own teacher full fidelity, and its layers no error', async () => {
    const own = ['--model', student, '--teacher', student, '--data', text];
    const { metrics } = (await evaluate(['--task', 'fidelity', ...own])).result;
    expect(metrics.fidelity!.value).toBe(1);
    expect(metrics.cosine!.value).toBeCloseTo(1, 9);
    expect(metrics.kl!.value).toBeCloseTo(0, 9);
    expect((await evaluate(['--task', 'layer_mse', ...own])).result.metrics.layer_mse!.value).toBe(0);
  });

  it('sees the difference between a model and its teacher', async () => {
    const pair = ['--model', student, '--teacher', teacher, '--data', text];
    const { metrics } = (await evaluate(['--task', 'kl', ...pair])).result;
    expect(metrics.kl!.value).toBeGreaterThan(0);
    expect(metrics.cosine!.value).toBeLessThan(1);
    const layers = (await evaluate(['--task', 'layer_mse', ...pair])).result.metrics;
    expect(Object.keys(layers)).toEqual([
      'layer_mse',
      'layer_mse.0',
      'layer_relative_mse.0',
      'layer_mse.1',
      'layer_relative_mse.1',
    ]);
    expect(layers['layer_mse.1']!.value).toBeGreaterThan(0);
  });

  it('runs privately, and says what a sample cost', { timeout: 60_000 }, async () => {
    const row = file('one.jsonl', [{ text: 'a' }]);
    const words = ['--task', 'perplexity', '--model', student, '--data', row, '--limit', '1'];
    const [open, secret] = [
      await evaluate(words),
      await evaluate([...words, '--backend', 'mpc', '--no-range-flags', '--fraction', '20']),
    ];
    expect(secret.error).toBe('');
    const { perplexity, bytes_per_sample: bytes, seconds_per_sample: seconds } = secret.result.metrics;
    expect(Math.abs(perplexity!.value / open.result.metrics.perplexity!.value - 1)).toBeLessThan(0.01);
    expect(bytes).toMatchObject({ count: 1 });
    expect(bytes!.value).toBeGreaterThan(1000);
    expect(seconds!.value).toBeGreaterThan(0);
  });

  it('knows tasks by other spellings, and lists them where there is none', () => {
    expect(taskNamed('ARC-Easy')).toBe('arc_easy');
    expect(taskNamed('wmt22')).toBe('wmt22_de_en');
    expect(() => taskNamed('constructor')).toThrow(/there is no task "constructor".*arc_easy.*humaneval/);
  });
});

describe('given outputs', () => {
  const score = (task: string, data: string, completions: string, ...words: string[]) =>
    evaluate(['--task', task, '--data', data, '--completions', completions, ...words]);

  it('are scored for choices, by identifier or by line, without a model', async () => {
    const rows = [
      [-1, -2, -3],
      [-4, -2],
    ];
    const plain = file(
      'll.jsonl',
      rows.map((loglikelihoods) => ({ loglikelihoods })),
    );
    const harness = file(
      'samples.jsonl',
      rows.map((row) => ({ filtered_resps: row.map((value) => [String(value), 'False']) })),
    );
    for (const completions of [plain, harness]) {
      const { result } = await score('arc_easy', arc, completions);
      expect(result).toMatchObject({ model: null, backend: null, metrics: { acc: { value: 1, count: 2 } } });
    }
    const numbered = file('arc-ids.jsonl', [
      { idx: 7, question: 'a', choices: ['x', 'y'], label: 0 },
      { idx: 9, question: 'b', choices: ['x', 'y'], label: 1 },
    ]);
    const turned = file('turned.jsonl', [
      { idx: 9, completion: 'y' },
      { idx: 7, completion: 'A' },
    ]);
    expect((await score('arc_easy_generative', numbered, turned)).result.metrics.acc!.value).toBe(1);
  });

  it('are scored for the last word, perplexity and translations', async () => {
    const lambada = file('lambada.jsonl', [{ text: 'one two' }, { text: 'three four' }]);
    const said = file('said.jsonl', [
      { loglikelihood: -1, greedy: true },
      { loglikelihood: -1, greedy: false },
    ]);
    expect((await score('lambada', lambada, said)).result.metrics).toMatchObject({
      acc: { value: 0.5 },
      perplexity: { value: Math.E },
    });
    const losses = file('losses.jsonl', [{ logprobs: [-1, -1] }, { logprobs: [-1] }]);
    expect((await score('perplexity', text, losses)).result.metrics.perplexity).toMatchObject({ value: Math.E, count: 3 });
    const [source, reference] = [
      file('src.de', 'Hallo Welt\nGuten Tag\n'),
      file('ref.en', 'hello big wide world\ngood day to you\n'),
    ];
    const translated = file('hyp.jsonl', [{ completion: 'hello big wide world' }, { completion: 'good day to you' }]);
    const { metrics } = (await score('wmt22-de-en', source, translated, '--references', reference)).result;
    expect(metrics.bleu!.value).toBeCloseTo(100, 9);
    expect(metrics.chrf!.value).toBeCloseTo(100, 9);
  });

  it('to two turns are rated by a judge that gets the key', async () => {
    const keys: (string | undefined)[] = [];
    const judge = createServer((request, response) => {
      keys.push(request.headers.authorization);
      request
        .resume()
        .on('end', () => response.end(JSON.stringify({ choices: [{ message: { content: 'Good. Rating: [[7]]' } }] })));
    });
    await new Promise<void>((resolve) => judge.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = judge.address() as { port: number };
      const data = file('mt.jsonl', [{ question_id: 81, category: 'writing', turns: ['one', 'two'] }]);
      const answers = file('mt-answers.jsonl', [{ question_id: 81, choices: [{ index: 0, turns: ['a', 'b'] }] }]);
      const names = ['single-v1', 'single-math-v1', 'single-v1-multi-turn', 'single-math-v1-multi-turn'];
      const prompts = file(
        'mt-prompts.jsonl',
        names.map((name) => ({ name, system_prompt: '', prompt_template: '{answer}' })),
      );
      const words = ['--task', 'mt-bench', '--data', data, '--completions', answers];
      const rated = await evaluate([...words, '--judge', `http://127.0.0.1:${port}/v1`, '--judge-prompts', prompts], {
        SOTTO_JUDGE_KEY: 'k',
      });
      expect(rated.result.metrics).toMatchObject({
        score: { value: 7, count: 2 },
        score_writing: { value: 7 },
        rated: { value: 1 },
      });
      expect(keys).toEqual(['Bearer k', 'Bearer k']);
      expect((await evaluate(words)).error).toMatch(/--judge: MT-Bench needs a judge/);
    } finally {
      judge.close();
    }
  });

  it.skipIf(sandbox === undefined)('that are programs are run, several a task', async () => {
    const data = file('code.jsonl', [
      { task_id: 'T/0', prompt: 'def f(x):\n', entry_point: 'f', test: 'def check(c):\n    assert c(2) == 4\n' },
    ]);
    const bodies = ['    return 2 * x', '    return x', '    while True: pass'];
    const samples = file(
      'code-samples.jsonl',
      bodies.map((completion) => ({ task_id: 'T/0', completion })),
    );
    const { result } = await score('humaneval', data, samples);
    expect(result.metrics['pass@1']!.value).toBeCloseTo(1 / 3, 12);
  });

  it('that are broken or missing are typed errors naming the place', async () => {
    const cases: [string, string, string, RegExp][] = [
      ['arc_easy', arc, file('few.jsonl', [{ loglikelihoods: [-1, -2, -3] }]), /1 completions for 2 rows/],
      [
        'arc_easy',
        arc,
        file('wrong.jsonl', [{ loglikelihoods: [-1, -2] }, {}]),
        /wrong\.jsonl:1, field loglikelihoods.*2 values for 3 choices/,
      ],
      ['arc_easy', arc, file('none.jsonl', [{ loglikelihoods: [1, 2, 3] }, {}]), /none\.jsonl:2, field loglikelihoods.*missing/],
      ['arc_easy', arc, file('torn.jsonl', '{"loglikelihoods": [1, 2, 3]}\n{"log'), /torn\.jsonl:2.*not valid JSON/],
      ['arc_easy', arc, join(folder, 'absent.jsonl'), /absent\.jsonl/],
      ['arc_easy', file('list.jsonl', '[1]'), arc, /list\.jsonl:1.*not a JSON object/],
      ['arc_easy', file('empty.jsonl', '\n\n'), arc, /empty\.jsonl.*no rows/],
      ['perplexity', text, file('positive.jsonl', [{ logprobs: [1] }, { logprobs: [1] }]), /positive\.jsonl:1, field logprobs/],
      ['wmt22', file('a.de', 'eins\nzwei'), arc, /no reference translation/],
    ];
    for (const [task, data, completions, message] of cases) {
      const { code, error, result } = await score(task, data, completions);
      expect(error).toMatch(message);
      expect([2, 3]).toContain(code);
      expect(result.error!.kind).toMatch(/usage|input/);
    }
  });
});

describe('pictures', () => {
  const labels = ['fox', 'ball', 'park'];
  let vit: string;
  beforeAll(async () => {
    vit = await writeTiny(join(folder, 'vit'), { family: 'vit', plan: 'full-p2' });
    for (const [index, label] of labels.entries()) {
      mkdirSync(join(folder, 'pictures', label), { recursive: true });
      const background = [90 * index, 120, 255 - 90 * index];
      const bytes = await encodePng({
        width: 9,
        height: 7,
        data: Uint8Array.from({ length: 9 * 7 * 3 }, (_, at) => background[at % 3]!),
      });
      writeFileSync(join(folder, 'pictures', label, '0.png'), bytes);
    }
  });
  const idx = (name: string, shape: readonly number[], values: readonly number[]): string => {
    const head = Buffer.alloc(4 + 4 * shape.length);
    head.set([0, 0, 8, shape.length]);
    for (const [i, extent] of shape.entries()) head.writeUInt32BE(extent, 4 + 4 * i);
    return file(name, Buffer.concat([head, Buffer.from(values)]));
  };

  it('are scored from folders and IDX files, with fidelity to a teacher', async () => {
    const words = ['--task', 'image_accuracy', '--model', vit, '--data'];
    const { metrics } = (await evaluate([...words, join(folder, 'pictures'), '--teacher', vit])).result;
    expect(metrics).toMatchObject({
      acc: { count: 3 },
      fidelity: { value: 1, count: 3 },
      cosine: { value: expect.closeTo(1, 9) },
    });
    const images = idx(
      'three-images-idx3-ubyte',
      [3, 8, 8],
      Array.from({ length: 192 }, (_, i) => i),
    );
    idx('three-labels-idx1-ubyte', [3], [0, 1, 2]);
    expect((await evaluate([...words, images])).result.metrics.acc!.count).toBe(3);
  });

  it('are the same in the ring', async () => {
    const words = [
      '--task',
      'fidelity',
      '--model',
      vit,
      '--teacher',
      vit,
      '--data',
      join(folder, 'pictures'),
      '--backend',
      'fixed',
      '--fraction',
      '20',
    ];
    const { metrics } = (await evaluate(words)).result;
    expect(metrics.fidelity!.value).toBe(1);
    expect(metrics.cosine!.value).toBeGreaterThan(0.9999);
  });

  it('with a label out of range, a strange class or torn files are typed errors naming the place', async () => {
    const torn = idx('torn-images-idx3-ubyte', [3, 8, 8], [1, 2, 3]);
    idx('torn-labels-idx1-ubyte', [3], [0, 1, 2]);
    const far = idx('far-images-idx3-ubyte', [1, 2, 2], [1, 2, 3, 4]);
    idx('far-labels-idx1-ubyte', [1], [3]);
    mkdirSync(join(folder, 'strange', 'dragon'), { recursive: true });
    writeFileSync(join(folder, 'strange', 'dragon', '0.png'), 'no picture');
    const cases: [string, RegExp][] = [
      [far, /far-labels.*label 3 is not one of the classes 0 to 2/],
      [torn, /torn-images/],
      [join(folder, 'strange'), /"dragon" is none of the model's 3 classes/],
      [join(folder, 'absent'), /does not exist/],
      [text, /neither a tar nor/],
    ];
    for (const [data, message] of cases) {
      const { code, error } = await evaluate(['--task', 'images', '--model', vit, '--data', data]);
      expect(error).toMatch(message);
      expect(code).toBe(3);
    }
    expect((await evaluate(['--task', 'fidelity', '--model', vit, '--data', join(folder, 'pictures')])).error).toMatch(
      /--teacher/,
    );
  });
});

describe.skipIf(!existsSync(join(shared, 'models/stories260K')))('a published model', () => {
  const model = join(shared, 'models/stories260K');

  it('scores choices of ARC as summing the reference backend over whole texts does', async () => {
    const loaded = await openModel(model);
    const [tokenizer, weights, config] = [await loaded.tokenizer(), await loaded.weights(), loaded.config as LlamaConfig];
    const rows = [
      { question: 'What did the fox see?', choices: ['a red ball', 'a dog', 'nothing'], label: 2 },
      { question: 'Who slept?', choices: ['Lily', 'a very big bear in the wood'], label: 0 },
    ];
    let right = 0;
    let rightByCharacters = 0;
    for (const { question, choices, label } of rows) {
      const sums: number[] = [];
      for (const choice of choices) {
        const before = tokenizer.encode(`Question: ${question}\nAnswer:`).length;
        const ids = tokenizer.encode(`Question: ${question}\nAnswer: ${choice}`);
        const program = traceLlama(config, loaded.plan, { batch: 1, tokens: ids.length });
        const executable = await referenceBackend().compile(program, boundWeights(program, weights));
        const { values } = (
          await executable.run(new Map([['ids', { shape: [1, ids.length], values: Int32Array.from(ids) }]]))
        ).get('logits')!;
        let sum = 0;
        for (let at = before; at < ids.length; at++) {
          const row = values.subarray((at - 1) * config.vocabSize, at * config.vocabSize) as Float64Array;
          sum += row[ids[at]!]! - Math.log(row.reduce((total, value) => total + Math.exp(value), 0));
        }
        sums.push(sum);
      }
      const best = (values: readonly number[]) => values.indexOf(Math.max(...values));
      right += Number(best(sums) === label);
      rightByCharacters += Number(best(sums.map((sum, i) => sum / choices[i]!.length)) === label);
    }
    const { metrics } = (await evaluate(['--task', 'arc_easy', '--model', model, '--data', file('q.jsonl', rows)])).result;
    expect([metrics.acc!.value, metrics.acc_norm!.value]).toEqual([right / 2, rightByCharacters / 2]);
  });

  it('has a perplexity near 3.5 on stories', async () => {
    const data = join(shared, 'data/text/tinystories_1800.txt');
    const { metrics } = (await evaluate(['--task', 'perplexity', '--model', model, '--data', data, '--limit', '10'])).result;
    expect(metrics.perplexity!.value).toBeGreaterThan(3);
    expect(metrics.perplexity!.value).toBeLessThan(4);
  });
});
