import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { type Tensor, trace } from '../../src/program/index.ts';
import { type AdamW, type Optimiser, passes, trainingStep } from '../../src/train/index.ts';

const adamW: AdamW = { kind: 'adamw', beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0 };
const scalar = (value: number): Tensor => ({ shape: [], values: Float64Array.of(value) });
const names = ['w', 'v'];
type Settings = Parameters<typeof passes>[0];

/** Loss Σ over the batch's rows of ½·c·w² + v·d: gradients c·w and d, the first of which changes with w. */
const program = trace((ops) => {
  const [w, v] = [ops.input('w', [2], 'server'), ops.input('v', [2], 'server')];
  const [c, d] = [ops.input('c', [2], 'public'), ops.input('d', [2], 'public')];
  const both = ops.add(ops.scale(ops.multiply(c, ops.square(w)), 0.5), ops.multiply(v, d));
  return { loss: ops.reshape(ops.sum(both, [0]), []) };
});
type Batch = { readonly c: readonly number[]; readonly d: readonly number[] };

/** Runs steps, each of as many micro-batches as it has; gives the final state and each step's norm. */
async function run(settings: Settings, clip: number, steps: readonly (readonly Batch[])[], optimiser: Optimiser = adamW) {
  const trained = names.map((name) => ({ name, rate: 1 }));
  const step = trainingStep(program, { trained, optimiser, clip, ...settings });
  const executable = await referenceBackend().compile(step, new Map());
  let state = new Map<string, Tensor>();
  for (const node of step.nodes)
    if (node.operation === 'input' && step.outputs.has(`next/${node.parameters.name}`))
      // Sums start with anything: what they held before must have no effect.
      state.set(node.parameters.name, {
        shape: [2],
        values: Float64Array.from(
          /^(ascent|accumulated)/.test(node.parameters.name) ? [7, -9] : names.includes(node.parameters.name) ? [1, -2] : [0, 0],
        ),
      });
  const norms: number[] = [];
  for (const [t, batches] of steps.entries()) {
    for (const pass of passes(settings)) {
      const { c, d } = batches[pass.micro]!;
      const feeds = new Map<string, Tensor>([
        ...state,
        ['c', { shape: [2], values: Float64Array.from(c) }],
        ['d', { shape: [2], values: Float64Array.from(d) }],
        ...[...pass.scalars].map(([name, value]) => [name, scalar(value)] as const),
        ['learningRate', scalar(pass.last ? 0.1 : 0)],
        ['correction1', scalar(1 / (1 - 0.9 ** (t + 1)))],
        ['correction2', scalar(1 / (1 - 0.99 ** (t + 1)))],
      ]);
      const results = await executable.run(feeds);
      state = new Map([...state.keys()].map((name) => [name, results.get(`next/${name}`)!]));
      if (pass.last) norms.push(results.get('gradientNorm')!.values[0]!);
    }
  }
  return { state, norms };
}

/** The gradient of the mean of batches at a point. */
const meanGradient =
  (batches: readonly Batch[]) =>
  (point: readonly number[]): number[] =>
    point.map((value, i) => batches.reduce((sum, { c, d }) => sum + (i < 2 ? c[i]! * value : d[i - 2]!) / batches.length, 0));

/** The same by hand: AdamW on SAM's gradient of the mean batch. */
function byHand(radius: number, clip: number, steps: readonly (readonly Batch[])[]) {
  const x = [1, -2, 1, -2];
  const [m, v] = [new Array<number>(4).fill(0), new Array<number>(4).fill(0)];
  const norms: number[] = [];
  steps.forEach((batches, t) => {
    const gradientAt = meanGradient(batches);
    const ascent = gradientAt(x);
    const length = Math.hypot(...ascent);
    const found = gradientAt(x.map((value, i) => value + (radius * ascent[i]!) / length));
    const norm = Math.hypot(...found);
    norms.push(norm);
    found.forEach((raw, i) => {
      const g = raw * Math.min(1, clip / norm);
      m[i] = 0.9 * m[i]! + 0.1 * g;
      v[i] = 0.99 * v[i]! + 0.01 * g * g;
      x[i]! -= (0.1 * (m[i]! / (1 - 0.9 ** (t + 1)))) / (Math.sqrt(v[i]! / (1 - 0.99 ** (t + 1))) + 1e-8);
    });
  });
  return { x, norms, m };
}

const steps: Batch[][] = [
  [
    { c: [0.5, 2], d: [0.3, -0.1] },
    { c: [1.5, -0.4], d: [-0.6, 0.8] },
    { c: [0.1, 0.9], d: [0.2, 0.2] },
  ],
  [
    { c: [1, 1], d: [0.4, 0] },
    { c: [0.2, 3], d: [0, -0.5] },
    { c: [-0.7, 0.3], d: [1, 0.1] },
  ],
];

describe('a step of several passes', () => {
  it.each([
    ['SAM on one batch', { sam: { radius: 0.3 } }, 1],
    ['accumulation of three micro-batches', { accumulate: 3 }, 3],
    ['both', { sam: { radius: 0.3 }, accumulate: 3 }, 3],
    ['neither', {}, 1],
  ] as const)('is %s as computed by hand, clipped and not', async (_, settings, micro) => {
    for (const clip of [100, 0.5]) {
      const taken = steps.map((batches) => batches.slice(0, micro));
      const { state, norms } = await run(settings, clip, taken);
      const due = byHand('sam' in settings ? settings.sam.radius : 0, clip, taken);
      const found = [...state.get('w')!.values, ...state.get('v')!.values];
      found.forEach((value, i) => {
        expect(value).toBeCloseTo(due.x[i]!, 9);
      });
      norms.forEach((norm, i) => {
        expect(norm).toBeCloseTo(due.norms[i]!, 9);
      });
      expect(state.get('moment1/w')!.values[1]).toBeCloseTo(due.m[1]!, 9);
    }
  });

  it.each([
    ['alone', {}, 1],
    ['with SAM', { sam: { radius: 0.3 } }, 1],
    ['with SAM and accumulation', { sam: { radius: 0.3 }, accumulate: 3 }, 3],
  ] as const)('takes other optimisers: momentum %s is as computed by hand', async (_, settings, micro) => {
    const taken = steps.map((batches) => batches.slice(0, micro));
    const { state } = await run(settings, 0.7, taken, { kind: 'sgd', beta1: 0.8, decay: 0 });
    const x = [1, -2, 1, -2];
    const m = [0, 0, 0, 0];
    const radius = 'sam' in settings ? settings.sam.radius : 0;
    for (const batches of taken) {
      const gradientAt = meanGradient(batches);
      const ascent = gradientAt(x);
      const found = gradientAt(x.map((value, i) => value + (radius * ascent[i]!) / Math.hypot(...ascent)));
      found.forEach((g, i) => {
        m[i] = 0.8 * m[i]! + g * Math.min(1, 0.7 / Math.hypot(...found));
        x[i]! -= 0.1 * m[i]!;
      });
    }
    [...state.get('w')!.values, ...state.get('v')!.values].forEach((value, i) => {
      expect(value).toBeCloseTo(x[i]!, 9);
    });
    expect(state.has('moment2/w')).toBe(false);
  });

  it('changes no weight and no moment before its last pass', async () => {
    const settings = { sam: { radius: 0.3 }, accumulate: 2 };
    expect(passes(settings).map(({ micro, last, away }) => [micro, away, last])).toEqual([
      [0, false, false],
      [1, false, false],
      [0, true, false],
      [1, true, true],
    ]);
    expect(passes({})).toHaveLength(1);
    const [first, second] = passes(settings);
    expect([first!.scalars.get('ascentKept'), second!.scalars.get('ascentKept')]).toEqual([0, 1]);
  });
});
