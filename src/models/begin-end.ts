import { SottoError } from '../errors/index.ts';
import { isObject } from './json.ts';

/**
 * Classes whose published fast tokenizer makes its template anew from `add_bos_token` (true where absent) and `add_eos_token` (false
 * where absent) of tokenizer_config.json, whatever tokenizer.json says (transformers 4); and their tokens where none are named.
 */
const flagged: Readonly<Record<string, { readonly bos: string; readonly eos: string }>> = {
  LlamaTokenizer: { bos: '<s>', eos: '</s>' },
  CodeLlamaTokenizer: { bos: '<s>', eos: '</s>' },
  GemmaTokenizer: { bos: '<bos>', eos: '<eos>' },
  CohereTokenizer: { bos: '<BOS_TOKEN>', eos: '<|END_OF_TURN_TOKEN|>' },
};

/**
 * The post-processor that the flags of tokenizer_config.json ask for; undefined where the class leaves tokenizer.json's as it is. A flag
 * that is no boolean, and a begin or end token that is asked for and has no id, are `input` errors of `file`.
 */
export function flaggedTemplate(
  definition: Readonly<Record<string, unknown>>,
  config: Readonly<Record<string, unknown>>,
  file: string,
): Record<string, unknown> | undefined {
  const name = typeof config.tokenizer_class === 'string' ? config.tokenizer_class.replace(/Fast$/, '') : '';
  const tokens = Object.hasOwn(flagged, name) ? flagged[name] : undefined;
  if (tokens === undefined) return undefined;
  const refuse = (field: string, reason: string) =>
    new SottoError('input', reason, {
      place: { file, field },
      remedy: 'take tokenizer.json and tokenizer_config.json of one model',
    });
  const flag = (field: string, value: boolean): boolean => {
    const given = config[field] ?? value;
    if (typeof given !== 'boolean') throw refuse(field, 'the flag is neither true nor false');
    return given;
  };
  const special = (field: 'bos_token' | 'eos_token', otherwise: string): Special => {
    const given = config[field];
    const content = given === undefined ? otherwise : isObject(given) ? given.content : given;
    const id = typeof content === 'string' ? idOf(definition, content) : undefined;
    if (id === undefined) throw refuse(field, 'the template asks for this token, and the vocabulary has none');
    return { content: content as string, id };
  };
  const begin = flag('add_bos_token', true) ? [special('bos_token', tokens.bos)] : [];
  const end = flag('add_eos_token', false) ? [special('eos_token', tokens.eos)] : [];
  const around = (id: 'A' | 'B', type: 0 | 1) => [
    ...begin.map(({ content }) => ({ SpecialToken: { id: content, type_id: type } })),
    { Sequence: { id, type_id: type } },
    ...end.map(({ content }) => ({ SpecialToken: { id: content, type_id: type } })),
  ];
  return {
    type: 'TemplateProcessing',
    single: around('A', 0),
    pair: [...around('A', 0), ...around('B', 1)],
    special_tokens: Object.fromEntries(
      [...begin, ...end].map(({ content, id }) => [content, { id: content, ids: [id], tokens: [content] }]),
    ),
  };
}

interface Special {
  readonly content: string;
  readonly id: number;
}

function idOf(definition: Readonly<Record<string, unknown>>, content: string): number | undefined {
  const added = (definition.added_tokens as { content: string; id: number }[]).find((token) => token.content === content);
  if (added !== undefined) return added.id;
  const { vocab } = definition.model as { vocab: [string, number][] | Record<string, number> };
  if (!Array.isArray(vocab)) return Object.hasOwn(vocab, content) ? vocab[content] : undefined;
  const at = vocab.findIndex(([piece]) => piece === content);
  return at < 0 ? undefined : at;
}
