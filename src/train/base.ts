import type { Feed, Ops, Program, Ref, Shape, Tensor } from '../program/index.ts';
import { nf4Sizes, rewrite, size } from '../program/index.ts';
import { packNf4, packScales, scaleBlock, scaleLevels, unpackNf4, unpackScales } from './codes.ts';
import type { Weights } from './loop.ts';

/**
 * How the matrices of a model's layers are held while it trains: 4-bit codes, `block` elements to a scale. With double quantisation
 * the scales are 8-bit codes too.
 */
export interface Packing {
  readonly format: 'nf4';
  readonly block: number;
  readonly doubleQuantisation?: boolean | undefined;
}

/** A model's weights, some of them packed. */
export interface Base {
  /** What programs are bound to: a packed NAME as `NAME.nf4` and `NAME.absmax` (or `NAME.absmax.codes`, `.scales` and `.offset`). */
  readonly tensors: ReadonlyMap<string, Feed>;
  /** The tensors' published names and shapes. */
  readonly shapes: ReadonlyMap<string, Shape>;
  /** Makes a program that reads NAME read its codes instead. */
  pack(program: Program): Program;
  /** A tensor as programs see it: of a packed one, the levels of its codes. */
  read(name: string): Tensor;
}

interface Source {
  names(): readonly string[];
  shape(name: string): Shape;
  read(name: string): Promise<Tensor['values']>;
}

const codesOf = (name: string): string => `${name}.nf4`;
const scalesOf = (name: string): string => `${name}.absmax`;
const nestedOf = (name: string): [codes: string, scales: string, offset: string] => {
  const scales = scalesOf(name);
  return [`${scales}.codes`, `${scales}.scales`, `${scales}.offset`];
};

/** Weights as they are. */
export const plainBase = (weights: Weights): Base => ({
  tensors: weights,
  shapes: new Map([...weights].map(([name, { shape }]) => [name, shape])),
  pack: (program) => program,
  read: (name) => weights.get(name)!,
});

/**
 * Reads weights one by one; where a packing is given, the matrices that `packable` names are packed (those of a model's blocks: embeddings,
 * heads, norms and coefficients keep full precision), and no more than one is there in full at a time.
 */
export async function readBase(source: Source, packing: Packing | undefined, packable: ReadonlySet<string>): Promise<Base> {
  const shapes = new Map(source.names().map((name) => [name, source.shape(name)]));
  const tensors = new Map<string, Feed>();
  const packed = new Set<string>();
  for (const [name, shape] of shapes) {
    const values = await source.read(name);
    if (packing === undefined || !packable.has(name)) tensors.set(name, { shape, values });
    else {
      for (const [part, tensor] of packedTensors(name, values, packing)) tensors.set(part, tensor);
      packed.add(name);
    }
  }
  if (packing === undefined) return plainBase(tensors as Map<string, Tensor>);
  return {
    tensors,
    shapes,
    pack: (program) => withPacked(program, packed, packing),
    read: (name) => (packed.has(name) ? unpacked(name, shapes.get(name)!, tensors, packing) : (tensors.get(name) as Tensor)),
  };
}

const flat = (values: Feed['values']): Feed => ({ shape: [values.length], values }) as Feed;

/** What stands for a matrix. */
function packedTensors(name: string, values: Tensor['values'], { block, doubleQuantisation = false }: Packing): [string, Feed][] {
  const { codes, scales } = packNf4(values, block);
  const matrix: [string, Feed] = [codesOf(name), flat(codes)];
  if (!doubleQuantisation) return [matrix, [scalesOf(name), flat(scales)]];
  const nested = packScales(scales);
  const parts = [nested.codes, nested.scales, Float32Array.of(nested.offset)];
  return [matrix, ...nestedOf(name).map((part, i): [string, Feed] => [part, flat(parts[i]!)])];
}

function unpacked(
  name: string,
  shape: Shape,
  tensors: ReadonlyMap<string, Feed>,
  { block, doubleQuantisation = false }: Packing,
): Tensor {
  const valuesOf = (part: string) => tensors.get(part)!.values;
  const [codes, nested, offset] = nestedOf(name);
  const scales = doubleQuantisation
    ? unpackScales({
        codes: valuesOf(codes) as Uint8Array,
        scales: valuesOf(nested) as Float32Array,
        offset: valuesOf(offset)[0]!,
      })
    : (valuesOf(scalesOf(name)) as Float32Array);
  return { shape, values: unpackNf4({ codes: valuesOf(codesOf(name)) as Uint8Array, scales }, size(shape), block) };
}

/** The program with codes in the place of the named matrices. */
function withPacked(program: Program, names: ReadonlySet<string>, packing: Packing): Program {
  return rewrite(program, (ops, { node, copy }) => {
    const whole = node.operation === 'input' && names.has(node.parameters.name) ? node.parameters : undefined;
    return whole === undefined ? copy() : ops.within(node.scope, () => matrixOf(ops, whole.name, whole.shape, packing));
  });
}

function matrixOf(ops: Ops<Ref>, name: string, shape: Shape, { block, doubleQuantisation = false }: Packing): Ref {
  const { bytes, blocks } = nf4Sizes(size(shape), block);
  const codes = ops.input(codesOf(name), [bytes], 'server', 'byte');
  const scales = doubleQuantisation ? nestedScales(ops, name, blocks) : ops.input(scalesOf(name), [blocks], 'server');
  return ops.nf4(codes, scales, { shape, block });
}

/** offset + level · scale of the block. */
function nestedScales(ops: Ops<Ref>, name: string, length: number): Ref {
  const blocks = Math.ceil(length / scaleBlock);
  const [codes, scales, offset] = nestedOf(name);
  const levels = ops.gather(ops.constant(scaleLevels, [scaleLevels.length]), ops.input(codes, [length], 'server', 'byte'));
  const padded = ops.reshape(ops.pad(levels, 0, 0, blocks * scaleBlock - length), [blocks, scaleBlock]);
  const scaled = ops.multiply(padded, ops.reshape(ops.input(scales, [blocks], 'server'), [blocks, 1]));
  return ops.add(ops.slice(ops.reshape(scaled, [blocks * scaleBlock]), 0, 0, length), ops.input(offset, [1], 'server'));
}
