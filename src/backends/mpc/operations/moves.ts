import {
  concat as concatenated,
  move as moved,
  packRows as packed,
  pad as padded,
  unpackRows as unpacked,
} from '../../../kernels/index.ts';
import type { RingOperation } from '../../ring/index.ts';
import { type Held, type Machine, nothing } from '../protocol.ts';
import { alone, type SecureRow } from './row.ts';

export const reshape = alone<'reshape'>(() => (_, x) => x!);

export const move = alone<'move'>(({ kernels }) => (node, x) => {
  const { strides, start } = node.parameters;
  return x!.block === undefined ? nothing : { block: moved(kernels, x!.block, node.shape, strides, start) };
});

export const concat = alone<'concat'>(({ kernels, program }) => (node, ...parts) => {
  if (parts.some((part) => part.block === undefined)) return nothing;
  const shaped = parts.map((part, i) => ({ block: part.block!, shape: program.nodes[node.inputs[i]!]!.shape }));
  return { block: concatenated(kernels, shaped, node.parameters.axis, node.shape) };
});

export const pad = alone<'pad'>(({ kernels, program }) => (node, x) => {
  if (x!.block === undefined) return nothing;
  const from = program.nodes[node.inputs[0]!]!.shape;
  return { block: padded(kernels, x!.block, from, node.shape, node.parameters.axis, node.parameters.before) };
});

type Rows = Extract<RingOperation, 'packRows' | 'unpackRows'>;
const rows = <P extends Rows>(copy: typeof packed): SecureRow<P> =>
  alone<P>(({ kernels }: Machine) => (node, x): Held => {
    const { lengths, width } = node.parameters;
    return x!.block === undefined ? nothing : { block: copy(kernels, x!.block, lengths, width) };
  });
export const packRows = rows<'packRows'>(packed);
export const unpackRows = rows<'unpackRows'>(unpacked);
