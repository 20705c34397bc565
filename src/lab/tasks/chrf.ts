import type { Metric } from '../../evaluate/metric.ts';
import { corpus, requireReferences, splitWords } from './bleu.ts';

const characterOrder = 6;
/** β² with β = 2: recall counts twice. */
const factor = 4;

/**
 * What corpus chrF2 adds up: for n = 1 … 6 the n-grams of the hypothesis, of the reference, and those in both. White space is left
 * out. Among several references the one with the best score for the segment counts, as in sacreBLEU.
 */
export function chrfCounts(hypothesis: string, references: readonly string[]): Float64Array {
  const own = characterGrams(hypothesis);
  let best: Float64Array = new Float64Array(3 * characterOrder);
  let bestScore = -1;
  for (const reference of references) {
    const counts = matchGrams(own, characterGrams(reference));
    const score = chrfOf(counts);
    if (score > bestScore) [best, bestScore] = [counts, score];
  }
  return best;
}

function characterGrams(text: string): Map<string, number>[] {
  const characters = [...splitWords(text).join('')];
  return Array.from({ length: characterOrder }, (_, index) => {
    const counts = new Map<string, number>();
    for (let i = 0; i + index + 1 <= characters.length; i++) {
      const gram = characters.slice(i, i + index + 1).join('');
      counts.set(gram, (counts.get(gram) ?? 0) + 1);
    }
    return counts;
  });
}

function matchGrams(own: readonly Map<string, number>[], theirs: readonly Map<string, number>[]): Float64Array {
  const counts = new Float64Array(3 * characterOrder);
  for (let order = 0; order < characterOrder; order++) {
    let [present, matched] = [0, 0];
    for (const [gram, count] of own[order]!) {
      present += count;
      matched += Math.min(count, theirs[order]!.get(gram) ?? 0);
    }
    let wanted = 0;
    for (const count of theirs[order]!.values()) wanted += count;
    // Where the reference has no n-gram of this order, those of the hypothesis are not held against it.
    counts.set([wanted === 0 ? 0 : present, wanted, matched], 3 * order);
  }
  return counts;
}

/** chrF2 in [0, 100] (Popović 2015): F₂ of the precision and recall averaged over the orders that occur. */
export function chrfOf(counts: Float64Array): number {
  let [precision, recall, orders] = [0, 0, 0];
  for (let order = 0; order < characterOrder; order++) {
    const [present, wanted, matched] = counts.subarray(3 * order, 3 * order + 3);
    if (present === 0 || wanted === 0) continue;
    precision += matched! / present!;
    recall += matched! / wanted!;
    orders++;
  }
  if (precision + recall === 0) return 0;
  precision /= orders;
  recall /= orders;
  return (100 * (1 + factor) * precision * recall) / (factor * precision + recall);
}

/** Corpus chrF2 of hypotheses, each with one or more references, and its bootstrap interval over segments. */
export function chrf(hypotheses: readonly string[], references: readonly (readonly string[])[]): Metric {
  requireReferences(hypotheses, references);
  return corpus(
    hypotheses.map((hypothesis, index) => chrfCounts(hypothesis, references[index]!)),
    chrfOf,
  );
}
