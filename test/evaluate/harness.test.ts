import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodePair, logLikelihoods } from '../../src/evaluate/likelihood.ts';
import { bootstrapped, proportion, ratio } from '../../src/evaluate/metric.ts';
import { documentIds, documentLosses, scorePerplexity, slidingWindows } from '../../src/evaluate/perplexity.ts';
import { Row } from '../../src/evaluate/rows.ts';
import { choiceFormats, choiceLikelihoods, lambadaRequest, scoreChoices, scoreLambada } from '../../src/lab/tasks/choices.ts';
import { namedChoice, scoreWritten, writeAfter, writtenQuestion } from '../../src/lab/tasks/generative.ts';
import { letterLogits, letterModel, letterTokenizer } from './letters.ts';

const row = (fields: Record<string, unknown>) => new Row('rows.jsonl', 4, fields);

/** log p of `ids[at]` after all before it, by the definition. */
function logProbability(ids: readonly number[], at: number): number {
  const logits = letterLogits(ids.slice(0, at));
  return logits[ids[at]!]! - Math.log(logits.reduce((sum, value) => sum + Math.exp(value), 0));
}

describe('the log likelihood of a continuation', () => {
  it('is the sum over its tokens alone, in any order of lengths', async () => {
    const requests = [
      { context: 'a', continuation: ' bcd' },
      { context: 'a longer one', continuation: ' e' },
      { context: '', continuation: 'x' },
    ];
    const results = await logLikelihoods(letterModel().model, requests);
    requests.forEach(({ context, continuation }, index) => {
      const ids = letterTokenizer.encode(context + continuation);
      const expected = [...continuation].reduce((sum, _, at) => sum + logProbability(ids, 1 + context.length + at), 0);
      expect(results[index]!.logLikelihood).toBeCloseTo(expected, 9);
    });
  });

  it('moves white space from the end of the context to the continuation', () => {
    const moved = encodePair(letterTokenizer, { context: 'ab ', continuation: 'c' }, 64);
    expect(moved).toEqual(encodePair(letterTokenizer, { context: 'ab', continuation: ' c' }, 64));
    expect(moved.from).toBe(3);
  });

  it('loses the beginning of an over-long text, never a token of the continuation', async () => {
    const { model, asked } = letterModel({ context: 5 });
    await logLikelihoods(model, [{ context: 'abcdefghij', continuation: ' kl' }]);
    // Six tokens: five are fed, the last one is only predicted.
    expect(asked).toEqual([{ ids: [...'hij kl'].map((letter) => letter.charCodeAt(0)), from: 3 }]);
    await expect(logLikelihoods(model, [{ context: 'a', continuation: ' kmnopq' }])).rejects.toThrow(/7 tokens, the context 5/);
  });

  it('says whether every token was the likeliest', async () => {
    const { model } = letterModel();
    const likeliest = (ids: readonly number[]) =>
      letterLogits(ids).reduce((best, value, id, all) => (value > all[best]! ? id : best), 0);
    const letter = String.fromCharCode(likeliest(letterTokenizer.encode('ab')));
    const [right, wrong] = await logLikelihoods(model, [
      { context: 'ab', continuation: letter },
      { context: 'ab', continuation: letter === 'x' ? 'y' : 'x' },
    ]);
    expect([right!.greedy, wrong!.greedy]).toEqual([true, false]);
  });
});

describe('the formats of the harness', () => {
  const arc = { question: 'Why?', choices: ['because', 'no'], label: 1 };

  it('ask ARC as question, answer and one choice at a time', () => {
    const { requests, answer } = choiceFormats.arc_easy(row(arc));
    expect(requests).toEqual([
      { context: 'Question: Why?\nAnswer:', continuation: ' because' },
      { context: 'Question: Why?\nAnswer:', continuation: ' no' },
    ]);
    expect(answer).toBe(1);
  });

  it('read ARC as it is published too, with letters or digits for the answer', () => {
    const published = { question: 'Why?', choices: { text: ['because', 'no'], label: ['1', '2'] }, answerKey: '2' };
    expect(choiceFormats.arc_challenge(row(published)).requests).toEqual(choiceFormats.arc_easy(row(arc)).requests);
    expect(choiceFormats.arc_challenge(row(published)).answer).toBe(1);
    expect(() => choiceFormats.arc_challenge(row({ ...published, answerKey: 'C' }))).toThrow(/answerKey.*none of the labels/);
  });

  it('ask PIQA, SciQ and LAMBADA as published', () => {
    const piqa = choiceFormats.piqa(row({ goal: 'Boil water', sol1: 'Heat it', sol2: 'Cool it', label: 0 }));
    expect(piqa.requests[1]).toEqual({ context: 'Question: Boil water\nAnswer:', continuation: ' Cool it' });
    expect(piqa.answer).toBe(0);
    const sciq = choiceFormats.sciq(
      row({ support: ' Facts.', question: 'What?', distractor1: 'a', distractor2: 'b', distractor3: 'c', correct_answer: 'd' }),
    );
    expect(sciq.requests.map(({ continuation }) => continuation)).toEqual([' a', ' b', ' c', ' d']);
    expect(sciq.requests[0]!.context).toBe('Facts.\nQuestion: What?\nAnswer:');
    expect(sciq.answer).toBe(3);
    expect(lambadaRequest(row({ text: 'She opened the door' }))).toEqual({ context: 'She opened the', continuation: ' door' });
  });

  it("put WinoGrande's choices into the context and score the same ending", () => {
    const sentence = 'The cup did not fit into the bag because _ was too big.';
    const { requests, answer } = choiceFormats.winogrande(row({ sentence, option1: 'the cup', option2: 'the bag', answer: '1' }));
    expect(requests[1]).toEqual({ context: 'The cup did not fit into the bag because the bag', continuation: ' was too big.' });
    expect(answer).toBe(0);
  });

  it('normalise by characters, and take the first of equals', () => {
    const questions = [choiceFormats.arc_easy(row({ question: 'q', choices: ['ééé', 'four', 'x'], label: 0 }))];
    const score = (values: number[]) => scoreChoices('arc_easy', questions, [values]);
    expect(score([-3, -3, -5])).toMatchObject({ acc: { value: 1 }, acc_norm: { value: 0 } });
    // −3/3 against −3.9/4: characters count, not bytes.
    expect(score([-3, -4.4, -2])).toMatchObject({ acc: { value: 0 }, acc_norm: { value: 1 } });
    expect(scoreChoices('winogrande', questions, [[0, -1, -1]])).not.toHaveProperty('acc_norm');
  });

  it('name file, line and field of what is wrong', () => {
    const cases: [() => unknown, RegExp][] = [
      [
        () => choiceFormats.arc_easy(row({ ...arc, label: 2 })),
        /rows\.jsonl:4, field label.*"label" is 2, out of the range from 0 to 1/,
      ],
      [() => choiceFormats.arc_easy(row({ choices: ['a'], label: 0 })), /"question" is missing/],
      [() => choiceFormats.arc_easy(row({ ...arc, choices: ['a', 3] })), /"choices" is not a list of texts/],
      [() => choiceFormats.winogrande(row({ sentence: 'no gap', option1: 'a', option2: 'b', answer: '1' })), /has no gap/],
      [
        () => choiceFormats.winogrande(row({ sentence: '_', option1: 'a', option2: 'b', answer: '3' })),
        /is 3, out of the range from 1 to 2/,
      ],
      [() => choiceFormats.piqa(row({ goal: 'g', sol1: 's', sol2: 't', label: 0.5 })), /"label" is not a whole number/],
      [() => lambadaRequest(row({ text: 'word' })), /a single word/],
    ];
    for (const [work, message] of cases) expect(work).toThrow(message);
  });

  it('agree with the definition on random questions', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.stringMatching(/^[a-z]{1,8}$/), { minLength: 3, maxLength: 5 }), async (choices) => {
        const questions = [choiceFormats.arc_easy(row({ question: 'q', choices, label: 0 }))];
        const [likelihoods] = await choiceLikelihoods(letterModel().model, questions);
        const context = letterTokenizer.encode('Question: q\nAnswer:');
        choices.forEach((choice, index) => {
          const ids = [...context, ...letterTokenizer.encode(` ${choice}`, { addSpecial: false })];
          let sum = 0;
          for (let at = context.length; at < ids.length; at++) sum += logProbability(ids, at);
          expect(likelihoods![index]).toBeCloseTo(sum, 9);
        });
      }),
      { numRuns: 10 },
    );
  });

  it('score LAMBADA by words: perplexity and the share of likeliest words', () => {
    const metrics = scoreLambada([
      { logLikelihood: -1, greedy: true },
      { logLikelihood: -3, greedy: false },
    ]);
    expect(metrics.perplexity!.value).toBeCloseTo(Math.exp(2), 12);
    expect(metrics.acc).toMatchObject({ value: 0.5, count: 2 });
  });
});

describe('perplexity', () => {
  it('predicts every token past the first exactly once, within the window', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 12 }),
        (length, window, step) => {
          const stride = Math.min(window, step);
          const ids = Array.from({ length }, (_, i) => i);
          const predicted = slidingWindows(ids, { window, stride }).flatMap(({ ids: piece, from }) => {
            expect(piece.length - 1).toBeLessThanOrEqual(window);
            return [...piece.subarray(from)];
          });
          expect(predicted).toEqual(ids.slice(1));
        },
      ),
    );
  });

  it('is the exponential of the mean loss, each token seen with what its window holds', async () => {
    const text = 'abcdefgh';
    const ids = documentIds(letterTokenizer, text);
    const [loss] = await documentLosses(letterModel().model, [text], { window: 4, stride: 2 });
    // Windows of four: tokens 1 to 4, then 5 and 6 with ids 2 to 5 before them, then 7 and 8.
    const starts = [0, 0, 0, 0, 2, 2, 4, 4];
    const expected = starts.reduce((sum, start, i) => sum - logProbability(ids.slice(start), i + 1 - start), 0);
    expect(loss!.loss).toBeCloseTo(expected, 9);
    const metrics = scorePerplexity([loss!, { loss: 2, tokens: 2, bytes: 4, words: 1 }]);
    expect(metrics.perplexity!.value).toBeCloseTo(Math.exp((expected + 2) / 10), 9);
    expect(metrics.bits_per_byte!.value).toBeCloseTo((expected + 2) / 12 / Math.LN2, 9);
    expect(metrics.perplexity!.count).toBe(10);
  });
});

describe('an answer that is written out', () => {
  const choices = ['a dog', 'a cat', 'a hot dog', 'water'];

  it('is matched by text, letter or the only choice that occurs', () => {
    const cases: [string, number][] = [
      [' A dog.', 0],
      ['b', -1],
      ['B. a cat', 1],
      ['(D)', 3],
      ['The answer is C.', 2],
      ['It must be water, I think', 3],
      ['I would eat a hot dog', 2],
      ['a cat or water', -1],
      ['', -1],
      ['A dog is not', 0],
      ['E.', -1],
    ];
    for (const [output, choice] of cases) expect(namedChoice(output, choices), output).toBe(choice);
  });

  it('is asked for with the choices listed, up to the end of the line', async () => {
    const question = writtenQuestion(row({ question: 'Which barks?', choices, label: 0 }));
    const { model, prompts } = letterModel({ context: 200, answer: () => ' A. a dog\nQuestion: next' });
    const output = await writeAfter(model, question.prompt, { newTokens: 40, stops: ['\n'] });
    expect(prompts[0]!.replaceAll('\n', '|')).toMatch(/Question: Which barks\?\|A\. a dog\|.*D\. water\|Answer:$/);
    expect(output).toBe(' A. a dog');
    expect(scoreWritten([question], [output])).toMatchObject({ acc: { value: 1 }, answered: { value: 1 } });
  });
});

describe('intervals', () => {
  it("of shares are Wilson's", () => {
    // Wilson's interval of 8 in 10, as tables have it.
    expect(proportion(8, 10)).toMatchObject({ value: 0.8, low: expect.closeTo(0.4902, 3), high: expect.closeTo(0.9433, 3) });
    expect(proportion(0, 10)).toMatchObject({ value: 0, low: 0, high: expect.closeTo(0.2775, 3) });
    expect(proportion(10, 10).high).toBe(1);
  });

  it('of ratios need more than one text', () => {
    expect(ratio([4], [2])).toEqual({ value: 2, count: 2, low: null, high: null });
    expect(ratio([4, 4], [2, 2])).toEqual({ value: 2, count: 4, low: 2, high: 2 });
  });

  it('of a bootstrap are the same every time and cover the normal one', () => {
    const values = Array.from({ length: 200 }, (_, i) => i % 10);
    const meanOf = (members: Int32Array) => members.reduce((sum, at) => sum + values[at]!, 0) / members.length;
    const [first, second] = [bootstrapped(200, meanOf), bootstrapped(200, meanOf)];
    expect(first).toEqual(second);
    // 1.96 · 2.872 / √200
    expect(first.high! - first.value).toBeCloseTo(0.398, 1);
  });
});
