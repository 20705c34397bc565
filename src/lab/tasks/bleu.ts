import { SottoError } from '../../errors/index.ts';
import { bootstrapped, type Metric } from '../../evaluate/metric.ts';

const maxOrder = 4;

/** Python's white space, which its `split` and `strip` go by; JavaScript's `\s` differs at both ends. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the four separators 0x1c to 0x1f are white space to Python
const whitespace = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
export const splitWords = (text: string): string[] => text.split(whitespace).filter((word) => word !== '');

const replacements: readonly (readonly [RegExp, string])[] = [
  [/([{-~[-` -&(-+:-@/])/gu, ' $1 '],
  // Full stop and comma unless a digit stands before, then unless one stands behind; a dash behind a digit.
  [/([^0-9])([.,])/gu, '$1 $2 '],
  [/([.,])([^0-9])/gu, ' $1 $2'],
  [/([0-9])(-)/gu, '$1 $2 '],
];

/** The tokens of sacreBLEU's default tokeniser `13a`, which follows mteval-v13a of NIST. */
export function tokenise13a(line: string): string[] {
  let text = line.trimEnd().replaceAll('<skipped>', '').replaceAll('-\n', '').replaceAll('\n', ' ');
  text = text.replaceAll('&quot;', '"').replaceAll('&amp;', '&').replaceAll('&lt;', '<').replaceAll('&gt;', '>');
  text = ` ${text} `;
  for (const [pattern, replacement] of replacements) text = text.replace(pattern, replacement);
  return splitWords(text);
}

/** What corpus BLEU adds up: lengths, then n-grams matched and present for n = 1 … 4. */
export type BleuCounts = Float64Array;
const countsLength = 2 + 2 * maxOrder;

/** The counts of a segment against its references; the closest reference length counts, the shorter of two equally close ones. */
export function bleuCounts(hypothesis: string, references: readonly string[]): BleuCounts {
  const tokens = tokenise13a(hypothesis);
  const tokenised = references.map(tokenise13a);
  const counts = new Float64Array(countsLength);
  counts[0] = tokens.length;
  counts[1] = closest(
    tokens.length,
    tokenised.map(({ length }) => length),
  );
  for (let order = 1; order <= maxOrder; order++) {
    const own = ngrams(tokens, order);
    const allowed = new Map<string, number>();
    for (const reference of tokenised)
      for (const [gram, count] of ngrams(reference, order)) allowed.set(gram, Math.max(count, allowed.get(gram) ?? 0));
    for (const [gram, count] of own) {
      counts[2 * order]! += Math.min(count, allowed.get(gram) ?? 0);
      counts[2 * order + 1]! += count;
    }
  }
  return counts;
}

function closest(length: number, others: readonly number[]): number {
  return others.reduce((best, other) => {
    const [gap, gapOfBest] = [Math.abs(other - length), Math.abs(best - length)];
    return gap < gapOfBest || (gap === gapOfBest && other < best) ? other : best;
  });
}

function ngrams(tokens: readonly string[], order: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + order <= tokens.length; i++) {
    const gram = tokens.slice(i, i + order).join(' ');
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

/**
 * Corpus BLEU in [0, 100] from counts that were added up (Papineni et al. 2002), with sacreBLEU's `exp` smoothing: an order without
 * a match counts as 1/2, 1/4, … of one, from the lowest such order on.
 */
export function bleuOf(counts: BleuCounts): number {
  const [length, referenceLength] = [counts[0]!, counts[1]!];
  let anyMatch = false;
  let logarithms = 0;
  let halvings = 1;
  for (let order = 1; order <= maxOrder; order++) {
    const [matched, present] = [counts[2 * order]!, counts[2 * order + 1]!];
    anyMatch ||= matched > 0;
    // No segment is this long: the score of an empty precision is zero.
    if (present === 0) return 0;
    if (matched === 0) halvings *= 2;
    logarithms += Math.log(matched === 0 ? 100 / (halvings * present) : (100 * matched) / present);
  }
  if (!anyMatch) return 0;
  const brevity = length >= referenceLength ? 1 : Math.exp(1 - referenceLength / length);
  return brevity * Math.exp(logarithms / maxOrder);
}

/** Corpus BLEU of hypotheses, each with one or more references, and its bootstrap interval over segments. */
export function bleu(hypotheses: readonly string[], references: readonly (readonly string[])[]): Metric {
  requireReferences(hypotheses, references);
  return corpus(
    hypotheses.map((hypothesis, index) => bleuCounts(hypothesis, references[index]!)),
    bleuOf,
  );
}

/** A score of added-up counts, with the interval of a bootstrap over segments. */
export function corpus(segments: readonly Float64Array[], score: (sums: Float64Array) => number): Metric {
  const sums = new Float64Array(segments[0]?.length ?? 0);
  return bootstrapped(segments.length, (members) => {
    sums.fill(0);
    for (const member of members) {
      const segment = segments[member]!;
      for (let i = 0; i < sums.length; i++) sums[i]! += segment[i]!;
    }
    return score(sums);
  });
}

export function requireReferences(hypotheses: readonly string[], references: readonly (readonly string[])[]): void {
  if (references.length === hypotheses.length && references.every(({ length }) => length > 0)) return;
  throw new SottoError('input', `${hypotheses.length} translations, ${references.length} references`, {
    remedy: 'give at least one reference for every translation',
  });
}
