import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { type RingOperation, ringRows } from '../../src/backends/ring/index.ts';
import { suite } from './conformance.ts';
import { both } from './piecewise.ts';

/** The sources of correlations: one online protocol, whoever makes the material. */
const sources = ['dealer', 'helper'] as const;
const rings = [
  { bits: 64, fraction: 16 },
  { bits: 48, fraction: 14 },
  { bits: 32, fraction: 9 },
];

const named = suite.map((each) => [each.name, each] as const);

describe.each(sources.flatMap((source) => rings.map((ring) => ({ source, ring, bits: ring.bits }))))(
  'correlations of the $source in a ring of $bits bits',
  ({ source, ring }) => {
    it.each(named)('serve %s: the exact integers, the declared bytes, and nothing left', async (_, { program, tensors }) => {
      const lowered = program(ring);
      const { run, exact, held } = await both(lowered, tensors, tensors, 3, source);
      expect(run.outputs).toEqual(exact);
      expect(run.measured).toEqual(forecast(lowered, source).total);
      expect(held).toBe(0);
    });
  },
);

describe('the suite', () => {
  it.each(rings)('uses every operation of the online protocol, in the ring of $bits bits', (ring) => {
    const used = new Set(suite.flatMap(({ program }) => program(ring).nodes.map(({ operation }) => operation)));
    const all = Object.keys(ringRows) as RingOperation[];
    expect(all.filter((operation) => !used.has(operation))).toEqual([]);
  });

  it.each(rings)('has narrow and wide products, pins and truncations of both states, in the ring of $bits bits', (ring) => {
    const forms = new Set(
      suite.flatMap(({ program }) => {
        const { nodes } = program(ring);
        return nodes.flatMap(({ operation, inputs }) =>
          operation === 'truncate' || operation === 'narrow' ? [`${operation} ${nodes[inputs[0]!]!.state}`] : [],
        );
      }),
    );
    expect([...forms].sort()).toEqual(['narrow floating', 'narrow pinned', 'truncate floating', 'truncate pinned']);
  });
});
