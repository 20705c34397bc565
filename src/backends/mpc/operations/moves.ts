import {
  concat as concatenated,
  move as moved,
  packRows as packed,
  pad as padded,
  unpackRows as unpacked,
} from '../../../kernels/index.ts';
import { type Held, type Machine, nothing } from '../protocol.ts';
import { alone } from './row.ts';

export const reshape = alone<'reshape'>((_, __, ___, x) => x!);

export const move = alone<'move'>(({ kernels }, _, { shape, parameters }, x) =>
  x!.block === undefined ? nothing : { block: moved(kernels, x!.block, shape, parameters.strides, parameters.start) },
);

export const concat = alone<'concat'>(({ kernels, program }, _, node, ...parts) => {
  if (parts.some((part) => part.block === undefined)) return nothing;
  const shaped = parts.map((part, i) => ({ block: part.block!, shape: program.nodes[node.inputs[i]!]!.shape }));
  return { block: concatenated(kernels, shaped, node.parameters.axis, node.shape) };
});

export const pad = alone<'pad'>(({ kernels, program }, _, node, x) => {
  if (x!.block === undefined) return nothing;
  const from = program.nodes[node.inputs[0]!]!.shape;
  return { block: padded(kernels, x!.block, from, node.shape, node.parameters.axis, node.parameters.before) };
});

interface Rows {
  readonly lengths: readonly number[];
  readonly width: number;
}
const rows = ({ kernels }: Machine, copy: typeof packed, { lengths, width }: Rows, x: Held): Held =>
  x.block === undefined ? nothing : { block: copy(kernels, x.block, lengths, width) };
export const packRows = alone<'packRows'>((machine, _, node, x) => rows(machine, packed, node.parameters, x!));
export const unpackRows = alone<'unpackRows'>((machine, _, node, x) => rows(machine, unpacked, node.parameters, x!));
