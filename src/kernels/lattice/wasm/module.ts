import { fromBase64 } from '../../base64.ts';
import { binaries } from './binary.generated.ts';

/** What the compiled sources export (lattice.as.ts). Addresses are bytes, n elements. */
export interface LatticeExports {
  forward(a: number, n: number, tw: number, prime: number, primeInverse: number): void;
  forwardShort(a: number, n: number, length: number, tw: number, prime: number, primeInverse: number): void;
  inverse(a: number, n: number, tw: number, prime: number, primeInverse: number, factor: number, timesLast: number): void;
  add(out: number, a: number, b: number, n: number, prime: number, primeInverse: number): void;
  subtract(out: number, a: number, b: number, n: number, prime: number, primeInverse: number): void;
  multiply(out: number, a: number, b: number, n: number, prime: number, primeInverse: number): void;
  multiplyAdd(out: number, a: number, b: number, n: number, prime: number, primeInverse: number): void;
  multiplyScalar(out: number, a: number, factor: number, n: number, prime: number, primeInverse: number): void;
  addScalar(out: number, a: number, value: number, n: number, prime: number, primeInverse: number): void;
  differenceTimes(out: number, a: number, b: number, factor: number, n: number, prime: number, primeInverse: number): void;
  balance(out: number, a: number, n: number, prime: number, primeInverse: number): void;
  canonical(out: number, a: number, n: number, prime: number, primeInverse: number): void;
  permute(out: number, a: number, indices: number, n: number): void;
  scatterSigned(out: number, a: number, indices: number, signs: number, n: number): void;
  innerProducts(
    out0: number,
    out1: number,
    streams: number,
    count: number,
    indices: number,
    n: number,
    prime: number,
    primeInverse: number,
  ): void;
  dot(out: number, streams: number, count: number, n: number, prime: number, primeInverse: number): void;
  tensor(
    d0: number,
    d1: number,
    d2: number,
    a0: number,
    a1: number,
    b0: number,
    b1: number,
    n: number,
    prime: number,
    primeInverse: number,
  ): void;
  overflow(out: number, sources: number, count: number, n: number): void;
  extend(
    out: number,
    sources: number,
    count: number,
    v: number,
    product: number,
    n: number,
    prime: number,
    primeInverse: number,
  ): void;
  clear(start: number, bytes: number): void;
  uniform(out: number, from: number, available: number, n: number, bits: number, prime: number): number;
  ternary(out: number, from: number, n: number): void;
  gaussian(out: number, from: number, table: number, count: number, n: number): void;
  pack(to: number, from: number, n: number, bits: number, prime: number, primeInverse: number): void;
  unpack(to: number, from: number, n: number, bits: number, prime: number): number;
}

export function instantiateLattice(arithmetic: 'fused' | 'split', memory: WebAssembly.Memory): LatticeExports {
  const module = new WebAssembly.Module(fromBase64(binaries[arithmetic]));
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as LatticeExports;
}

/**
 * Whether this engine has relaxed SIMD and this machine rounds its multiply-add once. An engine without the feature does not compile the module; a
 * machine without the instruction rounds twice, and a product of two numbers of 49 bits then comes out wrong.
 */
export function hasFusedArithmetic(): boolean {
  const memory = new WebAssembly.Memory({ initial: 1 });
  let run: LatticeExports;
  try {
    run = instantiateLattice('fused', memory);
  } catch {
    return false;
  }
  const prime = 562949953421231; // Any odd number below 2^49 does for this.
  const words = new Float64Array(memory.buffer, 1024, 48);
  for (let i = 0; i < 16; i++) {
    words[i] = prime - 1 - 7 * i;
    words[16 + i] = 281474976710597 - 12345678901 * i;
  }
  run.multiply(1024 + 256, 1024, 1024 + 128, 16, prime, 1 / prime);
  return Array.from({ length: 16 }, (_, i) => i).every(
    (i) => (BigInt(words[i]!) * BigInt(words[16 + i]!) - BigInt(words[32 + i]!)) % BigInt(prime) === 0n,
  );
}
