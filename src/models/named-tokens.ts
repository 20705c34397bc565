import { SottoError } from '../errors/index.ts';
import { isObject } from './json.ts';

/** An entry of `added_tokens` in tokenizer.json. */
interface AddedTokenEntry {
  readonly id: number;
  readonly content: string;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
  readonly special: boolean;
}
type Token = Omit<AddedTokenEntry, 'id'>;

const named = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'] as const;
type Named = Partial<Record<(typeof named)[number], unknown>>;

const ofBert: Named = { unk_token: '[UNK]', sep_token: '[SEP]', pad_token: '[PAD]', cls_token: '[CLS]', mask_token: '[MASK]' };
const ofLlama: Named = { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' };
const ofRoberta: Named = {
  ...ofLlama,
  sep_token: '</s>',
  pad_token: '<pad>',
  cls_token: '<s>',
  mask_token: { content: '<mask>', lstrip: true },
};
const end = '<|endoftext|>';
/** Special tokens of the published classes, where tokenizer_config.json does not have the field. */
const ofClasses: Readonly<Record<string, Named>> = {
  BertTokenizer: ofBert,
  DistilBertTokenizer: ofBert,
  ElectraTokenizer: ofBert,
  RobertaTokenizer: ofRoberta,
  BartTokenizer: ofRoberta,
  LongformerTokenizer: ofRoberta,
  XLMRobertaTokenizer: ofRoberta,
  MPNetTokenizer: { ...ofRoberta, unk_token: '[UNK]' },
  LlamaTokenizer: ofLlama,
  GPT2Tokenizer: { bos_token: end, eos_token: end, unk_token: end },
};
const flags = ['single_word', 'lstrip', 'rstrip', 'normalized', 'special'] as const;

/**
 * `added_tokens` as the published tokenizer has them once it has read tokenizer_config.json, which goes before tokenizer.json: entries of
 * `added_tokens_decoder` that the file does not have alike, by their number, then the special tokens that the configuration names and the
 * file does not add. A token's own id decides, never the number that it is entered by; a new one takes the next id. `split_special_tokens`
 * and an entry that is none are `input` errors of `file`.
 */
export function namedTokens(
  definition: Readonly<Record<string, unknown>>,
  config: Readonly<Record<string, unknown>>,
  file: string,
): AddedTokenEntry[] {
  const refuse = (field: string, reason: string) =>
    new SottoError('input', reason, {
      place: { file, field },
      remedy: 'take tokenizer.json and tokenizer_config.json of one model',
    });
  if ((config.split_special_tokens ?? false) !== false)
    throw refuse('split_special_tokens', 'special tokens that are written in a text and are not found in it are not supported');
  const added = new Added(definition);
  const specials = specialTokens(config, refuse);
  const specialTexts = new Set(specials.map(({ content }) => content));
  for (const [id, entry] of entriesOf(config, refuse)) {
    const token = readToken(entry, false, () => refuse(`added_tokens_decoder.${id}`, 'the entry is no token'));
    if (!added.hasAlike(token)) added.add({ ...token, special: token.special || specialTexts.has(token.content) });
  }
  for (const token of specials) if (!added.has(token.content)) added.add(token);
  return added.entries();
}

type Refuse = (field: string, reason: string) => SottoError;

/** The tokens that a definition has, beside the vocabulary of its model. */
class Added {
  readonly #tokens = new Map<string, AddedTokenEntry>();
  readonly #vocabulary: ReadonlyMap<string, number>;

  constructor(definition: Readonly<Record<string, unknown>>) {
    const { vocab } = definition.model as { vocab: [string, number][] | Record<string, number> };
    this.#vocabulary = new Map(Array.isArray(vocab) ? vocab.map(([piece], id) => [piece, id]) : Object.entries(vocab));
    for (const entry of definition.added_tokens as AddedTokenEntry[]) this.#tokens.set(entry.content, entry);
  }

  has(content: string): boolean {
    return this.#tokens.has(content);
  }

  hasAlike(token: Token): boolean {
    const own = this.#tokens.get(token.content);
    return own !== undefined && flags.every((flag) => own[flag] === token[flag]);
  }

  add(token: Token): void {
    const id = this.#tokens.get(token.content)?.id ?? this.#vocabulary.get(token.content) ?? this.#next();
    this.#tokens.set(token.content, { ...token, id });
  }

  entries(): AddedTokenEntry[] {
    return [...this.#tokens.values()];
  }

  #next(): number {
    let next = this.#vocabulary.size;
    for (const { id } of this.#tokens.values()) next = Math.max(next, id + 1);
    return next;
  }
}

function entriesOf(config: Readonly<Record<string, unknown>>, refuse: Refuse): [number, unknown][] {
  const field = 'added_tokens_decoder';
  const given = config[field] ?? {};
  if (!isObject(given)) throw refuse(field, 'the field is not an object');
  const entries = Object.entries(given).map(([id, entry]): [number, unknown] => [/^\d+$/.test(id) ? Number(id) : -1, entry]);
  if (entries.some(([id]) => id < 0)) throw refuse(field, 'a token is not entered by its id');
  return entries.sort(([first], [second]) => first - second);
}

/** The special tokens that the configuration names, by their duties and in its lists. */
function specialTokens(config: Readonly<Record<string, unknown>>, refuse: Refuse): Token[] {
  const tokens: Token[] = [];
  const take = (field: string, value: unknown) =>
    tokens.push(readToken(value, true, () => refuse(field, 'the field names no token')));
  const name = typeof config.tokenizer_class === 'string' ? config.tokenizer_class.replace(/Fast$/, '') : '';
  const own = Object.hasOwn(ofClasses, name) ? ofClasses[name]! : {};
  for (const field of named) {
    const value = config[field] === undefined ? own[field] : config[field];
    if ((value ?? null) !== null) take(field, value);
  }
  for (const field of ['additional_special_tokens', 'extra_special_tokens']) {
    const given = config[field] ?? [];
    if (typeof given !== 'object') throw refuse(field, 'the field is neither a list nor an object');
    for (const value of Object.values(given as object)) take(field, value);
  }
  return tokens;
}

function readToken(value: unknown, special: boolean, fail: () => SottoError): Token {
  const fields = isObject(value) ? value : { content: value };
  const flag = (name: (typeof flags)[number], otherwise: boolean): boolean => {
    const given = fields[name] ?? otherwise;
    if (typeof given !== 'boolean') throw fail();
    return given;
  };
  const { content } = fields;
  if (typeof content !== 'string' || content === '') throw fail();
  const isSpecial = special || flag('special', false);
  return {
    content,
    single_word: flag('single_word', false),
    lstrip: flag('lstrip', false),
    rstrip: flag('rstrip', false),
    normalized: flag('normalized', !isSpecial),
    special: isSpecial,
  };
}
