import { existsSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Row, readRows } from '../../src/evaluate/rows.ts';
import { askJudge, type JudgeOptions } from '../../src/lab/tasks/judge.ts';
import {
  answerTurns,
  judgeAll,
  judgeMessages,
  judgePrompts,
  ratingOf,
  scoreRatings,
  turnsOf,
  twoTurns,
} from '../../src/lab/tasks/mt-bench.ts';
import { letterModel } from './letters.ts';

interface Asked {
  readonly path: string;
  readonly key: string | undefined;
  readonly body: { model: string; temperature: number; messages: { role: string; content: string }[] };
}

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** A judge on this machine that answers as told and remembers what it was asked. */
async function judge(answer: (asked: Asked, response: ServerResponse, count: number) => void) {
  const asked: Asked[] = [];
  server = createServer(async (request: IncomingMessage, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = JSON.parse(Buffer.concat(chunks).toString()) as Asked['body'];
    asked.push({ path: request.url!, key: request.headers.authorization, body });
    answer(asked.at(-1)!, response, asked.length);
  });
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const options: JudgeOptions = {
    url: `http://127.0.0.1:${port}/v1/`,
    model: 'judge',
    key: 'k',
    pauseMilliseconds: 5,
    timeoutMilliseconds: 500,
  };
  return { options, asked };
}
const say = (response: ServerResponse, content: string): void =>
  void response.end(JSON.stringify({ choices: [{ message: { role: 'assistant', content } }] }));

const promptRows = ['single-v1', 'single-math-v1', 'single-v1-multi-turn', 'single-math-v1-multi-turn'].map(
  (name) =>
    new Row('prompts.jsonl', 1, {
      name,
      system_prompt: `system ${name}`,
      prompt_template: name.includes('multi')
        ? '{question_1}|{answer_1}|{question_2}|{answer_2}|{ref_answer_2}'
        : '{question}|{answer}|{ref_answer_1}|{other}',
    }),
);
const prompts = judgePrompts(promptRows, 'prompts.jsonl');
const question = (fields: Record<string, unknown>) =>
  new Row('q.jsonl', 1, { question_id: 1, category: 'writing', turns: ['q one', 'q two'], ...fields });

describe('a judge', () => {
  it('rates both turns of every answer through the chat protocol', async () => {
    const { options, asked } = await judge(({ body }, response) =>
      say(response, body.messages[0]!.content.includes('multi') ? 'Fine. [[8.5]]' : 'Rating: [[6]]'),
    );
    const questions = twoTurns(
      [question({}), question({ question_id: 2, category: 'math' })],
      [question({ question_id: 2, turns: ['ref one', 'ref two'] })],
    );
    const rated = await judgeAll(options, prompts, questions, [
      ['a one', '$& two'],
      ['b one', 'b two'],
    ]);
    expect(rated.map(({ ratings }) => ratings)).toEqual([
      [6, 8.5],
      [6, 8.5],
    ]);
    expect(asked.map(({ path, key, body }) => [path, key, body.model, body.temperature])).toEqual(
      Array(4).fill(['/v1/chat/completions', 'Bearer k', 'judge', 0]),
    );
    expect(asked.map(({ body }) => body.messages.map(({ role, content }) => `${role}: ${content}`))).toEqual([
      ['system: system single-v1', 'user: q one|a one|{ref_answer_1}|{other}'],
      ['system: system single-v1-multi-turn', 'user: q one|a one|q two|$& two|{ref_answer_2}'],
      ['system: system single-math-v1', 'user: q one|b one|ref one|{other}'],
      ['system: system single-math-v1-multi-turn', 'user: q one|b one|q two|b two|ref two'],
    ]);
    const metrics = scoreRatings(rated);
    expect(metrics.score).toMatchObject({ value: 7.25, count: 4 });
    expect([metrics.score_turn_1!.value, metrics.score_turn_2!.value, metrics.score_math!.value]).toEqual([6, 8.5, 7.25]);
    expect(metrics.rated!.value).toBe(1);
  });

  it('is asked again where it is busy, and given up on where it stays so', async () => {
    const { options, asked } = await judge((_, response, count) => {
      if (count < 3) response.writeHead(count === 1 ? 429 : 503).end();
      else say(response, 'yes');
    });
    expect(await askJudge(options, [])).toBe('yes');
    expect(asked).toHaveLength(3);
    await expect(
      askJudge({ ...(await judge((_, response) => response.writeHead(500).end())).options, attempts: 2 }, []),
    ).rejects.toMatchObject({
      kind: 'peer',
      reason: 'the judge answered with status 500',
    });
  });

  it.each([
    ['refuses', (response: ServerResponse) => response.writeHead(401).end(), /status 401/],
    ['says no JSON', (response: ServerResponse) => response.end('hello'), /not JSON/],
    ['says nothing of use', (response: ServerResponse) => response.end('{"choices":[]}'), /lacks choices/],
    ['never ends', (response: ServerResponse) => response.write('{'), /silent for 500 ms/],
    ['says too much', (response: ServerResponse) => response.end('x'.repeat(2 ** 20 + 1)), /more than 1048576 bytes/],
  ] as const)('that %s is a typed error', async (_, answer, message) => {
    const { options, asked } = await judge((_asked, response) => void answer(response));
    await expect(askJudge(options, [])).rejects.toThrow(message);
    expect(asked).toHaveLength(1);
  });

  it('that is not there, or no address, is a typed error', async () => {
    await expect(askJudge({ url: 'http://127.0.0.1:9', model: 'm', attempts: 1 }, [])).rejects.toMatchObject({ kind: 'peer' });
    await expect(askJudge({ url: 'file:///etc/passwd', model: 'm' }, [])).rejects.toMatchObject({ kind: 'usage' });
  });
});

describe('MT-Bench', () => {
  it('reads ratings from 1 to 10 and nothing else', () => {
    const cases: [string, number | undefined][] = [
      ['Rating: [[7]]', 7],
      ['[[3]] then [[9.5]]', 3],
      ['[[10]]', 10],
      ['I say [4].', 4],
      ['[[11]]', undefined],
      ['[[0]]', undefined],
      ['7', undefined],
      ['[[seven]]', undefined],
    ];
    for (const [text, rating] of cases) expect(ratingOf(text), text).toBe(rating);
  });

  it('leaves judgements without a rating out of the mean and says how many there were', () => {
    const metrics = scoreRatings([{ id: '1', category: 'stem', ratings: [4, undefined] }]);
    expect(metrics.score).toMatchObject({ value: 4, count: 1 });
    expect(metrics.rated).toMatchObject({ value: 0.5, count: 2 });
    expect(metrics.score_turn_2).toBeUndefined();
  });

  it('has the second turn follow the first answer', async () => {
    const { model, prompts: seen } = letterModel({
      context: 400,
      answer: (prompt) => (prompt.includes('q two') ? ' second' : ' first\nUser: more'),
    });
    const [questionRead] = twoTurns([question({})], []);
    expect(await answerTurns(model, questionRead!)).toEqual(['first', 'second']);
    expect(seen[1]).toContain('User: q one\nAssistant: first\nUser: q two\nAssistant:'.replaceAll('\n', '\n'));
  });

  it('takes answers as turns or as published choices, and names what is broken', () => {
    expect(turnsOf(question({}))).toEqual(['q one', 'q two']);
    expect(turnsOf(new Row('a.jsonl', 2, { choices: [{ index: 0, turns: ['a', 'b'] }] }))).toEqual(['a', 'b']);
    expect(() => turnsOf(question({ turns: ['one'] }))).toThrow(/q\.jsonl:1, field turns/);
    expect(() => turnsOf(new Row('a.jsonl', 2, {}))).toThrow(/a\.jsonl:2.*"turns" is missing/);
    expect(() => twoTurns([question({ category: 'coding' })], [])).toThrow(/coding has no reference/);
    expect(() => judgePrompts(promptRows.slice(1), 'prompts.jsonl')).toThrow(/prompts\.jsonl.*single-v1 is missing/);
  });
});

const bench = join(process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared'), 'data/mt_bench');
describe.skipIf(!existsSync(bench))('the published questions', () => {
  it('all find their references, and every prompt is filled in completely', async () => {
    const [questions, references, published] = await Promise.all(
      ['question', 'reference_gpt-4', 'judge_prompts'].map((name) => readRows(join(bench, `${name}.jsonl`))),
    );
    const read = twoTurns(questions!, references!);
    expect(read).toHaveLength(80);
    const filled = judgePrompts(published!, 'judge_prompts.jsonl');
    for (const one of read)
      for (const turn of [1, 2] as const) {
        const text = judgeMessages(
          filled,
          { ...one, turns: ['Q1', 'Q2'], reference: one.reference && ['R1', 'R2'] },
          ['A1', 'A2'],
          turn,
        )[1]!.content;
        expect(text).not.toMatch(/\{(question|answer|ref)/);
        expect(text).toContain(`A${turn}`);
        expect(text.includes('R1')).toBe(one.reference !== undefined);
      }
  });
});
