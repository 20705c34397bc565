import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { type Protocol, rehearse } from '../../src/backends/mpc/index.ts';
import { isFlag, privateProgram, type RingProgram } from '../../src/backends/ring/index.ts';
import { traceLlamaPrivate } from '../../src/models/llama.ts';
import { exactPlan, type Plan, parsePlan } from '../../src/models/plan.ts';
import { randomLlamaWeights } from '../../src/models/weights.ts';
import type { Tensor } from '../../src/program/index.ts';
import { difference, folded, index, tinyLlama } from '../models/tiny.ts';
import { both } from './piecewise.ts';
import { platforms } from './platform.ts';

const config = tinyLlama();
const prompt = [3, 17, 0, 29, 8];
const newTokens = 2;
const plans: Record<string, Plan> = { exact: exactPlan(config), polynomial: parsePlan('full-p2', config) };
const feeds = new Map<string, Tensor>([
  ['prompt', index(prompt, [prompt.length])],
  ['token.1', index([5], [1])],
]);

function lowered(plan: Plan, bits: number, rangeFlags: boolean): RingProgram {
  const ring = { bits, fraction: bits === 64 ? 16 : 14 };
  return privateProgram(traceLlamaPrivate(config, plan, { promptTokens: prompt.length, newTokens }), ring, { rangeFlags });
}

const bitsOf = (outputs: ReadonlyMap<string, Tensor>): number[] =>
  [...outputs].filter(([name]) => isFlag(name)).map(([, { values }]) => values[0]!);

/** A run in which one wire's value is multiplied by an integer, on both shares alike. */
async function planted(program: RingProgram, weights: ReadonlyMap<string, Tensor>, at: number, by: bigint) {
  const parties = platforms(program.ring.bits);
  const spoil =
    (kernels: (typeof parties)['client']['kernels']) =>
    (protocol: Protocol): Protocol => {
      const { operation } = program.nodes[at]!;
      const own = protocol[operation] as (...all: unknown[]) => unknown;
      const changed = (node: { index: number }, ...inputs: unknown[]): unknown => {
        const made = own(node, ...inputs);
        if (node.index !== at) return made;
        const { block } = made as { block?: { offset: number; length: number } };
        if (block === undefined) return made;
        const out = kernels.allocate(block.length);
        kernels.multiplyScalar(out, block, by);
        return { block: out };
      };
      return { ...protocol, [operation]: changed } as Protocol;
    };
  return await rehearse({
    program,
    platforms: parties,
    weight: async (name) => weights.get(name)!,
    input: async (name) => feeds.get(name)!,
    observeClient: spoil(parties.client.kernels),
    observeServer: spoil(parties.server.kernels),
  });
}

describe.each(Object.entries(plans))('range flags of a Llama, %s', (_, plan) => {
  it.each([64, 48])(
    'say nothing of a run within the ring of %d bits, and change nothing of it',
    { timeout: 60_000 },
    async (bits) => {
      const weights = randomLlamaWeights(config, 5, plan);
      const own = await folded(config, plan, weights);
      for (const setting of ['dealer', 'helper'] as const) {
        const program = lowered(plan, bits, true);
        const { run, exact, held } = await both(program, own, feeds, 1, setting);
        expect(run.outputs).toEqual(exact);
        expect(bitsOf(run.outputs)).toEqual([0, 0]);
        expect(run.measured).toEqual(forecast(program, setting).total);
        expect(held).toBe(0);
      }
    },
  );

  it('see every linear map whose values are beyond the ring, while the client runs on to the end', {
    timeout: 120_000,
  }, async () => {
    const weights = randomLlamaWeights(config, 5, plan);
    const own = await folded(config, plan, weights);
    const program = lowered(plan, 64, true);
    const quiet = await rehearse({
      program,
      platforms: platforms(64),
      weight: async (name) => own.get(name)!,
      input: async (name) => feeds.get(name)!,
    });
    const wires = program.nodes.flatMap(({ operation, scope }, at) => (operation === 'linear' && scope !== 'embed' ? [at] : []));
    const silent: string[] = [];
    for (const at of wires.filter((_, place) => place % 2 === 0).slice(0, 5))
      for (const by of [2n ** 24n, -(2n ** 30n)]) {
        const { outputs, measured } = await planted(program, own, at, by);
        const wrong = Math.max(
          ...['logits.0', 'logits.1'].map((name) => difference(outputs.get(name)!.values, quiet.outputs.get(name)!.values)),
        );
        if (wrong > 0.05 && bitsOf(outputs).at(-1) === 0) silent.push(`${program.nodes[at]!.scope} × ${by}: ${wrong}`);
        expect(measured).toEqual(quiet.measured);
      }
    expect(silent).toEqual([]);
  });
});
