import { type Draw, drawText, pick } from './texts.ts';

type Json = Record<string, unknown>;

const behaviours = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'];
/** Patterns of published tokenizers and of every construct that is read. */
export const patterns = [
  String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  String.raw`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`,
  String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  String.raw`[\r\n]`,
  String.raw`\s?\p{L}+`,
  String.raw`\s?\p{P}+`,
  String.raw`[一-龥ࠀ-一가-퟿]+`,
  String.raw`\p{N}+`,
  String.raw`\p{N}{1,3}`,
  String.raw`[0-9][0-9][0-9]`,
  String.raw` ?[^(\s|[.,!?…。，、।۔،])]+`,
  String.raw`\w+|[^\w\s]+`,
  String.raw`[^\s\w]`,
  String.raw`\d+`,
  String.raw`\D+`,
  String.raw`\S+`,
  String.raw`\W`,
  String.raw`\h+`,
  String.raw`.`,
  String.raw`(?m:.)`,
  String.raw`.+?`,
  String.raw`^`,
  String.raw`$`,
  String.raw`^.`,
  String.raw`.$`,
  String.raw`\A\s+`,
  String.raw`\s+\z`,
  String.raw`\s+\Z`,
  String.raw`\b`,
  String.raw`\B`,
  String.raw`\b\w`,
  String.raw`a*`,
  String.raw`(?:ab?)*c|x`,
  String.raw`(?<=\p{L})\p{N}`,
  String.raw`(?<!\s)\p{Lu}`,
  String.raw`(?<=ab|c)d?`,
  String.raw`(?<![a-z]{2})[A-Z]`,
  String.raw`(?=\p{Lu})`,
  String.raw`(?=[A-Z][a-z])`,
  String.raw`(?>a+)b|c`,
  String.raw`(?<word>\p{L}+)-\k?`.replace(String.raw`-\k?`, '-?'),
  String.raw`[[:alpha:]]+`,
  String.raw`[[:punct:]]`,
  String.raw`[[:^space:]]+`,
  String.raw`[[:upper:]][[:lower:]]*`,
  String.raw`[[:alnum:]_]+`,
  String.raw`[[:graph:]]`,
  String.raw`[[:print:]]+`,
  String.raw`[[:cntrl:]]`,
  String.raw`[[:blank:]]+`,
  String.raw`[[:xdigit:]]+`,
  String.raw`\p{Han}+`,
  String.raw`[\p{Hiragana}\p{Katakana}]+`,
  String.raw`\p{^L}+`,
  String.raw`\P{L}+`,
  String.raw`[\p{L}&&[^a-z]]+`,
  String.raw`[a-z&&[^aeiou]]`,
  String.raw`[a-c[x-z]]+`,
  String.raw`[^a-c[x-z]]+`,
  String.raw`\x{41}|\u00e9|\xe9?`.replace(String.raw`|\xe9?`, ''),
  String.raw`\x41+`,
  String.raw`[\x00-\x1f]`,
  String.raw`[\u4e00-\u9fff]`,
  String.raw`(a|b)+?c?`,
  String.raw`(?i)[a-k]+`,
  String.raw`(?i)k|s+t?`.replace('s+t?', 's+'),
  String.raw`a{2}|b{1,2}|c{,2}d|e{2,}`,
  String.raw`a{,}|{`,
  String.raw`\{|\}|\[|\]`,
  String.raw`\p{Alpha}+`,
  String.raw`\p{Upper}`,
  String.raw`\p{Lowercase}+`,
  String.raw`\p{Emoji}`,
  String.raw`\p{Sc}|\p{Sk}|\p{So}`,
  String.raw`\p{Letter}+`,
  String.raw`\p{Nonspacing_Mark}`,
  String.raw`\p{Script=Greek}`,
  String.raw`\p{Greek}+`,
  String.raw`(?:\p{L}\p{M}*)+`,
  String.raw`\s*[\r\n]+|\s+`,
  String.raw`(\s|^)\S`,
  String.raw`(?:[^a]|a(?!b))+`,
  String.raw`\R`,
  String.raw`\X`,
  String.raw`(a)\1`,
  String.raw`(?x) a b`,
  String.raw`\w*\s`,
  String.raw`(?:a|ab)(?:c|bcd)?`,
  String.raw`x*+x|y`,
  String.raw`\N+`,
  String.raw`\O`,
];
const strings = [' ', '▁', 'a', 'e', '.', 'th', '  ', '\n', '-', '漢', 'é', "'", '👍', 'ab', 'aa'];

const patternOf = (draw: Draw): Json => (draw(4) === 0 ? { String: pick(draw, strings) } : { Regex: pick(draw, patterns) });
const sometimes = (draw: Draw, value: unknown): unknown => (draw(2) === 0 ? value : null);

function normalizer(draw: Draw, charsmaps: readonly string[], depth = 0): Json {
  switch (draw(depth > 1 ? 14 : 17)) {
    case 0:
      return { type: 'NFC' };
    case 1:
      return { type: 'NFD' };
    case 2:
      return { type: 'NFKC' };
    case 3:
      return { type: 'NFKD' };
    case 4:
      return { type: 'Lowercase' };
    case 5:
      return { type: 'StripAccents' };
    case 6:
      return { type: 'Nmt' };
    case 7:
      return {
        type: 'BertNormalizer',
        clean_text: draw(2) === 0,
        handle_chinese_chars: draw(2) === 0,
        strip_accents: pick(draw, [null, true, false]),
        lowercase: draw(2) === 0,
      };
    case 8:
      return { type: 'Strip', strip_left: draw(2) === 0, strip_right: draw(2) === 0 };
    case 9:
      return { type: 'Prepend', prepend: pick(draw, ['▁', ' ', 'x', '—>']) };
    case 10:
    case 11:
      return { type: 'Replace', pattern: patternOf(draw), content: pick(draw, ['', ' ', '▁', 'ab', '$1', '\\']) };
    case 12:
      return charsmaps.length > 0 ? { type: 'Precompiled', precompiled_charsmap: pick(draw, charsmaps) } : { type: 'NFKC' };
    case 13:
      return { type: 'ByteLevel' };
    default:
      return { type: 'Sequence', normalizers: Array.from({ length: 1 + draw(3) }, () => normalizer(draw, charsmaps, depth + 1)) };
  }
}

function preTokenizer(draw: Draw, depth = 0): Json {
  switch (draw(depth > 1 ? 14 : 18)) {
    case 0:
      return { type: 'BertPreTokenizer' };
    case 1:
    case 2:
      return { type: 'ByteLevel', add_prefix_space: draw(2) === 0, trim_offsets: draw(2) === 0, use_regex: draw(2) === 0 };
    case 3:
      return { type: 'CharDelimiterSplit', delimiter: pick(draw, ['a', ' ', '▁', '漢', '👍']) };
    case 4:
    case 5:
      return {
        type: 'Metaspace',
        replacement: pick(draw, ['▁', '_', '▁', '👍']),
        prepend_scheme: pick(draw, ['always', 'first', 'never']),
        split: draw(2) === 0,
      };
    case 6:
      return { type: 'Whitespace' };
    case 7:
    case 8:
    case 9:
      return { type: 'Split', pattern: patternOf(draw), behavior: pick(draw, behaviours), invert: draw(3) === 0 };
    case 10:
      return { type: 'Punctuation', behavior: pick(draw, behaviours) };
    case 11:
      return { type: 'WhitespaceSplit' };
    case 12:
      return { type: 'Digits', individual_digits: draw(2) === 0 };
    case 13:
      return draw(2) === 0 ? { type: 'UnicodeScripts' } : { type: 'FixedLength', length: 1 + draw(6) };
    default:
      return { type: 'Sequence', pretokenizers: Array.from({ length: 1 + draw(3) }, () => preTokenizer(draw, depth + 1)) };
  }
}

function decoder(draw: Draw, depth = 0): Json {
  switch (draw(depth > 1 ? 9 : 12)) {
    case 0:
      return { type: 'BPEDecoder', suffix: pick(draw, ['</w>', 'e']) };
    case 1:
      return { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };
    case 2:
      return { type: 'WordPiece', prefix: pick(draw, ['##', '', 'a']), cleanup: draw(2) === 0 };
    case 3:
      return {
        type: 'Metaspace',
        replacement: '▁',
        prepend_scheme: pick(draw, ['always', 'first', 'never']),
        split: draw(2) === 0,
      };
    case 4:
      return {
        type: 'CTC',
        pad_token: pick(draw, ['<pad>', 'a']),
        word_delimiter_token: pick(draw, ['|', '▁']),
        cleanup: draw(2) === 0,
      };
    case 5:
      return { type: 'Replace', pattern: patternOf(draw), content: pick(draw, ['', ' ', 'xy', '$&']) };
    case 6:
      return { type: 'Fuse' };
    case 7:
      return { type: 'Strip', content: pick(draw, [' ', 'a', '▁']), start: draw(3), stop: draw(2) };
    case 8:
      return { type: 'ByteFallback' };
    default:
      return { type: 'Sequence', decoders: Array.from({ length: 1 + draw(4) }, () => decoder(draw, depth + 1)) };
  }
}

function postProcessor(draw: Draw, depth = 0): Json {
  switch (draw(depth > 0 ? 4 : 6)) {
    case 0:
      return { type: 'BertProcessing', sep: ['b', 1], cls: ['a', 0] };
    case 1:
      return {
        type: 'RobertaProcessing',
        sep: ['b', 1],
        cls: ['a', 0],
        trim_offsets: draw(2) === 0,
        add_prefix_space: draw(2) === 0,
      };
    case 2:
      return { type: 'ByteLevel', add_prefix_space: true, trim_offsets: draw(2) === 0, use_regex: true };
    case 3:
      return {
        type: 'TemplateProcessing',
        single: pick(draw, [
          [{ SpecialToken: { id: '[A]', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
          [
            { Sequence: { id: 'A', type_id: 3 } },
            { SpecialToken: { id: '[B]', type_id: 1 } },
            { Sequence: { id: 'A', type_id: 1 } },
          ],
        ]),
        pair: [
          { Sequence: { id: draw(3) === 0 ? 'B' : 'A', type_id: 0 } },
          { SpecialToken: { id: '[B]', type_id: 0 } },
          { Sequence: { id: 'B', type_id: 1 } },
        ],
        special_tokens: {
          '[A]': { id: '[A]', ids: [0], tokens: ['[A]'] },
          '[B]': { id: '[B]', ids: [1, 2], tokens: ['[B]', 'c'] },
        },
      };
    default:
      return { type: 'Sequence', processors: Array.from({ length: 1 + draw(3) }, () => postProcessor(draw, depth + 1)) };
  }
}

/** A vocabulary cut out of drawn texts: characters, pieces of some, byte tokens sometimes. */
function drawVocabulary(draw: Draw, words: readonly string[], prefix: string, suffix: string): string[] {
  const tokens = new Set<string>(['<unk>', 'b', 'c', '▁', ' ', 'Ġ', `${prefix}a`, `a${suffix}`]);
  for (let count = 40 + draw(80); count > 0; count--) {
    const text = Array.from(drawText(draw, words, ['ab']));
    const start = draw(text.length);
    tokens.add(text.slice(start, start + 1 + draw(5)).join('') || 'd');
    tokens.add(prefix + (text[start] ?? 'e'));
    tokens.add((text[start] ?? 'f') + suffix);
    tokens.add(text[start] ?? 'g');
  }
  for (const letter of 'abcdefghijklmnopqrstuvwxyzABCDEĠĊ.,é')
    if (draw(8) > 0)
      tokens
        .add(letter)
        .add(prefix + letter)
        .add(letter + suffix);
  for (let at = 0; at < 60; at++) tokens.add(pick(draw, words).slice(0, 1 + draw(4)) || 'h');
  if (draw(3) === 0)
    for (let byte = draw(3) === 0 ? 128 : 0; byte < 256; byte++)
      tokens.add(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  return [...tokens];
}

function model(draw: Draw, words: readonly string[]): Json {
  const prefix = draw(4) === 0 ? '##' : '';
  const suffix = draw(4) === 0 ? '</w>' : '';
  const kind = draw(5);
  if (kind === 0) {
    const tokens = drawVocabulary(draw, words, '##', '');
    return {
      type: 'WordPiece',
      unk_token: pick(draw, ['<unk>', '<unk>', 'missing']),
      continuing_subword_prefix: '##',
      max_input_chars_per_word: pick(draw, [100, 5, 2]),
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    };
  }
  if (kind === 1) {
    const tokens = drawVocabulary(draw, words, '', '').concat(Array.from({ length: 60 }, () => pick(draw, words)));
    return {
      type: 'WordLevel',
      unk_token: pick(draw, ['<unk>', '<unk>', 'missing']),
      vocab: Object.fromEntries([...new Set(tokens)].map((token, id) => [token, id])),
    };
  }
  if (kind === 2) {
    const tokens = drawVocabulary(draw, words, '', '');
    return {
      type: 'Unigram',
      unk_id: pick(draw, [0, 0, 0, null]),
      byte_fallback: draw(2) === 0,
      vocab: tokens.map((token) => [token, token === '<unk>' ? 0 : -draw(12) - draw(4) / 4]),
    };
  }
  return bytePairs(draw, words, prefix, suffix);
}

function bytePairs(draw: Draw, words: readonly string[], prefix: string, suffix: string): Json {
  const tokens = drawVocabulary(draw, words, prefix, suffix);
  const known = new Set(tokens);
  const merges: string[][] = [];
  for (let count = 0; count < 400; count++) {
    const left = pick(draw, tokens);
    const right = pick(draw, tokens);
    if (!right.startsWith(prefix) || (suffix !== '' && left.endsWith(suffix)) || left.length + right.length > 12) continue;
    const merged = left + right.slice(prefix.length);
    if (!known.has(merged)) {
      known.add(merged);
      tokens.push(merged);
    }
    merges.push([left, right]);
  }
  return {
    type: 'BPE',
    dropout: null,
    unk_token: sometimes(draw, '<unk>'),
    continuing_subword_prefix: prefix === '' ? null : prefix,
    end_of_word_suffix: suffix === '' ? null : suffix,
    fuse_unk: draw(2) === 0,
    byte_fallback: draw(2) === 0,
    ignore_merges: draw(2) === 0,
    vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    merges,
  };
}

function addedTokens(draw: Draw, size: number, tokens: readonly string[]): Json[] {
  const contents = [
    '<s>',
    '</s>',
    '<mask>',
    '<|end|>',
    'the',
    'The',
    'ab',
    'abc',
    ' x',
    '\n',
    '  ',
    'é',
    'E\u0301',
    '漢',
    '[CLS]',
    'ing',
    '<unk>',
    '👍',
    'ΑΣ',
    pick(draw, tokens),
  ];
  const chosen = [...new Set(contents.filter(() => draw(4) === 0))];
  return chosen.map((content, index) => ({
    id: size + index,
    content,
    single_word: draw(3) === 0,
    lstrip: draw(3) === 0,
    rstrip: draw(3) === 0,
    normalized: draw(2) === 0,
    special: draw(2) === 0,
  }));
}

/** A tokenizer.json of components drawn by chance. */
export function drawDefinition(draw: Draw, words: readonly string[], charsmaps: readonly string[]): Json {
  const drawn = model(draw, words);
  const tokens = Array.isArray(drawn.vocab) ? drawn.vocab.map(([token]) => token as string) : Object.keys(drawn.vocab as object);
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(draw, tokens.length, tokens),
    normalizer: sometimes(draw, normalizer(draw, charsmaps)),
    pre_tokenizer: draw(4) > 0 ? preTokenizer(draw) : null,
    post_processor: sometimes(draw, postProcessor(draw)),
    decoder: draw(4) > 0 ? decoder(draw) : null,
    model: drawn,
  };
}
