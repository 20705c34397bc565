import { expect, it } from 'vitest';
import { counting, grown } from '../../bench/client-work.ts';
import { rehearse } from '../../src/backends/mpc/index.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { size, type Tensor } from '../../src/program/index.ts';
import { platforms } from '../mpc/platform.ts';
import { weightsOf } from './models.ts';

it('a client computes the same online whatever the number of weights between its wires, and no product of matrices', async () => {
  const wires = [8, 32] as const;
  const works = [];
  for (const width of [16, 64]) {
    const program = grown(width, wires);
    const weights = weightsOf(program);
    const input: Tensor = { shape: wires, values: Float64Array.from({ length: size(wires) }, (_, at) => (at % 9) / 9) };
    const counts = { products: 0, words: 0 };
    const roles = platforms(64);
    const { measured } = await rehearse({
      program: quantise(program, { bits: 64, fraction: 16 }),
      platforms: { ...roles, client: { ...roles.client, kernels: counting(roles.client.kernels, counts) } },
      weight: async (name) => weights.get(name)!,
      input: async () => {
        // The first thing that a client does online.
        Object.assign(counts, { products: 0, words: 0 });
        return input;
      },
    });
    works.push({ ...counts, online: measured.online, weights: 4 * width ** 2 });
  }
  const [small, large] = works;
  expect(large).toEqual({ ...small, weights: 16 * small!.weights });
  expect(small).toMatchObject({ products: 0 });
  expect(small!.words).toBeGreaterThan(0);
});
