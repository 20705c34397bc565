import { createLatticeKernels, type LatticeKernels, transformPrimes } from '../src/kernels/lattice/index.ts';
import { encrypt, freeCiphertext } from '../src/lattice/ciphertext.ts';
import { automorphismKey, freeSwitchingKey, relinearisationKey, secretKey } from '../src/lattice/keys.ts';
import { type RlweLiteral, rlweParameters } from '../src/lattice/parameters.ts';
import { Rns } from '../src/lattice/rns.ts';
import { SecretSampler } from '../src/lattice/sampling.ts';
import { applyAutomorphism, decompose, freeDecomposition, relinearise, tensor } from '../src/lattice/switch.ts';
import { createNodeLatticeKernels } from '../src/node/lattice.ts';
import { aesPrg, hkdf, systemEntropy } from '../src/node/randomness.ts';
import { type Measurement, milliseconds, summarise } from './measure.ts';

const count = 100;
const repeats = 8;

/** Microseconds of one call, `count` samples of `repeats` calls. */
function microseconds(name: string, call: () => void): Measurement {
  call();
  const samples = Array.from({ length: count }, () => {
    const ms = milliseconds(() => {
      for (let k = 0; k < repeats; k++) call();
    });
    return (1000 * ms) / repeats;
  });
  return summarise(name, 'µs', samples);
}

function operations(kernels: LatticeKernels, n: number): Measurement[] {
  const [prime, ...others] = transformPrimes(n, 49, 5) as [number, ...number[]];
  const ring = kernels.ring(n, prime);
  const fill = () => {
    const block = kernels.allocate(n);
    const values = kernels.values(block);
    for (let i = 0; i < n; i++) values[i] = (i * 88172645463325) % prime;
    kernels.balance(ring, block, block);
    return block;
  };
  const [a, b, v] = [fill(), fill(), fill()];
  const sources = others.map((q) => ({ residues: fill(), constant: 1 / q }));
  const terms = others.map(() => ({ a: fill(), b: fill(), c: fill() }));
  const label = `${kernels.arithmetic} ${n}`;
  return [
    microseconds(`${label} forward`, () => kernels.forward(ring, a)),
    microseconds(`${label} inverse`, () => kernels.inverse(ring, a)),
    microseconds(`${label} multiply`, () => kernels.multiply(ring, b, a, a)),
    microseconds(`${label} key inner product, 4 terms, permuted`, () => kernels.innerProducts(ring, a, b, terms, 5)),
    microseconds(`${label} basis extension from 4 primes`, () => {
      kernels.overflow(v, sources);
      kernels.extend(
        ring,
        b,
        sources.map(({ residues }) => ({ residues, constant: 12345 })),
        v,
        54321,
      );
    }),
  ];
}

/** The kernels of lattices, one thread: with a fused multiply-add where this machine has it, and without. */
export function lattice(): { arithmetic: string; measurements: Measurement[] } {
  const fastest = createNodeLatticeKernels();
  const measurements = [8192, 16384, 32768, 65536].flatMap((n) => operations(fastest, n));
  measurements.push(...operations(createLatticeKernels({ arithmetic: 'split' }), 8192));
  const bits = (count: number, each: number): number[] => Array.from({ length: count }, () => each);
  measurements.push(...switching(fastest, { n: 16384, q: [45, ...bits(7, 40)], p: [49, 49] }));
  measurements.push(...switching(fastest, { n: 32768, q: [49, ...bits(16, 39)], p: bits(4, 48) }));
  return { arithmetic: fastest.arithmetic, measurements };
}

/** One automorphism, alone and behind a decomposition that is there already, and a product with its relinearisation and rescaling; one thread. */
function switching(kernels: LatticeKernels, literal: RlweLiteral): Measurement[] {
  const rns = new Rns(kernels, rlweParameters(literal));
  const randomness = { entropy: systemEntropy, prg: aesPrg, derive: hkdf };
  const sampler = new SecretSampler(rns, randomness);
  const secret = secretKey(rns, sampler);
  const rotation = automorphismKey(rns, randomness, sampler, secret, 5);
  const squareKey = relinearisationKey(rns, randomness, sampler, secret);
  const message = rns.fromSmall(new Float64Array(literal.n).fill(3), rns.topLevel);
  const ciphertext = encrypt(rns, randomness, sampler, secret, message);
  const hoisted = decompose(rns, ciphertext.c1);
  const label = `N ${literal.n}, log QP ${rns.parameters.logQP.toFixed(0)}, ${rns.parameters.digits.length} digits:`;
  const timed = (name: string, call: () => void): Measurement => {
    call();
    return summarise(
      `${label} ${name}`,
      'ms',
      Array.from({ length: 20 }, () => milliseconds(call)),
    );
  };
  const results = [
    timed('automorphism', () => freeCiphertext(rns, applyAutomorphism(rns, ciphertext, rotation, 5))),
    timed('automorphism, hoisted', () => freeCiphertext(rns, applyAutomorphism(rns, ciphertext, rotation, 5, hoisted))),
    timed('product, relinearised and switched down', () => {
      const parts = tensor(rns, ciphertext, ciphertext);
      freeCiphertext(rns, relinearise(rns, parts, squareKey, 1));
      rns.free(...parts);
    }),
  ];
  freeDecomposition(rns, hoisted);
  freeCiphertext(rns, ciphertext);
  rns.free(message, secret.polynomial);
  for (const key of [rotation, squareKey]) freeSwitchingKey(rns, key);
  return results;
}
