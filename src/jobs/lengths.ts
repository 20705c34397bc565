import { SottoError } from '../errors/index.ts';

/**
 * What shows of a text's length. `steps`: the step that its bytes reach, whatever a tokenizer makes of them. `none`: the number of its
 * tokens, which a server's tokenizer can make tell letters: for manifests whose hash was given.
 */
export type PaddingPolicy = 'steps' | 'none';

/** Tokens that stand for no byte of a text: those that begin and end it, one for a space that is put before it, and one to spare. */
const extraTokens = 4;

/**
 * Positions for texts of so many bytes: 16, 24, 32, 48, 64, 96, … the first that holds a token for every byte and four more a text. It depends
 * on the bytes alone, and is enough for tokenizers whose tokens stand for a byte at least.
 */
export function positionsFor(bytes: number, texts = 1): number {
  const needed = bytes + texts * extraTokens;
  const power = 2 ** Math.max(4, Math.ceil(Math.log2(needed)));
  return power > 16 && needed <= 0.75 * power ? 0.75 * power : power;
}

export const bytesOf = (text: string): number => new TextEncoder().encode(text).length;

/** Throws an `input` error where a text is longer than the step of its bytes, which only some tokenizers make of it. */
export function checkWithin(tokens: number, positions: number, field: string): void {
  if (tokens <= positions) return;
  throw new SottoError('input', `the ${field} has ${tokens} tokens where its bytes reach ${positions} positions`, {
    place: { field },
    remedy: 'shorten it; or check the manifest with the operator, give its hash, and leave padding out',
  });
}
