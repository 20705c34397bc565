import { complement, intersection, type Ranges, union } from './code-points.ts';
import { property, propertyNames } from './unicode.ts';

/** A pattern as a tree. Sets stand for one code point. */
export type PatternNode =
  | { readonly kind: 'set'; readonly ranges: Ranges }
  | { readonly kind: 'sequence'; readonly parts: readonly PatternNode[] }
  | { readonly kind: 'choice'; readonly options: readonly PatternNode[] }
  | { readonly kind: 'repeat'; readonly body: PatternNode; readonly least: number; readonly most: number; readonly mode: Mode }
  | { readonly kind: 'look'; readonly body: PatternNode; readonly ahead: boolean; readonly negative: boolean }
  | { readonly kind: 'atomic'; readonly body: PatternNode }
  | { readonly kind: 'anchor'; readonly at: Anchor };
export type Mode = 'greedy' | 'lazy' | 'possessive';
export type Anchor = 'textStart' | 'textEnd' | 'lastLineEnd' | 'lineStart' | 'lineEnd' | 'wordEdge' | 'noWordEdge';

const lengthLimit = 10_000;
const depthLimit = 40;
const repeatLimit = 1000;

/** Why a pattern is refused. */
export class PatternProblem extends Error {}

interface Options {
  readonly ignoreCase: boolean;
  readonly dotAll: boolean;
}

const everything: Ranges = [0, 0x10ffff];
const escapes: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, a: 7, e: 27 };
const anchors: Readonly<Record<string, Anchor>> = {
  A: 'textStart',
  z: 'textEnd',
  Z: 'lastLineEnd',
  b: 'wordEdge',
  B: 'noWordEdge',
};
/** Two letters that some single character equals when case is ignored (ß, ﬁ, ﬆ and their like). */
const foldedPairs = /ss|st|ff|fi|fl/;

/**
 * Reads the syntax of Oniguruma, in which tokenizer.json writes its patterns. What would need a stack of captures, or whose meaning
 * differs between engines, is refused with its name.
 */
export const parsePattern = (text: string): PatternNode => new Reader(text).whole();

const refuse = (what: string): never => {
  throw new PatternProblem(`${what} is not supported`);
};

class Reader {
  readonly #points: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    if (text.length > lengthLimit) throw new PatternProblem(`it has more than ${lengthLimit} characters`);
    this.#points = Array.from(text);
  }

  whole(): PatternNode {
    const tree = this.#choice({ ignoreCase: false, dotAll: false });
    if (this.#at < this.#points.length) throw new PatternProblem(`there is a ) too many at character ${this.#at}`);
    return tree;
  }

  #peek(word: string): boolean {
    for (let index = 0; index < word.length; index++) if (this.#points[this.#at + index] !== word[index]) return false;
    return true;
  }
  #take(word: string): boolean {
    if (!this.#peek(word)) return false;
    this.#at += word.length;
    return true;
  }
  #need(word: string): void {
    if (!this.#take(word)) throw new PatternProblem(`there is no ${word} at character ${this.#at}`);
  }
  #nested<T>(work: () => T): T {
    if (++this.#depth > depthLimit) throw new PatternProblem(`it nests deeper than ${depthLimit}`);
    const value = work();
    this.#depth--;
    return value;
  }

  #choice(options: Options): PatternNode {
    return this.#nested(() => {
      const found: PatternNode[] = [this.#sequence(options)];
      while (this.#take('|')) found.push(this.#sequence(options));
      return found.length === 1 ? found[0]! : { kind: 'choice', options: found };
    });
  }

  #sequence(options: Options): PatternNode {
    const parts: PatternNode[] = [];
    let before = '';
    while (this.#at < this.#points.length && this.#points[this.#at] !== '|' && this.#points[this.#at] !== ')') {
      const flags = this.#inlineFlags(options);
      if (flags !== undefined) {
        // The rest of the group, its choices included, stands under the new flags.
        parts.push(this.#choice(flags));
        break;
      }
      const from = this.#at;
      const atom = this.#one(options);
      const letter = from + 1 === this.#at && options.ignoreCase ? this.#points[from]!.toLowerCase() : '';
      if (letter !== '' && foldedPairs.test(before + letter)) refuse(`"${before}${letter}" where case is ignored`);
      before = letter;
      parts.push(this.#repeated(atom));
    }
    return parts.length === 1 ? parts[0]! : { kind: 'sequence', parts };
  }

  /** (?i) and (?m) in the middle: they hold up to the end of their group. */
  #inlineFlags(options: Options): Options | undefined {
    if (!this.#peek('(?')) return undefined;
    let end = this.#at + 2;
    while (/^[imx-]$/.test(this.#points[end] ?? '')) end++;
    if (end === this.#at + 2 || this.#points[end] !== ')') return undefined;
    const flags = this.#withFlags(this.#points.slice(this.#at + 2, end).join(''), options);
    this.#at = end + 1;
    return flags;
  }
  #withFlags(letters: string, options: Options): Options {
    const [on = '', off = ''] = letters.split('-');
    if (letters.includes('x')) refuse('the flag x');
    return {
      ignoreCase: (options.ignoreCase || on.includes('i')) && !off.includes('i'),
      dotAll: (options.dotAll || on.includes('m')) && !off.includes('m'),
    };
  }

  #repeated(atom: PatternNode): PatternNode {
    let node = atom;
    for (;;) {
      const bounds = this.#quantifier();
      if (bounds === undefined) return node;
      if (atom.kind === 'anchor' || atom.kind === 'look') refuse('a repeated assertion');
      let mode: Mode = 'greedy';
      if (!bounds.interval) mode = this.#take('?') ? 'lazy' : this.#take('+') ? 'possessive' : 'greedy';
      else if (this.#peek('+')) refuse('{n,m}+');
      else if (this.#peek('?') && bounds.least === bounds.most) refuse('{n}?');
      else if (this.#take('?')) mode = 'lazy';
      if (nullable(node) && bounds.most === Number.POSITIVE_INFINITY) refuse('a repetition of what can be empty');
      node = { kind: 'repeat', body: node, least: bounds.least, most: bounds.most, mode };
    }
  }
  #quantifier(): { least: number; most: number; interval: boolean } | undefined {
    if (this.#take('*')) return { least: 0, most: Number.POSITIVE_INFINITY, interval: false };
    if (this.#take('+')) return { least: 1, most: Number.POSITIVE_INFINITY, interval: false };
    if (this.#take('?')) return { least: 0, most: 1, interval: false };
    if (!this.#peek('{')) return undefined;
    const text = this.#points.slice(this.#at, this.#at + 24).join('');
    const found = /^\{(\d{1,9}),?\}|^\{(\d{0,9}),(\d{0,9})\}/.exec(text);
    // Braces that say no bounds are braces.
    if (found === null || found[0] === '{,}') return undefined;
    this.#at += found[0].length;
    const least = Number(found[1] ?? (found[2] || 0));
    const open = found[0].endsWith(',}');
    const most = open ? Number.POSITIVE_INFINITY : Number(found[1] ?? found[3]);
    if (least > repeatLimit || (most > repeatLimit && !open)) refuse(`a repetition of more than ${repeatLimit}`);
    if (least > most) refuse('{n,m} with n above m');
    return { least, most, interval: true };
  }

  #one(options: Options): PatternNode {
    const character = this.#points[this.#at]!;
    if (character === '(') return this.#group(options);
    if (character === '[') return { kind: 'set', ranges: folded(this.#bracket(), options, 'a class') };
    if (character === '\\') return this.#escaped(options);
    this.#at++;
    if (character === '.') return { kind: 'set', ranges: options.dotAll ? everything : complement([10, 10]) };
    if (character === '^') return { kind: 'anchor', at: 'lineStart' };
    if (character === '$') return { kind: 'anchor', at: 'lineEnd' };
    if (character === '*' || character === '+' || character === '?') refuse('a quantifier of nothing');
    return { kind: 'set', ranges: literal(character.codePointAt(0)!, options) };
  }

  #group(options: Options): PatternNode {
    this.#need('(');
    if (this.#take('*')) refuse('a callout');
    let wrap = (body: PatternNode): PatternNode => body;
    let inner = options;
    if (this.#take('?')) {
      if (this.#take('>')) wrap = (body) => ({ kind: 'atomic', body });
      else if (this.#take('=')) wrap = (body) => ({ kind: 'look', body, ahead: true, negative: false });
      else if (this.#take('!')) wrap = (body) => ({ kind: 'look', body, ahead: true, negative: true });
      else if (this.#take('<=')) wrap = (body) => ({ kind: 'look', body, ahead: false, negative: false });
      else if (this.#take('<!')) wrap = (body) => ({ kind: 'look', body, ahead: false, negative: true });
      else if (this.#take('<')) {
        while (this.#at < this.#points.length && this.#points[this.#at] !== '>') this.#at++;
        this.#need('>');
      } else {
        let flags = '';
        while (/^[imx-]$/.test(this.#points[this.#at] ?? '')) flags += this.#points[this.#at++];
        if (!this.#take(':')) refuse(`(?${this.#points[this.#at] ?? ''}`);
        inner = this.#withFlags(flags, options);
      }
    }
    const body = this.#choice(inner);
    this.#need(')');
    return wrap(body);
  }

  #escaped(options: Options): PatternNode {
    const name = this.#points[this.#at + 1] ?? '';
    const anchor = anchors[name];
    if (anchor !== undefined) {
      this.#at += 2;
      return { kind: 'anchor', at: anchor };
    }
    const set = this.#classEscape();
    if (set !== undefined) return { kind: 'set', ranges: folded(set, options, 'a property') };
    return { kind: 'set', ranges: literal(this.#character(), options) };
  }

  /** \s, \p{L} and their like; nothing is read where the escape is a single character. */
  #classEscape(inBrackets = false): Ranges | undefined {
    const name = this.#points[this.#at + 1] ?? '';
    const short = { s: 'space', d: 'nd', w: inBrackets ? 'bracketword' : 'word', h: 'xdigit' }[name.toLowerCase()];
    if (short !== undefined) {
      this.#at += 2;
      const found = property(short)!;
      return name === name.toLowerCase() ? found : complement(found);
    }
    if (name === 'N' || name === 'O') {
      this.#at += 2;
      return name === 'N' ? complement([10, 10]) : everything;
    }
    if (name !== 'p' && name !== 'P') return undefined;
    this.#at += 2;
    this.#need('{');
    let negative = name === 'P';
    if (this.#take('^')) negative = !negative;
    const end = this.#points.indexOf('}', this.#at);
    if (end < 0 || end > this.#at + 60) throw new PatternProblem('a property has no end');
    const wanted = this.#points.slice(this.#at, end).join('');
    this.#at = end + 1;
    const found = property(wanted.toLowerCase().replace(/[\s_-]/g, ''));
    if (found === undefined) return refuse(`\\p{${/^[\w\s-]*$/.test(wanted) ? wanted : '…'}}`);
    return negative ? complement(found) : found;
  }

  /** One character, written as itself or escaped. */
  #character(): number {
    if (this.#points[this.#at] !== '\\') return this.#points[this.#at++]!.codePointAt(0)!;
    const name = this.#points[this.#at + 1];
    if (name === undefined) throw new PatternProblem('it ends with a \\');
    this.#at += 2;
    if (escapes[name] !== undefined) return escapes[name];
    const hex = { x: /^\{([\dA-Fa-f]{1,8})\}|^([\dA-Fa-f]{2})/, u: /^([\dA-Fa-f]{4})/ }[name];
    if (hex !== undefined) {
      const found = hex.exec(this.#points.slice(this.#at, this.#at + 12).join(''));
      const value = found === null ? Number.NaN : Number.parseInt(found[1] ?? found[2]!, 16);
      if (!(value <= 0x10ffff) || (value >= 0xd800 && value < 0xe000) || (name === 'x' && !found![1] && value > 127))
        return refuse(`\\${name} of this form`);
      this.#at += found![0].length;
      return value;
    }
    if (name === '0' && !/\d/.test(this.#points[this.#at] ?? '')) return 0;
    if (/^[A-Za-z0-9]$/.test(name)) return refuse(`\\${name}`);
    return name.codePointAt(0)!;
  }

  #bracket(): Ranges {
    return this.#nested(() => {
      this.#need('[');
      const negative = this.#take('^');
      if (this.#peek(']')) refuse('a class that is empty or starts with ]');
      let whole: Ranges | undefined;
      let members: Ranges[] = [];
      while (!this.#peek(']')) {
        if (this.#at >= this.#points.length) throw new PatternProblem('a class has no end');
        if (this.#take('&&')) {
          whole = whole === undefined ? union(...members) : intersection(whole, union(...members));
          members = [];
        } else members.push(this.#member());
      }
      this.#need(']');
      const found = union(...members);
      const all = whole === undefined ? found : intersection(whole, found);
      return negative ? complement(all) : all;
    });
  }

  #member(): Ranges {
    if (this.#peek('[:')) {
      const end = this.#points
        .slice(this.#at, this.#at + 14)
        .join('')
        .indexOf(':]');
      if (end > 0) {
        const name = this.#points.slice(this.#at + 2, this.#at + end).join('');
        const plain = name.replace(/^\^/, '');
        const found = propertyNames.posix.has(plain)
          ? property({ punct: 'posixpunct', word: 'bracketword' }[plain] ?? plain)
          : undefined;
        if (found === undefined) return refuse(`[:${/^\w*$/.test(plain) ? plain : '…'}:]`);
        this.#at += end + 2;
        return name === plain ? found : complement(found);
      }
    }
    if (this.#peek('[')) return this.#bracket();
    if (this.#peek('\\')) {
      const set = this.#classEscape(true);
      if (set !== undefined) {
        if (this.#peek('-') && this.#points[this.#at + 1] !== ']') refuse('a range that begins with a class');
        return set;
      }
    }
    const first = this.#peek('\\b') ? refuse('\\b in a class') : this.#character();
    if (!this.#peek('-') || this.#points[this.#at + 1] === ']' || this.#at + 1 >= this.#points.length) return [first, first];
    this.#at++;
    if (
      this.#peek('[') ||
      this.#peek('\\p') ||
      this.#peek('\\P') ||
      /^\\[sSdDwWhH]$/.test(this.#points.slice(this.#at, this.#at + 2).join(''))
    )
      refuse('a range that ends with a class');
    const last = this.#character();
    if (last < first) throw new PatternProblem('a range runs backwards');
    return [first, last];
  }
}

/** The characters that equal one when case is ignored. */
function literal(point: number, { ignoreCase }: Options): Ranges {
  if (!ignoreCase) return [point, point];
  const text = String.fromCodePoint(point);
  if (point > 127 && (text.toLowerCase() !== text || text.toUpperCase() !== text))
    throw new PatternProblem('a letter beyond ASCII where case is ignored is not supported');
  return asciiFold([point, point]);
}

/** Case is ignored for ASCII alone: elsewhere one character may equal several, on which engines differ. */
function folded(ranges: Ranges, { ignoreCase }: Options, what: string): Ranges {
  if (!ignoreCase) return ranges;
  if (ranges.length > 0 && ranges.at(-1)! > 127)
    throw new PatternProblem(`${what} beyond ASCII where case is ignored is not supported`);
  return asciiFold(ranges);
}

function asciiFold(ranges: Ranges): Ranges {
  const more: Ranges[] = [ranges];
  for (let index = 0; index < ranges.length; index += 2) {
    for (let point = ranges[index]!; point <= ranges[index + 1]!; point++) {
      const lower = point | 32;
      if (lower < 97 || lower > 122 || (point !== lower && point !== lower - 32)) continue;
      more.push([lower, lower], [lower - 32, lower - 32]);
      // The long s and the sign of kelvin.
      if (lower === 115) more.push([0x17f, 0x17f]);
      if (lower === 107) more.push([0x212a, 0x212a]);
    }
  }
  return union(...more);
}

/** Whether a pattern can match the empty text. */
export function nullable(node: PatternNode): boolean {
  switch (node.kind) {
    case 'set':
      return false;
    case 'sequence':
      return node.parts.every(nullable);
    case 'choice':
      return node.options.some(nullable);
    case 'repeat':
      return node.least === 0 || nullable(node.body);
    case 'atomic':
      return nullable(node.body);
    default:
      return true;
  }
}
