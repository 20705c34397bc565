import { alphabet } from './byte-level.ts';
import type { CodePoints } from './code-points.ts';
import type { Fields } from './fields.ts';
import { Charsmap } from './precompiled.ts';
import { replaceAll } from './split.ts';
import { lowercase, normalise, table } from './unicode.ts';
import type { Work } from './work.ts';

/**
 * Text on its way to the model. `front` counts the units at its start that come from the first character of the whole input (or were
 * put before it); Metaspace with `first` asks for it. −1: none of this text does.
 */
export interface Normalised {
  readonly text: string;
  readonly front: number;
}

/** One step of normalisation. */
export type Normalizer = (input: Normalised, work: Work) => Normalised;

const forms = ['NFC', 'NFD', 'NFKC', 'NFKD'] as const;

export function readNormalizer(fields: Fields, depth = 0): Normalizer {
  const { type } = fields;
  switch (type) {
    case 'Sequence': {
      if (depth > 8) throw fields.fail('', 'sequences nest too deep');
      const steps = fields.each('normalizers').map((step) => readNormalizer(step, depth + 1));
      return (input, work) => {
        let value = input;
        for (const step of steps) {
          value = step(value, work);
          work.spend(1 + value.text.length);
          work.grown(value.text.length);
        }
        return value;
      };
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return ({ text, front }) => normalised(text, front, forms.find((form) => form === type)!);
    case 'Lowercase':
      return byCharacter(lowercase);
    case 'StripAccents':
      return byCharacter(without(table('combining')));
    case 'Nmt':
      return byCharacter(nmt);
    case 'ByteLevel':
      return byCharacter(alphabet.write);
    case 'BertNormalizer':
      return bert(fields);
    case 'Strip':
      return strip(fields.flag('strip_left'), fields.flag('strip_right'));
    case 'Prepend': {
      const prefix = fields.string('prepend');
      return ({ text, front }) => {
        if (text === '') return { text, front };
        return { text: prefix + text, front: front < 0 ? front : prefix.length + Math.max(front, 0) };
      };
    }
    case 'Replace':
      return replace(fields);
    case 'Precompiled': {
      const charsmap = new Charsmap(fields);
      return ({ text, front }, work) => {
        const mapped = charsmap.apply(text, work);
        return { text: mapped, front: front <= 0 ? front : charsmap.frontOf(text, mapped, front) };
      };
    }
    default:
      throw fields.fail('type', 'the normalizer is not known');
  }
}

/** A step that turns each character into others by itself. */
const byCharacter =
  (change: (text: string) => string): Normalizer =>
  ({ text, front }) => ({ text: change(text), front: front <= 0 ? front : change(text.slice(0, front)).length });

function normalised(text: string, front: number, form: (typeof forms)[number]): Normalised {
  const out = normalise(text, form);
  if (front <= 0) return { text: out, front };
  const prefix = normalise(text.slice(0, front), form);
  const apart = prefix + normalise(text.slice(front), form) === out;
  // Where the first character takes marks behind it into itself, it is the character they make together.
  return { text: out, front: apart ? prefix.length : out.codePointAt(0)! > 0xffff ? 2 : 1 };
}

function without(points: CodePoints): (text: string) => string {
  return (text) => {
    let out = '';
    let from = 0;
    for (let at = 0; at < text.length; ) {
      const point = text.codePointAt(at)!;
      const next = at + (point > 0xffff ? 2 : 1);
      if (points.has(point)) {
        out += text.slice(from, at);
        from = next;
      }
      at = next;
    }
    return from === 0 ? text : out + text.slice(from);
  };
}

/** The rules of machine translation (NMT) in SentencePiece. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that it removes
const nmtRemoved = /[\x01-\x08\x0B\x0E-\x1F\x7F\x8F\x9F]/g;
const nmtSpaces = /[\t\n\f\r\u1680\u200B-\u200F\u2028\u2029\u2581\uFEFF\uFFFD]/g;
const nmt = (text: string): string => text.replace(nmtRemoved, '').replace(nmtSpaces, ' ');

function bert(fields: Fields): Normalizer {
  const lower = fields.flag('lowercase');
  const accents = fields.raw('strip_accents') ?? null;
  const stripAccents = accents === null ? lower : fields.flag('strip_accents');
  const steps: Normalizer[] = [];
  if (fields.flag('clean_text')) steps.push(byCharacter(cleaned));
  if (fields.flag('handle_chinese_chars')) steps.push(byCharacter(spacedChinese));
  if (stripAccents) {
    const strip = byCharacter(without(table('nonspacing')));
    steps.push(({ text, front }, work) => strip(normalised(text, front, 'NFD'), work));
  }
  if (lower) steps.push(byCharacter(lowercase));
  return (input, work) => steps.reduce((value, step) => step(value, work), input);
}

/** Plain ASCII has nothing to be cleaned of but control characters and white space. */
const cleanAlready = /^[ -~]*$/;

function cleaned(text: string): string {
  if (cleanAlready.test(text)) return text;
  const control = table('bertControl');
  const space = table('whitespace');
  let out = '';
  for (const character of text) {
    const point = character.codePointAt(0)!;
    if (point === 9 || point === 10 || point === 13) out += ' ';
    else if (point === 0 || point === 0xfffd || control.has(point)) continue;
    else out += space.has(point) ? ' ' : character;
  }
  return out;
}

function spacedChinese(text: string): string {
  if (cleanAlready.test(text)) return text;
  const chinese = table('chinese');
  let out = '';
  for (const character of text) out += chinese.has(character.codePointAt(0)!) ? ` ${character} ` : character;
  return out;
}

function strip(left: boolean, right: boolean): Normalizer {
  return ({ text, front }) => {
    const space = table('whitespace');
    let start = 0;
    let end = text.length;
    while (left && start < end && space.has(text.charCodeAt(start))) start++;
    while (right && end > start && space.has(text.charCodeAt(end - 1))) end--;
    return { text: text.slice(start, end), front: front < 0 ? front : Math.max(0, Math.min(front, end) - start) };
  };
}

function replace(fields: Fields): Normalizer {
  const pattern = fields.pattern();
  const content = fields.string('content');
  if (typeof pattern === 'string' ? pattern === '' : pattern.canBeEmpty)
    throw fields.fail('pattern', 'a pattern that can be empty has no place to replace');
  return ({ text, front }, work) => replaceAll(text, front, pattern, content, work);
}
