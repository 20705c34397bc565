import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { simulate } from '../../src/backends/fixed/index.ts';
import { rehearse } from '../../src/backends/mpc/index.ts';
import { messagesOf, packedBytes, quantise, wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import type { Tensor } from '../../src/program/index.ts';
import { toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';
import { offsetsOf } from './offsets.ts';
import { platforms } from './platform.ts';

const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;
const options = { tokens: 5, width: 8, exponent: 4, steps: 2 };

describe.each([
  { bits: 64, fraction: 16 },
  { bits: 48, fraction: 14 },
  { bits: 32, fraction: 9 },
])('a private run in a ring of $bits bits', ({ bits, fraction }) => {
  const program = quantise(toyProgram(options), { bits, fraction });
  const [weights, tokens] = [toyWeights(8, 3), toyTokens(options)];
  const roles = platforms(bits);
  const { offsets, observe } = offsetsOf(roles.client.kernels);
  const run = rehearse({ program, platforms: roles, weight: read(weights), input: read(tokens), observeClient: observe });

  it('equals the fixed backend bit for bit, given the rounding offsets of its shares', async () => {
    const { outputs } = await run;
    const exact = await simulate(program, {
      kernels: createWasmKernels(wordBitsOf(bits)),
      weights: read(weights),
      inputs: read(tokens),
      offsets: (node) => offsets.get(node),
    });
    expect([...outputs.keys()]).toEqual(['logits.0', 'logits.1', 'logits.2']);
    for (const [name, value] of exact) expect(outputs.get(name)).toEqual(value);
  });

  it('sends what the forecast says, to the byte, in every phase', async () => {
    const { measured } = await run;
    expect(measured).toEqual(forecast(program).total);
  });

  it('sends for every operation what it declares', async () => {
    const { client, server } = await run;
    program.nodes.forEach((node, index) => {
      const declared = messagesOf(node, program);
      for (const direction of ['clientToServer', 'serverToClient'] as const) {
        const bytes = declared[direction]?.reduce((sum, field) => sum + packedBytes(field.count, field.width), 0);
        expect(client.nodes.get(index)?.[direction]).toBe(bytes);
        expect(server.nodes.get(index)?.[direction]).toBe(bytes);
      }
    });
  });

  it('frees every block it made', async () => {
    await run;
    for (const role of Object.values(roles)) expect(role.kernels.allocatedBytes).toBe(0);
  });
});
