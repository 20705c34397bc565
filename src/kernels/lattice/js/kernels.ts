import { BlockAllocator } from '../../allocator.ts';
import type { Block } from '../../contract.ts';
import { coefficientPlaces, valuePlaces } from '../automorphism.ts';
import * as checks from '../checks.ts';
import type { ExtensionSource, InverseFactor, LatticeKernels, PrimeRing } from '../contract.ts';
import { inverseFactor } from '../factor.ts';
import { bitReversed, checkPrime, inverseModulo, minimalRoot, powerModulo } from '../primes.ts';

/** The slow twin: every operation by its definition, in BigInt, on canonical residues. For tests. */
class ExactLatticeKernels implements LatticeKernels {
  readonly arithmetic = 'exact';
  #memory = new Float64Array(2 ** 16);
  readonly #allocator = new BlockAllocator(8, 0, (endBytes) => {
    if (endBytes > this.#memory.byteLength) {
      const larger = new Float64Array(Math.max(endBytes / 8, 2 * this.#memory.length));
      larger.set(this.#memory);
      this.#memory = larger;
    }
    return this.#memory.byteLength;
  });

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
    this.values(block).fill(0);
    this.#allocator.free(block);
  }
  values({ offset, length }: Block): Float64Array<ArrayBuffer> {
    return this.#memory.subarray(offset / 8, offset / 8 + length);
  }

  ring(n: number, prime: number): PrimeRing {
    checkPrime(n, prime);
    return { n, prime, root: minimalRoot(n, prime), bits: BigInt(prime).toString(2).length };
  }
  inverseFactor(ring: PrimeRing, factor: bigint): InverseFactor {
    return inverseFactor(ring, factor);
  }

  #read(block: Block): bigint[] {
    return Array.from(this.values(block), (x) => BigInt(x));
  }
  #write(ring: PrimeRing, out: Block, words: readonly bigint[]): void {
    checks.checkVectors(ring, out);
    const p = BigInt(ring.prime);
    this.values(out).set(words.map((x) => Number(((x % p) + p) % p)));
  }
  #map(ring: PrimeRing, out: Block, inputs: readonly Block[], f: (...x: bigint[]) => bigint): void {
    checks.checkVectors(ring, out, ...inputs);
    const words = inputs.map((block) => this.#read(block));
    const results = Array.from({ length: ring.n }, (_, i) => f(...words.map((each) => each[i]!)));
    this.#write(ring, out, results);
  }

  /** ψ^(2·rev(i)+1): where value i lies. */
  #points({ n, prime, root }: PrimeRing): bigint[] {
    const bits = Math.log2(n);
    return Array.from({ length: n }, (_, i) => powerModulo(root, BigInt(2 * bitReversed(i, bits) + 1), BigInt(prime)));
  }

  forward(ring: PrimeRing, a: Block): void {
    checks.checkVectors(ring, a);
    const p = BigInt(ring.prime);
    const coefficients = this.#read(a);
    const evaluated = this.#points(ring).map((x) => coefficients.reduceRight((sum, c) => (sum * x + c) % p, 0n));
    this.#write(ring, a, evaluated);
  }
  forwardShort(ring: PrimeRing, a: Block, length: number): void {
    checks.checkShort(ring.n, length);
    checks.checkVectors(ring, a);
    this.values(a).fill(0, length);
    this.forward(ring, a);
  }
  inverse(ring: PrimeRing, a: Block, factor: InverseFactor = inverseFactor(ring, 1n)): void {
    checks.checkVectors(ring, a);
    const p = BigInt(ring.prime);
    const values = this.#read(a);
    const inverses = this.#points(ring).map((x) => inverseModulo(x, p));
    const powers = inverses.map(() => 1n);
    const coefficients: bigint[] = [];
    for (let i = 0; i < ring.n; i++) {
      let sum = 0n;
      for (let k = 0; k < ring.n; k++) {
        sum += values[k]! * powers[k]!;
        powers[k] = (powers[k]! * inverses[k]!) % p;
      }
      coefficients.push((sum % p) * BigInt(factor.factor));
    }
    this.#write(ring, a, coefficients);
  }

  add(ring: PrimeRing, out: Block, a: Block, b: Block): void {
    this.#map(ring, out, [a, b], (x, y) => x + y);
  }
  subtract(ring: PrimeRing, out: Block, a: Block, b: Block): void {
    this.#map(ring, out, [a, b], (x, y) => x - y);
  }
  multiply(ring: PrimeRing, out: Block, a: Block, b: Block): void {
    this.#map(ring, out, [a, b], (x, y) => x * y);
  }
  multiplyAdd(ring: PrimeRing, out: Block, a: Block, b: Block): void {
    this.#map(ring, out, [out, a, b], (sum, x, y) => sum + x * y);
  }
  multiplyScalar(ring: PrimeRing, out: Block, a: Block, factor: bigint): void {
    this.#map(ring, out, [a], (x) => x * factor);
  }
  addScalar(ring: PrimeRing, out: Block, a: Block, value: bigint): void {
    this.#map(ring, out, [a], (x) => x + value);
  }
  differenceTimes(ring: PrimeRing, out: Block, a: Block, b: Block, factor: bigint): void {
    this.#map(ring, out, [a, b], (x, y) => (x - y) * factor);
  }
  balance(ring: PrimeRing, out: Block, a: Block): void {
    this.canonical(ring, out, a);
    const values = this.values(out);
    for (let i = 0; i < values.length; i++) if (values[i]! > ring.prime / 2) values[i]! -= ring.prime;
  }
  canonical(ring: PrimeRing, out: Block, a: Block): void {
    this.#map(ring, out, [a], (x) => x);
  }

  automorphismOnValues(ring: PrimeRing, out: Block, a: Block, element: number): void {
    checks.checkElement(ring.n, element);
    checks.checkApart(out, a);
    const words = this.#read(a);
    this.#write(
      ring,
      out,
      Array.from(valuePlaces(ring.n, element), (place) => words[place]!),
    );
  }
  automorphismOnCoefficients(ring: PrimeRing, out: Block, a: Block, element: number): void {
    checks.checkElement(ring.n, element);
    checks.checkApart(out, a);
    const { places, signs } = coefficientPlaces(ring.n, element);
    const words = this.#read(a);
    const moved: bigint[] = [];
    for (let i = 0; i < ring.n; i++) moved[places[i]!] = BigInt(signs[i]!) * words[i]!;
    this.#write(ring, out, moved);
  }

  innerProducts(
    ring: PrimeRing,
    out0: Block,
    out1: Block,
    terms: readonly { readonly a: Block; readonly b: Block; readonly c: Block }[],
    element = 1,
  ): void {
    checks.checkElement(ring.n, element);
    const places = valuePlaces(ring.n, element);
    const read = terms.map(({ a, b, c }) => ({ a: this.#read(a), b: this.#read(b), c: this.#read(c) }));
    const sum = (which: 'b' | 'c') =>
      Array.from(places, (place, i) => read.reduce((total, term) => total + term.a[place]! * term[which][i]!, 0n));
    this.#write(ring, out0, sum('b'));
    this.#write(ring, out1, sum('c'));
  }
  dot(ring: PrimeRing, out: Block, terms: readonly { readonly a: Block; readonly b: Block }[]): void {
    const read = terms.map(({ a, b }) => ({ a: this.#read(a), b: this.#read(b) }));
    this.#write(
      ring,
      out,
      Array.from({ length: ring.n }, (_, i) => read.reduce((total, { a, b }) => total + a[i]! * b[i]!, 0n)),
    );
  }
  tensor(ring: PrimeRing, d: readonly [Block, Block, Block], a: readonly [Block, Block], b: readonly [Block, Block]): void {
    this.#map(ring, d[0], [a[0], b[0]], (x, y) => x * y);
    this.#map(ring, d[1], [a[0], b[1], a[1], b[0]], (x, y, z, w) => x * y + z * w);
    this.#map(ring, d[2], [a[1], b[1]], (x, y) => x * y);
  }

  overflow(out: Block, sources: readonly ExtensionSource[]): void {
    const values = this.values(out);
    for (let i = 0; i < values.length; i++) {
      let sum = 0;
      for (const { residues, constant } of sources) sum += this.values(residues)[i]! * constant;
      values[i] = -Math.round(sum);
    }
  }
  extend(ring: PrimeRing, out: Block, sources: readonly ExtensionSource[], v: Block, product: number): void {
    const constants = sources.map(({ constant }) => BigInt(constant));
    this.#map(ring, out, [v, ...sources.map(({ residues }) => residues)], (times, ...x) =>
      x.reduce((sum, word, k) => sum + word * constants[k]!, times * BigInt(product)),
    );
  }

  sampleUniform(ring: PrimeRing, out: Block, bytes: Uint8Array): number {
    const kept = words64(bytes)
      .map((word) => BigInt.asUintN(ring.bits, word))
      .filter((word) => word < BigInt(ring.prime))
      .slice(0, ring.n);
    this.values(out).set(kept.map(Number));
    return kept.length;
  }
  sampleTernary(out: Block, bytes: Uint8Array): void {
    checks.checkWords(bytes, out.length);
    const third = (2n ** 64n - 1n) / 3n;
    this.values(out).set(words64(bytes).map((word) => Number(word > third) + Number(word > 2n * third) - 1));
  }
  sampleGaussian(out: Block, bytes: Uint8Array, table: BigUint64Array<ArrayBuffer>): void {
    checks.checkWords(bytes, out.length);
    const sample = (word: bigint): number => {
      const magnitude = table.filter((threshold) => word >> 1n >= threshold).length;
      return word & 1n ? 0 - magnitude : magnitude;
    };
    this.values(out).set(words64(bytes).map(sample));
  }

  pack(ring: PrimeRing, a: Block): Uint8Array<ArrayBuffer> {
    checks.checkVectors(ring, a);
    const p = BigInt(ring.prime);
    let whole = 0n;
    for (const [i, x] of this.#read(a).entries()) whole |= (((x % p) + p) % p) << BigInt(i * ring.bits);
    return Uint8Array.from({ length: (ring.n * ring.bits) / 8 }, (_, i) => Number((whole >> BigInt(8 * i)) & 255n));
  }
  unpack(ring: PrimeRing, out: Block, bytes: Uint8Array): void {
    checks.checkBytes('packed residues', bytes.length, (ring.n * ring.bits) / 8);
    let whole = 0n;
    for (let i = bytes.length - 1; i >= 0; i--) whole = (whole << 8n) | BigInt(bytes[i]!);
    const words = Array.from({ length: ring.n }, (_, i) => BigInt.asUintN(ring.bits, whole >> BigInt(i * ring.bits)));
    const wrong = words.findIndex((word) => word >= BigInt(ring.prime));
    if (wrong >= 0) throw checks.tooLarge(wrong, ring);
    this.#write(ring, out, words);
  }
}

const words64 = (bytes: Uint8Array): bigint[] => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 8 }, (_, i) => view.getBigUint64(8 * i, true));
};

export function createExactLatticeKernels(): LatticeKernels {
  return new ExactLatticeKernels();
}
