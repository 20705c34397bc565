import { readFileSync } from 'node:fs';
import { quantise, type RingProgram } from '../src/backends/ring/index.ts';
import { parsePlan, parseShape, seededNormal, serverInputs, traceShapeLayer } from '../src/models/index.ts';
import { type Program, size, type Tensor } from '../src/program/index.ts';

/** One line of layer.json. */
export interface LayerCase {
  readonly name: string;
  readonly shape: string;
  readonly plan: string;
  readonly tokens: number;
  readonly ring: { readonly bits: number; readonly fraction: number };
  readonly runs: number;
  /** Layers in a row; one where absent. */
  readonly layers?: number;
  /** A safetensors file that the server reads each weight from when it needs it; random weights in memory where absent. */
  readonly weightsFile?: string;
}

/** The layer as every role traces it, with weights and input spread as in the executable reference of the protocol. */
export interface TracedLayer {
  readonly program: Program;
  readonly ringProgram: RingProgram;
  readonly weights: () => Map<string, Tensor>;
  readonly input: () => Tensor;
}

export function traceLayer(layer: LayerCase): TracedLayer {
  const shape = parseShape(JSON.parse(readFileSync(new URL(`../shapes/${layer.shape}.json`, import.meta.url), 'utf8')));
  const program = traceShapeLayer(shape, parsePlan(layer.plan, shape), {
    tokens: layer.tokens,
    ...(layer.layers === undefined ? {} : { layers: layer.layers }),
  });
  return {
    program,
    ringProgram: quantise(program, layer.ring),
    weights: () => {
      const random = seededNormal(7);
      return new Map(
        [...serverInputs(program)].map(([name, extents]) => {
          const spread = (name.includes('qkv') ? 0.35 : name.includes('up') ? 0.5 : 1) / Math.sqrt(extents[0]!);
          const values = Float32Array.from({ length: size(extents) }, () => random() * spread);
          // The shift of the centred power, 4, is folded into the queries' columns.
          if (name.includes('qkv'))
            for (let at = 0; at < values.length; at++) if (at % extents[1]! < shape.hiddenSize) values[at]! /= 4;
          return [name, { shape: extents, values }];
        }),
      );
    },
    input: () => {
      const random = seededNormal(8);
      const extents = [layer.tokens, shape.hiddenSize];
      return { shape: extents, values: Float64Array.from({ length: size(extents) }, () => random()) };
    },
  };
}
