import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bleu, tokenise13a } from '../../src/lab/tasks/bleu.ts';
import { chrf } from '../../src/lab/tasks/chrf.ts';

const shared = process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared');
const wmt = join(shared, 'data/wmt22_de_en');

// The example of sacreBLEU's README, with the figures that it prints.
const hypotheses = ['The dog bit the man.', "It wasn't surprising.", 'The man had just bitten him.'];
const references = [
  ['The dog bit the man.', 'The dog had bit the man.'],
  ['It was not unexpected.', 'No one was surprised.'],
  ['The man bit him first.', 'The man had bitten the dog.'],
];

/** Corpus BLEU written down once more, from the definition: lists instead of counters, one reference. */
function plainBleu(hypothesisLines: readonly string[], referenceLines: readonly string[]): number {
  let logarithms = 0;
  let misses = 0;
  for (let n = 1; n <= 4; n++) {
    let [clipped, total] = [0, 0];
    hypothesisLines.forEach((line, index) => {
      const grams = (text: string): string[] => {
        const tokens = tokenise13a(text);
        return tokens.slice(0, Math.max(0, tokens.length - n + 1)).map((_, at) => JSON.stringify(tokens.slice(at, at + n)));
      };
      const left = grams(referenceLines[index]!);
      for (const gram of grams(line)) {
        total++;
        const at = left.indexOf(gram);
        if (at < 0) continue;
        left.splice(at, 1);
        clipped++;
      }
    });
    logarithms += Math.log(clipped > 0 ? clipped / total : 1 / (2 ** ++misses * total));
  }
  const length = (lines: readonly string[]) => lines.flatMap(tokenise13a).length;
  const [own, theirs] = [length(hypothesisLines), length(referenceLines)];
  return 100 * Math.min(1, Math.exp(1 - theirs / own)) * Math.exp(logarithms / 4);
}

/** Corpus chrF2 written down once more: F of the averaged precision and recall, by multisets of slices. */
function plainChrf(hypothesisLines: readonly string[], referenceLines: readonly string[]): number {
  const [precisions, recalls]: [number[], number[]] = [[], []];
  for (let n = 1; n <= 6; n++) {
    const grams = (text: string): string[] => {
      const letters = Array.from(text.replaceAll(/\s/g, ''));
      return letters.flatMap((_, at) => (at + n <= letters.length ? [letters.slice(at, at + n).join('')] : []));
    };
    let [matched, own, theirs] = [0, 0, 0];
    hypothesisLines.forEach((line, index) => {
      const left = grams(referenceLines[index]!).sort();
      const mine = grams(line).sort();
      own += left.length > 0 ? mine.length : 0;
      theirs += left.length;
      for (let i = 0, j = 0; i < mine.length && j < left.length; ) {
        if (mine[i] === left[j]) [matched, i, j] = [matched + 1, i + 1, j + 1];
        else if (mine[i]! < left[j]!) i++;
        else j++;
      }
    });
    precisions.push(matched / own);
    recalls.push(matched / theirs);
  }
  const average = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / 6;
  const [p, r] = [average(precisions), average(recalls)];
  return (100 * 5 * p * r) / (4 * p + r);
}

describe('BLEU and chrF', () => {
  it("give the figures of sacreBLEU's own example, with two references", () => {
    expect(bleu(hypotheses, references).value).toBeCloseTo(48.53, 2);
    expect(chrf(hypotheses, references).value).toBeCloseTo(59.73, 2);
  });

  it('tokenise as mteval-v13a does', () => {
    const cases: [string, string][] = [
      ['The price is $1,000.50, not 3.', 'The price is $ 1,000.50 , not 3 .'],
      ['A &quot;quoted&quot; &amp; &lt;b&gt; text', 'A " quoted " & < b > text'],
      ['in 2010-2012 the well-known', 'in 2010 - 2012 the well-known'],
      ["don't (stop): now!", "don't ( stop ) : now !"],
      ['e.g. 5.a', 'e . g . 5 . a'],
      ['naïve „Zitat“ 20€', 'naïve „Zitat“ 20€'],
    ];
    for (const [line, tokens] of cases) expect(tokenise13a(line).join(' ')).toBe(tokens);
  });

  it('are 100 for the reference itself and 0 for nothing', () => {
    const lines = ['One sentence with enough words.', 'Another sentence, longer than four words.'];
    const same = lines.map((line) => [line]);
    expect(bleu(lines, same).value).toBeCloseTo(100, 9);
    expect(chrf(lines, same).value).toBeCloseTo(100, 9);
    expect(bleu(['', ''], same).value).toBe(0);
    expect(chrf(['', ''], same).value).toBe(0);
  });

  it('halve an order without a match once more for each such order', () => {
    // 4 of 4 words, no bigram: 100, 50/3, 25/2, 12.5.
    const expected = (100 * (50 / 3) * (25 / 2) * 12.5) ** 0.25;
    expect(bleu(['a b c d'], [['d c b a']]).value).toBeCloseTo(expected, 9);
  });

  it('take any text and stay within 0 and 100', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' })), { minLength: 1, maxLength: 3 }),
        (pairs) => {
          for (const score of [bleu, chrf]) {
            const { value } = score(
              pairs.map(([line]) => line),
              pairs.map(([, line]) => [line]),
            );
            expect(value).toBeGreaterThanOrEqual(0);
            expect(value).toBeLessThanOrEqual(100 + 1e-9);
          }
        },
      ),
      { numRuns: 8 },
    );
  });

  it('refuse translations without references', () => {
    expect(() => bleu(['a'], [])).toThrow(/1 translations, 0 references/);
    expect(() => chrf([], [])).toThrow(/nothing to score/);
  });
});

describe.skipIf(!existsSync(wmt))('BLEU and chrF of a published system', () => {
  const lines = (name: string): string[] => readFileSync(join(wmt, name), 'utf8').trimEnd().split('\n');

  it('equal independent implementations and lie within their intervals', () => {
    const [hypothesis, reference] = [lines('hyp.Online-B.en'), lines('ref.A.en')];
    const given = reference.map((line) => [line]);
    const [b, c] = [bleu(hypothesis, given), chrf(hypothesis, given)];
    expect(b.value).toBeCloseTo(plainBleu(hypothesis, reference), 9);
    expect(c.value).toBeCloseTo(plainChrf(hypothesis, reference), 9);
    expect([b.count, c.count]).toEqual([500, 500]);
    for (const { low, value, high } of [b, c]) expect(low! < value && value < high!).toBe(true);
  });
});
