import { materialLayout } from '../../src/backends/mpc/correlations/bundle.ts';
import { weightKey, weightMask } from '../../src/backends/mpc/correlations/weights.ts';
import { dealStreams, type Platform, type Session as SeedSession } from '../../src/backends/mpc/index.ts';
import { materialOf, packedBytes, type RingNodeOf, type RingProgram } from '../../src/backends/ring/index.ts';
import type { Channel } from '../../src/net/contract.ts';
import { size } from '../../src/program/index.ts';

/**
 * Who holds the client's and the server's stream of one session solves them for V, the masked weights, and knows A besides: the weights,
 * to the last bit. This is the algebra of it; how somebody comes by both streams is the business of the attacks that use it.
 */
export interface BothStreams {
  readonly session: SeedSession;
  /** The dealer's two masters. */
  readonly masters: { readonly client: Uint8Array; readonly server: Uint8Array };
  /** What the server got behind its master and tag. */
  readonly corrections: Uint8Array;
}

/** Everything that comes over a channel until it ends, or until `bytes` have come. */
export async function streamOf(channel: Channel, bytes: number): Promise<Uint8Array> {
  const whole = new Uint8Array(bytes);
  for (let at = 0; at < bytes; ) {
    const { payload } = await channel.receive();
    whole.set(payload, at);
    at += payload.length;
  }
  return whole;
}

/** The dealer's stream to the server for masters that are known and any masked weights: a linear function of those. */
async function dealt(platform: Platform, { session, masters }: BothStreams, masked: ReadonlyMap<string, Uint8Array>) {
  const drawn = [masters.client, masters.server];
  const parts: Uint8Array[] = [];
  const nowhere = { write: async () => {}, finish: async () => {} };
  const toServer = { write: async (bytes: Uint8Array) => void parts.push(bytes.slice()), finish: async () => {} };
  const entropy = (bytes: Uint8Array): void => bytes.set(drawn.shift()!);
  await dealStreams({ ...platform, entropy }, session, { client: nowhere, server: toServer }, masked);
  return new Uint8Array(Buffer.concat(parts)).subarray(48);
}

const ringBits = 64;
const word = (bytes: Uint8Array, at: number): bigint => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);
const modulus = 1n << 64n;

/** A weight that a linear map reads as it is. */
export function readWeight({ nodes }: RingProgram): RingNodeOf<'serverInput'> {
  const read = nodes.flatMap((each) =>
    each.operation === 'linear' && each.parameters.modulus === undefined ? [nodes[each.inputs[1]!]!] : [],
  );
  return read.find(({ operation, shape }) => operation === 'serverInput' && shape.length === 2) as RingNodeOf<'serverInput'>;
}

/** A weight of K inputs and N outputs, row by row, as ring words, from as many sessions as give K independent rows of x_c. */
export async function solveWeight(
  platform: Platform,
  program: RingProgram,
  node: RingNodeOf<'serverInput'>,
  sessions: readonly BothStreams[],
  maskSeed: Uint8Array,
): Promise<BigUint64Array> {
  const [inputs, outputs] = node.shape as [number, number];
  const reader = program.nodes.findIndex((each) => each.operation === 'linear' && each.inputs[1] === program.nodes.indexOf(node));
  const { dealerToServer } = materialOf(program.nodes[reader]!, program);
  const at = materialLayout(program).serverFromDealer[reader]!;
  const of = (stream: Uint8Array): Uint8Array => stream.slice(at, at + dealerToServer);
  const rows = dealerToServer / 8 / outputs;
  const zero = new Map<string, Uint8Array>();
  for (const each of program.nodes)
    if (each.operation === 'serverInput') zero.set(weightKey(each), new Uint8Array(packedBytes(size(each.shape), ringBits)));
  const equations: { left: bigint[]; right: bigint[] }[] = [];
  for (const streams of sessions) {
    const base = of(await dealt(platform, streams, zero));
    const seen = of(streams.corrections);
    const left = Array.from({ length: rows }, () => new Array<bigint>(inputs).fill(0n));
    for (let k = 0; k < inputs; k++) {
      // V with a single one, in row k of the first column: u is then column k of x_c.
      const unit = new Uint8Array(zero.get(weightKey(node))!.length);
      unit[8 * k * outputs] = 1;
      const probe = of(await dealt(platform, streams, new Map([...zero, [weightKey(node), unit]])));
      for (let row = 0; row < rows; row++)
        left[row]![k] = (word(probe, 8 * row * outputs) - word(base, 8 * row * outputs) + modulus) % modulus;
    }
    for (let row = 0; row < rows; row++) {
      const right = Array.from({ length: outputs }, (_, column) => {
        const place = 8 * (row * outputs + column);
        return (word(seen, place) - word(base, place) + modulus) % modulus;
      });
      equations.push({ left: left[row]!, right });
    }
  }
  const masked = eliminate(equations, inputs);
  const mask = weightMask(platform.kernels, node, maskSeed, platform);
  const maskBytes = platform.kernels.pack(mask, ringBits);
  platform.kernels.free(mask);
  return BigUint64Array.from(masked.flat(), (value, index) => (value + word(maskBytes, 8 * index)) % modulus);
}

/** Gauss over Z_{2^64}: only odd pivots divide. Throws where too few rows are independent. */
function eliminate(equations: { left: bigint[]; right: bigint[] }[], unknowns: number): bigint[][] {
  const open = equations.map(({ left, right }) => [...left, ...right]);
  const solved: bigint[][] = [];
  for (let column = 0; column < unknowns; column++) {
    const place = open.findIndex((row) => row[column]! % 2n === 1n);
    if (place < 0) throw new Error('too few equations');
    const [pivot] = open.splice(place, 1) as [bigint[]];
    const factor = inverse(pivot[column]!);
    const unit = pivot.map((value) => (value * factor) % modulus);
    for (const rows of [open, solved])
      rows.forEach((row, k) => {
        const times = row[column]!;
        if (times !== 0n) rows[k] = row.map((value, j) => (value + modulus - ((times * unit[j]!) % modulus)) % modulus);
      });
    solved.push(unit);
  }
  return solved.map((row) => row.slice(unknowns));
}

/** Newton's iteration doubles the right bits. */
function inverse(odd: bigint): bigint {
  let found = odd;
  for (let k = 0; k < 6; k++) found = (found * (2n + modulus - ((odd * found) % modulus))) % modulus;
  return found;
}
