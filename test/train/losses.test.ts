import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { gradient, type Tensor, trace } from '../../src/program/index.ts';
import { type LossWeights, lossProgram } from '../../src/train/index.ts';

const [tokens, vocabulary] = [3, 4];
/** A model whose logits and hidden states are its weights. */
const model = () =>
  trace((ops) => {
    ops.input('ids', [1, tokens], 'public', 'index');
    const logits = ops.input('w', [1, tokens, vocabulary], 'server');
    return { logits: ops.scale(logits, 1), 'hidden.0': ops.scale(logits, 2), 'attention.0': ops.scale(logits, 3) };
  });

const random = pseudorandom(4);
const draw = () => Float64Array.from({ length: tokens * vocabulary }, () => 2 * random.normal());
const [student, teacher] = [draw(), draw()];
const labels = [1, 3, 0];
const positionWeights = [0.5, 0.3, 0.2];

async function value(losses: Parameters<typeof lossProgram>[0]['losses'], own = student): Promise<Map<string, Tensor>> {
  const executable = await referenceBackend().compile(lossProgram({ student: model(), teacher: model(), losses }), new Map());
  const shape = [1, tokens, vocabulary];
  return executable.run(
    new Map<string, Tensor>([
      ['ids', { shape: [1, tokens], values: new Int32Array(tokens) }],
      ['w', { shape, values: own }],
      ['teacher/w', { shape, values: teacher }],
      ['labels', { shape: [1, tokens], values: Int32Array.from(labels) }],
      ['positionWeights', { shape: [1, tokens], values: Float64Array.from(positionWeights) }],
    ]),
  );
}

function logProbabilities(row: number, values: Float64Array, temperature = 1): number[] {
  const logits = [...values.subarray(row * vocabulary, (row + 1) * vocabulary)].map((v) => v / temperature);
  const total = Math.log(logits.reduce((sum, v) => sum + Math.exp(v), 0));
  return logits.map((v) => v - total);
}
const weighted = (f: (row: number) => number): number => positionWeights.reduce((sum, w, row) => sum + w * f(row), 0);

describe('losses', () => {
  it('are the negative log likelihood and the Kullback–Leibler divergence with temperature', async () => {
    const found = await value({ nll: 2, kl: 3, temperature: 1.5 });
    const nll = weighted((row) => -logProbabilities(row, student)[labels[row]!]!);
    const kl = weighted((row) => {
      const [p, q] = [logProbabilities(row, teacher, 1.5), logProbabilities(row, student, 1.5)];
      return 1.5 ** 2 * p.reduce((sum, v, i) => sum + Math.exp(v) * (v - q[i]!), 0);
    });
    expect(found.get('loss/nll')!.values[0]).toBeCloseTo(nll, 10);
    expect(found.get('loss/kl')!.values[0]).toBeCloseTo(kl, 10);
    expect(found.get('loss')!.values[0]).toBeCloseTo(2 * nll + 3 * kl, 10);
  });

  it('are squared errors of logits, and relative ones of hidden states and attention outputs', async () => {
    const found = await value({ logitMse: 1, hiddenMse: 1, attentionMse: 1 });
    const square = (row: number, of: (i: number) => number): number =>
      Array.from({ length: vocabulary }, (_, i) => of(row * vocabulary + i) ** 2).reduce((a, b) => a + b);
    const mse = weighted((row) => square(row, (i) => student[i]! - teacher[i]!) / vocabulary);
    const all = (of: (i: number) => number): number => [0, 1, 2].reduce((sum, row) => sum + square(row, of), 0);
    const relative = all((i) => student[i]! - teacher[i]!) / all((i) => teacher[i]!);
    expect(found.get('loss/logitMse')!.values[0]).toBeCloseTo(mse, 10);
    expect(found.get('loss/hiddenMse')!.values[0]).toBeCloseTo(relative, 8);
    expect(found.get('loss/attentionMse')!.values[0]).toBeCloseTo(relative, 8);
  });

  it('vanish where student and teacher agree, and give the teacher no gradient', async () => {
    const found = await value({ kl: 1, hiddenMse: 1 }, teacher);
    expect(found.get('loss')!.values[0]).toBeCloseTo(0, 12);
    const program = lossProgram({ student: model(), teacher: model(), losses: { kl: 1 } });
    expect([...gradient(program, 'loss', ['w']).outputs.keys()]).toEqual(['loss/kl', 'loss', 'gradient/w']);
  });

  it('penalise mean powers above the limit by the square of their logarithm’s excess', async () => {
    const attention = (rows: number) =>
      trace((ops) => {
        const scores = ops.input('scores', [1, rows, 2], 'server');
        const mask = ops.constant([1], [1]);
        const mixed = ops.powerAttention(scores, ops.constant([1, 2], [1, 2, 1]), mask, ops.constant([0.5], [1]), {
          exponent: 4,
          epsilon: 1e-3,
        });
        return { logits: ops.concat([mixed, mixed], 2) };
      });
    const penalty = async (losses: LossWeights, spreads: readonly number[]): Promise<number> => {
      const executable = await referenceBackend().compile(lossProgram({ student: attention(spreads.length), losses }), new Map());
      const scores = Float64Array.from(spreads.flatMap((spread) => [spread, -spread]));
      const found = await executable.run(
        new Map<string, Tensor>([
          ['scores', { shape: [1, spreads.length, 2], values: scores }],
          ['labels', { shape: [1, spreads.length], values: new Int32Array(spreads.length) }],
          ['positionWeights', { shape: [1, spreads.length], values: new Float64Array(spreads.length).fill(1 / spreads.length) }],
        ]),
      );
      return found.get('loss')!.values[0]!;
    };
    // x is 1 ± spread, the mean power ((1 + spread)⁴ + (1 − spread)⁴)/2.
    expect(await penalty({ range: 1, rangeLimit: 3 }, [0.5])).toBe(0);
    expect(await penalty({ range: 1, rangeLimit: 3 }, [1])).toBeCloseTo(Math.log(8 / 3) ** 2, 10);
    expect(await penalty({ range: 1, rangeLimit: 3, rangeNorm: 16 }, [0.5])).toBeCloseTo(0, 12);
    // One row of four counts by (1/4)^(2/norm) of its square.
    for (const rangeNorm of [2, 4, 16] as const)
      expect(await penalty({ range: 1, rangeLimit: 3, rangeNorm }, [0.5, 1, 0, 0.5])).toBeCloseTo(
        4 ** (-2 / rangeNorm) * Math.log(8 / 3) ** 2,
        2, // the root starts from 1e-20, not from zero
      );
  });

  it('are refused without the teacher or the outputs they compare', () => {
    expect(() => lossProgram({ student: model(), losses: { kl: 1 } })).toThrow(/teacher/);
    expect(() => lossProgram({ student: model(), losses: { range: 1 } })).toThrow(/power attentions/);
    expect(() => lossProgram({ student: model(), losses: {} })).toThrow(/weight above 0/);
  });
});
