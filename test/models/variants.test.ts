import { describe, expect, it } from 'vitest';
import { simulate } from '../../src/backends/fixed/index.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { traceBert, traceBertPrivate } from '../../src/models/bert.ts';
import { parseBertConfig } from '../../src/models/config.ts';
import { traceLlama, traceLlamaPrivate } from '../../src/models/llama.ts';
import { isPolynomial, type LayerPlan, type Plan, parsePlan } from '../../src/models/plan.ts';
import { traceVit, traceVitPrivate } from '../../src/models/vit.ts';
import { privateWeightShapes, randomBertWeights, randomLlamaWeights, randomVitWeights } from '../../src/models/weights.ts';
import { gradient, type Program, type Ref, rewriteInto, type Tensor, Tracer } from '../../src/program/index.ts';
import { difference, float, folded, index, runReference, tinyLlama, tinyVit } from './tiny.ts';

const llama = tinyLlama();
const vit = tinyVit();
const bert = parseBertConfig({
  model_type: 'bert',
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 30,
  max_position_embeddings: 16,
  type_vocab_size: 1,
  num_labels: 3,
  layer_norm_eps: 1e-5,
});

/** A plan with one kind of layer, on wide tables. */
function planOf(model: { hiddenSize: number; numHiddenLayers: number }, part: Partial<LayerPlan>): Plan {
  const base = parsePlan('full-p2', model);
  return parsePlan(JSON.parse(JSON.stringify({ ...base, layers: base.layers.map((layer) => ({ ...layer, ...part })) })), model);
}

const quotient = { epsilon: 1e-2, table: { rangeBits: 7, indexBits: 13, extraBits: 8 } };
const newton = { method: 'newton', low: 0.5, high: 250, iterations: 9 } as const;
const variants: [string, Partial<LayerPlan>][] = [
  ['2quad', { attention: { kind: '2quad', shift: 5, ...quotient } }],
  ['l2quad', { attention: { kind: 'l2quad', ...quotient } }],
  ['2relu', { attention: { kind: '2relu', epsilon: 0.1 } }],
  ['2relu with a table', { attention: { kind: '2relu', ...quotient } }],
  ['power with Newton’s iteration', { attention: { kind: 'power', exponent: 4, epsilon: 1e-2, table: newton } }],
  [
    'a levelled power',
    {
      attention: {
        kind: 'power',
        exponent: 8,
        half: { rangeBits: 14, indexBits: 14, extraBits: 12, interpolation: 'none' },
        ...quotient,
      },
    },
  ],
  ['a plain power', { attention: { kind: 'power', exponent: 2, form: 'plain', ...quotient } }],
  ['a stable power', { attention: { kind: 'power', exponent: 4, form: 'stable', ...quotient } }],
  ['a length-agnostic power', { attention: { kind: 'power', exponent: 2, form: 'length-agnostic', ...quotient } }],
  ['MPCFormer’s quadratic', { activation: { kind: 'quad' } }],
  ['a quartic per channel', { activation: { kind: 'quartic', per: 'channel', reach: 2.5 } }],
  ['a quartic per layer', { activation: { kind: 'quartic', per: 'layer', reach: 4 } }],
  ['a bilinear per channel', { activation: { kind: 'bilinear', per: 'channel' } }],
  ['a bilinear per layer', { activation: { kind: 'bilinear', per: 'layer' } }],
  ['relu', { activation: { kind: 'relu' } }],
];

const ids = [3, 1, 4, 1, 5];
interface Subject {
  readonly open: Program;
  readonly secret: Program;
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly privates: ReadonlyMap<string, Tensor>;
  readonly feeds: Record<string, Tensor>;
  readonly inputs: Record<string, Tensor>;
  /** The logits of the published program that the private one gives. */
  readonly pick: (logits: Tensor) => ArrayLike<number>;
  readonly output: string;
}

const last = ({ shape, values }: Tensor): ArrayLike<number> => values.slice(values.length - shape.at(-1)!);
const families: Record<string, (part: Partial<LayerPlan>) => Promise<Subject & { names: string[]; due: string[] }>> = {
  llama: async (part) => {
    const plan = planOf(llama, part);
    const weights = randomLlamaWeights(llama, 3, plan);
    const privates = await folded(llama, plan, weights);
    return {
      open: traceLlama(llama, plan, { batch: 1, tokens: 5 }),
      secret: traceLlamaPrivate(llama, plan, { promptTokens: 5, newTokens: 1 }),
      weights,
      privates,
      feeds: { ids: index(ids, [1, 5]) },
      inputs: { prompt: index(ids, [5]) },
      pick: last,
      output: 'logits.0',
      names: [...privates.keys()].sort(),
      due: [...privateWeightShapes(llama, plan).keys()].sort(),
    };
  },
  vit: async (part) => {
    const plan = planOf(vit, part);
    const weights = randomVitWeights(vit, 8, plan);
    const privates = await folded(vit, plan, weights);
    const picture = Float64Array.from({ length: 2 * 64 }, (_, at) => Math.sin(at * 0.7));
    return {
      open: traceVit(vit, plan, { batch: 1 }),
      secret: traceVitPrivate(vit, plan),
      weights,
      privates,
      feeds: { pixels: float(picture, [1, 2, 8, 8]) },
      inputs: { pixels: float(picture, [2, 8, 8]) },
      pick: last,
      output: 'logits',
      names: [...privates.keys()].sort(),
      due: [...privateWeightShapes(vit, plan).keys()].sort(),
    };
  },
  bert: async (part) => {
    const plan = planOf(bert, part);
    const weights = randomBertWeights(bert, 3, plan);
    const privates = await folded(bert, plan, weights);
    return {
      open: traceBert(bert, plan, { batch: 1, tokens: 5 }),
      secret: traceBertPrivate(bert, plan, { tokens: 5 }),
      weights,
      privates,
      feeds: { ids: index(ids, [1, 5]), types: index([0, 0, 0, 0, 0], [1, 5]), mask: float([1, 1, 1, 1, 1], [1, 5]) },
      inputs: { prompt: index(ids, [5]) },
      pick: last,
      output: 'logits',
      names: [...privates.keys()].sort(),
      due: [...privateWeightShapes(bert, plan).keys()].sort(),
    };
  },
};

describe.each(Object.keys(families))('a %s', (family) => {
  it.each(variants)('under %s gives in private the logits of the published definition', async (_, part) => {
    const { open, secret, weights, privates, feeds, inputs, pick, output, names, due } = await families[family]!(part);
    const published = pick((await runReference(open, weights, feeds)).get('logits')!);
    const own = (await runReference(secret, privates, inputs)).get(output)!.values;
    expect(difference(published, own)).toBeLessThan(1e-9);
    expect(names).toEqual(due);
    const ring = await simulate(quantise(secret, { bits: 64, fraction: 16 }), {
      kernels: createWasmKernels(64),
      weights: async (name) => privates.get(name)!,
      inputs: async (name) => inputs[name]!,
    });
    expect(difference(ring.get(output)!.values, own)).toBeLessThan(0.05);
  });
});

describe('the forms of a power', () => {
  const logits = async (form: 'plain' | 'stable' | 'length-agnostic' | 'centred', epsilon: number, more: object = {}) => {
    const plan = planOf(llama, { attention: { kind: 'power', exponent: 4, form, epsilon, ...more } });
    const weights = randomLlamaWeights(llama, 3, plan);
    const program = traceLlama(llama, plan, { batch: 1, tokens: 5 });
    return (await runReference(program, weights, { ids: index(ids, [1, 5]) })).get('logits')!.values;
  };

  it('are one function but for epsilon: what scores are divided by vanishes in the quotient', async () => {
    const plain = await logits('plain', 1e-30);
    expect(difference(await logits('stable', 1e-30), plain)).toBeLessThan(1e-4);
    expect(difference(await logits('length-agnostic', 1e-30), plain)).toBeLessThan(1e-9);
    // With a floor that small scores feel, they are three.
    const [floored, stable, agnostic] = [
      await logits('plain', 0.1),
      await logits('stable', 0.1),
      await logits('length-agnostic', 0.1),
    ];
    expect(difference(stable, floored)).toBeGreaterThan(1e-3);
    expect(difference(agnostic, floored)).toBeGreaterThan(1e-3);
    expect(difference(stable, agnostic)).toBeGreaterThan(1e-3);
  });

  it('are the same function where half powers are levelled first, of scaled heads too, but for epsilon', async () => {
    const offsets = [0.5, 0.75, 1, 0.9];
    for (const more of [{}, { offsets }]) {
      const [direct, levelled] = [
        await logits('centred', 1e-9, more),
        await logits('centred', 1e-9, { ...more, half: quotient.table }),
      ];
      expect(difference(direct, levelled)).toBeLessThan(1e-6);
    }
    expect(difference(await logits('centred', 1e-9, { offsets }), await logits('centred', 1e-9))).toBeGreaterThan(1e-3);
    expect(() => planOf(llama, { attention: { kind: 'power', exponent: 2, half: quotient.table, ...quotient } })).toThrow(
      /4 and more/,
    );
  });

  it('are polynomial, but for the stable one, which looks for a row’s largest', () => {
    const polynomial = (form: 'plain' | 'stable') =>
      isPolynomial(planOf(llama, { attention: { kind: 'power', exponent: 4, form, ...quotient } }));
    expect(polynomial('plain')).toBe(true);
    expect(polynomial('stable')).toBe(false);
  });
});

it('learns the two numbers of an l2quad: their gradients are what moving them shows', async () => {
  const plan = planOf(llama, { attention: { kind: 'l2quad', ...quotient } });
  const weights = new Map(randomLlamaWeights(llama, 3, plan));
  const forward = traceLlama(llama, plan, { batch: 1, tokens: 5 });
  const squared = async (changed: ReadonlyMap<string, Tensor>): Promise<number> => {
    const logits = (await runReference(forward, changed, { ids: index(ids, [1, 5]) })).get('logits')!.values;
    return Array.from(logits).reduce((sum, value) => sum + value * value, 0);
  };
  const loss = withLoss(forward);
  for (const part of ['scale', 'shift']) {
    const name = `model.layers.0.self_attn.quad.${part}`;
    const tensor = weights.get(name)!;
    expect(tensor.shape).toEqual([4]);
    const found = (await runReference(gradient(loss, 'loss', [name]), weights, { ids: index(ids, [1, 5]) })).get(
      `gradient/${name}`,
    )!.values;
    for (let head = 0; head < 4; head++) {
      const moved = (by: number): Map<string, Tensor> => {
        const values = Float64Array.from(tensor.values);
        values[head]! += by;
        return new Map(weights).set(name, { ...tensor, values });
      };
      const difference = ((await squared(moved(1e-5))) - (await squared(moved(-1e-5)))) / 2e-5;
      expect(Math.abs(found[head]! - difference)).toBeLessThan(1e-4 * Math.max(1, Math.abs(difference)));
    }
  }
});

/** A program and the sum of its squared logits. */
function withLoss(program: Program): Program {
  const ops = new Tracer();
  const refs = rewriteInto(ops, program);
  const logits = refs[program.outputs.get('logits')!] as Ref;
  const flat = ops.reshape(ops.square(logits), [ops.shape(logits).reduce((a, b) => a * b, 1)]);
  return { nodes: ops.nodes, outputs: new Map([['loss', ops.reshape(ops.sum(flat, [0]), []) as number]]) };
}
