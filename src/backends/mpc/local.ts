import { concat, constant, fresh, move, packRows, pad, unpackRows } from '../../kernels/index.ts';
import { size } from '../../program/index.ts';
import { type Held, type Machine, nothing, type Protocol } from './protocol.ts';

type LocalOperation =
  | 'reshape'
  | 'move'
  | 'concat'
  | 'pad'
  | 'packRows'
  | 'unpackRows'
  | 'add'
  | 'subtract'
  | 'addServer'
  | 'addConstant'
  | 'multiplyConstant'
  | 'multiplyInteger'
  | 'sum'
  | 'fromServer';
type Local = { [P in LocalOperation]: (...parameters: Parameters<Protocol[P]>) => Held };

/**
 * What each party does alone. Sharing is linear, so moves, sums and public factors act on a share, a mask or an opening alike; what
 * only one side adds (a public constant, the server's plaintext) goes onto the server's share: `carriesPublic` is true there.
 */
export function local({ kernels, program }: Machine, carriesPublic: boolean): Local {
  const both = (
    x: Held,
    y: Held,
    write: (out: NonNullable<Held['block']>, a: NonNullable<Held['block']>, b: NonNullable<Held['block']>) => void,
  ): Held => {
    const [a, b] = [x.block, y.block];
    return a === undefined || b === undefined ? nothing : { block: fresh(kernels, a.length, (out) => write(out, a, b)) };
  };
  const rows = (x: Held, copy: typeof packRows, { lengths, width }: { lengths: readonly number[]; width: number }): Held =>
    x.block === undefined ? nothing : { block: copy(kernels, x.block, lengths, width) };
  return {
    reshape: (_, x) => x!,
    move: (node, x) => {
      const { strides, start } = node.parameters;
      return x!.block === undefined ? nothing : { block: move(kernels, x!.block, node.shape, strides, start) };
    },
    concat: (node, ...parts) => {
      if (parts.some((part) => part.block === undefined)) return nothing;
      const shaped = parts.map((part, i) => ({ block: part.block!, shape: program.nodes[node.inputs[i]!]!.shape }));
      return { block: concat(kernels, shaped, node.parameters.axis, node.shape) };
    },
    pad: (node, x) => {
      if (x!.block === undefined) return nothing;
      const from = program.nodes[node.inputs[0]!]!.shape;
      return { block: pad(kernels, x!.block, from, node.shape, node.parameters.axis, node.parameters.before) };
    },
    packRows: (node, x) => rows(x!, packRows, node.parameters),
    unpackRows: (node, x) => rows(x!, unpackRows, node.parameters),
    add: (_, x, y) => both(x!, y!, (out, a, b) => kernels.add(out, a, b)),
    subtract: (_, x, y) => both(x!, y!, (out, a, b) => kernels.subtract(out, a, b)),
    addServer: (_, x, y) => (carriesPublic ? both(x!, y!, (out, a, b) => kernels.add(out, a, b)) : x!),
    addConstant: (node, x) => {
      if (!carriesPublic || x!.block === undefined) return x!;
      const c = constant(kernels, node.parameters.values, node.parameters.constantShape, node.shape);
      kernels.add(c, c, x!.block);
      return { block: c };
    },
    multiplyConstant: (node, x) => {
      if (x!.block === undefined) return nothing;
      const c = constant(kernels, node.parameters.values, node.parameters.constantShape, node.shape);
      kernels.multiply(c, c, x!.block);
      return { block: c };
    },
    multiplyInteger: (node, x) => {
      const block = x!.block;
      if (block === undefined) return nothing;
      return { block: fresh(kernels, block.length, (out) => kernels.multiplyScalar(out, block, BigInt(node.parameters.by))) };
    },
    sum: (node, x) => {
      const block = x!.block;
      const { outer, axis, inner } = node.parameters;
      return block === undefined
        ? nothing
        : { block: fresh(kernels, outer * inner, (out) => kernels.sum(out, block, outer, axis, inner)) };
    },
    fromServer: (node, x) => (carriesPublic ? x! : { block: fresh(kernels, size(node.shape), (out) => kernels.fill(out, 0n)) }),
  };
}
