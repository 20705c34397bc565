import { SottoError } from '../../../errors/index.ts';
import { BlockAllocator } from '../../allocator.ts';
import { checkInside } from '../../checks.ts';
import type { Block } from '../../contract.ts';
import { growMemory, kernelMemory } from '../../wasm/module.ts';
import { coefficientPlaces, valuePlaces } from '../automorphism.ts';
import * as checks from '../checks.ts';
import type { ExtensionSource, InverseFactor, LatticeKernels, PrimeRing } from '../contract.ts';
import { inverseFactor } from '../factor.ts';
import { balanced, bitReversed, checkPrime, inverseModulo, minimalRoot, powerModulo } from '../primes.ts';
import { hasFusedArithmetic, instantiateLattice, type LatticeExports } from './module.ts';

/** Addresses of a sum's terms lie here, and random bytes a piece at a time. */
const STREAMS_AT = 1024;
const STREAMS_BYTES = 16 * checks.mostTerms;
const STAGED_WORDS = 8192;
const STAGING_AT = STREAMS_AT + STREAMS_BYTES;
const BLOCKS_AT = STAGING_AT + 8 * STAGED_WORDS;

export interface LatticeOptions {
  /** Which arithmetic to use; the fastest that this engine and machine have where it is not given. */
  readonly arithmetic?: 'fused' | 'split';
  /** The most memory to use; 4 GiB (less 64 KiB) where it is not given. */
  readonly maximumBytes?: number;
}

interface Tables extends PrimeRing {
  readonly primeInverse: number;
  /** Twiddles of the transform and of its inverse. */
  readonly forward: Block;
  readonly inverse: Block;
  readonly plain: InverseFactor;
}

/** An automorphism's tables: byte offsets. */
interface Places {
  readonly places: Block;
  readonly signs?: Block;
}

class WasmLatticeKernels implements LatticeKernels {
  readonly arithmetic: 'fused' | 'split';
  readonly #memory: WebAssembly.Memory;
  readonly #run: LatticeExports;
  readonly #allocator: BlockAllocator;
  readonly #rings = new Map<string, Tables>();
  /** The same; a ring of other kernels is looked up by its numbers. */
  readonly #made = new Set<PrimeRing>();
  readonly #places = new Map<string, Places>();

  constructor(options: LatticeOptions) {
    this.arithmetic = options.arithmetic ?? (hasFusedArithmetic() ? 'fused' : 'split');
    this.#memory = kernelMemory(false, options.maximumBytes ?? 2 ** 32);
    this.#run = instantiateLattice(this.arithmetic, this.#memory);
    this.#allocator = new BlockAllocator(8, BLOCKS_AT, (endBytes) => growMemory(this.#memory, endBytes));
  }

  get allocatedBytes(): number {
    return this.#allocator.allocatedBytes;
  }
  get peakBytes(): number {
    return this.#allocator.peakBytes;
  }

  allocate(length: number): Block {
    return this.#allocator.allocate(length);
  }

  free(block: Block): void {
    this.#allocator.assertLive(block);
    this.#run.clear(block.offset, 8 * block.length);
    this.#allocator.free(block);
  }

  values(block: Block): Float64Array<ArrayBuffer> {
    this.#inside(block);
    return new Float64Array(this.#memory.buffer, block.offset, block.length);
  }

  ring(n: number, prime: number): PrimeRing {
    const key = `${n} ${prime}`;
    let found = this.#rings.get(key);
    if (found === undefined) {
      checkPrime(n, prime);
      found = this.#tables(n, prime);
      this.#rings.set(key, found);
      this.#made.add(found);
    }
    return found;
  }

  #tables(n: number, prime: number): Tables {
    const p = BigInt(prime);
    const root = minimalRoot(n, prime);
    const ring = { n, prime, root, bits: p.toString(2).length, primeInverse: 1 / prime };
    const forward = this.#powers(ring, root);
    const inverse = this.#powers(ring, inverseModulo(root, p));
    return { ...ring, forward, inverse, plain: inverseFactor(ring, 1n) };
  }

  /**
   * psi^(bit reversal of i), nearest to zero: the second half of any 2m of them is the first times psi^(n/2m).
   */
  #powers({ n, prime, primeInverse }: Pick<Tables, 'n' | 'prime' | 'primeInverse'>, psi: bigint): Block {
    const p = BigInt(prime);
    const block = this.allocate(n);
    const bits = Math.log2(n);
    const values = this.values(block);
    for (let i = 0; i < 16; i++) values[i] = balanced(powerModulo(psi, BigInt(bitReversed(i, bits)), p), p);
    for (let m = 16; m < n; m *= 2) {
      const factor = balanced(powerModulo(psi, BigInt(n / (2 * m)), p), p);
      const to = block.offset + 8 * m;
      this.#run.multiplyScalar(to, block.offset, factor, m, prime, primeInverse);
      this.#run.balance(to, to, m, prime, primeInverse);
    }
    return block;
  }

  inverseFactor(ring: PrimeRing, factor: bigint): InverseFactor {
    return inverseFactor(ring, factor);
  }

  forward(ring: PrimeRing, a: Block): void {
    const { n, prime, primeInverse, forward } = this.#checked(ring, a);
    this.#run.forward(a.offset, n, forward.offset, prime, primeInverse);
  }

  forwardShort(ring: PrimeRing, a: Block, length: number): void {
    checks.checkShort(ring.n, length);
    const { n, prime, primeInverse, forward } = this.#checked(ring, a);
    this.#run.forwardShort(a.offset, n, length, forward.offset, prime, primeInverse);
  }

  inverse(ring: PrimeRing, a: Block, factor?: InverseFactor): void {
    const { n, prime, primeInverse, inverse, plain } = this.#checked(ring, a);
    const by = factor ?? plain;
    if (by.ring.n !== n || by.ring.prime !== prime)
      throw new SottoError('usage', 'the factor is of another ring', { remedy: 'make it for this ring' });
    this.#run.inverse(a.offset, n, inverse.offset, prime, primeInverse, by.factor, by.factorTimesLast);
  }

  add(ring: PrimeRing, out: Block, a: Block, b: Block): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a, b);
    this.#run.add(out.offset, a.offset, b.offset, n, prime, primeInverse);
  }
  subtract(ring: PrimeRing, out: Block, a: Block, b: Block): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a, b);
    this.#run.subtract(out.offset, a.offset, b.offset, n, prime, primeInverse);
  }
  multiply(ring: PrimeRing, out: Block, a: Block, b: Block): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a, b);
    this.#run.multiply(out.offset, a.offset, b.offset, n, prime, primeInverse);
  }
  multiplyAdd(ring: PrimeRing, out: Block, a: Block, b: Block): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a, b);
    this.#run.multiplyAdd(out.offset, a.offset, b.offset, n, prime, primeInverse);
  }
  multiplyScalar(ring: PrimeRing, out: Block, a: Block, factor: bigint): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a);
    this.#run.multiplyScalar(out.offset, a.offset, balanced(factor, BigInt(prime)), n, prime, primeInverse);
  }
  addScalar(ring: PrimeRing, out: Block, a: Block, value: bigint): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a);
    this.#run.addScalar(out.offset, a.offset, balanced(value, BigInt(prime)), n, prime, primeInverse);
  }
  differenceTimes(ring: PrimeRing, out: Block, a: Block, b: Block, factor: bigint): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a, b);
    this.#run.differenceTimes(out.offset, a.offset, b.offset, balanced(factor, BigInt(prime)), n, prime, primeInverse);
  }
  balance(ring: PrimeRing, out: Block, a: Block): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a);
    this.#run.balance(out.offset, a.offset, n, prime, primeInverse);
  }
  canonical(ring: PrimeRing, out: Block, a: Block): void {
    const { n, prime, primeInverse } = this.#checked(ring, out, a);
    this.#run.canonical(out.offset, a.offset, n, prime, primeInverse);
  }

  automorphismOnValues(ring: PrimeRing, out: Block, a: Block, element: number): void {
    const { n } = this.#checked(ring, out, a);
    checks.checkApart(out, a);
    this.#run.permute(out.offset, a.offset, this.#valuePlaces(n, element).places.offset, n);
  }

  automorphismOnCoefficients(ring: PrimeRing, out: Block, a: Block, element: number): void {
    const { n } = this.#checked(ring, out, a);
    checks.checkElement(n, element);
    checks.checkApart(out, a);
    const { places, signs } = this.#kept(`coefficients ${n} ${element}`, () => coefficientPlaces(n, element));
    this.#run.scatterSigned(out.offset, a.offset, places.offset, signs!.offset, n);
  }

  innerProducts(
    ring: PrimeRing,
    out0: Block,
    out1: Block,
    terms: readonly { readonly a: Block; readonly b: Block; readonly c: Block }[],
    element?: number,
  ): void {
    checks.checkTerms(terms.length, checks.mostTerms);
    const inputs = terms.flatMap(({ a, b, c }) => [a, b, c]);
    const { n, prime, primeInverse } = this.#checked(ring, out0, out1, ...inputs);
    checks.checkApart(out0, out1, ...inputs);
    checks.checkApart(out1, ...inputs);
    const indices = element === undefined || element === 1 ? 0 : this.#valuePlaces(n, element).places.offset;
    this.#streams(inputs);
    this.#run.innerProducts(out0.offset, out1.offset, STREAMS_AT, terms.length, indices, n, prime, primeInverse);
  }

  dot(ring: PrimeRing, out: Block, terms: readonly { readonly a: Block; readonly b: Block }[]): void {
    checks.checkTerms(terms.length, checks.mostTerms);
    const inputs = terms.flatMap(({ a, b }) => [a, b]);
    const { n, prime, primeInverse } = this.#checked(ring, out, ...inputs);
    checks.checkApart(out, ...inputs);
    this.#streams(inputs);
    this.#run.dot(out.offset, STREAMS_AT, terms.length, n, prime, primeInverse);
  }

  tensor(ring: PrimeRing, d: readonly [Block, Block, Block], a: readonly [Block, Block], b: readonly [Block, Block]): void {
    const { n, prime, primeInverse } = this.#checked(ring, ...d, ...a, ...b);
    checks.checkApart(d[0], d[1], d[2], ...a, ...b);
    checks.checkApart(d[1], d[2], ...a, ...b);
    checks.checkApart(d[2], ...a, ...b);
    const at = [...d, ...a, ...b].map(({ offset }) => offset) as [number, number, number, number, number, number, number];
    this.#run.tensor(...at, n, prime, primeInverse);
  }

  overflow(out: Block, sources: readonly ExtensionSource[]): void {
    checks.checkTerms(sources.length, checks.mostSources);
    for (const { residues } of sources) checks.checkVectors({ n: out.length } as PrimeRing, residues);
    this.#inside(out, ...sources.map(({ residues }) => residues));
    checks.checkApart(out, ...sources.map(({ residues }) => residues));
    this.#sources(sources);
    this.#run.overflow(out.offset, STREAMS_AT, sources.length, out.length);
  }

  extend(ring: PrimeRing, out: Block, sources: readonly ExtensionSource[], v: Block, product: number): void {
    checks.checkTerms(sources.length, checks.mostSources);
    const inputs = [v, ...sources.map(({ residues }) => residues)];
    const { n, prime, primeInverse } = this.#checked(ring, out, ...inputs);
    checks.checkApart(out, ...inputs);
    this.#sources(sources);
    this.#run.extend(out.offset, STREAMS_AT, sources.length, v.offset, product, n, prime, primeInverse);
  }

  sampleUniform(ring: PrimeRing, out: Block, bytes: Uint8Array): number {
    const { n, prime, bits } = this.#checked(ring, out);
    if (bytes.length % 8 !== 0) checks.checkWords(bytes, Math.ceil(bytes.length / 8));
    let have = 0;
    this.#staged(bytes, (words, count) => {
      have += this.#run.uniform(out.offset + 8 * have, words, count, n - have, bits, prime);
    });
    return have;
  }

  sampleTernary(out: Block, bytes: Uint8Array): void {
    this.#inside(out);
    checks.checkWords(bytes, out.length);
    this.#staged(bytes, (words, count, first) => this.#run.ternary(out.offset + 8 * first, words, count));
  }

  sampleGaussian(out: Block, bytes: Uint8Array, table: BigUint64Array<ArrayBuffer>): void {
    this.#inside(out);
    checks.checkWords(bytes, out.length);
    checks.checkTerms(table.length, checks.mostTerms);
    new BigUint64Array(this.#memory.buffer, STREAMS_AT, table.length).set(table);
    this.#staged(bytes, (words, count, first) =>
      this.#run.gaussian(out.offset + 8 * first, words, STREAMS_AT, table.length, count),
    );
  }

  pack(ring: PrimeRing, a: Block): Uint8Array<ArrayBuffer> {
    const { n, bits, prime, primeInverse } = this.#checked(ring, a);
    const staging = this.allocate(Math.ceil((n * bits) / 64));
    try {
      this.#run.pack(staging.offset, a.offset, n, bits, prime, primeInverse);
      return new Uint8Array(this.#memory.buffer, staging.offset, (n * bits) / 8).slice();
    } finally {
      this.free(staging);
    }
  }

  unpack(ring: PrimeRing, out: Block, bytes: Uint8Array): void {
    const { n, bits, prime } = this.#checked(ring, out);
    checks.checkBytes('packed residues', bytes.length, (n * bits) / 8);
    const staging = this.allocate(Math.ceil((n * bits) / 64));
    try {
      new Uint8Array(this.#memory.buffer, staging.offset, bytes.length).set(bytes);
      const wrong = this.#run.unpack(out.offset, staging.offset, n, bits, prime);
      if (wrong >= 0) throw checks.tooLarge(wrong, ring);
    } finally {
      this.free(staging);
    }
  }

  #valuePlaces(n: number, element: number): Places {
    checks.checkElement(n, element);
    return this.#kept(`values ${n} ${element}`, () => ({ places: valuePlaces(n, element) }));
  }

  /** Tables of an automorphism, made once, as byte offsets. */
  #kept(key: string, make: () => { places: Uint32Array; signs?: Float64Array }): Places {
    let found = this.#places.get(key);
    if (found === undefined) {
      const { places, signs } = make();
      const block = this.allocate(places.length / 2);
      const offsets = new Uint32Array(this.#memory.buffer, block.offset, places.length);
      for (let i = 0; i < places.length; i++) offsets[i] = 8 * places[i]!;
      found = { places: block };
      if (signs !== undefined) {
        const signBlock = this.allocate(signs.length);
        this.values(signBlock).set(signs);
        found = { places: block, signs: signBlock };
      }
      this.#places.set(key, found);
    }
    return found;
  }

  #streams(blocks: readonly Block[]): void {
    const table = new Uint32Array(this.#memory.buffer, STREAMS_AT, blocks.length);
    for (let k = 0; k < blocks.length; k++) table[k] = blocks[k]!.offset;
  }

  #sources(sources: readonly ExtensionSource[]): void {
    const view = new DataView(this.#memory.buffer, STREAMS_AT, 16 * sources.length);
    for (let k = 0; k < sources.length; k++) {
      view.setUint32(16 * k, sources[k]!.residues.offset, true);
      view.setFloat64(16 * k + 8, sources[k]!.constant, true);
    }
  }

  /** Brings random bytes in by pieces, and clears the place behind itself: they may be a secret's. */
  #staged(bytes: Uint8Array, visit: (words: number, count: number, first: number) => void): void {
    try {
      for (let first = 0; 8 * first < bytes.length; first += STAGED_WORDS) {
        const piece = bytes.subarray(8 * first, 8 * (first + STAGED_WORDS));
        new Uint8Array(this.#memory.buffer, STAGING_AT, piece.length).set(piece);
        visit(STAGING_AT, piece.length / 8, first);
      }
    } finally {
      this.#run.clear(STAGING_AT, Math.min(bytes.length, 8 * STAGED_WORDS));
    }
  }

  /** The ring's tables, and blocks of its size inside of the memory. */
  #checked(ring: PrimeRing, ...blocks: readonly Block[]): Tables {
    checks.checkVectors(ring, ...blocks);
    this.#inside(...blocks);
    return (this.#made.has(ring) ? ring : this.ring(ring.n, ring.prime)) as Tables;
  }

  #inside(...blocks: readonly Block[]): void {
    for (const block of blocks) checkInside(block, 8, this.#memory.buffer.byteLength);
  }
}

/** Kernels on the calling thread, in WebAssembly with SIMD. Portable: no worker, no Node. */
export function createLatticeKernels(options: LatticeOptions = {}): LatticeKernels {
  return new WasmLatticeKernels(options);
}
