import { type Block, createWasmKernels, type RingKernels, type WordBits } from '../src/kernels/index.ts';
import { createParallelKernels, type ParallelKernels } from '../src/node/kernels.ts';
import { type Measurement, milliseconds, summarise } from './measure.ts';

interface Size {
  readonly batch: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
}
const count = 40;
/** Calls that take less than this are repeated inside one sample, so that the clock's step does not show. */
const leastMs = 4;

const products: [name: string, size: Size][] = [
  ['128×768×768', { batch: 1, m: 128, k: 768, n: 768 }],
  ['1×768×768 (decoding)', { batch: 1, m: 1, k: 768, n: 768 }],
  ['1×4096×4096 (decoding)', { batch: 1, m: 1, k: 4096, n: 4096 }],
  ['12 of 128×64×128', { batch: 12, m: 128, k: 64, n: 128 }],
  ['48 of 16×64×16', { batch: 48, m: 16, k: 64, n: 16 }],
  ['1000 of 4×4×4', { batch: 1000, m: 4, k: 4, n: 4 }],
];

/** Written, so that no page is the zero page, which would read too fast. */
function written(kernels: RingKernels, length: number): Block {
  const block = kernels.allocate(length);
  const bytes = kernels.bytes(block);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 11;
  return block;
}

/** Amounts per second in billions, by rounds: every candidate once per round, so that noise hits all of them alike. */
function rounds(candidates: Record<string, () => void>, amount: number): Map<string, number[]> {
  const names = Object.keys(candidates);
  const samples = new Map<string, number[]>(names.map((name) => [name, []]));
  const repeats = names.map((name) => {
    for (let i = 0; i < 3; i++) candidates[name]!();
    return Math.max(1, Math.ceil(leastMs / milliseconds(candidates[name]!)));
  });
  for (let round = 0; round < count; round++) {
    names.forEach((name, i) => {
      const ms = milliseconds(() => {
        for (let repeat = 0; repeat < repeats[i]!; repeat++) candidates[name]!();
      });
      samples.get(name)!.push((amount * repeats[i]!) / ms / 1e6);
    });
  }
  return samples;
}

function summaries(samples: ReadonlyMap<string, readonly number[]>, unit: string): Measurement[] {
  return [...samples].map(([name, values]) => summarise(name, unit, values));
}

function productRates(single: RingKernels, double: ParallelKernels, bits: WordBits): Measurement[] {
  return products.flatMap(([name, size]) => {
    const { batch, m, k, n } = size;
    const operands = [single, double].map((kernels) => [m * n, m * k, k * n].map((words) => written(kernels, batch * words)));
    const run = (kernels: RingKernels, [out, a, b]: Block[]) => kernels.matmul(out!, a!, b!, size);
    const label = `u${bits} ${name}`;
    const two = `${label}, 2 threads`;
    const samples = rounds(
      { [label]: () => run(single, operands[0]!), [two]: () => run(double, operands[1]!) },
      batch * m * k * n,
    );
    [single, double].forEach((kernels, i) => {
      for (const block of operands[i]!) kernels.free(block);
    });
    const ratios = samples.get(two)!.map((rate, round) => rate / samples.get(label)![round]!);
    return [...summaries(samples, 'GMAC/s'), summarise(`${two} / 1`, '×', ratios)];
  });
}

function throughput(kernels: RingKernels, bits: WordBits): Measurement[] {
  const words = 2 ** 18;
  const bytes = (words * bits) / 8;
  const [out, a, b] = [0, 0, 0].map(() => written(kernels, words)) as [Block, Block, Block];
  const delta = written(kernels, 2 ** 10);
  const results = written(kernels, 2 ** 10);
  const table = written(kernels, 2 ** 8);
  const floats = Float64Array.from({ length: words }, (_, i) => Math.sin(i));
  const narrow = kernels.pack(a, 20);
  const moved = (arrays: number, candidates: Record<string, () => void>) => {
    const named = Object.entries(candidates).map(([name, run]) => [`u${bits} ${name}`, run]);
    return summaries(rounds(Object.fromEntries(named), arrays * bytes), 'GB/s');
  };
  return [
    ...moved(3, {
      add: () => kernels.add(out, a, b),
      multiply: () => kernels.multiply(out, a, b),
      select: () => kernels.select(out, a, b, a),
    }),
    ...moved(2, {
      copy: () => kernels.copy(out, a),
      shiftRightSigned: () => kernels.shiftRightSigned(out, a, 12, bits - 3),
      'gather, rows of 64 (heads)': () => kernels.gather(out, a, [64, 64, 64], [64, 4096, 1], 0),
      'gather, transpose 512×512': () => kernels.gather(out, a, [512, 512], [1, 512], 0),
      'gather, one repeated row': () => kernels.gather(out, a, [256, 1024], [0, 1], 3),
      rotatedInner: () => kernels.rotatedInner(results, a, table, delta),
    }),
    ...moved(1, {
      'pack, 1 bit': () => void kernels.pack(a, 1),
      'pack, 20 bits': () => void kernels.pack(a, 20),
      'pack, whole words': () => void kernels.pack(a, bits),
      'unpack, 20 bits': () => kernels.unpack(out, narrow, 20),
      encode: () => kernels.encode(out, floats, 12, 30),
      decode: () => void kernels.decode(a, 12, 30),
    }),
  ];
}

/** Matrix products (one and two threads), elementwise operations, layout and packing of the WebAssembly kernels. GB/s count ring words read and written. */
export async function kernels(): Promise<{ measurements: Measurement[] }> {
  const measurements: Measurement[] = [];
  for (const bits of [64, 32] as const) {
    const single = createWasmKernels(bits);
    const double = await createParallelKernels(bits, { workers: 2 });
    measurements.push(...productRates(single, double, bits), ...throughput(single, bits));
    await double.close();
  }
  return { measurements };
}
