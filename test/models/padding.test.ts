import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { simulate } from '../../src/backends/fixed/index.ts';
import { quantise, wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { traceBertPrivate } from '../../src/models/bert.ts';
import { type BertConfig, type LlamaConfig, parseBertConfig } from '../../src/models/config.ts';
import { traceLlamaPrivate } from '../../src/models/llama.ts';
import { type PaddedLengths, paddedIds, paddingInput } from '../../src/models/padding.ts';
import { type AttentionPlan, exactPlan, type LayerPlan, type Plan, parsePlan } from '../../src/models/plan.ts';
import { randomBertWeights, randomLlamaWeights } from '../../src/models/weights.ts';
import type { Program, Tensor } from '../../src/program/index.ts';
import { both } from '../mpc/piecewise.ts';
import { difference, folded, index, runReference, tinyLlama } from './tiny.ts';

const llama = tinyLlama({ max_position_embeddings: 64 });
const bert = parseBertConfig({
  model_type: 'bert',
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 30,
  max_position_embeddings: 32,
  num_labels: 3,
  layer_norm_eps: 1e-5,
});

const table = { rangeBits: 8, indexBits: 12, extraBits: 8 };
const half = { rangeBits: 7, indexBits: 11, extraBits: 8 };
const newton = { method: 'newton', low: 0.25, high: 24, iterations: 6 } as const;
const attentions: Record<string, AttentionPlan> = {
  softmax: { kind: 'softmax' },
  'centred squares': { kind: 'power', exponent: 2, epsilon: 1e-3, table },
  'centred fourth powers': { kind: 'power', exponent: 4, epsilon: 1e-3, table },
  'levelled eighth powers': { kind: 'power', exponent: 8, epsilon: 1e-3, table, half },
  'squares by Newton’s iteration': { kind: 'power', exponent: 2, epsilon: 1e-3, table: newton },
  'plain powers': { kind: 'power', exponent: 2, epsilon: 1e-1, form: 'plain', table },
  'length-agnostic powers': { kind: 'power', exponent: 2, epsilon: 1e-1, form: 'length-agnostic', table },
  'length-agnostic powers by Newton’s iteration': {
    kind: 'power',
    exponent: 2,
    epsilon: 1e-1,
    form: 'length-agnostic',
    table: { ...newton, low: 1e-3 },
  },
  '2quad': { kind: '2quad', shift: 5, epsilon: 1e-3, table },
  l2quad: { kind: 'l2quad', epsilon: 1e-1, table },
  '2relu': { kind: '2relu', epsilon: 1e-1 },
};
const withOffsets: AttentionPlan = { kind: 'power', exponent: 4, epsilon: 1e-3, table, offsets: [0.5, 1, 0.75, 0.9] };

function planned(config: LlamaConfig | BertConfig, attention: AttentionPlan): Plan {
  const base = attention.kind === 'softmax' ? exactPlan(config) : parsePlan('full-p2', config);
  return { ...base, layers: base.layers.map((layer): LayerPlan => ({ ...layer, attention })) };
}

interface Case {
  readonly program: Program;
  readonly feed: (name: string) => Tensor;
}
const text = [3, 1, 4, 1, 5, 9, 2];
const written = [6, 8];
const newTokens = written.length + 1;

/** Prefill and two more tokens that are given, so that every program reads the same text. */
function llamaCase(plan: Plan, ids: readonly number[], positions?: number, filler?: number): Case {
  const promptTokens = positions ?? ids.length;
  const lengths: PaddedLengths = { kind: 'causal', real: ids.length, positions: promptTokens, newTokens };
  const program = traceLlamaPrivate(llama, plan, { promptTokens, newTokens, padded: positions !== undefined });
  const feed = (name: string): Tensor => {
    if (name === 'prompt') return index(positions === undefined ? ids : paddedIds(ids, lengths, filler), [promptTokens]);
    const step = /^token\.(\d)$/.exec(name);
    return step === null ? paddingInput(name, lengths)! : index([written[Number(step[1]) - 1]!], [1]);
  };
  return { program, feed };
}

function bertCase(plan: Plan, ids: readonly number[], positions?: number, filler?: number): Case {
  const tokens = positions ?? ids.length;
  const lengths: PaddedLengths = { kind: 'encoder', real: ids.length, positions: tokens, newTokens: 1 };
  const types = ids.map((_, at) => (at < 3 ? 0 : 1));
  const filled = (list: readonly number[], by: number): Tensor =>
    index(positions === undefined ? list : paddedIds(list, lengths, by), [tokens]);
  const feed = (name: string): Tensor =>
    name === 'prompt' ? filled(ids, filler ?? 0) : name === 'types' ? filled(types, 0) : paddingInput(name, lengths)!;
  return { program: traceBertPrivate(bert, plan, { tokens, padded: positions !== undefined }), feed };
}

const feeds = ({ program, feed }: Case): Record<string, Tensor> =>
  Object.fromEntries(
    program.nodes.flatMap((node) =>
      node.operation === 'input' && node.parameters.owner === 'client'
        ? [[node.parameters.name, feed(node.parameters.name)]]
        : [],
    ),
  );

async function inRing(one: Case, weights: ReadonlyMap<string, Tensor>, ring: { bits: number; fraction: number }) {
  const kernels = createWasmKernels(wordBitsOf(ring.bits));
  const inputs = async (name: string) => one.feed(name);
  const made = await simulate(quantise(one.program, ring), { kernels, weights: async (name) => weights.get(name)!, inputs });
  expect(kernels.allocatedBytes).toBe(0);
  return made;
}

const families = [
  {
    name: 'a Llama that writes',
    config: llama,
    made: llamaCase,
    weights: (plan: Plan) => folded(llama, plan, randomLlamaWeights(llama, 5, plan)),
    attentions: { ...attentions, 'powers of heads that were scaled': withOffsets },
  },
  {
    name: 'a BERT that classifies',
    config: bert,
    made: bertCase,
    weights: (plan: Plan) => folded(bert, plan, randomBertWeights(bert, 5, plan)),
    attentions,
  },
] as const;

/** Where nothing is divided by a length the padded integers are the unpadded ones. */
const exactly = (family: string, kind: string): boolean => family.includes('BERT') && kind === 'plain powers';

describe.each(families)('$name on a text of secret length', ({ name, config, made, weights: weightsOf, attentions: kinds }) => {
  describe.each(Object.entries(kinds))('with %s', (kind, attention) => {
    const plan = planned(config, attention);

    it('means the same in floats', async () => {
      const weights = await weightsOf(plan);
      const [own, padded] = [made(plan, text), made(plan, text, 12)];
      const [bare, wide] = await Promise.all([own, padded].map((one) => runReference(one.program, weights, feeds(one))));
      for (const [output, value] of bare!) expect(difference(wide!.get(output)!.values, value.values)).toBeLessThan(1e-9);
    });

    it('gives in the ring what the text alone gives, to its rounding, and not a bit of what stands where no text does', async () => {
      const weights = await weightsOf(plan);
      const ring = { bits: 64, fraction: 16 };
      const bare = await inRing(made(plan, text), weights, ring);
      const [wide, other] = await Promise.all([3, 29].map((filler) => inRing(made(plan, text, 9, filler), weights, ring)));
      for (const [output, value] of bare) {
        const off = difference(wide!.get(output)!.values, value.values);
        if (exactly(name, kind)) expect(off).toBe(0);
        else expect(off).toBeLessThan(6e-3);
      }
      expect(other).toEqual(wide);
    });
  });

  it.each(['dealer', 'helper'] as const)(
    'runs between parties with a %s as simulated, and costs what is forecast',
    async (setting) => {
      for (const kind of ['centred squares', 'levelled eighth powers', 'softmax']) {
        const plan = planned(config, kinds[kind as keyof typeof kinds]);
        const weights = await weightsOf(plan);
        const one = made(plan, text, 10);
        const lowered = quantise(one.program, { bits: 64, fraction: 16 });
        const { run, exact, held } = await both(lowered, weights, async (input) => one.feed(input), 3, setting);
        expect(run.outputs).toEqual(exact);
        expect(run.measured).toEqual(forecast(lowered, setting).total);
        expect(held).toBe(0);
      }
    },
  );
});

it.each(families)('$name in a ring of 32 bits is as near to floats as without padding', async ({ config, made, weights: of }) => {
  const ring = { bits: 32, fraction: 9 };
  const plan = planned(config, {
    kind: 'power',
    exponent: 2,
    epsilon: 1e-3,
    table: { rangeBits: 4, indexBits: 10, extraBits: 4 },
  });
  const weights = await of(plan);
  const own = made(plan, text);
  const float = await runReference(own.program, weights, feeds(own));
  const off = async (one: Case): Promise<number> => {
    const ringed = await inRing(one, weights, ring);
    return Math.max(...[...float].map(([output, value]) => difference(ringed.get(output)!.values, value.values)));
  };
  const [bare, padded] = [await off(own), await off(made(plan, text, 16))];
  expect(bare).toBeLessThan(0.25);
  expect(padded).toBeLessThan(Math.max(0.05, 2 * bare));
});

it('fills a prompt with what the model has seen, and rows of one key where no text stands', () => {
  const lengths: PaddedLengths = { kind: 'causal', real: 2, positions: 4, newTokens: 2 };
  expect(paddedIds([7, 9], lengths)).toEqual([7, 7, 7, 9]);
  expect([...paddingInput('padding.mask', lengths)!.values]).toEqual([0, 0, 1, 1]);
  const eighths = (name: string) => Array.from(paddingInput(name, lengths)!.values, (value) => value / 8);
  expect(eighths('padding.shares')).toEqual([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0.5, 0.5]);
  expect(eighths('padding.inverse')).toEqual([1, 1, 1, 0.5]);
  expect(eighths('padding.shares.1').map((value) => 3 * value)).toEqual([0, 0, 1, 1, 1]);
  expect(paddingInput('prompt', lengths)).toBeUndefined();
});
