import { SottoError } from '../../errors/index.ts';
import type { Block } from '../contract.ts';
import type { PrimeRing } from './contract.ts';

/** What both implementations check before they touch memory. Messages name sizes, never residues: they may be secret. */
function fail(reason: string, remedy: string): never {
  throw new SottoError('usage', reason, { remedy });
}

export function checkVectors(ring: PrimeRing, ...blocks: readonly Block[]): void {
  for (const { length } of blocks)
    if (length !== ring.n)
      fail(`a vector of ${length} doubles in a ring of dimension ${ring.n}`, 'pass blocks of the ring dimension');
}

export function checkApart(out: Block, ...inputs: readonly Block[]): void {
  for (const input of inputs)
    if (out.offset < input.offset + 8 * input.length && input.offset < out.offset + 8 * out.length)
      fail('the output overlaps an input', 'allocate a block of its own for it');
}

export function checkTerms(count: number, most: number): void {
  if (count < 1 || count > most) fail(`${count} terms in one sum`, `pass 1 … ${most}`);
}

export function checkElement(n: number, element: number): void {
  if (!Number.isInteger(element) || element < 1 || element >= 2 * n || element % 2 === 0)
    fail(`${element} is no automorphism of dimension ${n}`, `pass an odd number below ${2 * n}`);
}

export function checkShort(n: number, length: number): void {
  if (!(length >= 4 && length <= n && (length & (length - 1)) === 0 && Math.log2(length) % 2 === 0))
    fail(`a transform of the first ${length} of ${n} coefficients`, 'pass a power of 4 from 4 to the dimension');
}

export function checkBytes(what: string, have: number, expected: number): void {
  if (have !== expected)
    throw new SottoError('input', `${what} have ${have} bytes instead of ${expected}`, {
      remedy: 'the sender runs other parameters, or the message is damaged',
    });
}

/** A residue that is not below its prime has no right to its bits. */
export function tooLarge(index: number, ring: PrimeRing): SottoError {
  return new SottoError('input', `the residue at ${index} is not below its prime of ${ring.bits} bits`, {
    remedy: 'the sender runs other parameters, or the message is damaged',
  });
}

export function checkWords(bytes: Uint8Array, length: number): void {
  if (bytes.length !== 8 * length) fail(`${bytes.length} random bytes for ${length} samples`, 'pass 8 bytes for each sample');
}

/** Most terms of one sum: their addresses fit the kernels' table. */
export const mostTerms = 1024;
/** Most sources of a basis extension: v · Q stays exact. */
export const mostSources = 32;
