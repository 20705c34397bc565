import { describe, expect, it } from 'vitest';
import { quantise, schedule } from '../../src/backends/ring/index.ts';
import { parsePlan, parseShape, traceShape } from '../../src/models/index.ts';

const shape = parseShape({
  name: 'small',
  kind: 'decoder',
  hiddenSize: 16,
  intermediateSize: 32,
  numHiddenLayers: 2,
  heads: 2,
  norm: 'rms',
  bias: false,
  activation: 'silu',
  gated: true,
  embedding: { kind: 'tokens', vocabSize: 20 },
  positions: { kind: 'rotary', count: 32, theta: 10000 },
  head: { kind: 'vocabulary' },
});

describe('the schedule', () => {
  it.each([
    { bits: 32, fraction: 10 },
    { bits: 64, fraction: 16 },
  ])('lets nobody speak before all that a message comes from is there: $bits bits, with a cache', (ring) => {
    for (const plan of ['full-p2', 'full-p8']) {
      const program = quantise(traceShape(shape, parsePlan(plan, shape), { promptTokens: 5, newTokens: 3 }), ring);
      const hops = schedule(program);
      const hopOf = new Map(
        hops.flatMap(({ direction, messages }, at) => messages.map(({ node }) => [`${direction} ${node}`, at] as const)),
      );
      const client: number[] = [];
      program.nodes.forEach((node, index) => {
        const own = hopOf.get(`clientToServer ${index}`);
        const heard = hopOf.get(`serverToClient ${index}`) ?? -1;
        const here = Math.max(-1, heard, ...node.inputs.map((input) => client[input]!));
        if (own !== undefined) expect(own, `${node.operation} in ${node.scope}`).toBeGreaterThan(here);
        client.push(here);
      });
    }
  });

  it.each([
    { bits: 32, fraction: 10 },
    { bits: 64, fraction: 16 },
  ])('sends for a token behind others what is new, not what is in the cache: $bits bits', (ring) => {
    const bytesOf = (promptTokens: number, newTokens: number): number => {
      const program = quantise(traceShape(shape, parsePlan('full-p2', shape), { promptTokens, newTokens }), ring);
      return schedule(program).reduce((sum, hop) => sum + hop.bytes, 0);
    };
    const token = (past: number): number => bytesOf(past, 2) - bytesOf(past, 1);
    // A score or weight of 8 bytes, sent a few times, for each head, layer and position: keys and values are 8 elements a head.
    const perPosition = shape.numHiddenLayers * shape.heads * 6 * 8;
    expect((token(25) - token(5)) / 20).toBeLessThan(perPosition);
  });
});
