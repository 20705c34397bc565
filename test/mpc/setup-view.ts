import { clientSetup, dealerSetup, type Platform, serverSetup } from '../../src/backends/mpc/roles.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { fixedKeyCipher } from './platform.ts';
import { tiny } from './tiny.ts';

/**
 * What the dealer gets in the setup of two weights, for every value of both masks: one lane of the weights is one pair of masks, and a
 * lane's view is both masked words. `derive` may be spoilt: the masks of two weights are then the same.
 */
export async function dealerViews(weights: readonly [number, number], oneMask = false): Promise<number[]> {
  const L = 4;
  const lanes = 2 ** (2 * L);
  const program = tiny(L, (p) => p.diagonal(p.diagonal(p.input(), 'first'), 'second'))(lanes);
  const platform: Platform = {
    kernels: createWasmKernels(32),
    entropy: (bytes) => void bytes.fill(7),
    // The name of the weight stands in for its seed.
    derive: (_, __, context) => {
      const seed = new Uint8Array(32);
      seed.set(oneMask ? [0] : context[0]!.subarray(0, 32));
      return seed;
    },
    prg: (seed) => {
      const shift = seed[0] === 's'.charCodeAt(0) ? L : 0;
      return {
        algorithm: 'enumerated',
        fill: (_, out) => {
          const words = new Uint32Array(out.buffer, out.byteOffset, out.length / 4);
          for (let lane = 0; lane < words.length; lane++) words[lane] = ((lane >> shift) % 2 ** L) | (lane << L);
        },
      };
    },
    cipher: fixedKeyCipher,
    now: () => 0,
  };
  const [toClient, client] = memoryPair({ names: ['server', 'client'] });
  const [toDealer, dealer] = memoryPair({ names: ['server', 'dealer'] });
  const session = { program, context: [] };
  const weight = async (name: string) => ({
    shape: [lanes],
    values: new Float64Array(lanes).fill(weights[name === 'first' ? 0 : 1]!),
  });
  const [, masked] = await Promise.all([
    serverSetup(platform, session, { client: toClient, dealer: toDealer }, weight),
    dealerSetup(platform, session, { server: dealer }),
    clientSetup(platform, session, { server: client }),
  ]);
  const words = [...masked.values()].map((bytes) => Array.from(bytes, (byte) => [byte & 15, byte >> 4]).flat());
  return words[0]!.map((word, lane) => word * 2 ** L + words[1]![lane]!).sort((a, b) => a - b);
}
