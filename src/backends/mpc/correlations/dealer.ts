import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { type RingNodeOf, wordBitsOf } from '../../ring/index.ts';
import { type Machine, type Numbered, nothing, Scratch } from '../protocol.ts';
import type { Pads } from '../random.ts';
import { type PointFunctionCipher, purpose } from './contract.ts';
import { narrowCorrections } from './dealer-narrow.ts';
import { piecewiseKeys } from './dealer-piecewise.ts';
import { generateKeys } from './dpf.ts';
import { type Offline, pinnedShares } from './pinned.ts';
import { walk } from './walk.ts';

/**
 * The dealer: makes the server's corrections from both parties' pads and the masked weights, before the run.
 *
 * Source: docs/protocols/dealer.md. Letters as in client.ts; V = W − A.
 * What it knows: all pads of this bundle, V, the program. What it must not see: any message of the run (it could then remove its
 * own pads), A's seed (it would learn W), the input.
 * Offline bits an element: linear L (and L from the client), products L, truncations f, lookups 17·depth bytes to each side.
 */
export interface DealerOptions extends Machine {
  readonly clientPads: Pads;
  readonly serverPads: Pads;
  readonly cipher: PointFunctionCipher;
  /** V of a weight. */
  readonly maskedWeight: (node: RingNodeOf<'serverInput'>) => Promise<Block>;
  readonly toServer: (bytes: Uint8Array) => Promise<void>;
  readonly toClient: (bytes: Uint8Array) => Promise<void>;
}

/** What one node gives each party; or pieces of it, each made when the one before has been taken. */
export interface Outbox {
  toServer?: Uint8Array;
  toClient?: Uint8Array;
  pieces?: Iterable<{ readonly toServer: Uint8Array; readonly toClient: Uint8Array }>;
}

export async function deal(options: DealerOptions): Promise<void> {
  const outbox: Outbox = {};
  await walk(options, corrections(options, outbox), {
    weight: async (node) => ({ block: await options.maskedWeight(node) }),
    emitted: async () => {
      const { toServer, toClient, pieces } = outbox;
      delete outbox.toServer;
      delete outbox.toClient;
      delete outbox.pieces;
      if (toServer !== undefined) await options.toServer(toServer);
      if (toClient !== undefined) await options.toClient(toClient);
      if (pieces === undefined) return;
      for (const piece of pieces) {
        await options.toServer(piece.toServer);
        await options.toClient(piece.toClient);
      }
    },
  });
}

function corrections(options: DealerOptions, outbox: Outbox): Offline {
  const { kernels, clientPads, serverPads, ring, program } = options;
  const L = ring.bits;
  const pinned = pinnedShares(options, clientPads);
  type Any = Numbered<{ shape: readonly number[] }>;
  /** Emits f − pad, where f is what the parties' factors multiply to. */
  const emit = (node: Any, pad: number, width: number, write: (out: Block, scratch: Scratch) => void): void => {
    const scratch = new Scratch(kernels);
    const count = size(node.shape);
    const out = scratch.own(clientPads.words(node.index, pad, count));
    kernels.negate(out, out);
    write(out, scratch);
    outbox.toServer = kernels.pack(out, width);
    scratch.freeAll();
  };
  return {
    ...pinned,
    /** u = x_c V − k. */
    linear: (node, x, v) => {
      const width = node.parameters.modulus ?? L;
      emit(node, purpose.blind, width, (out) =>
        kernels.matmul(out, x!.block!, v!.block!, { batch: 1, ...node.parameters }, true),
      );
      return pinned.linear(node, x!, v!);
    },
    diagonal: (node, x, v) => {
      emit(node, purpose.blind, L, (out) => kernels.multiplyAdd(out, x!.block!, v!.block!));
      return pinned.diagonal(node, x!, v!);
    },
    /** b. */
    open: (node) => ({ block: serverPads.words(node.index, purpose.mask, size(node.shape)) }),
    /** q_s = 2 x_c b − q_c. */
    square: (node, x, b) => {
      emit(node, purpose.share, L, (out) => {
        kernels.multiplyAdd(out, x!.block!, b!.block!);
        kernels.multiplyAdd(out, x!.block!, b!.block!);
      });
      return nothing;
    },
    /** q_s = x_c b_y + b_x y_c − q_c. */
    product: (node, x, y, bx, by) => {
      emit(node, purpose.share, L, (out) => {
        kernels.multiplyAdd(out, x!.block!, by!.block!);
        kernels.multiplyAdd(out, bx!.block!, y!.block!);
      });
      return nothing;
    },
    matrixProduct: (node, x, y, bx, by) => {
      emit(node, purpose.share, L, (out) => {
        kernels.matmul(out, x!.block!, by!.block!, node.parameters, true);
        kernels.matmul(out, bx!.block!, y!.block!, node.parameters, true);
      });
      return nothing;
    },
    ...narrowCorrections(options, outbox),
    /** Pinned: q_s = m_c b − q_c; floating: q_s = a b − q_c; modulo 2^f. */
    truncate: (node, x) => {
      emit(node, purpose.wrap, node.parameters.bits, (out, scratch) => {
        const count = size(node.shape);
        const b = scratch.own(serverPads.bits(node.index, purpose.mask, count, 1));
        if (program.nodes[node.inputs[0]!]!.state === 'pinned') {
          const m = scratch.new(count);
          kernels.shiftRight(m, x!.block!, L - 1, L);
          kernels.multiplyAdd(out, m, b);
        } else {
          kernels.multiplyAdd(out, scratch.own(clientPads.bits(node.index, purpose.top, count, 1)), b);
        }
      });
      return pinned.truncate(node, x!);
    },
    piecewise: (node, x) => piecewiseKeys(options, outbox, node, x!),
    /** Keys of the point function at j = i_c + σ, for every row. */
    lookup: (node, i) => {
      const { indexBits, tables } = node.parameters;
      const rows = size(node.shape) / tables.length;
      const sigma = serverPads.words(node.index, purpose.mask, rows);
      kernels.add(sigma, sigma, i!.block!);
      kernels.mask(sigma, sigma, indexBits);
      const alpha = Uint32Array.from(kernels.decode(sigma, 0, kernels.wordBits));
      kernels.free(sigma);
      const keys = generateKeys({
        seeds0: clientPads.bytes(node.index, purpose.seeds, rows * 16),
        seeds1: serverPads.bytes(node.index, purpose.seeds, rows * 16),
        alpha,
        k: indexBits,
        wordBits: wordBitsOf(L),
        encryptBlocks: options.cipher,
      });
      outbox.toServer = keys;
      outbox.toClient = keys;
      return nothing;
    },
  };
}
