import {
  materialLayout,
  storedClientCorrelations,
  storedServerCorrelations,
} from '../../src/backends/mpc/correlations/bundle.ts';
import { deal } from '../../src/backends/mpc/correlations/dealer.ts';
import { prepare } from '../../src/backends/mpc/correlations/prepare.ts';
import { clientOf, serverOf } from '../../src/backends/mpc/party.ts';
import type { Held, NumberedNode, Protocol } from '../../src/backends/mpc/protocol.ts';
import { pads, purposes } from '../../src/backends/mpc/random.ts';
import { memoryBundle } from '../../src/backends/mpc/rehearse.ts';
import {
  correctionsOf,
  materialOf,
  messagesOf,
  modulusOf,
  packedBytes,
  piecewiseShape,
  type RingNode,
  type RingProgram,
} from '../../src/backends/ring/index.ts';
import { type Block, createWasmKernels, type RingKernels } from '../../src/kernels/index.ts';
import type { Prg } from '../../src/math/random.ts';
import { size } from '../../src/program/index.ts';
import { drawsOf, type Side } from './draws.ts';
import { exchange, start } from './lockstep.ts';
import { fixedKeyCipher } from './platform.ts';
import { signed } from './small-ring.ts';

export { drawsOf, type Side } from './draws.ts';
export { ringValues, signed } from './small-ring.ts';

/**
 * Runs of the protocols' generators in a tiny ring with enumerated pads, without sockets. Every wire has a leading axis of lanes: one
 * lane is one assignment of secrets and pads, so one pass over a program is an exhaustive enumeration.
 */
const sides: readonly Side[] = ['client', 'server'];

/** One enumerated or fixed word of a lane: `element` of the lane's words of a stream. */
interface Axis {
  readonly side: Side;
  readonly stream: number;
  readonly element: number;
  readonly width: number;
}

/** The words a side draws in one lane. */
function axesOf(program: RingProgram, lanes: number, side: Side): Axis[] {
  return program.nodes.flatMap((node, index) =>
    drawsOf(node, program)
      .filter((draw) => draw.side === side && draw.kind === 'words')
      .flatMap(({ purpose: at, count, width }) =>
        Array.from({ length: count / lanes }, (_, element) => ({ side, stream: index * purposes + at, element, width })),
      ),
  );
}

/** Bits of the words that these sides draw in one lane. */
export const padBitsOf = (program: (lanes: number) => RingProgram, of: readonly Side[]): number =>
  of.flatMap((side) => axesOf(program(1), 1, side)).reduce((sum, { width }) => sum + width, 0);

/** A side's pads of one bit. */
export const singleBitsOf = (program: (lanes: number) => RingProgram, side: Side): Axis[] =>
  axesOf(program(1), 1, side).filter(({ width }) => width === 1);

/** A well mixed 32-bit number from a few integers: for pads that are not enumerated and for bits that must not matter. */
function mixed(...numbers: readonly number[]): number {
  let state = 0x9e3779b9;
  for (const number of numbers) {
    state = Math.imul(state ^ number, 0x85ebca6b);
    state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35);
    state ^= state >>> 16;
  }
  return state >>> 0;
}

/** Planted faults. What is left out is as it should be. */
export interface Fault {
  /** Another stream instead, or zeros: `undefined`. Applied to a side's pads wherever they are drawn. */
  readonly route?: (side: Side, stream: number) => number | undefined;
  /** Spoils words of a pad after they were drawn. */
  readonly spoil?: (side: Side, stream: number, words: Uint32Array) => void;
  readonly client?: (protocol: Protocol, kernels: RingKernels) => Protocol;
  readonly server?: (protocol: Protocol, kernels: RingKernels) => Protocol;
  readonly dealerKernels?: (kernels: RingKernels) => RingKernels;
}

export interface Experiment {
  /** A program whose wires have `lanes` as their leading extent. Server tensors may also be shared by all lanes. */
  readonly program: (lanes: number) => RingProgram;
  /** Assignments of secrets: by name, the numbers of one lane (or of the whole tensor, where it is shared by all lanes). */
  readonly secrets: readonly Readonly<Record<string, readonly number[]>>[];
  /** Whose pads take all values; the others are the same in every lane, from `fixed`. */
  readonly enumerate: readonly Side[];
  /** The pads that are enumerated, where not all of them are. */
  readonly only?: (side: Side, node: RingNode, purpose: number) => boolean;
  readonly fixed?: number;
  readonly fault?: Fault;
}

/** One field of one message: a word a lane. */
export interface Column {
  /** Where it was sent, or whose pad it is. */
  readonly node: number;
  readonly width: number;
  readonly words: Uint32Array;
}

export interface Outcome {
  readonly program: RingProgram;
  readonly lanes: number;
  /** Lanes of one assignment of secrets: lane = secret · padValues + pad. */
  readonly padValues: number;
  readonly padBits: number;
  /** Everything that a side receives, offline and online, and its own enumerated pads. Keys of point functions are left out. */
  readonly views: Readonly<Record<Side, Column[]>>;
  /** Each side's words of every node, modulo 2^L; empty where it holds nothing. */
  readonly share: (side: Side, node: number) => Uint32Array;
  /** Correction bytes of lookups, by node. */
  readonly keys: ReadonlyMap<number, Uint8Array>;
  readonly outputs: ReadonlyMap<string, Float64Array>;
  /** The words that a side drew from a node's pad, one lane after the other. */
  readonly pad: (side: Side, node: number, purpose: number) => Uint32Array;
}

export async function experiment(options: Experiment): Promise<Outcome> {
  const sketch = options.program(1);
  const chosen = (side: Side): Axis[] =>
    axesOf(sketch, 1, side).filter(({ stream }) => {
      const node = sketch.nodes[Math.floor(stream / purposes)]!;
      return options.enumerate.includes(side) && (options.only?.(side, node, stream % purposes) ?? true);
    });
  const axes = [...chosen('client'), ...chosen('server')];
  const padBits = axes.reduce((sum, axis) => sum + axis.width, 0);
  const padValues = 2 ** padBits;
  const lanes = padValues * options.secrets.length;
  if (lanes > 2 ** 21) throw new Error(`${lanes} lanes are too many: choose a smaller ring or fewer secrets`);
  const program = options.program(lanes);
  const kernels = createWasmKernels(32);
  const prg = {
    client: lanePrg('client', axes, options, lanes, padValues),
    server: lanePrg('server', axes, options, lanes, padValues),
  };
  const tensor = (name: string, length: number): Float64Array => {
    const first = options.secrets[0]![name]!;
    if (first.length === length) return Float64Array.from(first);
    const out = new Float64Array(length);
    const width = length / lanes;
    for (let lane = 0; lane < lanes; lane++) {
      const values = options.secrets[Math.floor(lane / padValues)]![name]!;
      for (let i = 0; i < width; i++) out[lane * width + i] = values[i]!;
    }
    return out;
  };
  const run = await drive(program, kernels, prg, tensor, lanes, options.fault ?? {});
  const own = (side: Side): Column[] =>
    chosen(side).map((axis) => ({ ...axisColumn(axis, axes, lanes, padValues), node: Math.floor(axis.stream / purposes) }));
  const views = Object.fromEntries(
    (['client', 'server'] as const).map((side) => [
      side,
      [...own(side), ...run.received[side].flatMap(({ node, fields, bytes }) => columns(kernels, node, fields, bytes, lanes))],
    ]),
  ) as unknown as Record<Side, Column[]>;
  return { program, lanes, padValues, padBits, views, ...run };
}

/** The value of an enumerated pad in every lane: a run of bits of the lane's number. */
function axisColumn(axis: Axis, axes: readonly Axis[], lanes: number, padValues: number): Omit<Column, 'node'> {
  let shift = 0;
  for (const other of axes) {
    if (other === axis) break;
    shift += other.width;
  }
  const words = new Uint32Array(lanes);
  for (let lane = 0; lane < lanes; lane++) words[lane] = ((lane % padValues) >>> shift) & (2 ** axis.width - 1);
  return { width: axis.width, words };
}

function lanePrg(side: Side, axes: readonly Axis[], options: Experiment, lanes: number, padValues: number): Prg {
  const { fixed = 0, fault = {} } = options;
  const sketch = options.program(1);
  // Fixed pads of one bit count through all their values with `fixed`.
  const singles = singleBitsOf(options.program, side);
  const widths = new Map(axesOf(sketch, 1, side).map(({ stream, width }) => [stream, width]));
  const bytes = (stream: number, out: Uint8Array): void => {
    for (let at = 0; at < out.length; at++) out[at] = mixed(fixed, sides.indexOf(side), stream, at % 16);
  };
  return {
    algorithm: 'enumerated',
    fill(asked, out) {
      const stream = fault.route === undefined ? asked : fault.route(side, asked);
      if (stream === undefined) {
        out.fill(0);
        return;
      }
      const width = widths.get(stream);
      if (width === undefined) {
        bytes(stream, out);
        return;
      }
      const words = new Uint32Array(out.buffer, out.byteOffset, out.length / 4);
      const perLane = words.length / lanes;
      for (let element = 0; element < perLane; element++) {
        const axis = axes.find((other) => other.side === side && other.stream === stream && other.element === element);
        const values = axis === undefined ? undefined : axisColumn(axis, axes, lanes, padValues).words;
        const single = singles.findIndex((other) => other.stream === stream && other.element === element);
        const same = single >= 0 ? fixed >> single : mixed(fixed, sides.indexOf(side), stream, element);
        for (let lane = 0; lane < lanes; lane++) {
          const value = (values === undefined ? same : values[lane]!) & (2 ** width - 1);
          // The bits above those that count are different in every lane and must not show anywhere.
          words[lane * perLane + element] = value | (Math.imul(lane ^ stream, 0x9e3779b1) << width);
        }
      }
      fault.spoil?.(side, asked, words);
    },
  };
}

/** Bits of a correction: a linear map may live in a smaller ring. */
const mapWidth = (node: RingNode, L: number): number => (node.operation === 'linear' ? (node.parameters.modulus ?? L) : L);

interface Received {
  readonly node: number;
  readonly fields: readonly { count: number; width: number }[];
  readonly bytes: Uint8Array;
}

/** Fields of a message, one column for each of a lane's words. */
function columns(kernels: RingKernels, node: number, fields: Received['fields'], bytes: Uint8Array, lanes: number): Column[] {
  let at = 0;
  return fields.flatMap(({ count, width }) => {
    const length = packedBytes(count, width);
    const block = kernels.allocate(count);
    kernels.unpack(block, bytes.subarray(at, at + length), width);
    at += length;
    const words = wordsOf(kernels, block, width);
    kernels.free(block);
    const perLane = count / lanes;
    return Array.from({ length: perLane }, (_, element) => ({
      node,
      width,
      words: elementOf(words, lanes, element),
    }));
  });
}

function wordsOf(kernels: RingKernels, block: Block, width: number): Uint32Array {
  const bytes = kernels.bytes(block);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, block.length).slice();
  const low = 2 ** width - 1;
  for (let i = 0; i < words.length; i++) words[i]! &= low;
  return words;
}

/** Every lane's word number `element`. */
export function elementOf(words: Uint32Array, lanes: number, element: number): Uint32Array {
  const perLane = words.length / lanes;
  if (perLane === 1) return words;
  const out = new Uint32Array(lanes);
  for (let lane = 0; lane < lanes; lane++) out[lane] = words[lane * perLane + element]!;
  return out;
}

type Raw = Pick<Outcome, 'share' | 'keys' | 'outputs' | 'pad'> & { received: Record<Side, Received[]> };

async function drive(
  program: RingProgram,
  kernels: RingKernels,
  prg: Record<Side, Prg>,
  tensor: (name: string, length: number) => Float64Array,
  lanes: number,
  fault: Fault,
): Promise<Raw> {
  const { ring } = program;
  const L = ring.bits;
  const machine = { kernels, ring, program };
  const cipher = fixedKeyCipher;
  const weight = (node: RingNode & { operation: 'serverInput' }): Block => {
    const block = kernels.allocate(size(node.shape));
    kernels.encode(block, tensor(node.parameters.name, block.length), 0, L);
    return block;
  };
  const lanesOf = (node: RingNode): number => (node.shape[0] === lanes ? lanes : 1);
  const mask = (node: RingNode & { operation: 'serverInput' }): Block => {
    const block = kernels.allocate(size(node.shape));
    kernels.encode(
      block,
      // One mask for all lanes: it is part of both parties' views.
      new Float64Array(block.length).map((_, i) => mixed(i % Math.max(1, block.length / lanesOf(node)), 77) % 2 ** (L - 1)),
      0,
      L,
    );
    return block;
  };
  const [toServer, toClient] = [memoryBundle(), memoryBundle()];
  const dealerMachine = { ...machine, kernels: fault.dealerKernels?.(kernels) ?? kernels };
  await deal({
    ...dealerMachine,
    clientPads: pads(kernels, prg.client),
    serverPads: pads(kernels, prg.server),
    cipher,
    maskedWeight: async (node) => {
      const [w, a] = [weight(node), mask(node)];
      kernels.subtract(w, w, a);
      kernels.free(a);
      return w;
    },
    toServer: toServer.sink,
    toClient: toClient.sink,
  });
  await prepare({ ...machine, pads: pads(kernels, prg.client), mask: async (node) => mask(node), toServer: toServer.sink });

  const layout = materialLayout(program);
  const serverBytes = await toServer.source.read(0, layout.dealerToServerBytes + layout.clientToServerBytes);
  const common = { kernels, program, layout };
  const serverCorrelations = storedServerCorrelations({ ...common, source: toServer.source, prg: prg.server });
  const clientCorrelations = storedClientCorrelations({ ...common, source: toClient.source, prg: prg.client });
  const outputs = new Map<string, Float64Array>();
  const options = { ...machine, cipher };
  const plainClient = clientOf({
    ...options,
    correlations: clientCorrelations,
    input: (name) => {
      const node = program.nodes.find((other) => other.operation === 'clientInput' && other.parameters.name === name)!;
      return {
        shape: node.shape,
        values: tensor(
          name,
          node.operation === 'clientInput' && node.parameters.encoding === 'oneHot' ? node.shape[0]! : size(node.shape),
        ),
      };
    },
    output: (name, value) => void outputs.set(name, Float64Array.from(value.values)),
  });
  const plainServer = serverOf({
    ...options,
    correlations: serverCorrelations,
    weight: (index) => weight(program.nodes[index] as RingNode & { operation: 'serverInput' }),
  });
  const client = fault.client?.(plainClient.protocol, kernels) ?? plainClient.protocol;
  const server = fault.server?.(plainServer.protocol, kernels) ?? plainServer.protocol;

  const received: Record<Side, Received[]> = { client: [], server: [] };
  const values: Record<Side, Held[]> = { client: [], server: [] };
  const keys = new Map<number, Uint8Array>();
  for (let index = 0; index < program.nodes.length; index++) {
    const node = { ...program.nodes[index]!, index } as NumberedNode;
    const material = materialOf(node, program);
    const fromDealer = serverBytes.subarray(
      layout.serverFromDealer[index],
      layout.serverFromDealer[index]! + material.dealerToServer,
    );
    if (node.operation === 'lookup') keys.set(index, fromDealer);
    else if (node.operation === 'piecewise') {
      const sloped = piecewiseShape(node.parameters).valueWords === 2;
      const end = fromDealer.length - (sloped ? packedBytes(size(node.shape), L) : 0);
      keys.set(index, fromDealer.subarray(0, end));
      const fields = [{ count: size(node.shape), width: L }];
      if (sloped) received.server.push({ node: index, fields, bytes: fromDealer.subarray(end) });
    } else if (material.dealerToServer > 0) {
      const fields = correctionsOf(node, program).map((width) => ({ count: size(node.shape), width }));
      received.server.push({ node: index, fields, bytes: fromDealer });
    }
    if (material.clientToServer > 0) {
      const at = layout.dealerToServerBytes + layout.serverFromClient[index]!;
      const bytes = serverBytes.subarray(at, at + material.clientToServer);
      received.server.push({ node: index, fields: [{ count: size(node.shape), width: mapWidth(node, L) }], bytes });
    }
    await serverCorrelations.load(index);
    await clientCorrelations.load(index);
    const declared = messagesOf(node, program);
    const [c, s] = exchange(start(client, node, values.client), start(server, node, values.server), (from, bytes) => {
      const fields = declared[from === 'client' ? 'clientToServer' : 'serverToClient'] ?? [];
      received[from === 'client' ? 'server' : 'client'].push({ node: index, fields, bytes });
    });
    values.client.push(c);
    values.server.push(s);
  }
  const share = (side: Side, node: number): Uint32Array => {
    const { block } = values[side][node]!;
    return block === undefined ? new Uint32Array(0) : wordsOf(kernels, block, L);
  };
  const pad = (side: Side, node: number, at: number): Uint32Array => {
    const draw = drawsOf(program.nodes[node]!, program).find((other) => other.side === side && other.purpose === at)!;
    const block = pads(kernels, prg[side]).words(node, { stream: at, by: side }, draw.count);
    const words = wordsOf(kernels, block, draw.width);
    kernels.free(block);
    return words;
  };
  return { received, share, keys, outputs, pad };
}

/** The sum of both shares of a node in every lane, as a signed number of the ring that it lives in. */
export function opened(outcome: Outcome, node: number): Float64Array {
  const L = modulusOf(outcome.program.nodes[node]!, outcome.program);
  const [c, s] = [outcome.share('client', node), outcome.share('server', node)];
  return Float64Array.from(c, (word, i) => signed(word + s[i]!, L));
}
