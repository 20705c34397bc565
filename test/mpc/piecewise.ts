import { simulate } from '../../src/backends/fixed/index.ts';
import { type Rehearsal, rehearse } from '../../src/backends/mpc/index.ts';
import type { Exchange, NumberedNode, Protocol } from '../../src/backends/mpc/protocol.ts';
import { type RingProgram, wordBitsOf } from '../../src/backends/ring/index.ts';
import { type Block, createWasmKernels, type RingKernels } from '../../src/kernels/index.ts';
import type { Tensor } from '../../src/program/index.ts';
import { platforms } from './platform.ts';

type Words = readonly bigint[];

const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;

function wordsOf(kernels: RingKernels, block: Block): Words {
  const bytes = kernels.bytes(block).slice();
  return kernels.wordBits === 64 ? [...new BigUint64Array(bytes.buffer)] : Array.from(new Uint32Array(bytes.buffer), BigInt);
}

const low = (words: Words, bits: number): Float64Array => Float64Array.from(words, (word) => Number(BigInt.asUintN(bits, word)));

/**
 * A private run and the simulation with that run's rounding offsets: x_c of truncations modulo 2^f, x_c + σ of piecewise polynomials,
 * where σ = x_s − δ is read off the server's message.
 */
export async function both(
  program: RingProgram,
  weights: ReadonlyMap<string, Tensor>,
  inputs: ReadonlyMap<string, Tensor> | ((name: string) => Promise<Tensor>),
  seed = 1,
  setting: 'dealer' | 'helper' = 'dealer',
): Promise<{ run: Rehearsal; exact: Map<string, Tensor>; held: number }> {
  const { bits } = program.ring;
  const roles = platforms(bits, seed);
  const offsets = new Map<number, Float64Array>();
  const clientShares = new Map<number, Words>();
  const remember = (node: NumberedNode, x: { block: Block | undefined }): void => {
    clientShares.set(node.index, wordsOf(roles.client.kernels, x.block!));
  };
  const observeClient = (protocol: Protocol): Protocol => ({
    ...protocol,
    truncate: (node, x) => {
      offsets.set(node.index, low(wordsOf(roles.client.kernels, x!.block!), node.parameters.bits));
      return protocol.truncate(node, x!);
    },
    narrow: (node, x) => {
      offsets.set(node.index, low(wordsOf(roles.client.kernels, x!.block!), node.parameters.bits));
      return protocol.narrow(node, x!);
    },
    piecewise: (node, x) => {
      remember(node, x!);
      return protocol.piecewise(node, x!);
    },
  });
  const masks = new Map<number, Words>();
  const observeServer = (protocol: Protocol): Protocol => ({
    ...protocol,
    *piecewise(node, x) {
      const { kernels } = roles.server;
      const own = wordsOf(kernels, x!.block!);
      const inner = protocol.piecewise(node, x!) as Generator<Exchange, { block: Block | undefined }, Uint8Array>;
      const first = inner.next();
      const message = (first.value as { send: Uint8Array }).send;
      const delta = kernels.allocate(own.length);
      kernels.unpack(delta, message, node.parameters.bits);
      const sent = wordsOf(kernels, delta);
      kernels.free(delta);
      masks.set(
        node.index,
        own.map((word, at) => word - sent[at]!),
      );
      yield first.value as Exchange;
      const last = inner.next(new Uint8Array(0));
      return last.value as { block: Block | undefined };
    },
  });
  const input = typeof inputs === 'function' ? inputs : read(inputs);
  const run = await rehearse({ program, setting, platforms: roles, weight: read(weights), input, observeClient, observeServer });
  for (const [index, words] of clientShares) {
    const node = program.nodes[index] as NumberedNode & { operation: 'piecewise' };
    const sums = words.map((word, at) => word + masks.get(index)![at]!);
    offsets.set(index, low(sums, node.parameters.drop));
  }
  const exact = await simulate(program, {
    kernels: createWasmKernels(wordBitsOf(bits)),
    weights: read(weights),
    inputs: input,
    offsets: (node) => offsets.get(node),
  });
  const held = Object.values(roles).reduce((sum, role) => sum + role.kernels.allocatedBytes, 0);
  return { run, exact, held };
}
