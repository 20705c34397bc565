import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { checkFields, writingFields } from './fields.ts';

const tokenId = z
  .number()
  .int()
  .min(0)
  .max(2 ** 22);

/** One id, several, or none: any of them ends a text. */
export const endTokens = z
  .union([tokenId, z.array(tokenId).max(64)], { error: 'is neither a token id nor a list of at most 64 of them' })
  .nullish();

const used: ReadonlySet<string> = new Set(['eos_token_id']);

/**
 * What generation_config.json says of the end of a text: what the published `generate` reads before config.json. undefined where it says
 * nothing. Settings that would change which token is the likeliest are refused by their names, as are unknown ones: `model` errors.
 */
export function generationEnds(raw: Readonly<Record<string, unknown>>, file: string): number | number[] | undefined {
  checkFields(raw, used, writingFields, file);
  const result = endTokens.safeParse(raw.eos_token_id);
  if (result.success) return result.data ?? undefined;
  throw new SottoError('model', result.error.issues[0]!.message, {
    place: { file, field: 'eos_token_id' },
    remedy: 'correct the field: it must name token ids',
    cause: result.error,
  });
}
