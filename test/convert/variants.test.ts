import { describe, expect, it } from 'vitest';
import { simulate } from '../../src/backends/fixed/index.ts';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { quantise, wordBitsOf } from '../../src/backends/ring/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { parseLlamaConfig } from '../../src/models/config.ts';
import { exactPlan, type LayerPlan, type Plan, parsePlan, traceLlama, traceLlamaPrivate } from '../../src/models/index.ts';
import { checkRanges } from '../../src/models/ranges.ts';
import { randomLlamaWeights } from '../../src/models/weights.ts';
import type { Tensor } from '../../src/program/index.ts';
import { folded } from '../models/tiny.ts';
import { raw } from './raw.ts';

const config = parseLlamaConfig(raw);
const backend = referenceBackend();
const random = pseudorandom(5);
const rows = Array.from({ length: 2 }, () => Int32Array.from({ length: 8 }, () => random.integer(20)));
const exact = new Map(
  [...randomLlamaWeights(config, 3, exactPlan(config))].map(([name, { shape, values }]): [string, Tensor] => [
    name,
    { shape, values: Float32Array.from(values) },
  ]),
);

/** A conversion that continues from weights and plan of another, or from the published model. */
async function converted(
  plan: Plan,
  options: Partial<Parameters<typeof convertCheckpoint>[0]> = {},
  from: { config: Record<string, unknown>; tensors: ReadonlyMap<string, Tensor> } = { config: raw, tensors: exact },
) {
  const checkpoint = {
    config: from.config,
    readAll: async () =>
      new Map([...from.tensors].map(([name, { shape, values }]) => [name, { shape, values: Float32Array.from(values) }])),
  };
  const made = await convertCheckpoint({
    checkpoint,
    plan,
    calibration: { rows, batch: 2 },
    backend,
    initialisation: 'direct',
    ...options,
  });
  return { ...made, tensors: new Map(made.tensors.map(({ name, shape, values }) => [name, { shape, values } as Tensor])) };
}

async function float(plan: Plan, weights: ReadonlyMap<string, Tensor>): Promise<ArrayLike<number>> {
  const executable = await backend.compile(traceLlama(config, plan, { batch: 1, tokens: 8 }), weights);
  const { values } = (await executable.run(new Map([['ids', { shape: [1, 8], values: rows[0]! }]]))).get('logits')!;
  return values.slice(7 * 20);
}

/** The last token's logits in the ring that the plan was calibrated for, whose ranges must hold. */
async function inRing(plan: Plan, weights: ReadonlyMap<string, Tensor>): Promise<ArrayLike<number>> {
  const { bits, fraction } = plan.ring!;
  checkRanges(plan, { bits, fraction }, 'config.json');
  const privates = await folded(config, plan, weights);
  const program = traceLlamaPrivate(config, plan, { promptTokens: 8, newTokens: 1 });
  const outputs = await simulate(quantise(program, { bits, fraction }), {
    kernels: createWasmKernels(wordBitsOf(bits)),
    weights: async (name) => privates.get(name)!,
    inputs: async () => ({ shape: [8], values: rows[0]! }),
  });
  return outputs.get('logits.0')!.values;
}

const furthest = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

const withPart = (name: string, part: Partial<LayerPlan>): Plan => {
  const plan = parsePlan(name, config);
  return { ...plan, layers: plan.layers.map((layer) => ({ ...layer, ...part })) };
};
const plans: [string, Plan][] = [
  ...['mpcformer', 'full-2quad', 'full-l2quad', 'full-2relu', 'full-p4'].map((name): [string, Plan] => [
    name,
    parsePlan(name, config),
  ]),
  ['a bilinear gate', withPart('full-p4', { activation: { kind: 'bilinear', per: 'channel' } })],
];

describe('a conversion', () => {
  it.each(plans)('under %s is calibrated for its ring, and runs there', async (_, plan) => {
    const made = await converted(plan);
    expect(made.plan.ring).toEqual({ bits: 64, fraction: 16 });
    expect(furthest(await inRing(made.plan, made.tensors), await float(made.plan, made.tensors))).toBeLessThan(2e-2);
    // Rectified scores of a row may all be zero, which no table spans.
    for (const { attention } of made.plan.layers)
      if (attention.kind !== '2relu') expect('table' in attention && attention.table !== undefined).toBe(true);
  });

  it('by Newton’s iteration covers what was met with the margin, and stays with it when calibrated again', async () => {
    const made = await converted(parsePlan('full-p2', config), { method: 'newton', margin: 3 });
    const again = await converted(made.plan, { margin: 3 }, made);
    expect(again.plan).toEqual(made.plan);
    const norm = made.plan.layers[0]!.norm!.table!;
    const met = ['attention', 'mlp'].map((part) => made.plan.ranges![`layers.0.${part}.norm`]!);
    expect(norm.method).toBe('newton');
    if (norm.method !== 'newton') return;
    expect(norm.low).toBeCloseTo(Math.min(...met.map(({ minSquares }) => minSquares!)) / 3, 9);
    expect(norm.high).toBeCloseTo(Math.max(...met.map(({ maxSquares }) => maxSquares!)) * 3, 9);
    expect(furthest(await inRing(made.plan, made.tensors), await float(made.plan, made.tensors))).toBeLessThan(2e-2);
    const back = await converted(made.plan, { method: 'table' }, made);
    expect(back.plan.layers[0]!.norm!.table!.method).not.toBe('newton');
  });

  it('for 32 bits chooses the most fraction bits that what was met leaves, and changes no weight', async () => {
    const made = await converted(parsePlan('full-p2', config));
    const small = await converted(made.plan, { ring: { bits: 32 } }, made);
    const { bits, fraction } = small.plan.ring!;
    expect(bits).toBe(32);
    expect(fraction).toBeGreaterThanOrEqual(7);
    expect(() => checkRanges(small.plan, { bits, fraction }, 'config.json')).not.toThrow();
    for (const [name, { values }] of made.tensors) expect(small.tensors.get(name)!.values).toEqual(values);
    expect(furthest(await inRing(small.plan, made.tensors), await float(small.plan, made.tensors))).toBeLessThan(0.15);
    expect(() => checkRanges(small.plan, { bits, fraction: fraction + 4 }, 'config.json')).toThrow(/32/);
  });

  it('whose row means are large has fewer fraction bits, by its own choice, and is refused more', async () => {
    const made = await converted(parsePlan('full-p4', config));
    const loud = new Map(
      [...made.tensors].map(([name, { shape, values }]): [string, Tensor] => {
        const by = name.endsWith('v_proj.weight') ? 2 ** 12 : name.endsWith('o_proj.weight') ? 2 ** -8 : 1;
        return [name, { shape, values: Float32Array.from(values, (value) => by * value) }];
      }),
    );
    const { plan } = await converted(made.plan, {}, { ...made, tensors: loud });
    const { bits, fraction } = plan.ring!;
    expect([bits, fraction < 16]).toEqual([64, true]);
    const means = Object.values(plan.ranges!).map(({ maxAverage = 0 }) => maxAverage);
    expect(2 * Math.max(...means) * 2 ** (2 * fraction + 16)).toBeLessThanOrEqual(2 ** 62);
    expect(2 * Math.max(...means) * 2 ** (2 * fraction + 18)).toBeGreaterThan(2 ** 62);
    expect(furthest(await inRing(plan, loud), await float(plan, loud))).toBeLessThan(0.3);
    expect(() => checkRanges(plan, { bits, fraction: 16 }, 'config.json')).toThrow(/fraction/);
  });

  it('whose mean powers no table spans levels half powers first, and is the same function in its ring', async () => {
    const made = await converted(parsePlan('full-p8', config));
    expect(made.plan.layers.every(({ attention }) => attention.kind === 'power' && attention.half === undefined)).toBe(true);
    const sharp = new Map(
      [...made.tensors].map(([name, { shape, values }]): [string, Tensor] => [
        name,
        { shape, values: name.endsWith('q_proj.weight') ? (values as Float32Array).map((value) => 8 * value) : values },
      ]),
    );
    const levelled = await converted(made.plan, {}, { config: made.config, tensors: sharp });
    for (const [layer, { attention }] of levelled.plan.layers.entries()) {
      expect(attention.kind === 'power' && attention.half !== undefined).toBe(true);
      const met = levelled.plan.ranges![`layers.${layer}.attention.weights`]!;
      expect(met.maxHalf! ** 2).toBeGreaterThan(1000);
      // Of eight keys at most, and with what the coarse table adds.
      expect(met.minMean).toBeGreaterThanOrEqual(1 - 1e-9);
      expect(met.maxMean).toBeLessThanOrEqual(8);
    }
    expect(parsePlan(JSON.parse(JSON.stringify(levelled.plan)), config)).toEqual(levelled.plan);
    const published = await float(levelled.plan, sharp);
    expect(furthest(published, await float(made.plan, sharp))).toBeLessThan(5e-3);
    expect(furthest(await inRing(levelled.plan, sharp), published)).toBeLessThan(3e-2);
    // A narrow ring has no room for it.
    await expect(
      converted(levelled.plan, { ring: { bits: 32 } }, { config: levelled.config, tensors: sharp }),
    ).rejects.toMatchObject({ kind: 'range' });
  });

  it('with scaled heads is the same function, with powers as small as asked for, and more fraction bits', async () => {
    const made = await converted(parsePlan('full-p4', config), { ring: { bits: 32 } });
    const scaled = await converted(made.plan, { ring: { bits: 32 }, headRange: 1.2 }, made);
    expect(furthest(await float(scaled.plan, scaled.tensors), await float(made.plan, made.tensors))).toBeLessThan(1e-4);
    for (const layer of [0, 1]) {
      const scope = `layers.${layer}.attention.weights`;
      expect(made.plan.ranges![scope]!.maxAbs).toBeGreaterThan(1.5);
      expect(scaled.plan.ranges![scope]!.maxAbs).toBeCloseTo(1.2, 4);
      expect(scaled.plan.ranges![scope]!.maxPower).toBeLessThan(1.21 ** 4);
      const { attention } = scaled.plan.layers[layer]!;
      expect('offsets' in attention && attention.offsets?.length).toBe(4);
    }
    expect(scaled.plan.ring!.fraction).toBeGreaterThanOrEqual(made.plan.ring!.fraction);
    expect(furthest(await inRing(scaled.plan, scaled.tensors), await float(scaled.plan, scaled.tensors))).toBeLessThan(0.15);
    // The plan's offsets are part of what was converted: without them the weights mean something else.
    await expect(converted(made.plan, {}, scaled)).rejects.toMatchObject({ kind: 'model' });
  });

  it('with heads scaled by the sums of their powers leaves those alone that sum up to less', async () => {
    const made = await converted(parsePlan('full-p4', config), { ring: { bits: 32 } });
    const scope = 'layers.1.attention.weights';
    const most = made.plan.ranges![scope]!.maxSum!;
    const scaled = await converted(made.plan, { ring: { bits: 32 }, headSum: 0.8 * most }, made);
    expect(furthest(await float(scaled.plan, scaled.tensors), await float(made.plan, made.tensors))).toBeLessThan(1e-4);
    expect(scaled.plan.ranges![scope]!.maxSum! / most).toBeCloseTo(0.8, 2);
    const { attention } = scaled.plan.layers[1]!;
    const offsets = attention.kind === 'power' ? attention.offsets! : [];
    expect(Math.max(...offsets)).toBe(1);
    expect(Math.min(...offsets)).toBeLessThan(1);
  });

  it('for a ring that is too narrow says what does not fit', async () => {
    const made = await converted(parsePlan('full-p2', config));
    await expect(converted(made.plan, { ring: { bits: 12 } }, made)).rejects.toMatchObject({ kind: 'range' });
  });

  it('gives an l2quad two numbers a head, near to softmax', async () => {
    const made = await converted(parsePlan('full-l2quad', config));
    for (const part of ['scale', 'shift']) expect(made.tensors.get(`model.layers.1.self_attn.quad.${part}`)!.shape).toEqual([4]);
    for (const { attention } of made.layers) expect(attention!).toBeLessThan(0.2);
  });
});
