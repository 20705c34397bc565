import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { gradient, type Tensor, trace } from '../../src/program/index.ts';
import { adapters, packNf4, packScales, readBase, scaleLevels, unpackNf4, unpackScales } from '../../src/train/index.ts';
import { publishedLevels } from '../program/definition.ts';

/** Above the n-th of these a value over its block's largest magnitude has code n + 1: bitsandbytes, csrc/kernels.cu, `dQuantizeNF4`. */
const publishedLimits = [
  -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984, -0.13791173323988914,
  -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668, 0.2920137718319893, 0.3893125355243683,
  0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
].map(Math.fround);

const random = pseudorandom(5);
const draw = (shape: readonly number[], deviation = 1): Tensor => ({
  shape,
  values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => deviation * random.normal()),
});
const onnx = onnxBackend();
afterAll(() => onnx.close());

describe('NF4', () => {
  it('has the published levels and limits', () => {
    // Beside 1 a value is its own share of the block's largest magnitude.
    const codeOf = (x: number): number => packNf4([1, x], 16).codes[0]! & 15;
    publishedLevels.forEach((level, code) => {
      expect(codeOf(level)).toBe(code);
      expect(unpackNf4({ codes: Uint8Array.of(0xf0 | code), scales: Float32Array.of(1) }, 2, 16)[1]).toBe(Math.fround(level));
    });
    publishedLimits.forEach((limit, code) => {
      const step = 2 ** (Math.floor(Math.log2(Math.abs(limit))) - 23);
      expect(codeOf(Math.fround(limit))).toBe(code);
      expect(codeOf(Math.fround(limit + step))).toBe(code + 1);
    });
  });

  it('gives every value the nearest level of its block, and zeros and their blocks zero', () => {
    const values = fc.array(fc.float({ min: -100, max: 100, noNaN: true }), { minLength: 1, maxLength: 70 });
    fc.assert(
      fc.property(values, fc.constantFrom(2, 16, 64), (list, block) => {
        const packed = packNf4(Float32Array.from(list), block);
        const back = unpackNf4(packed, list.length, block);
        expect(packed.codes).toHaveLength(Math.ceil(list.length / 2));
        list.forEach((value, i) => {
          const largest = Math.max(...list.slice(i - (i % block), i - (i % block) + block).map(Math.abs));
          const nearest = Math.min(...publishedLevels.map((level) => Math.abs(value - level * largest)));
          expect(Math.abs(value - back[i]!)).toBeLessThanOrEqual(nearest + 1e-6 * largest + 2 ** -126);
          if (value === 0) expect(back[i]).toBeCloseTo(0, 12);
        });
      }),
      { numRuns: 300 },
    );
    expect([...unpackNf4(packNf4([0, 0, 0], 2), 3, 2)]).toEqual([0, 0, 0]);
  });
});

describe('scales of blocks in 8 bits', () => {
  it('have the levels of the published dynamic map', () => {
    expect(scaleLevels).toHaveLength(256);
    expect([scaleLevels[0], scaleLevels[255], scaleLevels[254]]).toEqual([-0.99296875, 1, 0.99296875]);
    // The smallest: one step of 10^-6, from a tenth to one; then two of 10^-5.
    const smallest = [...scaleLevels].filter((level) => level > 0).slice(0, 3);
    [0.55e-6, 0.325e-5, 0.775e-5].forEach((level, i) => {
      expect(smallest[i]).toBeCloseTo(level, 12);
    });
    expect(scaleLevels.includes(0)).toBe(true);
  });

  it('come back within half a step of the map, about their mean', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ min: 0, max: 10, noNaN: true }), { minLength: 1, maxLength: 600 }), (list) => {
        const values = Float32Array.from(list);
        const packed = packScales(values);
        const back = unpackScales(packed);
        values.forEach((value, i) => {
          // Steps are at most 0.9 / 64 of the block's largest distance, and 1 / 128 between the last two levels; −1 has no level.
          const largest = packed.scales[Math.floor(i / 256)]!;
          expect(Math.abs(back[i]! - value)).toBeLessThanOrEqual(0.0071 * largest + 1e-6);
        });
      }),
      { numRuns: 100 },
    );
  });
});

describe('a model on 4-bit codes', () => {
  const [rows, into, out] = [3, 24, 10];
  const names = ['layers.0.query.weight', 'layers.0.key.weight', 'head.weight'] as const;
  const weights = new Map<string, Tensor>([
    [names[0], draw([out, into])],
    [names[1], draw([out, out])],
    [names[2], draw([4, out])],
    ['layers.0.norm.weight', draw([out])],
  ]);
  const packable = new Set(names.slice(0, 2));
  const source = {
    names: () => [...weights.keys()],
    shape: (name: string) => weights.get(name)!.shape,
    read: async (name: string) => weights.get(name)!.values,
  };
  const program = trace((ops) => {
    const x = ops.input('x', [2, rows, into], 'public');
    const weight = (name: string) => ops.input(name, weights.get(name)!.shape, 'server');
    const [query, key, head] = names.map(weight) as [
      ReturnType<typeof weight>,
      ReturnType<typeof weight>,
      ReturnType<typeof weight>,
    ];
    const hidden = ops.multiply(ops.silu(ops.matmul(x, ops.transposed(query))), weight('layers.0.norm.weight'));
    const y = ops.matmul(ops.silu(ops.matmul(hidden, ops.transposed(key))), ops.transposed(head));
    return { y, loss: ops.reshape(ops.sum(ops.square(y), [0, 1, 2]), []) };
  });
  const feeds = new Map([['x', draw([2, rows, into])]]);
  const close = (a: Tensor, b: Tensor): void => {
    expect(a.shape).toEqual(b.shape);
    const largest = Math.max(...Array.from(b.values, Math.abs));
    a.values.forEach((value, i) => {
      expect(Math.abs(value - b.values[i]!)).toBeLessThan(1e-5 * largest);
    });
  };

  it('computes with the levels, forwards and back, on both backends; heads and gains keep full precision', async () => {
    for (const [block, doubleQuantisation] of [
      [16, false],
      [64, true],
      [512, true],
      [512, false],
    ] as const) {
      const base = await readBase(source, { format: 'nf4', block, doubleQuantisation }, packable);
      expect(base.tensors.has(`${names[0]}.absmax`)).toBe(!doubleQuantisation);
      expect([...base.tensors.keys()].filter((name) => name.endsWith('.nf4'))).toEqual([`${names[0]}.nf4`, `${names[1]}.nf4`]);
      expect(base.tensors.get(`${names[0]}.nf4`)!.values).toHaveLength((out * into) / 2);
      const plain = await referenceBackend().compile(gradient(program, 'loss', ['x']), new Map());
      const due = await plain.run(new Map([...feeds, ...[...weights.keys()].map((name) => [name, base.read(name)] as const)]));
      const packed = gradient(base.pack(program), 'loss', ['x']);
      for (const backend of [referenceBackend(), onnx]) {
        const executable = await backend.compile(packed, base.tensors);
        const found = await executable.run(feeds);
        for (const name of ['y', 'gradient/x']) close(found.get(name)!, due.get(name)!);
        await executable.close();
      }
    }
  });

  it('takes adapters, which are merged into the levels', async () => {
    const base = await readBase(source, { format: 'nf4', block: 64 }, packable);
    const lora = { rank: 2, alpha: 3, matrices: ['query', 'key'] };
    const { adapt, frozen, merge, start } = adapters(lora, base, { seed: 1, kept: () => false });
    const trained = new Map([...start].map(([name, { shape }]) => [name, draw(shape, 0.3)]));
    const apart = await (await onnx.compile(adapt(program), frozen)).run(new Map([...feeds, ...trained]));
    const together = await (await onnx.compile(program, new Map())).run(new Map([...feeds, ...merge(trained)]));
    close(apart.get('y')!, together.get('y')!);
  });
});
