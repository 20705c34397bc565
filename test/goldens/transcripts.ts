import { type ChannelEnd, rehearse } from '../../src/backends/mpc/index.ts';
import { purposes } from '../../src/backends/mpc/random.ts';
import type { RingProgram } from '../../src/backends/ring/index.ts';
import type { Prg } from '../../src/math/random.ts';
import type { Tensor } from '../../src/program/index.ts';
import { platforms } from '../mpc/platform.ts';
import { digest } from './golden.ts';

/** Draws of both parties' pads by the dealer: `client 1` is the stream of that number of one node of the operation. */
export type Draws = Map<string, Set<string>>;

/** A truncation's or narrowing's pads depend on what it truncates. */
const formOf = (program: RingProgram, index: number): string => {
  const { operation, inputs } = program.nodes[index]!;
  const forms = operation === 'truncate' || operation === 'narrow';
  return forms ? `${operation} ${program.nodes[inputs[0]!]!.state}` : operation;
};

export interface Observed {
  /** What every party sent on every channel, frame by frame, and what the client got. */
  readonly transcript: string;
  readonly labels: ReadonlySet<string>;
}

/** One seeded run of three roles. `draws` and `labels` collect what the dealer and all roles drew and derived. */
export async function observed(
  program: RingProgram,
  tensors: ReadonlyMap<string, Tensor>,
  setting: 'dealer' | 'helper',
  draws: Draws = new Map(),
): Promise<Observed> {
  const labels = new Set<string>();
  const sent = new Map<ChannelEnd, (string | Uint8Array)[]>();
  const roles = platforms(program.ring.bits, 7);
  const watched = Object.fromEntries(
    Object.entries(roles).map(([role, platform]) => [
      role,
      {
        ...platform,
        derive: (...given: Parameters<typeof platform.derive>) => {
          labels.add(given[1]);
          return platform.derive(...given);
        },
      },
    ]),
  ) as typeof roles;
  // The dealer makes the client's generator, then the server's.
  let made = 0;
  const noting = (prg: Prg): Prg => {
    const side = made++ === 0 ? 'client' : 'server';
    return {
      algorithm: prg.algorithm,
      fill: (stream, out) => {
        const form = formOf(program, Math.floor(stream / purposes));
        draws.set(form, (draws.get(form) ?? new Set()).add(`${side} ${stream % purposes}`));
        prg.fill(stream, out);
      },
    };
  };
  const dealer = { ...watched.dealer, prg: (seed: Uint8Array) => noting(watched.dealer.prg(seed)) };
  const read = async (name: string): Promise<Tensor> => tensors.get(name)!;
  const { outputs } = await rehearse({
    ...{ program, setting, platforms: { ...watched, dealer }, weight: read, input: read },
    observeChannel: (name, channel) => {
      const parts: (string | Uint8Array)[] = [];
      sent.set(name, parts);
      return {
        ...{ peer: channel.peer, counters: channel.counters, gone: channel.gone },
        send: (kind, payload) => {
          parts.push(String(kind), payload.slice());
          return channel.send(kind, payload);
        },
        receive: () => channel.receive(),
        close: (reason) => channel.close(reason),
      };
    },
  });
  const frames = [...sent].flatMap(([name, parts]) => (parts.length === 0 ? [] : [`${name} ${digest(...parts)}`]));
  const results = [...outputs].map(([name, { shape, values }]) => digest(name, String(shape), String([...values])));
  return { transcript: digest(...frames, ...results), labels };
}
