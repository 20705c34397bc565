/**
 * Definitions that show one component each, and texts that run every code point through them, between letters and marks: a table that
 * differs from the library's in one place differs here.
 */
export const sweeps: Readonly<Record<string, Record<string, unknown>>> = {
  nfc: { normalizer: { type: 'NFC' } },
  nfd: { normalizer: { type: 'NFD' } },
  nfkc: { normalizer: { type: 'NFKC' } },
  nfkd: { normalizer: { type: 'NFKD' } },
  lowercase: { normalizer: { type: 'Lowercase' } },
  'strip accents': { normalizer: { type: 'StripAccents' } },
  nmt: { normalizer: { type: 'Nmt' } },
  strip: { normalizer: { type: 'Strip', strip_left: true, strip_right: true } },
  'bert cleaned': {
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: false, lowercase: false },
  },
  'bert lower': {
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
  },
  'bert pre-tokenizer': { pre_tokenizer: { type: 'BertPreTokenizer' } },
  punctuation: { pre_tokenizer: { type: 'Punctuation', behavior: 'Isolated' } },
  digits: { pre_tokenizer: { type: 'Digits', individual_digits: true } },
  whitespace: { pre_tokenizer: { type: 'Whitespace' } },
  'split at whitespace': { pre_tokenizer: { type: 'WhitespaceSplit' } },
  scripts: { pre_tokenizer: { type: 'UnicodeScripts' } },
  'byte level': { pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true } },
};

const categories = 'Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn'.split(' ');
for (const pattern of [
  ...categories.map((name) => `\\p{${name}}`),
  '\\w',
  '[\\w]',
  '\\s',
  '\\d',
  '[[:alpha:]]',
  '[[:punct:]]',
  '[[:graph:]]',
  '[[:print:]]',
  '[[:upper:]]',
  '[[:lower:]]',
  '\\p{Han}',
  '\\p{Arabic}',
  '\\p{Latin}',
  '(?i)k',
  '(?i)[r-t]',
  '\\b.\\b',
  '(?<=\\p{M}).',
]) {
  (sweeps as Record<string, unknown>)[`pattern ${pattern}`] = {
    pre_tokenizer: { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
  };
}

/** What shows cuts and characters as ids: every part is either one of two words or unknown, byte by byte. */
export function sweepDefinition(parts: Record<string, unknown>): Record<string, unknown> {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const tokens = ['<unk>', ...bytes];
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...parts,
    // A suffix marks where each part ends.
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: '|',
      fuse_unk: false,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
}

/** Every code point of the planes that are in use, behind and before a letter, and with marks that move or join. */
export function* everyCodePoint(): Generator<string> {
  const size = 256;
  for (let first = 0; first < 0xe0300; first += size) {
    if ((first >= 0xd800 && first < 0xe000) || (first >= 0x33500 && first < 0xe0000)) continue;
    let text = '';
    for (let point = first; point < first + size; point++) {
      const character = String.fromCodePoint(point);
      text += `a${character}\u0301\u0323b${character}${character}\u1161c `;
    }
    yield text;
  }
}
