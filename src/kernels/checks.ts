import { SottoError } from '../errors/index.ts';
import type { Block, WordBits } from './contract.ts';

/** What every implementation checks before it touches memory. The messages name sizes, never words: words may be secret. */
function fail(reason: string, remedy: string): never {
  throw new SottoError('usage', reason, { remedy });
}

export function checkLengths(out: Block, ...inputs: readonly Block[]): void {
  for (const input of inputs) {
    if (input.length !== out.length) fail(`blocks of ${out.length} and ${input.length} words`, 'pass blocks of one length');
  }
}

export function checkLength(name: string, block: Block, expected: number): void {
  if (block.length !== expected) fail(`${name} has ${block.length} words instead of ${expected}`, 'pass a block of that length');
}

/** Blocks that a caller cut from larger ones are allowed, so only the memory's bounds and the alignment can be checked. */
export function checkInside(block: Block, wordBytes: number, memoryBytes: number): void {
  const { offset, length } = block;
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset % wordBytes === 0;
  if (whole && offset >= 0 && length >= 0 && offset + length * wordBytes <= memoryBytes) return;
  fail(`a block of ${length} words at ${offset} is outside of the memory`, 'pass blocks of these kernels, still in use');
}

function checkApart(out: Block, input: Block, wordBytes: number): void {
  const apart = out.offset + out.length * wordBytes <= input.offset || input.offset + input.length * wordBytes <= out.offset;
  if (!apart && out.length > 0 && input.length > 0) fail('the output overlaps an input', 'allocate a block of its own for it');
}

export function checkInteger(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    fail(`${name} is ${value}`, `pass a whole number from ${least} to ${most}`);
  }
}

export function checkShift(bits: number, ringBits: number, wordBits: WordBits): void {
  checkInteger('ringBits', ringBits, 1, wordBits);
  checkInteger('bits', bits, 0, wordBits);
}

/** 2^±fraction must be a normal float64. */
export function checkFraction(fraction: number, ringBits: number, wordBits: WordBits): void {
  checkInteger('ringBits', ringBits, 1, wordBits);
  checkInteger('fraction', fraction, -1022, 1022);
}

/** A strided view must fit its dense and its strided block. */
export function checkStrided(
  dense: Block,
  far: Block,
  shape: readonly number[],
  strides: readonly number[],
  start: number,
  wordBytes: number,
): void {
  if (shape.length !== strides.length)
    fail(`${shape.length} dimensions and ${strides.length} strides`, 'pass one stride per dimension');
  if (shape.length > 8) fail(`${shape.length} dimensions`, 'merge dimensions: 8 is the most');
  let count = 1;
  let lowest = start;
  let highest = start;
  for (let d = 0; d < shape.length; d++) {
    checkInteger(`dimension ${d}`, shape[d]!, 0, 2 ** 30);
    checkInteger(`stride ${d}`, strides[d]!, -(2 ** 30), 2 ** 30);
    count *= shape[d]!;
    const reach = (shape[d]! - 1) * strides[d]!;
    if (reach < 0) lowest += reach;
    else highest += reach;
  }
  checkLength('the dense block', dense, count);
  if (count > 0 && !(Number.isInteger(start) && lowest >= 0 && highest < far.length)) {
    fail(`indices ${lowest} to ${highest} of a block of ${far.length} words`, 'choose start and strides inside of the block');
  }
  checkApart(dense, far, wordBytes);
}

export interface ProductSize {
  readonly batch: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
}

export function checkProduct(out: Block, a: Block, b: Block, size: ProductSize, wordBytes: number): void {
  const { batch, m, k, n } = size;
  for (const [name, value] of Object.entries({ batch, m, k, n })) checkInteger(name, value, 1, 2 ** 30);
  checkLength('out', out, batch * m * n);
  checkLength('a', a, batch * m * k);
  checkLength('b', b, batch * k * n);
  checkApart(out, a, wordBytes);
  checkApart(out, b, wordBytes);
}

export function checkSum(out: Block, a: Block, outer: number, axis: number, inner: number, wordBytes: number): void {
  for (const [name, value] of Object.entries({ outer, axis, inner })) checkInteger(name, value, 0, 2 ** 30);
  checkLength('out', out, outer * inner);
  checkLength('a', a, outer * axis * inner);
  checkApart(out, a, wordBytes);
}

export function checkRotated(out: Block, vectors: Block, table: Block, delta: Block, wordBytes: number): void {
  const n = table.length;
  if (n < 1 || !Number.isInteger(Math.log2(n))) fail(`a table of ${n} words`, 'pass a power of two');
  checkLength('delta', delta, out.length);
  checkLength('vectors', vectors, out.length * n);
  for (const input of [vectors, table, delta]) checkApart(out, input, wordBytes);
}

/** ⌈length·bits/8⌉. */
export function packedBytes(length: number, bits: number): number {
  return Math.ceil((length * bits) / 8);
}

export function checkPacked(length: number, bytes: Uint8Array, bits: number): void {
  const expected = packedBytes(length, bits);
  if (bytes.length !== expected) {
    throw new SottoError('input', `${bytes.length} bytes for ${length} words of ${bits} bits instead of ${expected}`, {
      remedy: 'check that the sender uses the same shapes and ring',
    });
  }
  const used = (length * bits) % 8;
  if (used !== 0 && bytes[expected - 1]! >> used !== 0) {
    throw new SottoError('input', 'the padding behind the last packed word is not zero', {
      remedy: 'check that the sender uses the same shapes and ring',
    });
  }
}

export function rangeError(index: number, fraction: number, ringBits: number): SottoError {
  return new SottoError(
    'range',
    `value ${index} is not finite or does not fit ${ringBits} bits with ${fraction} of them fractional`,
    {
      remedy: 'use a wider ring or fewer fractional bits, or clip the value',
    },
  );
}
