import type { Block, RingKernels } from '../../../kernels/index.ts';
import type { Prg } from '../../../math/random.ts';
import { materialOf, packedBytes, type RingProgram } from '../../ring/index.ts';
import { pads } from '../random.ts';
import type { ClientCorrelations, ServerCorrelations } from './contract.ts';

/** Where a party's stored material is read from; offsets count from the end of its seed. The bytes belong to the caller. */
export interface MaterialSource {
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

/** The server's correlations from a stored bundle: one node's bytes in memory at a time. */
export function storedServerCorrelations({ kernels, program, layout, source, prg }: StoredOptions): ServerCorrelations {
  const { bits } = program.ring;
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
      const dealer = await source.read(layout.serverFromDealer[node]!, dealerToServer);
      const client =
        clientToServer === 0
          ? new Uint8Array(0)
          : await source.read(layout.dealerToServerBytes + layout.serverFromClient[node]!, clientToServer);
      ready.set(node, { dealer, client });
    },
    linear(node, length, width) {
      const { dealer, client } = take(node);
      const u = words(dealer, length, width);
      const t = words(client, length, width);
      kernels.add(u, u, t);
      kernels.free(t);
      return u;
    },
    product: (node, length) => words(take(node).dealer, length, bits),
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

export function storedClientCorrelations({ kernels, program, layout, source, prg }: StoredOptions): ClientCorrelations {
  const ready = new Map<number, Uint8Array>();
  return {
    pads: pads(kernels, prg),
    async load(node) {
      const { dealerToClient } = materialOf(program.nodes[node]!, program);
      if (dealerToClient > 0) ready.set(node, await source.read(layout.clientFromDealer[node]!, dealerToClient));
    },
    lookup(node) {
      const bytes = ready.get(node);
      if (bytes === undefined) throw new Error(`material of node ${node} was not loaded`);
      ready.delete(node);
      return bytes;
    },
  };
}
