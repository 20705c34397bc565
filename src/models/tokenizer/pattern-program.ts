import { CodePoints, type Ranges, union } from './code-points.ts';
import { type Anchor, nullable, type PatternNode, PatternProblem } from './pattern-syntax.ts';

const programLimit = 20_000;

/** What the machine of pattern.ts does, by number. */
export const Op = {
  match: 0,
  set: 1,
  greedy: 2,
  possessive: 3,
  split: 4,
  jump: 5,
  ifSet: 6,
  aheadSet: 7,
  look: 8,
  atomic: 9,
  back: 10,
  anchor: 11,
};
export const anchorNumbers: readonly Anchor[] = [
  'textStart',
  'textEnd',
  'lastLineEnd',
  'lineStart',
  'lineEnd',
  'wordEdge',
  'noWordEdge',
];

/** The code points with which a node's match can begin, or can be followed where it is empty. */
export function firstOf(node: PatternNode): Ranges {
  switch (node.kind) {
    case 'set':
      return node.ranges;
    case 'sequence': {
      const sets: Ranges[] = [];
      for (const part of node.parts) {
        sets.push(firstOf(part));
        if (!nullable(part)) break;
      }
      return union(...sets);
    }
    case 'choice':
      return union(...node.options.map(firstOf));
    case 'repeat':
    case 'atomic':
      return firstOf(node.body);
    default:
      return [];
  }
}

/** Writes a tree as a program: numbers, of which each operation takes its own. */
export class Compiler {
  readonly code: number[] = [];
  readonly sets: CodePoints[] = [];
  readonly #known = new Map<string, number>();

  emit(...words: number[]): number {
    if (this.code.length > programLimit) throw new PatternProblem('it is too long when its repetitions are written out');
    this.code.push(...words);
    return this.code.length - words.length;
  }

  set(ranges: Ranges): number {
    const key = ranges.join();
    let index = this.#known.get(key);
    if (index === undefined) {
      index = this.sets.push(new CodePoints(ranges)) - 1;
      this.#known.set(key, index);
    }
    return index;
  }

  add(node: PatternNode): void {
    switch (node.kind) {
      case 'set':
        this.emit(Op.set, this.set(node.ranges));
        return;
      case 'sequence':
        for (const part of node.parts) this.add(part);
        return;
      case 'choice':
        this.#choice(node.options);
        return;
      case 'repeat':
        this.#repeat(node);
        return;
      case 'atomic':
        this.#apart(Op.atomic, 0, () => this.add(node.body));
        return;
      case 'look':
        this.#look(node);
        return;
      case 'anchor':
        this.emit(Op.anchor, anchorNumbers.indexOf(node.at));
    }
  }

  /** A part that is run by itself: nothing of its inside is tried again. `fails` is 1 where its match is what must not be. */
  #apart(op: number, fails: 0 | 1, body: () => void): void {
    // A run returns whether it matched: a look that must not match fails with 1, all others with 0.
    const at = this.emit(op, 0, fails);
    body();
    this.emit(Op.match);
    this.code[at + 1] = this.code.length;
  }

  /** Options in their order. Those of a look-behind first go back by their length. */
  #choice(options: readonly PatternNode[], behind = false): void {
    const ends: number[] = [];
    for (const [index, option] of options.entries()) {
      const last = index === options.length - 1;
      let skip = -1;
      let split = -1;
      if (!last && !behind && !nullable(option)) skip = this.emit(Op.ifSet, this.set(firstOf(option)), 0);
      if (!last) {
        split = this.emit(Op.split, 0, 0);
        this.code[split + 1] = this.code.length;
      }
      if (behind) this.emit(Op.back, lengthOf(option));
      this.add(option);
      if (!last) {
        ends.push(this.emit(Op.jump, 0));
        this.code[split + 2] = this.code.length;
        if (skip >= 0) this.code[skip + 2] = this.code.length;
      }
    }
    for (const end of ends) this.code[end + 1] = this.code.length;
  }

  #repeat(node: PatternNode & { kind: 'repeat' }): void {
    const { body, least, most, mode } = node;
    if (mode === 'possessive' && body.kind !== 'set') {
      this.#apart(Op.atomic, 0, () => this.#repeat({ ...node, mode: 'greedy' }));
      return;
    }
    if (body.kind === 'set' && mode !== 'lazy') {
      const bound = Math.min(most, 2 ** 31 - 1);
      this.emit(mode === 'greedy' ? Op.greedy : Op.possessive, this.set(body.ranges), least, bound);
      return;
    }
    for (let count = 0; count < least; count++) this.add(body);
    if (most === Number.POSITIVE_INFINITY) {
      const loop = this.emit(Op.split, 0, 0);
      this.#branch(loop, mode);
      this.add(body);
      this.emit(Op.jump, loop);
      this.#leave(loop, mode);
      return;
    }
    const splits: number[] = [];
    for (let count = least; count < most; count++) {
      splits.push(this.emit(Op.split, 0, 0));
      this.#branch(splits.at(-1)!, mode);
      this.add(body);
    }
    for (const split of splits) this.#leave(split, mode);
  }

  #branch(split: number, mode: string): void {
    this.code[split + (mode === 'lazy' ? 2 : 1)] = split + 3;
  }
  #leave(split: number, mode: string): void {
    this.code[split + (mode === 'lazy' ? 1 : 2)] = this.code.length;
  }

  #look({ body, ahead, negative }: PatternNode & { kind: 'look' }): void {
    if (ahead && body.kind === 'set') {
      this.emit(Op.aheadSet, this.set(body.ranges), negative ? 1 : 0);
      return;
    }
    this.#apart(Op.look, negative ? 1 : 0, () => {
      if (ahead) {
        this.add(body);
        return;
      }
      const options = body.kind === 'choice' ? body.options : [body];
      this.#choice(options, true);
    });
  }
}

/** How many characters a node always matches; look-behind goes back by them. */
function lengthOf(node: PatternNode): number {
  switch (node.kind) {
    case 'set':
      return 1;
    case 'sequence':
      return node.parts.reduce((sum, part) => sum + lengthOf(part), 0);
    case 'choice': {
      const lengths = node.options.map(lengthOf);
      if (lengths.some((length) => length !== lengths[0])) break;
      return lengths[0]!;
    }
    case 'repeat':
      if (node.least !== node.most) break;
      return node.least * lengthOf(node.body);
    case 'atomic':
      return lengthOf(node.body);
    default:
      return 0;
  }
  throw new PatternProblem('a look-behind of varying length is not supported');
}
