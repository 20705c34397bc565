/** A set of code points: sorted, disjoint ranges, first and last by turns. */
export type Ranges = readonly number[];

const last = 0x10ffff;

export function union(...sets: readonly Ranges[]): Ranges {
  const pairs: [number, number][] = [];
  for (const set of sets) for (let index = 0; index < set.length; index += 2) pairs.push([set[index]!, set[index + 1]!]);
  pairs.sort((a, b) => a[0] - b[0]);
  const out: number[] = [];
  for (const [first, end] of pairs) {
    if (out.length > 0 && first <= out.at(-1)! + 1) out[out.length - 1] = Math.max(out.at(-1)!, end);
    else out.push(first, end);
  }
  return out;
}

export function complement(set: Ranges): Ranges {
  const out: number[] = [];
  let next = 0;
  for (let index = 0; index < set.length; index += 2) {
    if (set[index]! > next) out.push(next, set[index]! - 1);
    next = set[index + 1]! + 1;
  }
  if (next <= last) out.push(next, last);
  return out;
}

export const intersection = (a: Ranges, b: Ranges): Ranges => complement(union(complement(a), complement(b)));

export const difference = (a: Ranges, b: Ranges): Ranges => complement(union(complement(a), b));

/** What stands in one of two sets alone. */
export const exclusive = (a: Ranges, b: Ranges): Ranges => union(difference(a, b), difference(b, a));

export function inRanges(set: Ranges, point: number): boolean {
  let low = 0;
  let high = set.length >> 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (point > set[2 * middle + 1]!) low = middle + 1;
    else high = middle;
  }
  return 2 * low < set.length && set[2 * low]! <= point;
}

/** Membership of one code point, by a bit for each of the first 65,536 and by halving above. */
export class CodePoints {
  readonly ranges: Ranges;
  /** Bit c & 31 of word c >> 5 says whether c is inside. */
  readonly bits = new Uint32Array(2048);

  constructor(ranges: Ranges) {
    this.ranges = ranges;
    for (let index = 0; index < ranges.length; index += 2) {
      const end = Math.min(ranges[index + 1]!, 0xffff);
      for (let point = ranges[index]!; point <= end; ) {
        if ((point & 31) === 0 && point + 31 <= end) {
          this.bits[point >> 5] = 0xffffffff;
          point += 32;
        } else {
          this.bits[point >> 5]! |= 1 << (point & 31);
          point++;
        }
      }
    }
  }

  has(point: number): boolean {
    return point < 0x10000 ? ((this.bits[point >> 5]! >>> (point & 31)) & 1) === 1 : inRanges(this.ranges, point);
  }
}
