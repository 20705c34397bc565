import type { NodeOf, Operation, Program, Ref, Shape, Tensor } from '../program/index.ts';
import { nf4Levels, nf4Sizes, size, Tracer } from '../program/index.ts';
import type { Weights } from './loop.ts';

/** How the matrices of a model's layers are held while it trains: 4-bit codes, `block` elements to a scale. */
export interface Packing {
  readonly format: 'nf4';
  readonly block: number;
}

/** A model's weights, some of them packed. */
export interface Base {
  /** What programs are bound to: a packed NAME as `NAME.nf4` and `NAME.absmax`. */
  readonly tensors: Weights;
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

const packedNames = (name: string): [codes: string, scales: string] => [`${name}.nf4`, `${name}.absmax`];

/** Matrices of numbered layers; embeddings, heads, norms and coefficients keep full precision. */
const isPacked = (name: string, shape: Shape): boolean => shape.length === 2 && /\.\d+\..*\.weight$/.test(name);

/** Weights as they are. */
export const plainBase = (weights: Weights): Base => ({
  tensors: weights,
  shapes: new Map([...weights].map(([name, { shape }]) => [name, shape])),
  pack: (program) => program,
  read: (name) => weights.get(name)!,
});

/** Reads weights one by one; where a packing is given, no more than one matrix is there in full at a time. */
export async function readBase(source: Source, packing: Packing | undefined): Promise<Base> {
  const shapes = new Map(source.names().map((name) => [name, source.shape(name)]));
  const tensors = new Map<string, Tensor>();
  const packed = new Set<string>();
  for (const [name, shape] of shapes) {
    const values = await source.read(name);
    if (packing === undefined || !isPacked(name, shape)) tensors.set(name, { shape, values });
    else {
      const [codes, scales] = packedNames(name);
      const matrix = packNf4(values, packing.block);
      tensors.set(codes, { shape: [matrix.codes.length], values: matrix.codes });
      tensors.set(scales, { shape: [matrix.scales.length], values: matrix.scales });
      packed.add(name);
    }
  }
  if (packing === undefined) return plainBase(tensors);
  const { block } = packing;
  return {
    tensors,
    shapes,
    pack: (program) => withPacked(program, packed, block),
    read: (name) => {
      if (!packed.has(name)) return tensors.get(name)!;
      const [codes, scales] = packedNames(name).map((part) => tensors.get(part)!.values) as [Uint8Array, Float32Array];
      const shape = shapes.get(name)!;
      return { shape, values: unpackNf4({ codes, scales }, size(shape), block) };
    },
  };
}

/** The program with codes in the place of the named matrices. */
function withPacked(program: Program, names: ReadonlySet<string>, block: number): Program {
  const ops = new Tracer();
  const refs: Ref[] = [];
  for (const node of program.nodes) {
    const inputs = node.inputs.map((input) => refs[input]!);
    const whole = node.operation === 'input' && names.has(node.parameters.name) ? node.parameters : undefined;
    if (whole === undefined)
      refs.push(ops.push(node.operation, inputs, node.parameters as NodeOf<Operation>['parameters'], node.scope));
    else {
      const { bytes, blocks } = nf4Sizes(size(whole.shape), block);
      const [codes, scales] = packedNames(whole.name);
      const parts = [ops.input(codes, [bytes], 'server', 'byte'), ops.input(scales, [blocks], 'server')] as const;
      refs.push(ops.within(node.scope, () => ops.nf4(...parts, { shape: whole.shape, block })));
    }
  }
  return { nodes: ops.nodes, outputs: new Map([...program.outputs].map(([name, index]) => [name, refs[index]!])) };
}

export interface Nf4 {
  /** Two a byte, the first in the high half. */
  readonly codes: Uint8Array;
  /** The largest magnitude of each block. */
  readonly scales: Float32Array;
}

/** A value belongs to a level above the middle between two, in float32; a value in the middle to the lower one. */
const middles = Float32Array.from({ length: 15 }, (_, i) => (nf4Levels[i]! + nf4Levels[i + 1]!) / 2);

function code(x: number): number {
  let level = 0;
  for (let half = 8; half > 0; half >>= 1) if (x > middles[level + half - 1]!) level += half;
  return level;
}

/** The nearest codes of values over their block's largest magnitude, in float32 as published; a block of zeros, or of less than float32 inverts, is zeros. */
export function packNf4(values: ArrayLike<number>, block: number): Nf4 {
  const { bytes, blocks } = nf4Sizes(values.length, block);
  const codes = new Uint8Array(bytes);
  const scales = new Float32Array(blocks);
  for (let at = 0; at < blocks; at++) {
    const [start, end] = [at * block, Math.min((at + 1) * block, values.length)];
    let largest = 0;
    for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
    scales[at] = largest;
    const inverse = largest < 2 ** -126 ? 0 : Math.fround(1 / Math.fround(largest));
    for (let i = start; i < end; i++) codes[i >> 1]! |= code(Math.fround(values[i]! * inverse)) << (i % 2 === 0 ? 4 : 0);
  }
  if (values.length % 2 === 1) codes[bytes - 1]! |= zeroCode;
  return { codes, scales };
}
const zeroCode = nf4Levels.indexOf(0);

/** The values that codes stand for. */
export function unpackNf4({ codes, scales }: Nf4, length: number, block: number): Float32Array {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const byte = codes[i >> 1]!;
    values[i] = nf4Levels[i % 2 === 0 ? byte >> 4 : byte & 15]! * scales[Math.floor(i / block)]!;
  }
  return values;
}
