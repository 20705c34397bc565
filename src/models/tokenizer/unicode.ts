import { categories, differences, laterLetters, scriptNames, scripts } from './character-tables.ts';
import { CodePoints, complement, difference, exclusive, type Ranges, union } from './code-points.ts';

/**
 * The character tables of the reference library, which mixes six of several Unicode versions. Those of the runtime serve only where a
 * mapping is for ever: the small letters and the normal forms of characters that were known long ago.
 */
const codes = 'Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn'.split(' ');
const longNames: Readonly<Record<string, string>> = {
  letter: 'L',
  casedletter: 'LC',
  uppercaseletter: 'Lu',
  lowercaseletter: 'Ll',
  titlecaseletter: 'Lt',
  modifierletter: 'Lm',
  otherletter: 'Lo',
  mark: 'M',
  combiningmark: 'M',
  nonspacingmark: 'Mn',
  spacingmark: 'Mc',
  enclosingmark: 'Me',
  number: 'N',
  decimalnumber: 'Nd',
  letternumber: 'Nl',
  othernumber: 'No',
  punctuation: 'P',
  punct: 'P',
  connectorpunctuation: 'Pc',
  dashpunctuation: 'Pd',
  openpunctuation: 'Ps',
  closepunctuation: 'Pe',
  initialpunctuation: 'Pi',
  finalpunctuation: 'Pf',
  otherpunctuation: 'Po',
  symbol: 'S',
  mathsymbol: 'Sm',
  currencysymbol: 'Sc',
  modifiersymbol: 'Sk',
  othersymbol: 'So',
  separator: 'Z',
  spaceseparator: 'Zs',
  lineseparator: 'Zl',
  paragraphseparator: 'Zp',
  other: 'C',
  control: 'Cc',
  format: 'Cf',
  privateuse: 'Co',
  unassigned: 'Cn',
};

/** Runs of values: a length in base 36, then the value's index as letters. */
function readRuns(text: string): Map<number, number[]> {
  const byValue = new Map<number, number[]>();
  let from = 0;
  for (const [, length, letters] of text.matchAll(/([0-9a-z]+)([A-Z]+)/g)) {
    let value = 0;
    for (const letter of letters!) value = value * 26 + letter.charCodeAt(0) - 64;
    const to = from + Number.parseInt(length!, 36);
    const ranges = byValue.get(value - 1);
    if (ranges === undefined) byValue.set(value - 1, [from, to - 1]);
    else ranges.push(from, to - 1);
    from = to;
  }
  return byValue;
}

function readSet(text: string): Ranges {
  const ranges: number[] = [];
  let at = 0;
  for (const [index, word] of (text === '' ? [] : text.split(',')).entries()) {
    const length = Number.parseInt(word, 36);
    if (index % 2 === 1) ranges.push(at, at + length - 1);
    at += length;
  }
  return ranges;
}

let categoryRanges: Map<number, number[]> | undefined;
let scriptRanges: Map<number, number[]> | undefined;

/** All categories whose code begins with one of these. */
function inCategories(...prefixes: readonly string[]): Ranges {
  categoryRanges ??= readRuns(categories);
  const found: Ranges[] = [];
  for (const [index, code] of codes.entries()) {
    if (prefixes.some((prefix) => code.startsWith(prefix))) found.push(categoryRanges.get(index) ?? []);
  }
  return union(...found);
}

const asciiPunctuation: Ranges = [33, 47, 58, 64, 91, 96, 123, 126];
const formulas: Readonly<Record<keyof typeof differences, () => Ranges>> = {
  word: () => inCategories('L', 'M', 'Nd', 'Pc'),
  space: () => inCategories('Z'),
  alphabetic: () => inCategories('L', 'M'),
  upper: () => inCategories('Lu'),
  lower: () => inCategories('Ll'),
  punctuation: () => inCategories('P', 'S'),
  numeric: () => inCategories('N'),
  whitespace: () => inCategories('Z'),
  regexWord: () => inCategories('L', 'M', 'Nd', 'Pc'),
  bertPunctuation: () => union(inCategories('P'), asciiPunctuation),
  bertControl: () => inCategories('Cc', 'Cf', 'Co'),
  nonspacing: () => inCategories('Mn'),
  combining: () => inCategories('M'),
  notNormalised: () => inCategories('Cn'),
  chinese: () => [],
  graphemeControl: () => inCategories('Cc', 'Cf', 'Zl', 'Zp'),
  graphemeExtend: () => inCategories('Mn', 'Me'),
  graphemeSpacing: () => inCategories('Mc'),
  graphemePrepend: () => [],
  pictographic: () => [],
  consonant: () => [],
  linker: () => [],
};

const tables = new Map<keyof typeof differences, CodePoints>();

/** A set of code points that a component of the reference library knows. */
export function table(name: keyof typeof differences): CodePoints {
  let found = tables.get(name);
  if (found === undefined) {
    found = new CodePoints(exclusive(formulas[name](), readSet(differences[name])));
    tables.set(name, found);
  }
  return found;
}

const hexDigits: Ranges = [48, 57, 65, 70, 97, 102];
const named: Readonly<Record<string, () => Ranges>> = {
  any: () => [0, 0x10ffff],
  ascii: () => [0, 127],
  assigned: () => complement(inCategories('Cn')),
  lc: () => inCategories('Lu', 'Ll', 'Lt'),
  word: () => table('word').ranges,
  // Within brackets Oniguruma leaves out six numbers that it takes elsewhere: ² ³ ¹ ¼ ½ ¾.
  bracketword: () => difference(table('word').ranges, [0xb2, 0xb3, 0xb9, 0xb9, 0xbc, 0xbe]),
  space: () => table('space').ranges,
  whitespace: () => table('space').ranges,
  alpha: () => table('alphabetic').ranges,
  alphabetic: () => table('alphabetic').ranges,
  alnum: () => union(table('alphabetic').ranges, inCategories('Nd')),
  digit: () => inCategories('Nd'),
  upper: () => table('upper').ranges,
  uppercase: () => table('upper').ranges,
  lower: () => table('lower').ranges,
  lowercase: () => table('lower').ranges,
  xdigit: () => hexDigits,
  cntrl: () => inCategories('Cc'),
  blank: () => union(inCategories('Zs'), [9, 9]),
  posixpunct: () => table('punctuation').ranges,
  graph: () => difference(complement(inCategories('Cc', 'Cn')), table('space').ranges),
  print: () => union(named.graph!(), inCategories('Zs')),
};

export const propertyNames = {
  /** Names between [: and :]. */
  posix: new Set([
    'alnum',
    'alpha',
    'ascii',
    'blank',
    'cntrl',
    'digit',
    'graph',
    'lower',
    'print',
    'punct',
    'space',
    'upper',
    'word',
    'xdigit',
  ]),
};

/** A property by its name in small letters without spaces, hyphens and underscores; undefined where it is not known. */
export function property(name: string): Ranges | undefined {
  const code =
    longNames[name] ??
    codes.find((known) => known.toLowerCase() === name) ??
    (/^[lmnpszc]$/.test(name) ? name.toUpperCase() : undefined);
  if (code === 'LC' || name === 'lc') return named.lc!();
  if (code !== undefined) return inCategories(code);
  if (Object.hasOwn(named, name)) return named[name]!();
  const script = scriptNames.split(' ').findIndex((known) => known.toLowerCase().replaceAll('_', '') === name);
  if (script <= 0) return undefined;
  scriptRanges ??= readRuns(scripts);
  return scriptRanges.get(script) ?? [];
}

let scriptStarts: { readonly starts: Int32Array; readonly names: readonly string[] } | undefined;
/** Where the older table of scripts has another value. */
const olderScripts: Readonly<Record<number, string>> = { 2387: 'Devanagari', 2388: 'Devanagari', 1417: 'Common', 1564: 'Common' };

/** The script of a code point as SentencePiece sees it: kana count as Han; spaces and what Unicode 9 did not know have none (''). */
export function scriptOf(point: number): string {
  if (point === 32 || table('notNormalised').has(point)) return '';
  if (point === 0x30fc) return 'Han';
  const older = olderScripts[point];
  if (older !== undefined) return older;
  scriptStarts ??= sortedScripts();
  const { starts, names } = scriptStarts;
  let low = 0;
  let high = starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle]! <= point) low = middle;
    else high = middle;
  }
  const name = names[low]!;
  if (name === 'Hiragana' || name === 'Katakana') return 'Han';
  return name === 'Unknown' ? '' : name;
}

function sortedScripts(): { starts: Int32Array; names: string[] } {
  const known = scriptNames.split(' ');
  const runs: [number, string][] = [];
  for (const [value, ranges] of readRuns(scripts)) {
    for (let index = 0; index < ranges.length; index += 2) runs.push([ranges[index]!, known[value]!]);
  }
  runs.sort((a, b) => a[0] - b[0]);
  return { starts: Int32Array.from(runs, ([start]) => start), names: runs.map(([, name]) => name) };
}

let later: Map<string, string> | undefined;

/** Small letters, each character by itself: a sigma at the end of a word is a sigma like any other. */
export function lowercase(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
  if (/^[\x00-\x7f]*$/.test(text)) return text.toLowerCase();
  later ??= pairs(laterLetters);
  let out = '';
  for (const character of text) {
    const known = later.get(character);
    out +=
      known ??
      (table('notNormalised').has(character.codePointAt(0)!) && unknown(character) ? character : character.toLowerCase());
  }
  return out;
}

let unassigned: CodePoints | undefined;
function unknown(character: string): boolean {
  unassigned ??= new CodePoints(inCategories('Cn'));
  return unassigned.has(character.codePointAt(0)!);
}

function pairs(text: string): Map<string, string> {
  const characters = Array.from(text);
  const out = new Map<string, string>();
  for (let index = 0; index < characters.length; index += 2) out.set(characters[index]!, characters[index + 1]!);
  return out;
}

/**
 * A normal form by Unicode 9, which the reference library knows: a later character is a starter that nothing joins, so the text is
 * normalised in the stretches between them.
 */
export function normalise(text: string, form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
  if (/^[\x00-\x7f]*$/.test(text)) return text;
  const later = table('notNormalised');
  let out = '';
  let from = 0;
  for (let at = 0; at < text.length; ) {
    const point = text.codePointAt(at)!;
    const next = at + (point > 0xffff ? 2 : 1);
    if (point >= 0x560 && later.has(point)) {
      out += text.slice(from, at).normalize(form) + text.slice(at, next);
      from = next;
    }
    at = next;
  }
  return from === 0 ? text.normalize(form) : out + text.slice(from).normalize(form);
}
