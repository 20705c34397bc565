import { describe, expect, it } from 'vitest';
import { rehearse } from '../../src/backends/mpc/index.ts';
import type { NumberedNode, Protocol } from '../../src/backends/mpc/protocol.ts';
import { onlineFrame } from '../../src/backends/mpc/runner.ts';
import { rowOf } from '../../src/backends/ring/declared.ts';
import { quantise, ReadyNodes, type RingProgram, readiness, type Side, schedule } from '../../src/backends/ring/index.ts';
import { type Tensor, Tracer } from '../../src/program/index.ts';
import { models, planNamed, weightsOf } from '../goldens/models.ts';
import { unbufferedEnds, within } from '../mpc/channels.ts';
import { suite } from '../mpc/conformance.ts';
import { platforms } from '../mpc/platform.ts';

const sides = ['client', 'server'] as const;
const ring = { bits: 64, fraction: 16 };

interface Given {
  readonly name: string;
  readonly program: RingProgram;
  readonly tensors: ReadonlyMap<string, Tensor>;
}
const programs: Given[] = [
  ...suite.map(({ name, program, tensors }) => ({ name, program: program(ring), tensors })),
  ...models.flatMap(({ name, config, trace, inputs }) =>
    ['exact', 'full-p2'].map((plan) => {
      const program = trace(planNamed(plan, config));
      return {
        name: `${name}, ${plan}`,
        program: quantise(program, ring),
        tensors: new Map([...weightsOf(program), ...inputs]),
      };
    }),
  ),
];

/** When each side starts every node, in frames of the run. */
function framesOf(program: RingProgram) {
  const gone = new Map<string, number>();
  schedule(program).forEach(({ direction, messages }, hop) => {
    for (const { node } of messages) gone.set(`${direction} ${node}`, hop + 1);
  });
  return readiness(program, (direction, node) => {
    const frames = gone.get(`${direction} ${node}`)!;
    return { left: frames, arrives: frames };
  });
}

/** A run, and after how many frames each side started every node. */
async function startsOf({ program, tensors }: Given): Promise<Record<Side, Map<number, number>>> {
  const frames = { client: 0, server: 0 };
  const starts = { client: new Map<number, number>(), server: new Map<number, number>() };
  const noting =
    (side: Side) =>
    (protocol: Protocol): Protocol =>
      Object.fromEntries(
        Object.entries(protocol).map(([operation, work]) => [
          operation,
          (node: NumberedNode, ...inputs: unknown[]) => {
            starts[side].set(node.index, frames[side]);
            return (work as (node: NumberedNode, ...inputs: unknown[]) => unknown)(node, ...inputs);
          },
        ]),
      ) as unknown as Protocol;
  const read = async (name: string): Promise<Tensor> => tensors.get(name)!;
  await rehearse({
    ...{ program, platforms: platforms(ring.bits), weight: read, input: read },
    ...{ observeClient: noting('client'), observeServer: noting('server') },
    observeChannel: (name, channel) => {
      const side = ({ clientServer: 'client', serverClient: 'server' } as const)[name as 'clientServer'];
      if (side === undefined) return channel;
      const count = (kind: number): void => {
        if (kind === onlineFrame) frames[side] += 1;
      };
      return {
        ...{ peer: channel.peer, counters: channel.counters, close: (reason) => channel.close(reason) },
        send: async (kind, payload) => {
          count(kind);
          await channel.send(kind, payload);
        },
        receive: async () => {
          const frame = await channel.receive();
          count(frame.kind);
          return frame;
        },
      };
    },
  });
  return starts;
}

describe.each(programs)('who waits for whom: $name', (given) => {
  const { program } = given;

  it('a run starts every node when the analysis says that it can, on both sides', async () => {
    const run = await startsOf(given);
    const { starts } = framesOf(program);
    for (const side of sides)
      for (const [index, frames] of run[side])
        if (program.nodes[index]!.state !== 'server')
          expect(frames, `${side} ${program.nodes[index]!.operation} ${index}`).toBe(starts[side][index]);
  });
});

/** Every family, and a cache with decode steps. */
describe.each(programs.filter(({ name }) => /^llama|^vit|^bert|cache/.test(name)))('material of a helper: $name', (given) => {
  const { program } = given;
  it.each([0, 1, 20_000])('a helper serves it where a party keeps %i bytes and no channel holds a frame', async (keptBytes) => {
    const read = async (name: string): Promise<Tensor> => given.tensors.get(name)!;
    const run = rehearse({
      ...{ program, setting: 'helper', platforms: platforms(ring.bits), weight: read, input: read, keptBytes },
      observeChannel: unbufferedEnds(),
    });
    const { outputs } = await within(20_000, run);
    expect(outputs.size).toBeGreaterThan(0);
  });
});

describe("a client's input", () => {
  it('waits for every output that is revealed before it, in whichever order they come', () => {
    const ops = new Tracer();
    const first = ops.input('first', [2], 'client');
    const outputs = new Map([
      ['square', ops.square(first)],
      ['double', ops.scale(first, 2)],
    ]);
    const second = ops.square(ops.input('second', [2], 'client'));
    const program = quantise({ nodes: ops.nodes, outputs: new Map([...outputs, ['next', second]]) }, ring);
    const { nodes } = program;
    const input = nodes.findLastIndex((node) => rowOf(node).source === 'client');
    const before = [...nodes.keys()].filter((index) => index < input && rowOf(nodes[index]!).reveals === true);
    expect(before).toHaveLength(2);
    for (const withheld of before) {
      const ready = new ReadyNodes(program, 'client');
      const seen: number[] = [];
      const goOn = (held: number | undefined): void => {
        for (let some = ready.take(); some.length > 0; some = ready.take()) {
          seen.push(...some);
          for (const index of some) if (index !== held) ready.settle(index);
        }
      };
      goOn(withheld);
      expect(seen).not.toContain(input);
      ready.settle(withheld);
      goOn(undefined);
      expect(seen).toContain(input);
    }
  });
});
