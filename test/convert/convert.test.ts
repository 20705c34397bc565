import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { interpolatedTable } from '../../src/backends/ring/tables.ts';
import {
  chooseTable,
  convertCheckpoint,
  fitActivation,
  fitAttention,
  foldShifts,
  llamaSubject,
  subjectOf,
} from '../../src/convert/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import type { Checkpoint } from '../../src/models/checkpoint.ts';
import { parseLlamaConfig, parseVitConfig } from '../../src/models/config.ts';
import { exactPlan, fullPlan, parsePlan, traceLlama, traceVit } from '../../src/models/index.ts';
import type { Bounded, BoundedTable, Program, Tensor } from '../../src/program/index.ts';
import { raw } from './raw.ts';

const config = parseLlamaConfig(raw);
const backend = referenceBackend();
const llamaProgram = traceLlama(config, exactPlan(config), { batch: 1, tokens: 1 });

function randomWeights(program: Program, seed: number): Map<string, Tensor> {
  const random = pseudorandom(seed);
  const weights = new Map<string, Tensor>();
  for (const node of program.nodes) {
    if (node.operation !== 'input' || node.parameters.owner !== 'server') continue;
    const size = node.shape.reduce((product, extent) => product * extent, 1);
    const spread = node.shape.length === 1 ? 0.1 : 1 / Math.sqrt(node.shape[1]!);
    const middle = node.shape.length === 1 ? 1 : 0;
    weights.set(node.parameters.name, {
      shape: node.shape,
      values: Float32Array.from({ length: size }, () => middle + spread * random.normal()),
    });
  }
  return weights;
}

function inMemory(fields: Record<string, unknown>, weights: ReadonlyMap<string, Tensor>): Pick<Checkpoint, 'config' | 'readAll'> {
  return {
    config: fields,
    readAll: async () =>
      new Map([...weights].map(([name, { shape, values }]) => [name, { shape, values: Float32Array.from(values) }])),
  };
}

const random = pseudorandom(5);
const calibration = {
  rows: Array.from({ length: 4 }, () => Int32Array.from({ length: 12 }, () => random.integer(20))),
  batch: 2,
};
const ids: Tensor = { shape: [1, 12], values: calibration.rows[0]! };

async function logits(fields: Record<string, unknown>, weights: ReadonlyMap<string, Tensor>): Promise<Float64Array> {
  const parsed = parseLlamaConfig(fields);
  const plan = fields.sotto === undefined ? exactPlan(parsed) : parsePlan(fields.sotto, parsed);
  const executable = await backend.compile(traceLlama(parsed, plan, { batch: 1, tokens: 12 }), weights);
  return (await executable.run(new Map([['ids', ids]]))).get('logits')!.values as Float64Array;
}
const read = (table: Bounded | undefined): BoundedTable => {
  if (table === undefined || table.method === 'newton') throw new Error('there is no table');
  return table;
};
const distance = (a: Float64Array, b: Float64Array): number => Math.sqrt(a.reduce((sum, v, i) => sum + (v - b[i]!) ** 2, 0));

describe('the fit of an activation', () => {
  const weights = randomWeights(llamaProgram, 1);
  const subject = llamaSubject(config, calibration);
  const program = subject.trace(exactPlan(config));
  const fitted = async (per: 'layer' | 'channel', initialisation: 'static' | 'direct' | 'scale', degree: 2 | 4 = 2) => {
    const options = { program, layer: 0, weights, backend, per, initialisation, weighted: true, degree };
    const { coefficients, ...fit } = await fitActivation(subject, options);
    return { ...fit, coefficients, b: coefficients[1]!, a: coefficients[2]! };
  };

  it('is better per channel than per layer, and better on the real arguments than on assumed ones', async () => {
    const [channel, layer, fixed] = [
      await fitted('channel', 'direct'),
      await fitted('layer', 'direct'),
      await fitted('layer', 'static'),
    ];
    expect(channel.a.length).toBe(12);
    expect(layer.a.length).toBe(1);
    expect(channel.relativeError).toBeLessThan(layer.relativeError);
    expect(layer.relativeError).toBeLessThan(fixed.relativeError);
    expect(channel.relativeError).toBeLessThan(0.02);
  });

  it('of degree four is better still, of arguments over the largest one met', async () => {
    for (const per of ['layer', 'channel'] as const) {
      const [quadratic, quartic] = [await fitted(per, 'direct'), await fitted(per, 'direct', 4)];
      expect(quadratic.reach).toBe(1);
      expect(quartic.coefficients.map(({ length }) => length)).toEqual(Array(5).fill(per === 'layer' ? 1 : 12));
      expect(quartic.relativeError).toBeLessThan(0.2 * quadratic.relativeError);
    }
    const found = await fitted('layer', 'static', 4);
    // On [−3, 3] under N(0, 1), SiLU(x) ≈ x/2 + 0.24 x² − 0.013 x⁴ + 0.003; coefficients of t = x / reach.
    expect(found.b[0]! / found.reach).toBeCloseTo(0.5, 5);
    expect(found.a[0]! / found.reach ** 2).toBeCloseTo(0.24, 1);
    expect(found.coefficients[4]![0]!).toBeLessThan(0);
  });

  it('of SiLU on assumed arguments is the known quadratic, and scaled keeps its shape', async () => {
    const [fixed, scaled] = [await fitted('layer', 'static'), await fitted('layer', 'scale')];
    expect(fixed.b[0]).toBeCloseTo(0.5, 5);
    expect(fixed.a[0]).toBeGreaterThan(0.15);
    expect(fixed.a[0]).toBeLessThan(0.25);
    expect(scaled.a[0]! / fixed.a[0]!).toBeCloseTo(scaled.b[0]! / fixed.b[0]!, 4);
  });
});

describe('the fit of attention', () => {
  it('finds a shift per head that beats any common one, and folds into the query matrix', async () => {
    const weights = randomWeights(llamaProgram, 2);
    const subject = llamaSubject(config, calibration);
    const program = subject.trace(exactPlan(config));
    const fit = await fitAttention(subject, { program, layer: 0, heads: 4, weights, backend, exponent: 8, epsilon: 1e-3 });
    expect(fit.shifts.length).toBe(4);
    expect(fit.relativeError).toBeLessThan(0.05);
    expect([...foldShifts(Float32Array.of(8, 8, 8, 8), [2, 4])]).toEqual([4, 4, 2, 2]);
  });
});

describe('a converted checkpoint', () => {
  const weights = randomWeights(llamaProgram, 3);
  const convert = (exponent: number) =>
    convertCheckpoint({
      checkpoint: inMemory(raw, weights),
      plan: fullPlan(config, exponent),
      calibration,
      backend,
      initialisation: 'direct',
    });

  it('is an ordinary checkpoint whose plan is read back, and says nearly what the teacher says', async () => {
    const converted = await convert(8);
    expect(parsePlan(JSON.parse(JSON.stringify(converted.config.sotto)), config)).toEqual(converted.plan);
    expect(converted.config.hidden_size).toBe(16);
    const own = new Map<string, Tensor>(converted.tensors.map(({ name, ...tensor }) => [name, tensor]));
    expect(own.get('model.layers.1.mlp.act.a')!.shape).toEqual([12]);
    const exact = await logits(raw, weights);
    const close = distance(await logits(converted.config, own), exact);
    expect(close).toBeLessThan(0.15 * distance(exact, new Float64Array(exact.length)));
    // Planted: without the fitted shift the same plan is far away.
    const unfolded = new Map(own);
    for (const name of own.keys()) if (name.endsWith('q_proj.weight')) unfolded.set(name, weights.get(name)!);
    expect(distance(await logits(converted.config, unfolded), exact)).toBeGreaterThan(2 * close);
  });

  it('records ranges that its tables cover with the margin', async () => {
    const { plan } = await convert(4);
    expect(plan.ring).toEqual({ bits: 64, fraction: 16 });
    for (const [index, layer] of plan.layers.entries()) {
      const met = plan.ranges![`layers.${index}.attention.weights`]!;
      const table = layer.attention.kind === 'power' ? read(layer.attention.table) : undefined;
      expect(2 ** table!.rangeBits).toBeGreaterThanOrEqual(2 * met.maxMean!);
      // The mean of x is one, so the mean of an even power is at least one.
      expect(met.minMean).toBeGreaterThanOrEqual(1 - 1e-9);
      for (const part of ['attention', 'mlp'])
        expect(2 ** read(layer.norm!.table).rangeBits).toBeGreaterThanOrEqual(
          2 * plan.ranges![`layers.${index}.${part}.norm`]!.maxSquares!,
        );
    }
    expect(plan.finalNorm.table).toBeDefined();
    expect(plan.ranges!['layers.0.mlp.act']!.maxAbs).toBeGreaterThan(0);
  });

  it('keeps what the plan keeps: the exact plan changes no tensor', async () => {
    const made = await convertCheckpoint({
      checkpoint: inMemory(raw, weights),
      plan: exactPlan(config),
      calibration,
      backend,
      initialisation: 'direct',
    });
    for (const { name, values } of made.tensors) expect(values).toEqual(weights.get(name)!.values);
    expect(made.tensors.length).toBe(weights.size);
  });

  it('is refused for rows that make no batch', async () => {
    expect(() => llamaSubject(config, { rows: [new Int32Array(3)], batch: 2 })).toThrow(/do not make a batch/);
    expect(() => llamaSubject(config, { rows: [new Int32Array(3), new Int32Array(4)], batch: 2 })).toThrow(/one length/);
  });
});

describe('a converted vision transformer', () => {
  it('has quadratics, shifts and tables, and says nearly what the teacher says', async () => {
    const fields = {
      model_type: 'vit',
      hidden_size: 12,
      intermediate_size: 18,
      num_hidden_layers: 2,
      num_attention_heads: 3,
      image_size: 8,
      patch_size: 4,
      num_channels: 2,
      num_labels: 5,
    };
    const vit = parseVitConfig(fields);
    const exact = traceVit(vit, exactPlan(vit), { batch: 2 });
    const weights = randomWeights(exact, 4);
    const draw = pseudorandom(6);
    const pixels = [0, 1].map(
      (): Tensor => ({
        shape: [2, 2, 8, 8],
        values: Float32Array.from({ length: 256 }, () => draw.normal()),
      }),
    );
    const made = await convertCheckpoint({
      checkpoint: inMemory(fields, weights),
      plan: fullPlan(vit, 8),
      calibration: { pixels },
      backend,
      initialisation: 'direct',
    });
    expect(made.layers.every(({ attention, activation }) => attention! < 0.05 && activation! < 0.2)).toBe(true);
    expect(made.tensors.length).toBe(weights.size + 6);
    const run = async (program: Program, values: ReadonlyMap<string, Tensor>) =>
      (await (await backend.compile(program, values)).run(new Map([['pixels', pixels[0]!]]))).get('logits')!
        .values as Float64Array;
    const own = new Map<string, Tensor>(made.tensors.map(({ name, ...tensor }) => [name, tensor]));
    const teacher = await run(exact, weights);
    const student = await run(traceVit(vit, made.plan, { batch: 2 }), own);
    expect(distance(student, teacher)).toBeLessThan(0.3 * distance(teacher, new Float64Array(teacher.length)));
    expect(() => subjectOf(vit, calibration)).toThrow(/texts/);
    expect(() => subjectOf(vit, { pixels: [] })).toThrow(/pictures/);
  });
});

describe('the choice of a table', () => {
  it('reads within a thousandth in the ring’s own rule, and one index bit fewer would not', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.05, max: 20, noNaN: true }),
        fc.double({ min: 4, max: 40, noNaN: true }),
        fc.boolean(),
        (min, ratio, reciprocal) => {
          const f = reciprocal ? (x: number) => 1 / (x + 1e-3) : (x: number) => 1 / Math.sqrt(x / 64 + 1e-5);
          const ring = { bits: 64, fraction: 16 };
          const met = { min, max: min * ratio };
          const table = chooseTable(f, met, { margin: 2, fraction: 16, scope: 'here' });
          expect(2 ** table.rangeBits).toBeGreaterThanOrEqual(2 * met.max);
          expect(worst(f, table, ring, met)).toBeLessThan(1.3e-3);
          if (table.indexBits > 4)
            expect(worst(f, { ...table, indexBits: table.indexBits - 1 }, ring, met)).toBeGreaterThan(0.7e-3);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('errs by half a percent at most where 2^14 nodes must span more than they can follow closely', () => {
    const ring = { bits: 64, fraction: 16 };
    const met = { min: 1, max: 490 };
    const table = chooseTable((x) => 1 / (x + 1e-3), met, { margin: 2, fraction: 16, scope: 'here' });
    expect(table).toMatchObject({ rangeBits: 10, indexBits: 14 });
    expect(worst((x) => 1 / (x + 1e-3), table, ring, met)).toBeGreaterThan(1e-3);
    expect(worst((x) => 1 / (x + 1e-3), table, ring, met)).toBeLessThan(5e-3);
    const wider = { min: 1, max: 1000 };
    expect(() => chooseTable((x) => 1 / x, wider, { margin: 2, fraction: 16, scope: 'here' })).toThrow(/2\^14 nodes/);
  });

  it('in a ring of few fraction bits errs as much where its nodes are two units apart, and says so where that is too far', () => {
    const f = (x: number): number => 1 / (x + 1e-3);
    const options = { margin: 2, fraction: 10, scope: 'here' };
    const met = { min: 0.04, max: 1.5 };
    const table = chooseTable(f, met, options);
    expect(table).toMatchObject({ rangeBits: 2, indexBits: 11 });
    expect(worst(f, table, { bits: 32, fraction: 10 }, met)).toBeLessThan(5e-3);
    expect(() => chooseTable(f, { min: 0.01, max: 1.5 }, options)).toThrow(/more than 10 fraction bits/);
  });

  it('is refused where 2^14 nodes cannot span the arguments, or where there are none', () => {
    const options = { margin: 2, fraction: 16, scope: 'layers.0.attention.weights' };
    expect(() => chooseTable((x) => 1 / x, { min: 1, max: 1e5 }, options)).toThrow(/layers\.0\.attention\.weights/);
    expect(() => chooseTable((x) => 1 / x, { min: 0, max: 1 }, options)).toThrow(/calibration met/);
    expect(() => chooseTable((x) => 1 / x, { min: 1, max: Number.POSITIVE_INFINITY }, options)).toThrow(/calibration met/);
  });
});

/** Worst relative error when integers are looked up as the ring does, the index rounded down or up. */
function worst(
  f: (x: number) => number,
  table: { rangeBits: number; indexBits: number; extraBits: number },
  ring: { bits: number; fraction: number },
  { min, max }: { min: number; max: number },
): number {
  const { values, slopes, restBits } = interpolatedTable(f, table, ring, 'here');
  const scale = 2 ** (ring.fraction + table.extraBits);
  let largest = 0;
  for (let i = 0; i <= 500; i++) {
    const x = Math.round(min * (max / min) ** (i / 500) * 2 ** ring.fraction);
    for (const index of [Math.floor(x / 2 ** restBits), Math.ceil(x / 2 ** restBits)]) {
      const rest = (x - index * 2 ** restBits) / 2 ** ring.fraction;
      const read = (values[index]! + slopes[index]! * rest) / scale;
      const exact = f(x / 2 ** ring.fraction);
      largest = Math.max(largest, Math.abs(read - exact) / exact);
    }
  }
  return largest;
}
