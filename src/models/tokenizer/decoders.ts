import { alphabet } from './byte-level.ts';
import type { Fields } from './fields.ts';
import { readMetaspace } from './pre-tokenizers.ts';
import { replaceAll } from './split.ts';
import type { Work } from './work.ts';

/** Tokens → texts, which are joined in the end. */
export type Decoder = (tokens: readonly string[], work: Work) => string[];

const encoder = new TextEncoder();
const lossy = new TextDecoder('utf-8', { ignoreBOM: true });
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function readDecoder(fields: Fields, depth = 0): Decoder {
  const { type } = fields;
  switch (type) {
    case 'Sequence': {
      if (depth > 8) throw fields.fail('', 'sequences nest too deep');
      const steps = fields.each('decoders').map((step) => readDecoder(step, depth + 1));
      return (tokens, work) =>
        steps.reduce<string[]>(
          (value, step) => {
            const length = value.reduce((sum, token) => sum + token.length, value.length);
            work.spend(length);
            work.grown(length);
            return step(value, work);
          },
          [...tokens],
        );
    }
    case 'ByteLevel':
      return (tokens) => [byteLevelText(tokens)];
    case 'ByteFallback':
      return byteFallback;
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Metaspace': {
      const { replacement, scheme } = readMetaspace(fields);
      return (tokens) =>
        tokens.map((token, index) => token.split(replacement).join(index === 0 && scheme !== 'never' ? '' : ' '));
    }
    case 'Replace': {
      const pattern = fields.pattern();
      const content = fields.string('content');
      if (typeof pattern === 'string' ? pattern === '' : pattern.canBeEmpty)
        throw fields.fail('pattern', 'a pattern that can be empty has no place to replace');
      return (tokens, work) => tokens.map((token) => replaceAll(token, 0, pattern, content, work).text);
    }
    case 'Strip':
      return strip(fields);
    case 'WordPiece': {
      const prefix = fields.string('prefix');
      const cleanup = fields.flag('cleanup');
      return (tokens) =>
        tokens.map((token, index) => {
          const text = index === 0 ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
          return cleanup ? cleaned(text) : text;
        });
    }
    case 'BPEDecoder': {
      const suffix = wholeText(fields, 'suffix');
      return (tokens) => tokens.map((token, index) => token.split(suffix).join(index === tokens.length - 1 ? '' : ' '));
    }
    case 'CTC':
      return ctc(fields);
    default:
      throw fields.fail('type', 'the decoder is not known');
  }
}

function wholeText(fields: Fields, field: string): string {
  const text = fields.string(field);
  if (text === '') throw fields.fail(field, 'the text is empty');
  return text;
}

/** Tidies the spaces of English that a tokenizer made of words has put in. */
function cleaned(text: string): string {
  if (!text.includes(' ')) return text;
  let out = text;
  for (const [from, to] of [
    [' .', '.'],
    [' ?', '?'],
    [' !', '!'],
    [' ,', ','],
    [" ' ", "'"],
    [" n't", "n't"],
    [" 'm", "'m"],
    [' do not', " don't"],
    [" 's", "'s"],
    [" 've", "'ve"],
    [" 're", "'re"],
  ] as const)
    out = out.split(from).join(to);
  return out;
}

/** The bytes of tokens in the byte-level alphabet; a token with another character counts with its own UTF-8. */
function byteLevelText(tokens: readonly string[]): string {
  const bytes: number[] = [];
  for (const token of tokens) {
    const from = bytes.length;
    for (let at = 0; at < token.length; at++) {
      const byte = alphabet.byteOf(token.charCodeAt(at));
      if (byte < 0) {
        bytes.length = from;
        for (const own of encoder.encode(token)) bytes.push(own);
        break;
      }
      bytes.push(byte);
    }
  }
  return lossy.decode(Uint8Array.from(bytes));
}

const byteToken = /^<0x(\+[\dA-Fa-f]|[\dA-Fa-f]{2})>$/;
export const isByteToken = (token: string): boolean => byteToken.test(token);

/** Tokens such as <0x61> are bytes. A run that is not UTF-8 as a whole becomes a replacement character for each byte. */
const byteFallback: Decoder = (tokens) => {
  const out: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length === 0) return;
    try {
      out.push(strict.decode(Uint8Array.from(bytes)));
    } catch {
      for (let count = 0; count < bytes.length; count++) out.push('\uFFFD');
    }
    bytes = [];
  };
  for (const token of tokens) {
    const byte = byteToken.exec(token);
    if (byte !== null) bytes.push(Number.parseInt(byte[1]!, 16));
    else {
      flush();
      out.push(token);
    }
  }
  flush();
  return out;
};

function strip(fields: Fields): Decoder {
  const content = fields.character('content');
  const start = fields.whole('start', 2 ** 31 - 1);
  const stop = fields.whole('stop', 2 ** 31 - 1);
  return (tokens) =>
    tokens.map((token) => {
      const characters = Array.from(token);
      let from = 0;
      while (from < start && characters[from] === content) from++;
      let end = characters.length;
      for (let count = 0; count < stop; count++) {
        // The reference library fails on a token that is shorter than what is to be stripped of it.
        if (end === 0) throw fields.fail('stop', 'a token is shorter than what is stripped');
        if (characters[end - 1] !== content) break;
        end--;
      }
      if (from > end) throw fields.fail('stop', 'a token is shorter than what is stripped');
      return characters.slice(from, end).join('');
    });
}

function ctc(fields: Fields): Decoder {
  const pad = wholeText(fields, 'pad_token');
  const delimiter = wholeText(fields, 'word_delimiter_token');
  const cleanup = fields.flag('cleanup');
  return (tokens) => {
    const out: string[] = [];
    for (const [index, token] of tokens.entries()) {
      if (index > 0 && token === tokens[index - 1]) continue;
      let text = token.split(pad).join('');
      if (cleanup) text = cleaned(text).split(delimiter).join(' ');
      if (text !== '') out.push(text);
    }
    return out;
  };
}
