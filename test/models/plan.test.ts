import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { exactPlan, fullPlan, isPolynomial, type Plan, parsePlan, planOf } from '../../src/models/plan.ts';
import { tinyLlama } from './tiny.ts';

const model = { hiddenSize: 768, numHiddenLayers: 3 };

describe('named plans', () => {
  it('replace everything in full plans and nothing in the exact one', () => {
    expect(isPolynomial(parsePlan('exact', model))).toBe(false);
    for (const exponent of [2, 4, 8]) {
      const plan = parsePlan(`full-p${exponent}`, model);
      expect(isPolynomial(plan)).toBe(true);
      expect(plan.layers).toHaveLength(3);
      expect(plan.layers[2]!.attention).toMatchObject({ kind: 'power', exponent });
      expect(plan.finalNorm.table).toEqual({ rangeBits: 11, indexBits: 13, extraBits: 4, interpolation: 'none' });
    }
  });

  it('have 2Quad, L2Quad and 2ReLU, of which comparisons remain in the last', () => {
    const kinds = ['mpcformer', 'full-2quad', 'full-l2quad', 'full-2relu'].map((name) => {
      const plan = parsePlan(name, model);
      const { activation, attention } = plan.layers[1]!;
      return [activation.kind, attention.kind, isPolynomial(plan)];
    });
    expect(kinds).toEqual([
      ['quad', '2quad', true],
      ['quadratic', '2quad', true],
      ['quadratic', 'l2quad', true],
      ['relu', '2relu', false],
    ]);
  });

  it('replace the last K layers in hybrid-K', () => {
    const kinds = (name: string) => parsePlan(name, model).layers.map((layer) => layer.attention.kind);
    expect(kinds('hybrid-0')).toEqual(['softmax', 'softmax', 'softmax']);
    expect(kinds('hybrid-2')).toEqual(['softmax', 'power', 'power']);
    expect(kinds('hybrid-3')).toEqual(['power', 'power', 'power']);
  });

  it('are refused by name where they do not exist', () => {
    for (const name of ['', 'full', 'full-p3', 'full-p2 ', 'hybrid-4', 'hybrid--1', 'hybrid-1e3', 'constructor', '__proto__'])
      expect(() => parsePlan(name, model)).toThrow(SottoError);
  });
});

describe('plans in config.json', () => {
  it('survive being written and read', () => {
    for (const name of ['exact', 'full-p8', 'hybrid-1']) {
      const plan = {
        ...parsePlan(name, model),
        ring: { bits: 64, fraction: 16 },
        ranges: { 'layers.0.mlp.act': { maxAbs: 3.5, meanSquare: 1 } },
      };
      expect(parsePlan(JSON.parse(JSON.stringify(plan)), model)).toEqual(JSON.parse(JSON.stringify(plan)));
    }
  });

  it('are exact where config.json has none', () => {
    const config = tinyLlama();
    expect(planOf(config)).toEqual(exactPlan(config));
    expect(planOf(tinyLlama({ sotto: JSON.parse(JSON.stringify(fullPlan(config, 2))) }))).toEqual(fullPlan(config, 2));
  });

  const change = (edit: (plan: Record<string, never>) => void): unknown => {
    const plan = JSON.parse(JSON.stringify(fullPlan(model, 4)));
    edit(plan);
    return plan;
  };
  // biome-ignore lint/suspicious/noExplicitAny: malformed on purpose.
  const wrong: [string, (plan: any) => void][] = [
    ['layers', (plan) => plan.layers.pop()],
    ['layers', (plan) => delete plan.layers],
    ['layers.1.activation.kind', (plan) => (plan.layers[1].activation.kind = 'swish')],
    ['layers.1.activation.per', (plan) => (plan.layers[1].activation.per = 'token')],
    ['layers.0.attention.exponent', (plan) => (plan.layers[0].attention.exponent = 3)],
    ['layers.0.attention.exponent', (plan) => (plan.layers[0].attention.exponent = '4')],
    ['layers.0.attention.epsilon', (plan) => (plan.layers[0].attention.epsilon = 0)],
    ['layers.0.attention.epsilon', (plan) => (plan.layers[0].attention.epsilon = null)],
    ['layers.0.attention.table.indexBits', (plan) => (plan.layers[0].attention.table.indexBits = 31)],
    ['layers.0.norm.table.rangeBits', (plan) => (plan.layers[0].norm.table.rangeBits = 1.5)],
    ['layers.0.norm.table.iterations', (plan) => (plan.layers[0].norm.table = { method: 'newton', low: 1, high: 2 })],
    ['layers.0.norm.table.high', (plan) => (plan.layers[0].norm.table = { method: 'newton', low: 2, high: 1, iterations: 3 })],
    ['layers.0.norm.table.method', (plan) => (plan.layers[0].norm.table = { method: 'goldschmidt' })],
    ['layers.0.attention.shift', (plan) => (plan.layers[0].attention = { kind: '2quad', epsilon: 1 })],
    ['layers.0.attention.exponent', (plan) => (plan.layers[0].attention = { kind: 'l2quad', epsilon: 1, exponent: 2 })],
    ['layers.0.activation.per', (plan) => (plan.layers[0].activation = { kind: 'bilinear' })],
    ['finalNorm.gain', (plan) => (plan.finalNorm.gain = 1)],
    ['ring.fraction', (plan) => (plan.ring = { bits: 64 })],
    ['ranges.x.maxAbs', (plan) => (plan.ranges = { x: { maxAbs: -1 } })],
    ['heads', (plan) => (plan.heads = 2)],
  ];
  it.each(wrong)('are refused with the field %s where it is wrong', (field, edit) => {
    expect(() => parsePlan(change(edit), model)).toThrow(
      expect.objectContaining({ kind: 'model', place: { file: 'plan', field } }),
    );
  });

  it('are refused or sound, whatever stands there', () => {
    const paths = ['name', 'layers', 'finalNorm', 'ring', 'ranges'] as const;
    const hostile = fc.oneof(fc.jsonValue(), fc.anything(), fc.constantFrom(Number.NaN, Infinity, -0, 1e308, '', [], {}));
    const check = (value: unknown) => {
      try {
        const plan: Plan = parsePlan(value, model);
        expect(plan.layers).toHaveLength(3);
        for (const { attention } of plan.layers)
          if (attention.kind === 'power') expect([2, 4, 8, 16]).toContain(attention.exponent);
      } catch (error) {
        expect(error).toBeInstanceOf(SottoError);
        expect((error as SottoError).place.field).toBeTruthy();
      }
    };
    fc.assert(fc.property(hostile, check));
    fc.assert(fc.property(fc.constantFrom(...paths), hostile, (path, value) => check({ ...fullPlan(model, 2), [path]: value })));
    fc.assert(
      fc.property(fc.constantFrom('activation', 'attention', 'norm'), hostile, (part, value) => {
        const plan = fullPlan(model, 2);
        check({ ...plan, layers: [{ ...plan.layers[0], [part]: value }, ...plan.layers.slice(1)] });
      }),
    );
  });
});
