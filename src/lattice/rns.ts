import { SottoError } from '../errors/index.ts';
import type { Block } from '../kernels/index.ts';
import { balanced, type InverseFactor, inverseModulo, type LatticeKernels, type PrimeRing } from '../kernels/lattice/index.ts';
import type { RlweParameters } from './parameters.ts';

/** A polynomial modulo q_0 … q_level, and modulo all special primes where it is `special`: one vector for each prime, in values unless told otherwise. */
export interface Polynomial {
  readonly level: number;
  readonly special: boolean;
  readonly limbs: readonly Block[];
}

/** Constants that continue a number from some primes to every other one. */
interface Extension {
  readonly sources: readonly number[];
  /** (Q/q_i)^−1 with n^−1, for the inverse transform; 1/q_i for the overflow. */
  readonly factors: readonly InverseFactor[];
  readonly reciprocals: readonly number[];
  /** By target: Q/q_i and Q modulo it, and Q^−1 where a division ends there. */
  readonly targets: Map<number, { readonly constants: readonly number[]; readonly product: number; readonly inverse: bigint }>;
  readonly product: bigint;
}

/** Arithmetic on polynomials limb by limb, and the two moves between primes: extension of a digit and division with rounding. */
export class Rns {
  readonly kernels: LatticeKernels;
  readonly parameters: RlweParameters;
  /** q first, then p. */
  readonly rings: readonly PrimeRing[];
  readonly #extensions = new Map<string, Extension>();

  constructor(kernels: LatticeKernels, parameters: RlweParameters) {
    this.kernels = kernels;
    this.parameters = parameters;
    this.rings = [...parameters.q, ...parameters.p].map((prime) => kernels.ring(parameters.n, prime));
  }

  get topLevel(): number {
    return this.parameters.q.length - 1;
  }

  /** Which rings a polynomial of this level has limbs in. */
  indices(level: number, special: boolean): number[] {
    const { q, p } = this.parameters;
    if (!Number.isInteger(level) || level < 0 || level >= q.length)
      throw new SottoError('usage', `there is no level ${level} of ${q.length}`, { remedy: `pass 0 … ${q.length - 1}` });
    const own = Array.from({ length: level + 1 }, (_, i) => i);
    return special ? [...own, ...p.map((_, i) => q.length + i)] : own;
  }

  /** Not cleared. Free it with `free`. */
  allocate(level: number, special = false): Polynomial {
    return { level, special, limbs: this.indices(level, special).map(() => this.kernels.allocate(this.parameters.n)) };
  }

  free(...polynomials: readonly Polynomial[]): void {
    for (const { limbs } of polynomials) for (const limb of limbs) this.kernels.free(limb);
  }

  copy(from: Polynomial, level = from.level): Polynomial {
    const out = this.allocate(level, from.special);
    this.each(out, (_, limb, k) => this.kernels.values(limb).set(this.kernels.values(this.limb(from, this.indexAt(out, k)))));
    return out;
  }

  /** The ring index of the k-th limb. */
  indexAt({ level }: Pick<Polynomial, 'level'>, k: number): number {
    return k <= level ? k : this.parameters.q.length + k - level - 1;
  }

  /** The limb of a ring index. */
  limb({ level, limbs }: Polynomial, index: number): Block {
    const limb = limbs[index < this.parameters.q.length ? index : level + 1 + index - this.parameters.q.length];
    if (limb === undefined || (index > level && index < this.parameters.q.length))
      throw new SottoError('usage', `a polynomial of level ${level} has no limb ${index}`, { remedy: 'pass one of that level' });
    return limb;
  }

  each(polynomial: Polynomial, visit: (ring: PrimeRing, limb: Block, k: number) => void): void {
    for (const [k, limb] of polynomial.limbs.entries()) visit(this.rings[this.indexAt(polynomial, k)]!, limb, k);
  }

  forward(a: Polynomial): void {
    this.each(a, (ring, limb) => this.kernels.forward(ring, limb));
  }
  inverse(a: Polynomial): void {
    this.each(a, (ring, limb) => this.kernels.inverse(ring, limb));
  }
  add(out: Polynomial, a: Polynomial, b: Polynomial): void {
    this.#combine(out, a, b, (ring, ...blocks) => this.kernels.add(ring, ...blocks));
  }
  subtract(out: Polynomial, a: Polynomial, b: Polynomial): void {
    this.#combine(out, a, b, (ring, ...blocks) => this.kernels.subtract(ring, ...blocks));
  }
  multiply(out: Polynomial, a: Polynomial, b: Polynomial): void {
    this.#combine(out, a, b, (ring, ...blocks) => this.kernels.multiply(ring, ...blocks));
  }
  multiplyAdd(out: Polynomial, a: Polynomial, b: Polynomial): void {
    this.#combine(out, a, b, (ring, ...blocks) => this.kernels.multiplyAdd(ring, ...blocks));
  }
  multiplyScalar(out: Polynomial, a: Polynomial, factor: bigint): void {
    this.each(out, (ring, limb, k) => this.kernels.multiplyScalar(ring, limb, this.limb(a, this.indexAt(out, k)), factor));
  }
  automorphism(out: Polynomial, a: Polynomial, element: number): void {
    this.each(out, (ring, limb, k) => this.kernels.automorphismOnValues(ring, limb, this.limb(a, this.indexAt(out, k)), element));
  }

  /** `a` and `b` may have more limbs than `out`. */
  #combine(
    out: Polynomial,
    a: Polynomial,
    b: Polynomial,
    operation: (ring: PrimeRing, out: Block, a: Block, b: Block) => void,
  ): void {
    this.each(out, (ring, limb, k) => {
      const index = this.indexAt(out, k);
      operation(ring, limb, this.limb(a, index), this.limb(b, index));
    });
  }

  /** Small integers, |x| < 2^20, as a polynomial in values: the same coefficients modulo every prime. */
  fromSmall(coefficients: Float64Array, level: number, special = false): Polynomial {
    const out = this.allocate(level, special);
    this.each(out, (ring, limb) => {
      this.kernels.values(limb).set(coefficients);
      this.kernels.forward(ring, limb);
    });
    return out;
  }

  /**
   * The representative nearest to zero of the residues modulo the `sources`, continued to the `targets`, in values. `limbs` are the sources' limbs, in
   * values; they stay as they are. Wrong by the product of the sources where the number comes within 2^−46 of half of it.
   */
  extend(limbs: readonly Block[], sources: readonly number[], targets: readonly number[], out: readonly Block[]): void {
    const { kernels } = this;
    const extension = this.#extension(sources);
    const scaled = limbs.map((limb, i) => {
      const ring = this.rings[sources[i]!]!;
      const block = kernels.allocate(ring.n);
      kernels.values(block).set(kernels.values(limb));
      kernels.inverse(ring, block, extension.factors[i]!);
      kernels.balance(ring, block, block);
      return block;
    });
    const v = kernels.allocate(this.parameters.n);
    try {
      kernels.overflow(
        v,
        scaled.map((residues, i) => ({ residues, constant: extension.reciprocals[i]! })),
      );
      targets.forEach((target, t) => {
        const { constants, product } = this.#target(extension, target);
        const terms = scaled.map((residues, i) => ({ residues, constant: constants[i]! }));
        kernels.extend(this.rings[target]!, out[t]!, terms, v, product);
        kernels.forward(this.rings[target]!, out[t]!);
      });
    } finally {
      for (const block of [...scaled, v]) kernels.free(block);
    }
  }

  /** `a` divided by the product of the `by` primes, rounded to the nearest integer, on the limbs of `out`; `a` has both. */
  divide(out: Polynomial, a: Polynomial, by: readonly number[]): void {
    const { kernels } = this;
    const targets = out.limbs.map((_, k) => this.indexAt(out, k));
    const rests = targets.map(() => kernels.allocate(this.parameters.n));
    try {
      this.extend(
        by.map((index) => this.limb(a, index)),
        by,
        targets,
        rests,
      );
      const extension = this.#extension(by);
      targets.forEach((target, t) => {
        const { inverse } = this.#target(extension, target);
        kernels.differenceTimes(this.rings[target]!, out.limbs[t]!, this.limb(a, target), rests[t]!, inverse);
      });
    } finally {
      for (const rest of rests) kernels.free(rest);
    }
  }

  #extension(sources: readonly number[]): Extension {
    const key = sources.join();
    let found = this.#extensions.get(key);
    if (found === undefined) {
      const primes = sources.map((index) => BigInt(this.rings[index]!.prime));
      const product = primes.reduce((whole, prime) => whole * prime, 1n);
      const factors = sources.map((index, i) =>
        this.kernels.inverseFactor(this.rings[index]!, inverseModulo(product / primes[i]!, primes[i]!)),
      );
      found = { sources, factors, reciprocals: primes.map((prime) => 1 / Number(prime)), targets: new Map(), product };
      this.#extensions.set(key, found);
    }
    return found;
  }

  #target({ sources, targets, product }: Extension, target: number) {
    let found = targets.get(target);
    if (found === undefined) {
      const prime = BigInt(this.rings[target]!.prime);
      const constants = sources.map((index) => balanced(product / BigInt(this.rings[index]!.prime), prime));
      found = { constants, product: balanced(product, prime), inverse: inverseModulo(product, prime) };
      targets.set(target, found);
    }
    return found;
  }
}
