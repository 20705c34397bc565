import { SottoError } from '../errors/index.ts';

const specials = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] as const;

/**
 * What tokenizer.json would say of a folder that has only BERT's vocab.txt (one token a line, its id the line's number from 0) and,
 * maybe, tokenizer_config.json: lower case without accents unless that says otherwise, WordPiece, `[CLS] text [SEP] text [SEP]`.
 */
export function wordPieceDefinition(
  vocabulary: Uint8Array,
  config: Readonly<Record<string, unknown>>,
  file = 'vocab.txt',
): Record<string, unknown> {
  const vocab = readVocabulary(vocabulary, file);
  const lowercase = config.do_lower_case !== false;
  const id = (token: (typeof specials)[number]): number => {
    const found = vocab.get(token);
    if (found === undefined && token !== '[MASK]') throw damaged(file, token, 'the vocabulary lacks this token');
    return found ?? -1;
  };
  const special = (token: '[CLS]' | '[SEP]', type: 0 | 1) => ({ SpecialToken: { id: token, type_id: type } });
  const sequence = (name: 'A' | 'B', type: 0 | 1) => ({ Sequence: { id: name, type_id: type } });
  const template = (token: '[CLS]' | '[SEP]') => ({ id: token, ids: [id(token)], tokens: [token] });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specials
      .filter((token) => id(token) >= 0)
      .map((content) => ({
        id: id(content),
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: config.tokenize_chinese_chars !== false,
      strip_accents: typeof config.strip_accents === 'boolean' ? config.strip_accents : null,
      lowercase,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special('[CLS]', 0), sequence('A', 0), special('[SEP]', 0)],
      pair: [special('[CLS]', 0), sequence('A', 0), special('[SEP]', 0), sequence('B', 1), special('[SEP]', 1)],
      special_tokens: { '[CLS]': template('[CLS]'), '[SEP]': template('[SEP]') },
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(vocab),
    },
  };
}

function readVocabulary(bytes: Uint8Array, file: string): Map<string, number> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw damaged(file, '(whole)', 'the file is not valid UTF-8', cause);
  }
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''));
  if (lines.at(-1) === '') lines.pop();
  const vocab = new Map<string, number>();
  for (const [id, token] of lines.entries()) {
    if (token === '') throw damaged(file, `line ${id + 1}`, 'the line is empty');
    if (vocab.has(token))
      throw damaged(file, `line ${id + 1}`, `the token ${JSON.stringify(token.slice(0, 40))} stands there twice`);
    vocab.set(token, id);
  }
  return vocab;
}

const damaged = (file: string, field: string, reason: string, cause?: unknown): SottoError =>
  new SottoError('input', reason, {
    place: { file, field },
    remedy: 'the vocabulary is damaged or not one of WordPiece: fetch it, or tokenizer.json, again',
    cause,
  });
