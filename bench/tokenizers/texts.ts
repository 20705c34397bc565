import { scriptNames, scripts } from '../../src/models/tokenizer/character-tables.ts';

/** A generator of numbers below `limit` from a seed (mulberry32). */
export function drawer(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return Math.floor((((word ^ (word >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

export type Draw = (limit: number) => number;
export const pick = <T>(draw: Draw, values: readonly T[]): T => values[draw(values.length)]!;

/** Stretches of code points of every script. */
function stretchesByScript(): Map<string, [number, number][]> {
  const names = scriptNames.split(' ');
  const found = new Map<string, [number, number][]>();
  let from = 0;
  for (const [, length, letters] of scripts.matchAll(/([0-9a-z]+)([A-Z]+)/g)) {
    let value = 0;
    for (const letter of letters!) value = value * 26 + letter.charCodeAt(0) - 64;
    const to = from + Number.parseInt(length!, 36);
    const name = names[value - 1]!;
    if (name !== 'Unknown') found.set(name, [...(found.get(name) ?? []), [from, to]]);
    from = to;
  }
  return found;
}
const byScript = stretchesByScript();
export const scriptsOfUnicode: readonly string[] = [...byScript.keys()];

const inStretches = (draw: Draw, stretches: readonly (readonly [number, number])[]): string => {
  const [from, to] = pick(draw, stretches);
  return String.fromCodePoint(from + draw(to - from));
};

const spaces = [
  ...' \t\n\r\v\f\u0085\u00a0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u2060\ufeff▁',
];
const oddities = [
  '\0',
  '\x01',
  '\x7f',
  '\x8f',
  '\x9f',
  '\ufffd',
  '\u00ad',
  '\u202e',
  '\u2066',
  '\ufff9',
  '\ufdd0',
  '\uffff',
  '\u{10ffff}',
  '\ue000',
  '\u{e0001}',
  'ß',
  'ſ',
  '\u212a',
  '\u212b',
  '\u2126',
  'K',
  'Å',
  'ﬁ',
  'ﬃ',
  'ﬆ',
  'İ',
  'ı',
  'ΑΣ',
  'Σ',
  'ς',
  'Ǆ',
  'ǅ',
  '①',
  '½',
  '²',
  '㎏',
  '㍿',
  'ｱｶﾞ',
  'Ａ１！',
  '﷽',
  'ꓘ',
  '۱۲۳',
  '१२३',
  '𝟙𝟚',
  'Ⅷ',
  'é',
  'e\u0301',
  'ë\u0323',
  'q\u0307\u0323',
  '\u0344',
  '\u0340',
  'Ω',
  '각',
  '\u1100\u1161\u11a8',
  '\u1112\u1161\u11ab',
  'क्ष',
  'ক্\u200d',
  '\u0d15\u0d4d\u0d15',
  'נָּ',
  '👨‍👩‍👧‍👦',
  '👍🏽',
  '🏳️‍🌈',
  '🇩🇪',
  '🇩🇪🇫🇷🇮',
  '☺️',
  '©\u200d',
  '1️⃣',
  '\u{1f9d1}\u200d\u{1f4bb}',
  '\u0600\u0661',
  '\u{110bd}\u0915',
  "'s",
  "'S",
  "'LL",
  "'re",
  '’s',
  "n't",
  ' do not',
  ' .',
  ' ,',
  " ' ",
  '...',
  '--',
  '—',
  '¿',
  '、',
  '。',
  '「',
  '<',
  '>',
  '##',
  '</w>',
  '<0x41>',
  '<0x0A>',
  '_',
  '\r\n',
  '\n\n',
  '  ',
  '   ',
  '\t\t',
];

/** One text of a seed: real words, every script, marks, spaces, controls, tokens of the vocabulary. */
export function drawText(draw: Draw, words: readonly string[], tokens: readonly string[]): string {
  let out = '';
  const parts = 1 + draw(draw(4) === 0 ? 40 : 10);
  let script = byScript.get(pick(draw, scriptsOfUnicode))!;
  for (let part = 0; part < parts; part++) {
    switch (draw(14)) {
      case 0:
      case 1:
      case 2:
        out += (draw(3) > 0 ? ' ' : '') + pick(draw, words);
        break;
      case 3:
        script = byScript.get(pick(draw, scriptsOfUnicode))!;
        out += inStretches(draw, script);
        break;
      case 4:
      case 5:
        for (let count = draw(6); count >= 0; count--) out += inStretches(draw, script);
        break;
      case 6:
        out += inStretches(
          draw,
          byScript.get(pick(draw, ['Inherited', 'Common', 'Latin', 'Han', 'Arabic', 'Greek', 'Devanagari', 'Hangul']))!,
        );
        break;
      case 7:
        for (let count = draw(3); count >= 0; count--) out += pick(draw, spaces);
        break;
      case 8:
      case 9:
        out += pick(draw, oddities);
        break;
      case 10: {
        const point = draw(0x110000);
        out += String.fromCodePoint(point >= 0xd800 && point < 0xe000 ? point - 0x800 : point);
        break;
      }
      case 11:
        out += pick(draw, tokens);
        break;
      case 12:
        out += pick(draw, [' ', '', '\n']) + pick(draw, words).toUpperCase();
        break;
      default:
        out += draw(40) === 0 ? pick(draw, [...'aé漢.▁ \u0301']).repeat(1 + draw(300)) : String(draw(100000));
    }
  }
  return out.replace(/\p{Surrogate}/gu, '\ufffd');
}
