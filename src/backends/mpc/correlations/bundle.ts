import type { Block, RingKernels } from '../../../kernels/index.ts';
import type { Prg } from '../../../math/random.ts';
import { materialOf, packedBytes, piecesOf, type RingProgram } from '../../ring/index.ts';
import { pads } from '../random.ts';
import type { ClientCorrelations, ServerCorrelations } from './contract.ts';

/** Where a party's stored material is read from; offsets count from the end of its seed. The bytes belong to the caller. */
export interface MaterialSource {
  /** Exactly `length` bytes from `offset`. Throws a `material` error outside of what is stored. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Where every node's bytes lie: the server stores the dealer's stream, then the client's; the client stores the dealer's. */
export interface MaterialLayout {
  readonly serverFromDealer: Float64Array;
  readonly serverFromClient: Float64Array;
  readonly clientFromDealer: Float64Array;
  readonly dealerToServerBytes: number;
  readonly clientToServerBytes: number;
  readonly dealerToClientBytes: number;
}

export function materialLayout(program: RingProgram): MaterialLayout {
  const count = program.nodes.length;
  const layout = {
    serverFromDealer: new Float64Array(count),
    serverFromClient: new Float64Array(count),
    clientFromDealer: new Float64Array(count),
    dealerToServerBytes: 0,
    clientToServerBytes: 0,
    dealerToClientBytes: 0,
  };
  program.nodes.forEach((node, index) => {
    const material = materialOf(node, program);
    layout.serverFromDealer[index] = layout.dealerToServerBytes;
    layout.serverFromClient[index] = layout.clientToServerBytes;
    layout.clientFromDealer[index] = layout.dealerToClientBytes;
    layout.dealerToServerBytes += material.dealerToServer;
    layout.clientToServerBytes += material.clientToServer;
    layout.dealerToClientBytes += material.dealerToClient;
  });
  return layout;
}

export interface StoredOptions {
  readonly kernels: RingKernels;
  readonly program: RingProgram;
  readonly layout: MaterialLayout;
  readonly source: MaterialSource;
  readonly prg: Prg;
}

/** Reads the pieces of nodes one after the other; `offset` is where a node's bytes begin. */
class PieceReader {
  readonly #options: StoredOptions;
  readonly #stream: 'dealerToServer' | 'dealerToClient';
  readonly #offset: (node: number) => number;
  /** Of nodes with pieces left: the next one's number and its offset. */
  readonly #next = new Map<number, readonly [piece: number, offset: number]>();

  constructor(options: StoredOptions, stream: 'dealerToServer' | 'dealerToClient', offset: (node: number) => number) {
    this.#options = options;
    this.#stream = stream;
    this.#offset = offset;
  }

  /** The first piece, or the one behind the last. */
  async read(node: number, begin: boolean): Promise<Uint8Array> {
    const { program, source } = this.#options;
    const pieces = piecesOf(program.nodes[node]!, program);
    const [number, offset] = begin ? [0, this.#offset(node)] : this.#next.get(node)!;
    const bytes = pieces[number]![this.#stream];
    if (number + 1 < pieces.length) this.#next.set(node, [number + 1, offset + bytes]);
    else this.#next.delete(node);
    return await source.read(offset, bytes);
  }
}

/** The server's correlations from a stored bundle: one node's bytes in memory at a time, or one piece of them. */
export function storedServerCorrelations(options: StoredOptions): ServerCorrelations {
  const { kernels, program, layout, source, prg } = options;
  const pieces = new PieceReader(options, 'dealerToServer', (node) => layout.serverFromDealer[node]!);
  const ready = new Map<number, { dealer: Uint8Array; client: Uint8Array }>();
  const take = (node: number): { dealer: Uint8Array; client: Uint8Array } => {
    const bytes = ready.get(node);
    if (bytes === undefined) throw new Error(`material of node ${node} was not loaded`);
    ready.delete(node);
    return bytes;
  };
  const words = (bytes: Uint8Array, length: number, width: number): Block => {
    const block = kernels.allocate(length);
    kernels.unpack(block, bytes, width);
    return block;
  };
  return {
    pads: pads(kernels, prg),
    async load(node) {
      const { dealerToServer, clientToServer } = materialOf(program.nodes[node]!, program);
      if (dealerToServer === 0) return;
      const dealer = await pieces.read(node, true);
      const client =
        clientToServer === 0
          ? new Uint8Array(0)
          : await source.read(layout.dealerToServerBytes + layout.serverFromClient[node]!, clientToServer);
      ready.set(node, { dealer, client });
    },
    async more(node) {
      ready.set(node, { dealer: await pieces.read(node, false), client: new Uint8Array(0) });
    },
    linear(node, length, width) {
      const { dealer, client } = take(node);
      const u = words(dealer, length, width);
      const t = words(client, length, width);
      kernels.add(u, u, t);
      kernels.free(t);
      return u;
    },
    product: (node, length, width) => words(take(node).dealer, length, width),
    bit: (node, length, width) => words(take(node).dealer, length, width),
    fields(node, length, widths) {
      const { dealer } = take(node);
      let at = 0;
      return widths.map((width) => {
        const bytes = packedBytes(length, width);
        at += bytes;
        return words(dealer.subarray(at - bytes, at), length, width);
      });
    },
    lookup: (node) => take(node).dealer,
  };
}

export function storedClientCorrelations(options: StoredOptions): ClientCorrelations {
  const { kernels, program, layout, prg } = options;
  const pieces = new PieceReader(options, 'dealerToClient', (node) => layout.clientFromDealer[node]!);
  const ready = new Map<number, Uint8Array>();
  return {
    pads: pads(kernels, prg),
    async load(node) {
      const { dealerToClient } = materialOf(program.nodes[node]!, program);
      if (dealerToClient > 0) ready.set(node, await pieces.read(node, true));
    },
    async more(node) {
      ready.set(node, await pieces.read(node, false));
    },
    lookup(node) {
      const bytes = ready.get(node);
      if (bytes === undefined) throw new Error(`material of node ${node} was not loaded`);
      ready.delete(node);
      return bytes;
    },
  };
}
