import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { type Tensor, trace } from '../../src/program/index.ts';
import { type AdamW, schedule, trainingStep } from '../../src/train/index.ts';

const adamW: AdamW = { kind: 'adamw', beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0.1 };
const scalar = (value: number): Tensor => ({ shape: [], values: Float64Array.of(value) });

/** Loss Σ target·w of a matrix and a vector, so that gradients are the targets. */
function linear(clip: number) {
  const program = trace((ops) => {
    const matrix = ops.input('matrix', [1, 2], 'server');
    const gain = ops.input('gain', [2], 'server');
    const targets = ops.input('targets', [4], 'public');
    const all = ops.concat([ops.reshape(matrix, [2]), gain], 0);
    return { loss: ops.reshape(ops.sum(ops.multiply(all, targets), [0]), []) };
  });
  const trained = [
    { name: 'matrix', rate: 1 },
    { name: 'gain', rate: 0.5 },
  ];
  return trainingStep(program, { trained, optimiser: adamW, clip });
}

async function steps(clip: number, gradients: readonly (readonly number[])[]) {
  const executable = await referenceBackend().compile(linear(clip), new Map());
  let state = new Map<string, Tensor>(
    ['matrix', 'gain'].flatMap((name) => {
      const shape = name === 'matrix' ? [1, 2] : [2];
      return [
        [name, { shape, values: Float64Array.of(1, -2) }] as const,
        [`moment1/${name}`, { shape, values: new Float64Array(2) }] as const,
        [`moment2/${name}`, { shape, values: new Float64Array(2) }] as const,
      ];
    }),
  );
  const norms: number[] = [];
  for (const [t, gradient] of gradients.entries()) {
    const feeds = new Map<string, Tensor>([
      ...state,
      ['targets', { shape: [4], values: Float64Array.from(gradient) }],
      ['learningRate', scalar(0.01)],
      ['correction1', scalar(1 / (1 - 0.9 ** (t + 1)))],
      ['correction2', scalar(1 / (1 - 0.99 ** (t + 1)))],
    ]);
    const results = await executable.run(feeds);
    norms.push(results.get('gradientNorm')!.values[0]!);
    state = new Map([...state.keys()].map((name) => [name, results.get(`next/${name}`)!]));
  }
  return { state, norms };
}

/** AdamW of one number, as the paper writes it. */
function byHand(w: number, gradients: readonly number[], rate: number, decay: number): number {
  let [m, v] = [0, 0];
  gradients.forEach((g, i) => {
    m = 0.9 * m + 0.1 * g;
    v = 0.99 * v + 0.01 * g * g;
    const direction = m / (1 - 0.9 ** (i + 1)) / (Math.sqrt(v / (1 - 0.99 ** (i + 1))) + 1e-8);
    w -= rate * (direction + decay * w);
  });
  return w;
}

describe('a training step', () => {
  it('is AdamW, with decay of matrices alone and a rate for each tensor', async () => {
    const gradients = [
      [0.3, -0.2, 0.1, 0.5],
      [-0.1, 0.4, 0.2, -0.3],
      [0.2, 0.2, -0.6, 0.1],
    ];
    const { state } = await steps(100, gradients);
    const column = (i: number) => gradients.map((row) => row[i]!);
    const found = [...state.get('matrix')!.values, ...state.get('gain')!.values];
    const due = [
      byHand(1, column(0), 0.01, 0.1),
      byHand(-2, column(1), 0.01, 0.1),
      byHand(1, column(2), 0.005, 0),
      byHand(-2, column(3), 0.005, 0),
    ];
    found.forEach((value, i) => {
      expect(value).toBeCloseTo(due[i]!, 12);
    });
  });

  it('clips the norm of all gradients together, and leaves a smaller one alone', async () => {
    const large = await steps(1, [[3, 0, 0, 4]]);
    expect(large.norms).toEqual([5]);
    expect(large.state.get('moment1/matrix')!.values[0]).toBeCloseTo(0.1 * 0.6, 12);
    expect(large.state.get('moment1/gain')!.values[1]).toBeCloseTo(0.1 * 0.8, 12);
    const small = await steps(1, [[0.3, 0, 0, 0.4]]);
    expect(small.state.get('moment1/matrix')!.values[0]).toBeCloseTo(0.1 * 0.3, 12);
  });
});

describe('the schedule', () => {
  it('warms up linearly, peaks at the end of the warm-up, and falls by half a cosine to its floor', () => {
    const options = { steps: 110, warmup: 10, floor: 0.1 };
    expect(schedule(1, options)).toBeCloseTo(0.1, 12);
    expect(schedule(10, options)).toBe(1);
    expect(schedule(60, options)).toBeCloseTo(0.55, 12);
    expect(schedule(110, options)).toBeCloseTo(0.1, 12);
    expect(schedule(1, { steps: 1, warmup: 0, floor: 0.5 })).toBe(0.5);
  });
});
