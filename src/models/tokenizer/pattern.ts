import { CodePoints, inRanges } from './code-points.ts';
import { anchorNumbers, Compiler, firstOf, Op } from './pattern-program.ts';
import { type Anchor, nullable, PatternProblem, parsePattern } from './pattern-syntax.ts';
import { property } from './unicode.ts';
import type { Work } from './work.ts';

const stackLimit = 2 ** 22;

/**
 * A pattern of Oniguruma's syntax as a program for a machine that backtracks. Its stack is its own and its steps are counted, so a
 * pattern from a stranger can neither overflow the one nor hang on the other; character classes are those of the reference library,
 * whatever the runtime's own Unicode version is.
 */
export class Pattern {
  readonly #code: Int32Array;
  readonly #sets: readonly CodePoints[];
  /** Code points with which a match can begin; absent where it can be empty. */
  readonly #first: CodePoints | undefined;
  #stack = new Int32Array(3 * 64);

  constructor(text: string) {
    const tree = parsePattern(text);
    const program = new Compiler();
    program.add(tree);
    program.emit(Op.match);
    this.#code = Int32Array.from(program.code);
    this.#sets = program.sets;
    const first = nullable(tree) ? undefined : firstOf(tree);
    this.#first = first && new CodePoints(first);
  }

  /** Whether the pattern can match the empty text. */
  get canBeEmpty(): boolean {
    return this.#first === undefined;
  }

  /**
   * All matches from left to right, start and end by turns, in UTF-16 units. An empty match right behind another match is passed
   * over.
   */
  findAll(text: string, work: Work): number[] {
    const found: number[] = [];
    const { length } = text;
    let at = 0;
    let before = -1;
    const first = this.#first;
    while (at <= length) {
      if (first !== undefined) {
        const from = at;
        while (at < length && !first.has(text.codePointAt(at)!)) at += width(text, at);
        if (at > from) work.spend((at - from) >> 3);
        if (at >= length) break;
      }
      const end = this.#run(text, at, 0, 0, work);
      if (end < 0 || (end === at && end === before)) {
        at += width(text, at);
        continue;
      }
      found.push(at, end);
      before = end;
      at = end;
    }
    return found;
  }

  /** Runs the program from `start` with the stack from `base` up; the end of its match, or −1. */
  // biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table, a case an instruction; its registers are local so that steps cost nothing
  #run(text: string, from: number, start: number, base: number, work: Work): number {
    const code = this.#code;
    const sets = this.#sets;
    const { length } = text;
    let stack = this.#stack;
    let top = base;
    let pc = start;
    let at = from;
    let steps = 0;
    for (;;) {
      if (++steps > 1000) {
        work.spend(steps);
        steps = 0;
      }
      let failed = false;
      switch (code[pc]) {
        case Op.match:
          work.spend(steps + 4);
          return at;
        case Op.set:
          if (at < length && sets[code[pc + 1]!]!.has(text.codePointAt(at)!)) {
            at += width(text, at);
            pc += 2;
          } else failed = true;
          break;
        case Op.greedy:
        case Op.possessive: {
          const { bits, ranges } = sets[code[pc + 1]!]!;
          const least = code[pc + 2]!;
          const most = code[pc + 3]!;
          const begin = at;
          let low = least === 0 ? at : -1;
          let count = 0;
          while (at < length && count < most) {
            const unit = text.charCodeAt(at);
            if ((unit & 0xfc00) === 0xd800) {
              if (!inRanges(ranges, text.codePointAt(at)!)) break;
              at += 2;
            } else if (((bits[unit >> 5]! >>> (unit & 31)) & 1) === 1) at++;
            else break;
            if (++count === least) low = at;
          }
          steps += (at - begin) >> 2;
          if (count < least) failed = true;
          else {
            if (at > low && code[pc] === Op.greedy) {
              if (top + 3 > stack.length) stack = this.#grow(stack);
              stack[top++] = pc + 4;
              stack[top++] = at;
              stack[top++] = low;
            }
            pc += 4;
          }
          break;
        }
        case Op.split:
          if (top + 3 > stack.length) stack = this.#grow(stack);
          stack[top++] = code[pc + 2]!;
          stack[top++] = at;
          stack[top++] = -1;
          pc = code[pc + 1]!;
          break;
        case Op.jump:
          pc = code[pc + 1]!;
          break;
        case Op.ifSet:
          // The choice that begins here is tried only where its first character fits.
          pc = at < length && sets[code[pc + 1]!]!.has(text.codePointAt(at)!) ? pc + 3 : code[pc + 2]!;
          break;
        case Op.aheadSet:
          if ((at < length && sets[code[pc + 1]!]!.has(text.codePointAt(at)!)) !== (code[pc + 2] === 1)) pc += 3;
          else failed = true;
          break;
        case Op.look:
        case Op.atomic: {
          const end = this.#run(text, at, pc + 3, top, work);
          stack = this.#stack;
          if (end >= 0 === (code[pc + 2] === 1)) failed = true;
          else {
            if (code[pc] === Op.atomic) at = end;
            pc = code[pc + 1]!;
          }
          break;
        }
        case Op.back: {
          let count = code[pc + 1]!;
          while (count > 0 && at > 0) {
            at -= at > 1 && (text.charCodeAt(at - 1) & 0xfc00) === 0xdc00 ? 2 : 1;
            count--;
          }
          if (count > 0) failed = true;
          pc += 2;
          break;
        }
        default:
          if (holds(anchorNumbers[code[pc + 1]!]!, text, at)) pc += 2;
          else failed = true;
      }
      if (!failed) continue;
      if (top === base) {
        work.spend(steps + 4);
        return -1;
      }
      at = stack[top - 2]!;
      pc = stack[top - 3]!;
      const low = stack[top - 1]!;
      if (low < 0) top -= 3;
      else {
        at -= at - low > 1 && (text.charCodeAt(at - 1) & 0xfc00) === 0xdc00 ? 2 : 1;
        if (at > low) stack[top - 2] = at;
        else top -= 3;
      }
    }
  }

  #grow(stack: Int32Array): Int32Array<ArrayBuffer> {
    if (stack.length > stackLimit) throw new PatternProblem('the pattern keeps more choices open than it may');
    this.#stack = new Int32Array(2 * stack.length);
    this.#stack.set(stack);
    return this.#stack;
  }
}

const width = (text: string, at: number): number => ((text.charCodeAt(at) & 0xfc00) === 0xd800 ? 2 : 1);

let wordSet: CodePoints | undefined;

function holds(anchor: Anchor, text: string, at: number): boolean {
  const { length } = text;
  const newlineBefore = at > 0 && text.charCodeAt(at - 1) === 10;
  switch (anchor) {
    case 'textStart':
      return at === 0;
    case 'textEnd':
      return at === length;
    case 'lastLineEnd':
      return at === length || (at === length - 1 && text.charCodeAt(at) === 10);
    case 'lineStart':
      return at === 0 || (newlineBefore && at < length);
    case 'lineEnd':
      return at === length ? length === 0 || !newlineBefore : text.charCodeAt(at) === 10;
    default: {
      wordSet ??= new CodePoints(property('word')!);
      const before = at > 0 && wordSet.has(pointBefore(text, at));
      const after = at < length && wordSet.has(text.codePointAt(at)!);
      return (before !== after) === (anchor === 'wordEdge');
    }
  }
}

const pointBefore = (text: string, at: number): number =>
  at > 1 && (text.charCodeAt(at - 1) & 0xfc00) === 0xdc00 ? text.codePointAt(at - 2)! : text.charCodeAt(at - 1);
