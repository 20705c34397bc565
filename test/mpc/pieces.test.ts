import { describe, expect, it } from 'vitest';
import type { MaterialSource } from '../../src/backends/mpc/correlations/bundle.ts';
import {
  clientOffline,
  clientOnline,
  clientSetup,
  dealerOffline,
  dealerSetup,
  memoryBundle,
  rehearse,
  serverOffline,
  serverOnline,
  serverSetup,
} from '../../src/backends/mpc/index.ts';
import { materialOf, pieceBytes, piecesOf, quantise } from '../../src/backends/ring/index.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { type Tensor, trace } from '../../src/program/index.ts';
import { platforms } from './platform.ts';

/** max(x, 0) of a matrix: a comparison key an element. */
const traced = (rows: number) =>
  quantise(
    trace((ops) => ({ y: ops.relu(ops.input('x', [rows, 256], 'client')) })),
    { bits: 64, fraction: 16 },
  );
const input = (rows: number): Tensor => ({
  shape: [rows, 256],
  values: Float64Array.from({ length: rows * 256 }, (_, i) => ((i * 7919) % 4001) / 100 - 20),
});
/** How many values are not those of a rectifier. */
const differing = ({ values }: Tensor, rows: number): number => {
  const exact = input(rows).values;
  return Float64Array.from(values).reduce(
    (sum, value, at) => sum + (Math.abs(value - Math.max(0, exact[at]!)) > 2 ** -15 ? 1 : 0),
    0,
  );
};
const weight = async (name: string): Promise<never> => {
  throw new Error(`no weight ${name}`);
};

/** A run with stored bundles; the most bytes that each party read of its bundle at once, and all of them. */
async function run(rows: number) {
  const program = traced(rows);
  const session = { program, context: [] };
  const roles = platforms(64);
  const [clientServer, serverClient] = memoryPair({ names: ['client', 'server'] });
  const [clientDealer, dealerClient] = memoryPair({ names: ['client', 'dealer'] });
  const [serverDealer, dealerServer] = memoryPair({ names: ['server', 'dealer'] });
  const [maskSeed, masked] = await Promise.all([
    clientSetup(roles.client, session, { server: clientServer }),
    dealerSetup(roles.dealer, session, { server: dealerServer }),
    serverSetup(roles.server, session, { client: serverClient, dealer: serverDealer }, weight),
  ]);
  const bundles = { client: memoryBundle(), server: memoryBundle() };
  await Promise.all([
    dealerOffline(roles.dealer, session, { client: dealerClient, server: dealerServer }, masked),
    clientOffline(roles.client, session, { server: clientServer, dealer: clientDealer }, maskSeed, bundles.client.sink),
    serverOffline(roles.server, session, { client: serverClient, dealer: serverDealer }, bundles.server.sink),
  ]);
  const reads = { client: [] as number[], server: [] as number[] };
  const counted = (side: 'client' | 'server'): MaterialSource => ({
    read: (offset, length) => {
      reads[side].push(length);
      return bundles[side].source.read(offset, length);
    },
  });
  let output: Tensor | undefined;
  await Promise.all([
    clientOnline(roles.client, session, {
      channel: clientServer,
      bundle: counted('client'),
      input: async () => input(rows),
      output: (_, value) => {
        output = value;
      },
    }),
    serverOnline(roles.server, session, { channel: serverClient, bundle: counted('server'), weight }),
  ]);
  const wrong = differing(output!, rows);
  const held = Object.values(roles).reduce((sum, { kernels }) => sum + kernels.allocatedBytes, 0);
  return { program, reads, wrong, held };
}

describe('keys of comparisons', () => {
  it('are read a piece at a time, of a size that does not grow with the layer', async () => {
    for (const rows of [16, 80]) {
      const { program, reads, wrong, held } = await run(rows);
      expect(wrong).toBe(0);
      expect(held).toBe(0);
      const node = program.nodes.find(({ operation }) => operation === 'piecewise')!;
      const material = materialOf(node, program);
      if (rows === 80) expect(material.dealerToClient).toBeGreaterThan(2 * pieceBytes);
      for (const side of ['client', 'server'] as const) expect(Math.max(...reads[side])).toBeLessThan(1.1 * pieceBytes);
      const total = reads.client.reduce((sum, bytes) => sum + bytes, 0);
      expect(total).toBe(32 + program.nodes.reduce((sum, other) => sum + materialOf(other, program).dealerToClient, 0));
    }
  });

  it('come in the same pieces from a helper, to parties that keep nothing for later', async () => {
    const y = await rehearse({
      program: traced(80),
      setting: 'helper',
      keptBytes: 0,
      platforms: platforms(64),
      weight,
      input: async () => input(80),
    });
    expect(differing(y.outputs.get('y')!, 80)).toBe(0);
  });

  it('add up to the material of their node, whatever the piece', () => {
    const program = traced(5);
    program.nodes.forEach((node) => {
      for (const limit of [1, 5000, 123_456, pieceBytes]) {
        const pieces = piecesOf(node, program, limit);
        const sum = (of: 'rows' | 'dealerToServer' | 'dealerToClient') => pieces.reduce((all, piece) => all + piece[of], 0);
        expect(sum('dealerToServer')).toBe(materialOf(node, program).dealerToServer);
        expect(sum('dealerToClient')).toBe(materialOf(node, program).dealerToClient);
        let first = 0;
        for (const piece of pieces) {
          expect(piece.first).toBe(first);
          first += piece.rows;
        }
      }
    });
  });
});
