import type { CodePoints } from './code-points.ts';
import type { Pattern } from './pattern.ts';
import type { Work } from './work.ts';

export const behaviours = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const;
export type Behaviour = (typeof behaviours)[number];

/** Where a pattern, or a text as it is, stands in a text: start and end by turns. */
export function matchesOf(text: string, pattern: Pattern | string, work: Work): number[] {
  if (typeof pattern !== 'string') return pattern.findAll(text, work);
  const found: number[] = [];
  work.spend(text.length >> 3);
  for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + pattern.length)) {
    found.push(at, at + pattern.length);
  }
  return found;
}

/**
 * A text with every match replaced, and how many units at its start are of the first `front` units of the text before: what stands
 * between matches keeps its place, and a replacement belongs to the last character of its match.
 */
export function replaceAll(
  text: string,
  front: number,
  pattern: Pattern | string,
  content: string,
  work: Work,
): { text: string; front: number } {
  const found = matchesOf(text, pattern, work);
  if (found.length === 0) return { text, front };
  work.grown(text.length + (found.length / 2) * content.length);
  let out = '';
  let outFront = front;
  let from = 0;
  for (let index = 0; index < found.length; index += 2) {
    const start = found[index]!;
    const end = found[index + 1]!;
    out += text.slice(from, start) + content;
    if (end <= front) outFront += content.length - (end - start);
    else if (start < front) outFront -= front - start;
    from = end;
  }
  return { text: out + text.slice(from), front: outFront };
}

/** Every character of a set as a match of its own. */
export function charactersOf(text: string, points: CodePoints): number[] {
  const found: number[] = [];
  for (let at = 0; at < text.length; ) {
    const point = text.codePointAt(at)!;
    const next = at + (point > 0xffff ? 2 : 1);
    if (points.has(point)) found.push(at, next);
    at = next;
  }
  return found;
}

/**
 * Cuts a text at its matches. What stands between matches and the matches themselves are parts by turns; `behaviour` says which are
 * joined or left out, and `invert` swaps the two. Returns start and end of each part, by turns.
 */
export function cut(length: number, matches: readonly number[], behaviour: Behaviour, invert: boolean): number[] {
  const starts: number[] = [];
  const ends: number[] = [];
  const flags: boolean[] = [];
  const part = (start: number, end: number, flag: boolean) => {
    starts.push(start);
    ends.push(end);
    flags.push(flag);
  };
  let from = 0;
  for (let index = 0; index < matches.length; index += 2) {
    const start = matches[index]!;
    if (start > from) part(from, start, invert);
    part(start, matches[index + 1]!, !invert);
    from = matches[index + 1]!;
  }
  if (from < length) part(from, length, invert);
  return joined(starts, ends, flags, behaviour);
}

function joined(starts: number[], ends: number[], flags: readonly boolean[], behaviour: Behaviour): number[] {
  const count = starts.length;
  const out: number[] = [];
  if (behaviour === 'MergedWithNext') {
    const reversed: number[] = [];
    let previous = false;
    for (let index = count - 1; index >= 0; index--) {
      const flag = flags[index]!;
      if (flag && !previous && reversed.length > 0) reversed[reversed.length - 2] = starts[index]!;
      else reversed.push(starts[index]!, ends[index]!);
      previous = flag;
    }
    for (let index = reversed.length - 2; index >= 0; index -= 2) out.push(reversed[index]!, reversed[index + 1]!);
    return out;
  }
  let previous = false;
  for (let index = 0; index < count; index++) {
    const flag = flags[index]!;
    const join =
      out.length > 0 &&
      (behaviour === 'Contiguous' ? flag === previous : behaviour === 'MergedWithPrevious' && flag && !previous);
    if (join) out[out.length - 1] = ends[index]!;
    else if (!(behaviour === 'Removed' && flag)) out.push(starts[index]!, ends[index]!);
    previous = flag;
  }
  return out;
}
