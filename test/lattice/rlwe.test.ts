import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { createExactLatticeKernels, type LatticeKernels } from '../../src/kernels/lattice/index.ts';
import { type Ciphertext, decrypt, encrypt, encryptZero, freeCiphertext } from '../../src/lattice/ciphertext.ts';
import {
  decodeCiphertext,
  decodePublicKey,
  decodeSwitchingKey,
  encodeCiphertext,
  encodePublicKey,
  encodeSwitchingKey,
  wireBytes,
} from '../../src/lattice/formats.ts';
import {
  automorphismKey,
  freeSwitchingKey,
  publicKey,
  relinearisationKey,
  type SecretKey,
  secretKey,
} from '../../src/lattice/keys.ts';
import { bound, freshVariance, publicVariance, roundingVariance, switchingVariance } from '../../src/lattice/noise.ts';
import { errorBound, type RlweLiteral, rlweParameters, securityLimits } from '../../src/lattice/parameters.ts';
import { type Polynomial, Rns } from '../../src/lattice/rns.ts';
import { type LatticeRandomness, SecretSampler, uniformFromSeed } from '../../src/lattice/sampling.ts';
import { applyAutomorphism, decompose, freeDecomposition, relinearise, switchModulus, tensor } from '../../src/lattice/switch.ts';
import { createNodeLatticeKernels } from '../../src/node/lattice.ts';
import { aesPrg, hkdf } from '../../src/node/randomness.ts';

const kind = (expected: string) => expect.objectContaining({ name: 'SottoError', kind: expected });

/** The same randomness wherever the test runs. */
function seeded(name: string): LatticeRandomness {
  let drawn = 0;
  const entropy = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; at += 32)
      bytes.set(
        createHash('sha256')
          .update(`${name} ${drawn++}`)
          .digest()
          .subarray(0, bytes.length - at),
        at,
      );
  };
  return { entropy, prg: aesPrg, derive: hkdf };
}

interface Party {
  readonly rns: Rns;
  readonly randomness: LatticeRandomness;
  readonly sampler: SecretSampler;
  readonly secret: SecretKey;
}

function party(literal: RlweLiteral, kernels: LatticeKernels, name = 'party'): Party {
  const rns = new Rns(kernels, rlweParameters(literal));
  const randomness = seeded(name);
  const sampler = new SecretSampler(rns, randomness);
  return { rns, randomness, sampler, secret: secretKey(rns, sampler) };
}

/** The number that a polynomial's residues give, nearest to zero, coefficient by coefficient. */
function integers(rns: Rns, polynomial: Polynomial): bigint[] {
  const copy = rns.copy(polynomial);
  rns.inverse(copy);
  rns.each(copy, (ring, limb) => rns.kernels.canonical(ring, limb, limb));
  const primes = copy.limbs.map((_, k) => BigInt(rns.rings[rns.indexAt(copy, k)]!.prime));
  const whole = primes.reduce((product, prime) => product * prime, 1n);
  const units = primes.map((prime) => (whole / prime) * inverse(whole / prime, prime));
  const limbs = copy.limbs.map((limb) => [...rns.kernels.values(limb)]);
  rns.free(copy);
  return Array.from({ length: rns.parameters.n }, (_, i) => {
    const sum = units.reduce((total, unit, k) => total + unit * BigInt(limbs[k]![i]!), 0n) % whole;
    return 2n * sum > whole ? sum - whole : sum;
  });
}

function inverse(value: bigint, prime: bigint): bigint {
  let result = 1n;
  let square = value % prime;
  for (let left = prime - 2n; left > 0n; left >>= 1n) {
    if (left & 1n) result = (result * square) % prime;
    square = (square * square) % prime;
  }
  return result;
}

/** Coefficients up to 2^`bits` in absolute value. */
function messageOf(
  { rns }: Party,
  bits: number,
  seed: string,
  level = rns.topLevel,
): { coefficients: bigint[]; message: Polynomial } {
  const digest = createHash('shake256', { outputLength: 8 * rns.parameters.n })
    .update(seed)
    .digest();
  const coefficients = Array.from({ length: rns.parameters.n }, (_, i) => BigInt.asIntN(bits + 1, digest.readBigUInt64LE(8 * i)));
  const message = rns.allocate(level);
  rns.each(message, (ring, limb) => {
    const prime = BigInt(ring.prime);
    rns.kernels.values(limb).set(coefficients.map((x) => Number(((x % prime) + prime) % prime)));
    rns.kernels.forward(ring, limb);
  });
  return { coefficients, message };
}

/** A polynomial under X → X^element, by its definition. */
function moved(coefficients: readonly bigint[], element: number): bigint[] {
  const n = coefficients.length;
  const out = coefficients.map(() => 0n);
  for (const [i, c] of coefficients.entries()) {
    const power = (i * element) % (2 * n);
    out[power % n] = power < n ? c : -c;
  }
  return out;
}

/** a · b modulo X^n + 1. */
function product(a: readonly bigint[], b: readonly bigint[]): bigint[] {
  const n = a.length;
  const out = a.map(() => 0n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      if (i + j < n) out[i + j]! += a[i]! * b[j]!;
      else out[i + j - n]! -= a[i]! * b[j]!;
    }
  return out;
}

/** The largest error of what a ciphertext holds. */
function error({ rns, secret }: Party, ciphertext: Pick<Ciphertext, 'c0' | 'c1'>, expected: readonly bigint[]): number {
  const plain = decrypt(rns, secret, ciphertext);
  const found = integers(rns, plain);
  rns.free(plain);
  return found.reduce((most, x, i) => Math.max(most, Math.abs(Number(x - expected[i]!))), 0);
}

const small: RlweLiteral = { n: 128, q: [45, 40, 40, 40, 40], p: [45, 45], insecure: true };
const implementations: { name: string; kernels: LatticeKernels; literal: RlweLiteral }[] = [
  { name: 'fast kernels, n 128, digits of 2', kernels: createNodeLatticeKernels(), literal: small },
  {
    name: 'fast kernels, n 2048, digits of 3',
    kernels: createNodeLatticeKernels(),
    literal: { n: 2048, q: [49, 40, 40, 31, 31], p: [49, 49, 49], insecure: true },
  },
  {
    name: 'exact kernels, n 16',
    kernels: createExactLatticeKernels(),
    literal: { n: 16, q: [30, 30, 30], p: [30], insecure: true },
  },
];

describe.each(implementations)('RLWE, $name', ({ kernels, literal }) => {
  const own = party(literal, kernels);
  const { rns, randomness, sampler, secret } = own;
  const keyBytes = kernels.allocatedBytes;
  const rest: Ciphertext[] = [];
  const kept = <T extends Ciphertext>(ciphertext: T): T => {
    rest.push(ciphertext);
    return ciphertext;
  };
  afterEach(() => {
    for (const ciphertext of rest.splice(0)) freeCiphertext(rns, ciphertext);
  });

  it('what is encrypted comes back with its fresh error and no more', () => {
    for (let level = 0; level <= rns.topLevel; level++) {
      const { coefficients, message } = messageOf(own, 24, `fresh ${level}`, level);
      const ciphertext = kept(encrypt(rns, randomness, sampler, secret, message));
      const most = error(own, ciphertext, coefficients);
      expect(most).toBeLessThanOrEqual(errorBound);
      expect(most).toBeGreaterThan(0);
      rns.free(message);
    }
  });

  it('an encryption of zero under the public key hides nothing but its error', () => {
    const key = publicKey(rns, randomness, sampler, secret);
    const zero = kept(encryptZero(rns, sampler, key, rns.topLevel));
    const most = error(
      own,
      zero,
      Array.from({ length: rns.parameters.n }, () => 0n),
    );
    expect(most).toBeLessThanOrEqual(bound(publicVariance(rns.parameters)));
    expect(most).toBeGreaterThan(0);
    rns.free(key.a, key.b);
  });

  it('a relinearised product is the product, at every level, within the bound of the switch', () => {
    const key = relinearisationKey(rns, randomness, sampler, secret);
    for (let level = 1; level <= rns.topLevel; level++) {
      const [a, b] = ['a', 'b'].map((name) => messageOf(own, 16, `${name} ${level}`, level));
      const [ca, cb] = [a!, b!].map(({ message }) => kept(encrypt(rns, randomness, sampler, secret, message)));
      const parts = tensor(rns, ca!, cb!);
      const out = kept(relinearise(rns, parts, key));
      // Before the switch the error is m_a e_b + m_b e_a + e_a e_b; the switch is measured against the parts themselves.
      const exactly = rns.copy(parts[0]);
      const square = rns.allocate(level);
      rns.multiply(square, secret.polynomial, secret.polynomial);
      rns.multiplyAdd(exactly, parts[1], secret.polynomial);
      rns.multiplyAdd(exactly, parts[2], square);
      const most = error(own, out, integers(rns, exactly));
      expect(most).toBeLessThanOrEqual(bound(switchingVariance(rns.parameters, level)));
      // The same with the last prime dropped in the same division.
      const lower = kept(relinearise(rns, parts, key, 1));
      const prime = BigInt(rns.parameters.q[level]!);
      const shares = integers(rns, exactly).map((x) => (2n * x + (x < 0n ? -prime : prime)) / (2n * prime));
      expect(lower.c0.level).toBe(level - 1);
      expect(error(own, lower, shares)).toBeLessThanOrEqual(
        bound(switchingVariance(rns.parameters, level) / Number(prime) ** 2 + roundingVariance(rns.parameters)) + 1,
      );
      expect(() => relinearise(rns, parts, key, level + 1)).toThrow(kind('usage'));
      const fresh = errorBound * rns.parameters.n * 2 ** 17 * 1.01;
      if (rns.parameters.n <= 128)
        expect(error(own, out, product(a!.coefficients, b!.coefficients))).toBeLessThanOrEqual(most + fresh);
      rns.free(...parts, exactly, square, a!.message, b!.message);
    }
    freeSwitchingKey(rns, key);
  });

  it('automorphisms move what is encrypted, alone and hoisted alike', () => {
    const { coefficients, message } = messageOf(own, 24, 'moved');
    const ciphertext = kept(encrypt(rns, randomness, sampler, secret, message));
    const hoisted = decompose(rns, ciphertext.c1);
    for (const element of [3, 5, 2 * rns.parameters.n - 1]) {
      const key = automorphismKey(rns, randomness, sampler, secret, element);
      const most = bound(switchingVariance(rns.parameters, rns.topLevel)) + errorBound;
      for (const decomposition of [undefined, hoisted]) {
        const out = kept(applyAutomorphism(rns, ciphertext, key, element, decomposition));
        expect(error(own, out, moved(coefficients, element))).toBeLessThanOrEqual(most);
        expect(error(own, out, moved(coefficients, (element + 2) % (2 * rns.parameters.n)))).toBeGreaterThan(2 ** 20);
      }
      expect(() => applyAutomorphism(rns, ciphertext, key, element === 3 ? 5 : 3)).toThrow(kind('usage'));
      freeSwitchingKey(rns, key);
    }
    freeDecomposition(rns, hoisted);
    rns.free(message);
  });

  it('a modulus that is switched down divides message and error, rounded', () => {
    const { coefficients, message } = messageOf(own, 60, 'switched');
    const ciphertext = kept(encrypt(rns, randomness, sampler, secret, message));
    for (const primes of [1, 2]) {
      const out = kept(switchModulus(rns, ciphertext, primes));
      const divisor = rns.parameters.q.slice(-primes).reduce((whole, q) => whole * BigInt(q), 1n);
      const expected = coefficients.map((x) => (2n * x + (x < 0n ? -divisor : divisor)) / (2n * divisor));
      const most = bound(roundingVariance(rns.parameters) + freshVariance()) + 1;
      expect(error(own, out, expected)).toBeLessThanOrEqual(most);
    }
    expect(() => switchModulus(rns, ciphertext, rns.topLevel + 1)).toThrow(kind('usage'));
    rns.free(message);
  });

  it('gives all memory back', () => {
    for (const ciphertext of rest.splice(0)) freeCiphertext(rns, ciphertext);
    // Tables of automorphisms are kept: one of n words of 32 bits for each element.
    expect(kernels.allocatedBytes - keyBytes).toBeLessThanOrEqual(4 * 4 * rns.parameters.n + 4 * 8 * rns.parameters.n);
  });
});

describe('what goes over a wire', () => {
  const own = party(small, createNodeLatticeKernels(), 'wire');
  const { rns, randomness, sampler, secret } = own;
  const values = (polynomial: Polynomial): number[][] => {
    const copy = rns.copy(polynomial);
    rns.each(copy, (ring, limb) => rns.kernels.canonical(ring, limb, limb));
    const limbs = copy.limbs.map((limb) => [...rns.kernels.values(limb)]);
    rns.free(copy);
    return limbs;
  };
  const { coefficients, message } = messageOf(own, 20, 'wire', 3);
  const fresh = encrypt(rns, randomness, sampler, secret, message);
  const { seed: _, ...unseeded } = fresh;
  const relinearisation = relinearisationKey(rns, randomness, sampler, secret);
  const rotation = automorphismKey(rns, randomness, sampler, secret, 5);
  const open = publicKey(rns, randomness, sampler, secret);
  const messages = {
    'seeded ciphertext': encodeCiphertext(rns, fresh),
    ciphertext: encodeCiphertext(rns, unseeded),
    'public key': encodePublicKey(rns, open),
    'switching key': encodeSwitchingKey(rns, rotation),
  };
  const decoders: Record<keyof typeof messages, (bytes: Uint8Array) => unknown> = {
    'seeded ciphertext': (bytes) => decodeCiphertext(rns, randomness, bytes, 'seeded ciphertext'),
    ciphertext: (bytes) => decodeCiphertext(rns, randomness, bytes, 'ciphertext'),
    'public key': (bytes) => decodePublicKey(rns, randomness, bytes),
    'switching key': (bytes) => decodeSwitchingKey(rns, randomness, bytes),
  };

  it('comes out as it went in, in as many bytes as were forecast', () => {
    for (const due of ['seeded ciphertext', 'ciphertext'] as const) {
      expect(messages[due].length).toBe(wireBytes(rns.parameters, due, 3));
      expect(error(own, decodeCiphertext(rns, randomness, messages[due], due), coefficients)).toBeLessThanOrEqual(errorBound);
    }
    const bits = rns.parameters.q.slice(0, 4).reduce((sum, q) => sum + Math.ceil(Math.log2(q)), 0);
    expect(messages['seeded ciphertext'].length).toBe(28 + 32 + (128 * bits) / 8);
    const key = decodePublicKey(rns, randomness, messages['public key']);
    expect([values(key.a), values(key.b)]).toEqual([values(open.a), values(open.b)]);
    for (const each of [rotation, relinearisation]) {
      const bytes = encodeSwitchingKey(rns, each);
      expect(bytes.length).toBe(wireBytes(rns.parameters, 'switching key'));
      const back = decodeSwitchingKey(rns, randomness, bytes);
      expect(back.element).toBe(each.element);
      expect(back.digits.map(({ a, b }) => [values(a), values(b)])).toEqual(
        each.digits.map(({ a, b }) => [values(a), values(b)]),
      );
    }
  });

  it('is refused where a byte of the head, the size or a residue is wrong', () => {
    for (const [name, bytes] of Object.entries(messages)) {
      const decode = decoders[name as keyof typeof messages];
      for (const other of Object.keys(messages))
        if (other !== name) expect(() => decoders[other as keyof typeof messages](bytes)).toThrow(kind('input'));
      for (const length of [0, 3, 27, 28, 59, bytes.length - 1])
        expect(() => decode(bytes.subarray(0, length))).toThrow(kind('input'));
      expect(() => decode(Uint8Array.from([...bytes, 0]))).toThrow(kind('input'));
      // The automorphism of a switching key may be any odd one: a key under another name is another key, and its use gives noise.
      for (const at of [0, 1, 2, 3, 4, 5, 6, 7, 12, 20, 27]) {
        const wrong = bytes.slice();
        wrong[at]! ^= 255;
        expect(() => decode(wrong)).toThrow(kind('input'));
      }
      const used = rns.kernels.allocatedBytes;
      const large = bytes.slice();
      large.fill(255, bytes.length - 100);
      expect(() => decode(large)).toThrow(kind('input'));
      expect(rns.kernels.allocatedBytes).toBe(used);
    }
  });
});

describe('parameters', () => {
  it('are secure by the table of 2024, or refused with the limit', () => {
    for (const [n, limit] of securityLimits) {
      const bits = (total: number): number[] => Array.from({ length: Math.floor(total / 40) }, () => 40);
      expect(rlweParameters({ n, q: bits(limit - 45), p: [40] }).insecure).toBe(false);
      expect(() => rlweParameters({ n, q: [...bits(limit), 40], p: [40] })).toThrow(kind('usage'));
    }
    expect(() => rlweParameters({ n: 2048, q: [40], p: [] })).toThrow(kind('usage'));
    expect(rlweParameters({ n: 2048, q: [40], p: [], insecure: true }).insecure).toBe(true);
    expect(() => rlweParameters({ n: 4096, q: [50], p: [] })).toThrow(kind('usage'));
    expect(() => rlweParameters({ n: 4096, q: [], p: [] })).toThrow(kind('usage'));
  });

  it('have names that differ wherever anything else does', () => {
    const names = [
      small,
      { ...small, q: [45, 40, 40, 40] },
      { ...small, p: [45] },
      { ...small, n: 256 },
      { ...small, q: [40, 45, 40, 40, 40] },
    ].map((literal) => rlweParameters(literal).name);
    expect(new Set(names).size).toBe(names.length);
  });

  it('without special primes there are no switching keys', () => {
    const { rns, randomness, sampler, secret } = party({ ...small, p: [] }, createNodeLatticeKernels());
    expect(() => relinearisationKey(rns, randomness, sampler, secret)).toThrow(kind('usage'));
  });
});

describe('seeds', () => {
  it('no stream of any generator is used twice, whatever is made', () => {
    const rns = new Rns(createNodeLatticeKernels(), rlweParameters(small));
    const used = new Set<string>();
    const plain = seeded('streams');
    const recording: LatticeRandomness = {
      ...plain,
      prg: (seed) => {
        const generator = plain.prg(seed);
        const of = Buffer.from(seed).toString('hex');
        return {
          algorithm: generator.algorithm,
          fill: (stream, out) => {
            // A stream that ran out is read again from its start, longer.
            const name = `${of} ${stream} ${out.length}`;
            expect(used.has(name)).toBe(false);
            used.add(name);
            generator.fill(stream, out);
          },
        };
      },
    };
    const sampler = new SecretSampler(rns, recording);
    const secret = secretKey(rns, sampler);
    const key = publicKey(rns, recording, sampler, secret);
    relinearisationKey(rns, recording, sampler, secret);
    automorphismKey(rns, recording, sampler, secret, 3);
    automorphismKey(rns, recording, sampler, secret, 3);
    const { message } = messageOf({ rns, randomness: recording, sampler, secret }, 10, 'streams');
    for (let k = 0; k < 3; k++) {
      encrypt(rns, recording, sampler, secret, message);
      encryptZero(rns, sampler, key, 1);
    }
    // Uniform halves: a limb for each prime of each; secrets and errors: one stream each.
    expect(used.size).toBeGreaterThan(3 * 3 * 7 + 5);
  });

  const { rns, randomness, sampler, secret } = party(small, createNodeLatticeKernels());
  it('no two keys or ciphertexts share one', () => {
    const { message } = messageOf({ rns, randomness, sampler, secret }, 10, 'seeds');
    const seeds = [
      publicKey(rns, randomness, sampler, secret).seed,
      relinearisationKey(rns, randomness, sampler, secret).seed,
      automorphismKey(rns, randomness, sampler, secret, 3).seed,
      ...Array.from({ length: 4 }, () => encrypt(rns, randomness, sampler, secret, message).seed!),
    ].map((seed) => Buffer.from(seed).toString('hex'));
    expect(new Set(seeds).size).toBe(seeds.length);
  });
  it('give one polynomial for one purpose, and another for another purpose or prime', () => {
    const shape = { level: 1, special: true };
    const values = (seed: Uint8Array, purpose: string): string[] =>
      uniformFromSeed(rns, randomness, seed, purpose, shape).limbs.map((limb) => rns.kernels.values(limb).slice(0, 8).join());
    const seed = new Uint8Array(32).fill(7);
    expect(values(seed, 'a')).toEqual(values(seed, 'a'));
    expect(new Set([...values(seed, 'a'), ...values(seed, 'b'), ...values(new Uint8Array(32), 'a')]).size).toBe(12);
  });
});
