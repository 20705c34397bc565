import { describe, expect, it } from 'vitest';
import { rehearse } from '../../src/backends/mpc/index.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { parsePlan, parseShape, randomInputs, traceShape } from '../../src/models/index.ts';
import { size } from '../../src/program/index.ts';
import { platforms } from './platform.ts';

/** The most that each role's kernels held in a private run of an encoder of some layers, and the bytes of its weights as ring words. */
async function peaks(layers: number) {
  const shape = parseShape({
    name: 'small',
    kind: 'encoder',
    hiddenSize: 96,
    intermediateSize: 384,
    numHiddenLayers: layers,
    heads: 4,
    norm: 'rms',
    bias: false,
    activation: 'gelu',
    gated: false,
    embedding: { kind: 'tokens', vocabSize: 32 },
    positions: { kind: 'learned', count: 16 },
    head: { kind: 'none' },
  });
  const program = traceShape(shape, parsePlan('full-p2', shape), { promptTokens: 12, newTokens: 0 });
  const weights = randomInputs(program, 5);
  const roles = platforms(64);
  await rehearse({
    program: quantise(program, { bits: 64, fraction: 16 }),
    platforms: roles,
    weight: async (name) => weights.get(name)!,
    input: async () => ({ shape: [12], values: Int32Array.from({ length: 12 }, (_, i) => i) }),
  });
  const weightBytes = [...weights.values()].reduce((sum, { shape: extents }) => sum + size(extents) * 8, 0);
  return {
    client: roles.client.kernels.peakBytes,
    server: roles.server.kernels.peakBytes,
    dealer: roles.dealer.kernels.peakBytes,
    weightBytes,
  };
}

describe('the memory of a run', () => {
  it('does not grow with the number of layers: weights come and go one by one', async () => {
    const [few, many] = [await peaks(2), await peaks(8)];
    expect(many.weightBytes).toBeGreaterThan(3.5 * few.weightBytes);
    for (const role of ['client', 'server', 'dealer'] as const) expect(many[role], role).toBeLessThan(1.1 * few[role]);
    expect(many.server).toBeLessThan(many.weightBytes / 3);
  });
});
