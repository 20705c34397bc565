import {
  concat as concatenated,
  move as moved,
  packRows as packed,
  pad as padded,
  unpackRows as unpacked,
} from '../../../kernels/index.ts';
import type { RingRow } from './row.ts';

export const reshape: RingRow<'reshape', object> = { meaning: (_, __, x) => x! };

/** Reads the input at Σ index·stride + start: transposes, slices, repeats. */
export const move: RingRow<'move', { readonly strides: readonly number[]; readonly start: number }> = {
  meaning: ({ kernels }, { shape, parameters }, x) => ({
    block: moved(kernels, x!.block, shape, parameters.strides, parameters.start),
    most: x!.most,
  }),
};

export const concat: RingRow<'concat', { readonly axis: number }> = {
  meaning: ({ kernels, program }, node, ...parts) => {
    const shaped = parts.map((part, i) => ({ block: part.block, shape: program.nodes[node.inputs[i]!]!.shape }));
    return {
      block: concatenated(kernels, shaped, node.parameters.axis, node.shape),
      most: Math.max(...parts.map((part) => part.most)),
    };
  },
};

/** Zeros before and after along one axis. */
export const pad: RingRow<'pad', { readonly axis: number; readonly before: number }> = {
  meaning: ({ kernels, program }, node, x) => {
    const from = program.nodes[node.inputs[0]!]!.shape;
    return { block: padded(kernels, x!.block, from, node.shape, node.parameters.axis, node.parameters.before), most: x!.most };
  },
};

export interface Rows {
  readonly lengths: readonly number[];
  readonly width: number;
}

/** (outer, rows, width) → (outer, Σ lengths): the first lengths[r] elements of every row. */
export const packRows: RingRow<'packRows', Rows> = {
  meaning: ({ kernels }, { parameters }, x) => ({
    block: packed(kernels, x!.block, parameters.lengths, parameters.width),
    most: x!.most,
  }),
};

/** The converse, with zeros behind. */
export const unpackRows: RingRow<'unpackRows', Rows> = {
  meaning: ({ kernels }, { parameters }, x) => ({
    block: unpacked(kernels, x!.block, parameters.lengths, parameters.width),
    most: x!.most,
  }),
};
