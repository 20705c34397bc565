import { type ModelShape, parsePlan, parseShape, randomInputs, traceShape, traceShapeLayer } from '../models/index.ts';
import type { Channel } from '../net/contract.ts';
import { type Program, size, type Tensor } from '../program/index.ts';

/** What the other process of a timed run is told. */
export interface PeerOrder {
  /** Of the calibration programs. */
  readonly number: number;
  readonly ring: { readonly bits: number; readonly fraction: number };
  readonly addresses: { readonly server: string; readonly dealer: string };
  readonly runs: number;
}

const barrierFrame = 9;

/** Both sides are at the same place before the clock starts. */
export async function barrier(channel: Channel): Promise<void> {
  await channel.send(barrierFrame, new Uint8Array(1));
  await channel.receive();
}

/** Programs whose nodes are timed: a layer of many words, single tokens, and exact functions. Together they have every operation. */
export function calibrationPrograms(): { program: Program; runs: number }[] {
  const shape = (extents: Partial<ModelShape>): ModelShape =>
    parseShape({
      name: 'calibration',
      kind: 'decoder',
      hiddenSize: 512,
      intermediateSize: 2048,
      numHiddenLayers: 2,
      heads: 8,
      norm: 'rms',
      bias: false,
      activation: 'silu',
      gated: true,
      embedding: { kind: 'tokens', vocabSize: 512 },
      positions: { kind: 'rotary', count: 512, theta: 10000 },
      head: { kind: 'vocabulary' },
      ...extents,
    });
  const wide = shape({
    kind: 'encoder',
    activation: 'gelu',
    gated: false,
    positions: { kind: 'learned', count: 512 },
    head: { kind: 'none' },
  });
  const small = shape({ hiddenSize: 128, intermediateSize: 384, heads: 4 });
  const exact = shape({ hiddenSize: 128, intermediateSize: 256, heads: 4, norm: 'layer' });
  return [
    { program: traceShapeLayer(wide, parsePlan('full-p4', wide), { tokens: 128 }), runs: 3 },
    { program: traceShape(small, parsePlan('full-p4', small), { promptTokens: 8, newTokens: 4 }), runs: 5 },
    { program: traceShapeLayer(exact, parsePlan('exact', exact), { tokens: 24 }), runs: 3 },
  ];
}

/** Random weights and inputs of a program. */
export function inputsOf(program: Program): {
  weight: (name: string) => Promise<Tensor>;
  input: (name: string) => Promise<Tensor>;
} {
  const weights = randomInputs(program, 1);
  const shapes = new Map(
    program.nodes.flatMap((node) =>
      node.operation === 'input' && node.parameters.owner === 'client' ? [[node.parameters.name, node] as const] : [],
    ),
  );
  return {
    weight: async (name) => weights.get(name)!,
    input: async (name) => {
      const { shape, parameters } = shapes.get(name)!;
      const length = size(shape);
      if ('element' in parameters && parameters.element === 'index') return { shape, values: new Int32Array(length) };
      return { shape, values: Float64Array.from({ length }, (_, at) => ((at * 7919) % 2001) / 1000 - 1) };
    },
  };
}

/** The rings that are measured. */
export const measuredRings = { 32: { bits: 32, fraction: 10 }, 64: { bits: 64, fraction: 16 } } as const;

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;
