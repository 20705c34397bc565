import { alphabet } from './byte-level.ts';
import type { CodePoints } from './code-points.ts';
import type { Fields } from './fields.ts';
import { Pattern } from './pattern.ts';
import { type Behaviour, behaviours, charactersOf, cut, matchesOf } from './split.ts';
import { scriptOf, table } from './unicode.ts';
import type { Work } from './work.ts';

/** Parts of a text, in order. The first `fronts.length` parts begin with the input's first character; see `Normalised.front`. */
export interface Parts {
  readonly texts: readonly string[];
  readonly fronts: readonly number[];
}

export type PreTokenizer = (parts: Parts, work: Work) => Parts;

/** GPT-2's pattern. */
const wordsOfByteLevel = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

export function readPreTokenizer(fields: Fields, depth = 0): PreTokenizer {
  const { type } = fields;
  switch (type) {
    case 'Sequence': {
      if (depth > 8) throw fields.fail('', 'sequences nest too deep');
      const steps = fields.each('pretokenizers').map((step) => readPreTokenizer(step, depth + 1));
      return (parts, work) => steps.reduce((value, step) => step(value, work), parts);
    }
    case 'ByteLevel':
      return byteLevel(fields);
    case 'Metaspace':
      return metaspace(fields);
    case 'Split':
      return split(fields);
    case 'BertPreTokenizer': {
      const spaces = atCharacters(() => table('whitespace'), 'Removed');
      const marks = atCharacters(() => table('bertPunctuation'), 'Isolated');
      return (parts, work) => marks(spaces(parts, work), work);
    }
    case 'Punctuation':
      return atCharacters(() => table('bertPunctuation'), fields.choice('behavior', behaviours, 'Isolated'));
    case 'Digits':
      return atCharacters(() => table('numeric'), fields.flag('individual_digits') ? 'Isolated' : 'Contiguous');
    case 'WhitespaceSplit':
      return atCharacters(() => table('whitespace'), 'Removed');
    case 'Whitespace':
      return whitespace;
    case 'CharDelimiterSplit': {
      const delimiter = fields.character('delimiter');
      return divide((text, work) => cut(text.length, matchesOf(text, delimiter, work), 'Removed', false));
    }
    case 'UnicodeScripts':
      return divide(scriptRuns);
    case 'FixedLength': {
      const length = fields.whole('length', 2 ** 31 - 1, 5);
      if (length === 0) throw fields.fail('length', 'parts of no length');
      return divide((text) => chunks(text, length));
    }
    default:
      throw fields.fail('type', 'the pre-tokenizer is not known');
  }
}

/** Cuts every part; `where` gives start and end of what remains of it, by turns. Empty parts vanish. */
function divide(where: (text: string, work: Work) => readonly number[]): PreTokenizer {
  return ({ texts, fronts }, work) => {
    const out: string[] = [];
    const outFronts: number[] = [];
    for (let index = 0; index < texts.length; index++) {
      const text = texts[index]!;
      const front = index < fronts.length ? fronts[index]! : 0;
      const bounds = where(text, work);
      work.spend(1 + bounds.length + (text.length >> 2));
      for (let at = 0; at < bounds.length; at += 2) {
        const start = bounds[at]!;
        const end = bounds[at + 1]!;
        if (end <= start) continue;
        if (start < front) outFronts.push(Math.min(end, front) - start);
        out.push(start === 0 && end === text.length ? text : text.slice(start, end));
      }
    }
    return { texts: out, fronts: outFronts };
  };
}

const atCharacters = (points: () => CodePoints, behaviour: Behaviour): PreTokenizer =>
  divide((text) => cut(text.length, charactersOf(text, points()), behaviour, false));

function split(fields: Fields): PreTokenizer {
  const pattern = fields.pattern();
  if (pattern === '') throw fields.fail('pattern', 'the pattern is empty');
  const behaviour = fields.choice('behavior', behaviours);
  const invert = fields.flag('invert');
  return divide((text, work) => cut(text.length, matchesOf(text, pattern, work), behaviour, invert));
}

let byteLevelWords: Pattern | undefined;

function byteLevel(fields: Fields): PreTokenizer {
  const addSpace = fields.flag('add_prefix_space');
  const useRegex = fields.flag('use_regex', true);
  const words = divide((text, work) => {
    byteLevelWords ??= new Pattern(wordsOfByteLevel);
    return cut(text.length, byteLevelWords.findAll(text, work), 'Isolated', false);
  });
  const withSpace = (text: string) => (text.startsWith(' ') ? text : ` ${text}`);
  return (parts, work) => {
    let value = parts;
    if (addSpace) {
      const { texts, fronts } = value;
      value = {
        texts: texts.map(withSpace),
        fronts: fronts.map((front, index) => (texts[index]!.startsWith(' ') ? front : front + 1)),
      };
    }
    if (useRegex) value = words(value, work);
    const { texts, fronts } = value;
    return {
      texts: texts.map(alphabet.write),
      fronts: fronts.map((front, index) => alphabet.write(texts[index]!.slice(0, front)).length),
    };
  };
}

export const schemes = ['always', 'first', 'never'] as const;

/** Metaspace's fields, which its decoder reads as well. */
export function readMetaspace(fields: Fields): { replacement: string; scheme: (typeof schemes)[number]; split: boolean } {
  const replacement = fields.character('replacement');
  const scheme = fields.choice('prepend_scheme', schemes, 'always');
  if (fields.raw('add_prefix_space') === false && scheme !== 'never')
    throw fields.fail('add_prefix_space', 'the field contradicts prepend_scheme');
  return { replacement, scheme, split: fields.raw('split') === null ? true : fields.flag('split', true) };
}

function metaspace(fields: Fields): PreTokenizer {
  const { replacement, scheme, split } = readMetaspace(fields);
  const replaced = (text: string) => (replacement === ' ' ? text : text.split(' ').join(replacement));
  const words = divide((text, work) => cut(text.length, matchesOf(text, replacement, work), 'MergedWithNext', false));
  return ({ texts, fronts }, work) => {
    const out: string[] = [];
    const outFronts: number[] = [];
    for (let index = 0; index < texts.length; index++) {
      const text = replaced(texts[index]!);
      const first = index < fronts.length;
      const prefix = !text.startsWith(replacement) && (scheme === 'always' || (scheme === 'first' && first));
      if (first) outFronts.push(replaced(texts[index]!.slice(0, fronts[index]!)).length + (prefix ? replacement.length : 0));
      out.push(prefix ? replacement + text : text);
    }
    const value = { texts: out, fronts: outFronts };
    return split ? words(value, work) : value;
  };
}

/** Runs of word characters and runs of what is neither these nor white space. */
const whitespace: PreTokenizer = divide((text) => {
  const words = table('regexWord');
  const spaces = table('whitespace');
  const bounds: number[] = [];
  let before = 0;
  for (let at = 0; at < text.length; ) {
    const point = text.codePointAt(at)!;
    const next = at + (point > 0xffff ? 2 : 1);
    const kind = words.has(point) ? 1 : spaces.has(point) ? 0 : 2;
    if (kind !== 0) {
      if (kind === before) bounds[bounds.length - 1] = next;
      else bounds.push(at, next);
    }
    before = kind;
    at = next;
  }
  return bounds;
});

/** Cuts where the script changes. Spaces have none; those at the start belong to no part. */
function scriptRuns(text: string): number[] {
  const bounds: number[] = [];
  let before = '';
  for (let at = 0; at < text.length; ) {
    const point = text.codePointAt(at)!;
    const script = scriptOf(point);
    if (script !== '' && script !== before) {
      if (bounds.length > 0) bounds.push(at);
      bounds.push(at);
      before = script;
    }
    at += point > 0xffff ? 2 : 1;
  }
  if (bounds.length > 0) bounds.push(text.length);
  return bounds;
}

function chunks(text: string, length: number): number[] {
  const bounds: number[] = [];
  let count = 0;
  let from = 0;
  for (let at = 0; at < text.length; ) {
    at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    if (++count < length && at < text.length) continue;
    bounds.push(from, at);
    from = at;
    count = 0;
  }
  return bounds;
}
