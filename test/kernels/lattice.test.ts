import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Block } from '../../src/kernels/index.ts';
import {
  createExactLatticeKernels,
  createLatticeKernels,
  gaussianTable,
  type LatticeKernels,
  type PrimeRing,
  transformPrimes,
} from '../../src/kernels/lattice/index.ts';
import { createNodeLatticeKernels } from '../../src/node/lattice.ts';

/** The first comes first: on Node 20 it sets the flag without which there is no fused arithmetic. */
const fused = createNodeLatticeKernels();
const implementations: { name: string; kernels: LatticeKernels }[] = [
  { name: 'the fastest here', kernels: fused },
  { name: 'split', kernels: createLatticeKernels({ arithmetic: 'split' }) },
  { name: 'exact', kernels: createExactLatticeKernels() },
];
const exact = createExactLatticeKernels();
const kind = (expected: string) => expect.objectContaining({ name: 'SottoError', kind: expected });

/** The same numbers wherever the test runs. */
function randomBytes(length: number, seed: string): Uint8Array {
  const pieces: Buffer[] = [];
  for (let k = 0; k * 32 < length; k++) pieces.push(createHash('sha256').update(`${seed} ${k}`).digest());
  return new Uint8Array(Buffer.concat(pieces).subarray(0, length));
}

/** Lazy residues: random ones, and in turn the extremes ±2p, 0, ±p, ±p/2 that the bounds of the kernels allow. */
function lazy({ n, prime }: PrimeRing, seed: string, extremes: 'mixed' | 'only' = 'mixed'): Float64Array {
  const view = new DataView(randomBytes(8 * n, seed).buffer);
  const half = (prime - 1) / 2;
  const edges = [2 * prime, -2 * prime, 2 * prime - 1, prime, -prime, half, -half, 0, half + 1];
  return Float64Array.from({ length: n }, (_, i) => {
    const word = view.getBigUint64(8 * i, true);
    if (extremes === 'only' || i % 5 === 4) return edges[Number(word % 9n)]!;
    return Number(word % BigInt(4 * prime)) - 2 * prime;
  });
}

function put(kernels: LatticeKernels, values: ArrayLike<number>): Block {
  const block = kernels.allocate(values.length);
  kernels.values(block).set(values);
  return block;
}

/** Runs an operation and gives canonical outputs; the largest |output| is checked against the lazy bound. */
function run(
  kernels: LatticeKernels,
  { n, prime }: { n: number; prime: number },
  inputs: readonly ArrayLike<number>[],
  operation: (ring: PrimeRing, out: Block[], inputs: Block[]) => void,
  outputs = 1,
): number[][] {
  const ring = kernels.ring(n, prime);
  const blocks = inputs.map((values) => put(kernels, values));
  const out = Array.from({ length: outputs }, () => put(kernels, new Float64Array(n)));
  operation(ring, out, blocks);
  const results = out.map((block) => {
    const most = kernels.values(block).reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
    expect(most).toBeLessThanOrEqual(2 * prime);
    kernels.canonical(ring, block, block);
    return [...kernels.values(block)];
  });
  for (const block of [...blocks, ...out]) kernels.free(block);
  return results;
}

const shapes = [
  { n: 16, bits: 20 },
  { n: 32, bits: 49 },
  { n: 64, bits: 30 },
  { n: 128, bits: 49 },
  { n: 256, bits: 40 },
].map(({ n, bits }) => ({ n, bits, prime: transformPrimes(n, bits, 1, { below: true })[0]! }));

describe.each(implementations.slice(0, 2))('lattice kernels, $name, against the exact twin', ({ kernels }) => {
  const same = (
    shape: { n: number; prime: number },
    inputs: readonly ArrayLike<number>[],
    operation: (kernels: LatticeKernels) => (ring: PrimeRing, out: Block[], inputs: Block[]) => void,
    outputs = 1,
  ): void => {
    expect(run(kernels, shape, inputs, operation(kernels), outputs)).toEqual(
      run(exact, shape, inputs, operation(exact), outputs),
    );
  };

  it.each(shapes)('transforms there and back, n = $n, $bits bits, also at the extremes', (shape) => {
    const ring = exact.ring(shape.n, shape.prime);
    for (const extremes of ['mixed', 'only'] as const) {
      const a = lazy(ring, `transform ${shape.n}`, extremes);
      const there =
        (k: LatticeKernels) =>
        (r: PrimeRing, out: Block[], [x]: Block[]) => {
          k.values(out[0]!).set(k.values(x!));
          k.forward(r, out[0]!);
        };
      same(shape, [a], there);
      const back =
        (k: LatticeKernels) =>
        (r: PrimeRing, out: Block[], [x]: Block[]) => {
          k.values(out[0]!).set(k.values(x!));
          k.inverse(r, out[0]!, k.inverseFactor(r, 12345678901n));
        };
      same(shape, [a], back);
      const both =
        (k: LatticeKernels) =>
        (r: PrimeRing, out: Block[], [x]: Block[]) => {
          k.values(out[0]!).set(k.values(x!));
          k.forward(r, out[0]!);
          k.inverse(r, out[0]!);
        };
      const p = shape.prime;
      expect(run(kernels, shape, [a], both(kernels))[0]).toEqual([...a].map((x) => ((x % p) + p) % p));
    }
  });

  it('short transforms are those of a polynomial that ends early', () => {
    const shape = shapes[4]!;
    const a = lazy(exact.ring(shape.n, shape.prime), 'short');
    for (const length of [4, 16, 64, 256])
      same(shape, [a], (k) => (r, out, [x]) => {
        k.values(out[0]!).set(k.values(x!));
        k.forwardShort(r, out[0]!, length);
      });
  });

  const elementwise: Record<string, (k: LatticeKernels) => (r: PrimeRing, out: Block[], inputs: Block[]) => void> = {
    add:
      (k) =>
      (r, [out], [a, b]) =>
        k.add(r, out!, a!, b!),
    subtract:
      (k) =>
      (r, [out], [a, b]) =>
        k.subtract(r, out!, a!, b!),
    multiply:
      (k) =>
      (r, [out], [a, b]) =>
        k.multiply(r, out!, a!, b!),
    multiplyAdd:
      (k) =>
      (r, [out], [a, b]) => {
        k.add(r, out!, a!, b!);
        k.multiplyAdd(r, out!, a!, b!);
      },
    multiplyScalar:
      (k) =>
      (r, [out], [a]) =>
        k.multiplyScalar(r, out!, a!, -987654321987n),
    addScalar:
      (k) =>
      (r, [out], [a]) =>
        k.addScalar(r, out!, a!, 2n ** 60n - 1n),
    differenceTimes:
      (k) =>
      (r, [out], [a, b]) =>
        k.differenceTimes(r, out!, a!, b!, 123456789n),
    balance:
      (k) =>
      (r, [out], [a]) =>
        k.balance(r, out!, a!),
    automorphismOnValues:
      (k) =>
      (r, [out], [a]) =>
        k.automorphismOnValues(r, out!, a!, 5),
    automorphismOnCoefficients:
      (k) =>
      (r, [out], [a]) =>
        k.automorphismOnCoefficients(r, out!, a!, 2 * r.n - 1),
  };
  it.each(Object.keys(elementwise))('%s follows its definition', (name) => {
    for (const shape of shapes) {
      const ring = exact.ring(shape.n, shape.prime);
      for (const extremes of ['mixed', 'only'] as const)
        same(shape, [lazy(ring, `${name} a`, extremes), lazy(ring, `${name} b`, extremes)], elementwise[name]!);
    }
  });

  it('sums of products follow their definition at every count and through an automorphism', () => {
    for (const shape of shapes)
      for (const count of [1, 7, 8, 9, 20]) {
        const ring = exact.ring(shape.n, shape.prime);
        const inputs = Array.from({ length: 3 * count }, (_, i) => lazy(ring, `sum ${i}`, count === 20 ? 'only' : 'mixed'));
        const terms = (blocks: Block[]) =>
          Array.from({ length: count }, (_, k) => ({ a: blocks[3 * k]!, b: blocks[3 * k + 1]!, c: blocks[3 * k + 2]! }));
        for (const element of [undefined, 3, 2 * shape.n - 1])
          same(
            shape,
            inputs,
            (k) =>
              (r, [x, y], blocks) =>
                k.innerProducts(r, x!, y!, terms(blocks), element),
            2,
          );
        same(
          shape,
          inputs,
          (k) =>
            (r, [out], blocks) =>
              k.dot(r, out!, terms(blocks)),
        );
      }
  });

  it('a tensor product has three parts', () => {
    for (const shape of shapes) {
      const ring = exact.ring(shape.n, shape.prime);
      const inputs = [0, 1, 2, 3].map((i) => lazy(ring, `tensor ${i}`, i === 0 ? 'mixed' : 'only'));
      same(
        shape,
        inputs,
        (k) =>
          (r, d, [a0, a1, b0, b1]) =>
            k.tensor(r, [d[0]!, d[1]!, d[2]!], [a0!, a1!], [b0!, b1!]),
        3,
      );
    }
  });

  it('a number that residues of other primes give is continued to one more prime', () => {
    for (const [count, bits] of [
      [1, 49],
      [4, 40],
      [9, 49],
      [12, 30],
    ] as const) {
      const n = 64;
      const primes = transformPrimes(n, bits, count, { below: true });
      const target = transformPrimes(n, 45, 1, { below: true, except: new Set(primes) })[0]!;
      const product = primes.reduce((whole, q) => whole * BigInt(q), 1n);
      const bytes = randomBytes(n * 80, `extension ${count}`);
      // Up to 2^−20 of the half that the contract leaves open.
      const numbers = Array.from({ length: n }, (_, i) => {
        const word = BigInt(`0x${Buffer.from(bytes.subarray(80 * i, 80 * i + 80)).toString('hex')}`) % product;
        const near = i % 4 === 0 ? product / 2n - product / 2n ** 20n : word;
        return near > product / 2n ? near - product : i % 8 === 0 ? -near : near;
      });
      const sources = primes.map((q) => {
        const ring = kernels.ring(n, q);
        const unit = (product / BigInt(q)) % BigInt(q);
        const inverse = modularInverse(unit, BigInt(q));
        const block = put(
          kernels,
          numbers.map((x) => Number((((x * inverse) % BigInt(q)) + BigInt(q)) % BigInt(q))),
        );
        kernels.balance(ring, block, block);
        return { q, block };
      });
      const ring = kernels.ring(n, target);
      const balance = (x: bigint): number => Number(2n * x > BigInt(target) ? x - BigInt(target) : x);
      const v = kernels.allocate(n);
      const out = kernels.allocate(n);
      kernels.overflow(
        v,
        sources.map(({ q, block }) => ({ residues: block, constant: 1 / q })),
      );
      const terms = sources.map(({ q, block }) => ({
        residues: block,
        constant: balance((product / BigInt(q)) % BigInt(target)),
      }));
      kernels.extend(ring, out, terms, v, balance(product % BigInt(target)));
      kernels.canonical(ring, out, out);
      expect([...kernels.values(out)]).toEqual(
        numbers.map((x) => Number(((x % BigInt(target)) + BigInt(target)) % BigInt(target))),
      );
      for (const block of [v, out, ...sources.map((source) => source.block)]) kernels.free(block);
    }
  });

  it('samplers and packed words are those of the twin', () => {
    const table = gaussianTable(1024);
    for (const shape of shapes) {
      const bytes = randomBytes(8 * shape.n, 'samples');
      const edge = new Uint8Array(bytes.length).fill(255);
      for (const words of [bytes, edge, new Uint8Array(bytes.length)]) {
        same(
          shape,
          [],
          (k) =>
            (_, [out]) =>
              k.sampleTernary(out!, words),
        );
        same(
          shape,
          [],
          (k) =>
            (_, [out]) =>
              k.sampleGaussian(out!, words, table),
        );
      }
      for (const words of [bytes, edge, randomBytes(32 * shape.n, 'more')]) {
        const [own, theirs] = [kernels, exact].map((k) => {
          const out = k.allocate(shape.n);
          const count = k.sampleUniform(k.ring(shape.n, shape.prime), out, words);
          const kept = [...k.values(out)].slice(0, count);
          k.free(out);
          return { count, kept };
        });
        expect(own).toEqual(theirs);
      }
      const a = put(kernels, lazy(exact.ring(shape.n, shape.prime), 'packed'));
      const b = put(exact, lazy(exact.ring(shape.n, shape.prime), 'packed'));
      const packed = kernels.pack(kernels.ring(shape.n, shape.prime), a);
      expect([...packed]).toEqual([...exact.pack(exact.ring(shape.n, shape.prime), b)]);
      kernels.unpack(kernels.ring(shape.n, shape.prime), a, packed);
      exact.unpack(exact.ring(shape.n, shape.prime), b, packed);
      expect([...kernels.values(a)]).toEqual([...exact.values(b)]);
      kernels.free(a);
      exact.free(b);
    }
  });
});

const modularInverse = (value: bigint, prime: bigint): bigint => {
  let result = 1n;
  let square = value % prime;
  for (let left = prime - 2n; left > 0n; left >>= 1n) {
    if (left & 1n) result = (result * square) % prime;
    square = (square * square) % prime;
  }
  return result;
};

describe('lattice kernels at real dimensions', () => {
  it.each([4096, 8192, 32768])('fused and split arithmetic give the same residues, and the right ones, n = %i', (n) => {
    const prime = transformPrimes(n, 49, 1)[0]!;
    const [a, b] = [implementations[0]!.kernels, implementations[1]!.kernels].map((kernels) => {
      const ring = kernels.ring(n, prime);
      const block = put(kernels, lazy(ring, 'large', 'mixed'));
      kernels.forward(ring, block);
      kernels.canonical(ring, block, block);
      const values = kernels.values(block).slice();
      kernels.inverse(ring, block);
      kernels.canonical(ring, block, block);
      const back = kernels.values(block).slice();
      kernels.free(block);
      return { values, back, root: ring.root };
    });
    expect(a).toEqual(b);
    const p = BigInt(prime);
    const coefficients = Array.from(lazy(exact.ring(n, prime), 'large', 'mixed'), BigInt);
    for (const i of [0, 1, n / 2 + 1, n - 1]) {
      let reversed = 0;
      for (let k = 0; 2 ** k < n; k++) reversed = 2 * reversed + ((i >>> k) & 1);
      let x = 1n;
      for (let k = 0; k < 2 * reversed + 1; k++) x = (x * a!.root) % p;
      const value = coefficients.reduceRight((sum, c) => (sum * x + c) % p, 0n);
      expect((BigInt(a!.values[i]!) - value) % p).toBe(0n);
    }
  });

  it('uses fused arithmetic where the engine and the machine have it, which this test says', () => {
    console.log(`lattice arithmetic here: ${fused.arithmetic}`);
    expect(['fused', 'split']).toContain(fused.arithmetic);
  });
});

describe('the discrete Gaussian', () => {
  it('has the shares of exp(−x²/2σ²), to 2^−60', () => {
    const table = gaussianTable(1024);
    expect(table.length).toBe(19);
    const weights = Array.from({ length: 20 }, (_, k) => (k === 0 ? 0.5 : 1) * Math.exp((-k * k) / (2 * 10.24)));
    const whole = weights.reduce((sum, x) => sum + x);
    let below = 0;
    for (let k = 0; k < 19; k++) {
      below += weights[k]!;
      expect(Math.abs(Number(table[k]!) / 2 ** 63 - below / whole)).toBeLessThan(1e-14);
    }
  });

  it('has mean 0 and variance σ² on 2^17 samples, within five standard errors', () => {
    const n = 2 ** 17;
    const out = fused.allocate(n);
    fused.sampleGaussian(out, randomBytes(8 * n, 'gaussian'), gaussianTable(1024));
    const values = fused.values(out);
    const mean = values.reduce((sum, x) => sum + x, 0) / n;
    const variance = values.reduce((sum, x) => sum + x * x, 0) / n;
    expect(Math.abs(mean)).toBeLessThan((5 * 3.2) / Math.sqrt(n));
    expect(Math.abs(variance - 10.24)).toBeLessThan((5 * 10.24 * Math.SQRT2) / Math.sqrt(n));
    fused.free(out);
  });
});

describe('what the lattice kernels refuse', () => {
  const kernels = createLatticeKernels({ arithmetic: 'split' });
  const prime = transformPrimes(64, 40, 1)[0]!;
  it('primes and dimensions that are none', () => {
    for (const [n, p] of [
      [64, prime + 2],
      [64, 2 ** 50 + 1],
      [60, prime],
      [8, 97],
      [64, 129 * 257],
    ] as const)
      expect(() => kernels.ring(n, p)).toThrow(kind('usage'));
    expect(() => transformPrimes(2 ** 17, 20, 40)).toThrow(kind('usage'));
  });
  it('blocks of another length, overlapping outputs, even automorphisms, factors of other rings', () => {
    const ring = kernels.ring(64, prime);
    const a = kernels.allocate(64);
    const b = kernels.allocate(128);
    expect(() => kernels.add(ring, a, a, b)).toThrow(kind('usage'));
    expect(() => kernels.automorphismOnValues(ring, a, a, 3)).toThrow(kind('usage'));
    expect(() => kernels.automorphismOnValues(ring, kernels.allocate(64), a, 4)).toThrow(kind('usage'));
    expect(() => kernels.dot(ring, a, [{ a, b: a }])).toThrow(kind('usage'));
    expect(() => kernels.dot(ring, a, [])).toThrow(kind('usage'));
    const other = kernels.ring(64, transformPrimes(64, 30, 1)[0]!);
    expect(() => kernels.inverse(ring, a, kernels.inverseFactor(other, 1n))).toThrow(kind('usage'));
    expect(() => kernels.forwardShort(ring, a, 8)).toThrow(kind('usage'));
    expect(() => kernels.add(ring, { offset: 2 ** 31, length: 64 }, a, a)).toThrow(kind('usage'));
  });
  it('packed words of another size or with a residue that is not below the prime', () => {
    const ring = kernels.ring(64, prime);
    const a = kernels.allocate(64);
    expect(() => kernels.unpack(ring, a, new Uint8Array(10))).toThrow(kind('input'));
    expect(() => kernels.unpack(ring, a, new Uint8Array((64 * ring.bits) / 8).fill(255))).toThrow(kind('input'));
  });
});
