import type { Fields } from './fields.ts';

/** Ids and, for each, which text it belongs to. */
export interface Encoding {
  ids: number[];
  types: number[];
}

/** What stands around and between the encoded texts; the parts that come out are joined. */
export type PostProcessor = (parts: readonly Encoding[], addSpecial: boolean) => readonly Encoding[];

const idLimit = 2 ** 22 - 1;

export function readPostProcessor(fields: Fields, depth = 0): PostProcessor {
  const { type } = fields;
  switch (type) {
    case 'Sequence': {
      if (depth > 8) throw fields.fail('', 'sequences nest too deep');
      const steps = fields.each('processors').map((step) => readPostProcessor(step, depth + 1));
      return (parts, addSpecial) => steps.reduce((value, step) => step(value, addSpecial), parts);
    }
    // It trims offsets, of which there are none here.
    case 'ByteLevel':
      return (parts) => parts;
    case 'BertProcessing': {
      const cls = pairId(fields, 'cls');
      const sep = pairId(fields, 'sep');
      return (parts, addSpecial) => {
        if (!addSpecial) return parts;
        return parts.map(({ ids, types }, index) =>
          index === 0 ? { ids: [cls, ...ids, sep], types: [0, ...types, 0] } : { ids: [...ids, sep], types: [...types, 1] },
        );
      };
    }
    case 'RobertaProcessing': {
      const cls = pairId(fields, 'cls');
      const sep = pairId(fields, 'sep');
      return (parts, addSpecial) =>
        parts.map(({ ids }, index) => {
          const all = addSpecial ? [index === 0 ? cls : sep, ...ids, sep] : ids;
          return { ids: all, types: all.map(() => 0) };
        });
    }
    case 'TemplateProcessing':
      return template(fields);
    default:
      throw fields.fail('type', 'the post-processor is not known');
  }
}

function pairId(fields: Fields, field: string): number {
  const pair = fields.list(field);
  const id = pair[1];
  if (pair.length !== 2 || typeof pair[0] !== 'string' || !Number.isInteger(id) || (id as number) < 0 || (id as number) > idLimit)
    throw fields.fail(field, 'the field is not a token and its id');
  return id as number;
}

interface Piece {
  /** Index of the text that stands here; −1 for special tokens. */
  readonly text: number;
  readonly ids: readonly number[];
  readonly type: number;
}

function template(fields: Fields): PostProcessor {
  const special = fields.inner('special_tokens');
  const read = (field: string): Piece[] =>
    fields.each(field).map((piece) => {
      const isText = piece.has('Sequence');
      const inner = piece.inner(isText ? 'Sequence' : 'SpecialToken');
      const type = inner.whole('type_id', idLimit);
      if (isText) return { text: inner.choice('id', ['A', 'B']) === 'A' ? 0 : 1, ids: [], type };
      const name = inner.string('id');
      if (!special.has(name)) throw inner.fail('id', 'special_tokens does not have it');
      const ids = special.inner(name).list('ids');
      if (ids.length > 64 || !ids.every((id) => Number.isInteger(id) && (id as number) >= 0 && (id as number) <= idLimit))
        throw special.fail('ids', 'the field is not a list of ids');
      return { text: -1, ids: ids as number[], type };
    });
  const single = read('single');
  const pair = read('pair');
  return (parts, addSpecial) => {
    if (parts.length > 2) throw fields.fail('', 'a template stands behind what has already put parts together');
    const pieces = parts.length === 2 ? pair : single;
    const out: Encoding[] = [];
    for (const { text, ids, type } of pieces) {
      if (text < 0 && !addSpecial) continue;
      const found = text < 0 ? ids : parts[text]?.ids;
      if (found === undefined) throw fields.fail('single', 'the template of one text names a second');
      out.push({ ids: [...found], types: found.map(() => type) });
    }
    return out;
  };
}
