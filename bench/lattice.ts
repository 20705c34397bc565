import { createLatticeKernels, type LatticeKernels, transformPrimes } from '../src/kernels/lattice/index.ts';
import { createNodeLatticeKernels } from '../src/node/lattice.ts';
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
  return { arithmetic: fastest.arithmetic, measurements };
}
